"""From a file's own voxel order to this package's (z, y, x) order and back: the one place where readers and writers
turn arrays.

A reader hands over what the file holds (array, axis names, affine) and gets an `ImageSequence` in the package's
orientation that records in ``meta["stored"]`` how to turn it back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.geometry import Affine, Reorientation, spacing, to_codes
from napari_medseq.sequence import ImageSequence, Voxels

#: A step this much longer than the others makes its axis the slice axis.
_ANISOTROPY = 1.25


def turned(array: Any, axes: tuple[str, ...], turn: Reorientation) -> Any:
    """Apply a lossless turn to the z, y, x axes of an array whose axes are named; `axes` must hold all three."""
    if "c" in axes:
        at = axes.index("c")
        moved = array.transpose([at, *(i for i in range(array.ndim) if i != at)])
        out = turn.apply_zyx(moved)
        return out.transpose([*range(1, out.ndim), 0])
    return turn.apply_zyx(array)


def thickest_axis(affine: Affine, grid: tuple[int, int, int]) -> str:
    """Name of the axis along which slices are clearly thickest, else ``"z"``; axes of one voxel do not count."""
    steps = spacing(affine)
    single = [k for k in range(3) if grid[k] == 1]
    if len(single) == 1:
        return "xyz"[single[0]]
    largest = int(np.argmax(steps))
    return "xyz"[largest] if steps[largest] > _ANISOTROPY * np.sort(steps)[1] else "z"


def place(
    array: Voxels,
    axes: tuple[str, ...],
    affine: NDArray[np.float64],
    *,
    oriented: bool = True,
    slice_axis: str | None = None,
    meta: dict[str, Any] | None = None,
    **facts: Any,
) -> ImageSequence:
    """Build an `ImageSequence` in house orientation from an array in the file's own voxel order.

    Parameters
    ----------
    array : numpy or dask array
        Axes as named by `axes`, spatial ones in the file's order; "z" may be absent for a 2D image.
    axes : tuple of str
        Axis names of `array`.
    affine : array, shape (4, 4)
        The file's voxel (x, y, z) → RAS mm.
    oriented : bool
        If False, nothing is turned.
    slice_axis : str, optional
        The file's axis along which slices were acquired, if known; otherwise the thickest.
    meta : dict, optional
        The sequence's `meta`, to which the file's orientation is added.
    **facts
        Other fields of `ImageSequence`.
    """
    meta = dict(meta or {})
    flat = "z" not in axes
    if flat:
        at = axes.index("y")
        array = array[(slice(None),) * at + (np.newaxis,)]
        axes = (*axes[:at], "z", *axes[at:])
    shape = tuple(int(array.shape[axes.index(a)]) for a in ("x", "y", "z"))
    turn = to_codes(affine) if oriented else Reorientation()
    meta["stored"] = {"order": list(turn.inverse.order), "flips": list(turn.inverse.flips)}
    new_affine = turn.apply_affine(affine, (shape[0], shape[1], shape[2]))
    array = turned(array, axes, turn)
    if slice_axis is None:
        grid = tuple(int(array.shape[axes.index(a)]) for a in ("x", "y", "z"))
        slice_axis = thickest_axis(new_affine, (grid[0], grid[1], grid[2]))
    else:
        slice_axis = "xyz"[turn.order.index("xyz".index(slice_axis))]
    # a file format that has no pictures over time keeps those of a video as volumes of one slice
    flat |= not oriented and "t" in axes
    if flat and array.shape[axes.index("z")] == 1 and turn.order[2] == 2:
        array = array[(slice(None),) * axes.index("z") + (0,)]
        axes = tuple(a for a in axes if a != "z")
        slice_axis = "z"
    return ImageSequence(array, axes, new_affine, oriented=oriented, slice_axis=slice_axis, meta=meta, **facts)


def restored(seq: ImageSequence) -> tuple[Voxels, tuple[str, ...], Affine]:
    """The array, axis names and affine of `seq` in the voxel order of the file that it came from (the house's if from none)."""
    stored = seq.meta.get("stored") or {}
    order, flips = stored.get("order", (0, 1, 2)), stored.get("flips", (False, False, False))
    array, axes = seq.data, seq.axes
    if "z" not in axes:
        at = axes.index("y")
        array, axes = array[(slice(None),) * at + (np.newaxis,)], (*axes[:at], "z", *axes[at:])
    try:
        turn = Reorientation(tuple(int(k) for k in order), tuple(bool(f) for f in flips))  # type: ignore[arg-type]
        if sorted(turn.order) != [0, 1, 2] or len(turn.flips) != 3:
            turn = Reorientation()
    except (TypeError, ValueError):
        turn = Reorientation()
    affine = turn.apply_affine(seq.affine, seq.grid)
    return turned(array, axes, turn), axes, affine
