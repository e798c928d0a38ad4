"""A part of a sequence by axis name: a box, or every n-th voxel of it, with its affine and times."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from napari_medseq.errors import SettingsError
from napari_medseq.geometry import as_affine
from napari_medseq.sequence import ImageSequence


def part_of(seq: ImageSequence, index: Mapping[str, slice]) -> ImageSequence:
    """Some of the voxels of a sequence at their true places; nothing is copied or interpolated.

    Parameters
    ----------
    seq : ImageSequence
    index : mapping of str to slice
        Axis name → the slice of its voxels, forwards; axes that are not named, or that the sequence lacks, stay whole.

    Raises
    ------
    SettingsError
        If nothing would be left, or a step is not positive.

    Examples
    --------
    >>> from napari_medseq.sequence import affine_from
    >>> scan = ImageSequence(np.zeros((9, 4, 4)), ("z", "y", "x"), affine_from((1, 1, 2)))
    >>> every_third = part_of(scan, {"z": slice(1, None, 3)})
    >>> every_third.sizes["z"], every_third.spacing["z"], float(every_third.affine[2, 3])
    (3, 6.0, 2.0)
    """
    change = np.eye(4)
    used: dict[str, slice] = {}
    for axis, span in index.items():
        if axis not in seq.axes:
            continue
        start, stop, step = span.indices(seq.size(axis))
        if step < 1 or start >= stop:
            raise SettingsError(
                f"{seq.name}: {span.start}:{span.stop}:{span.step} leaves nothing of the {seq.size(axis)} voxels "
                f"along {axis!r}; give a range inside them, forwards."
            )
        used[axis] = slice(start, stop, step)
        if axis in "xyz":
            column = "xyz".index(axis)
            change[column, column], change[column, 3] = step, start
    times = seq.times
    if times is not None and "t" in used:
        times = times[used["t"]]
    data = seq.data[tuple(used.get(a, slice(None)) for a in seq.axes)]
    meta = seq.meta
    places = meta.get("slice_positions_mm")  # true positions of unevenly spaced slices
    if isinstance(places, list) and len(places) == seq.size(seq.slice_axis) and seq.slice_axis in used:
        kept = places[used[seq.slice_axis]]
        meta = {**meta, "slice_positions_mm": [round(p - kept[0], 4) for p in kept]}
    return seq.replace(data=data, affine=as_affine(seq.affine @ change), times=times, meta=meta)


def thinned(seq: ImageSequence, most: int, *, through: Mapping[str, int] | None = None) -> ImageSequence:
    """Every n-th voxel of a sequence, so that no more than about `most` are left.

    The axis of the smallest spacing is thinned first, so that voxels become more nearly cubic; no axis falls below 8
    voxels, and frames are thinned last.

    Parameters
    ----------
    seq : ImageSequence
    most : int
        Number of voxels of all frames together.
    through : mapping of str to int, optional
        Axis name → index of a voxel that must be kept.
    """
    step = {a: 1 for a in seq.axes if a != "c"}

    def size(axis: str) -> int:
        return -(-seq.size(axis) // step[axis])

    def total() -> float:
        return float(np.prod([float(size(a)) for a in step]))

    while total() > most:
        space = [a for a in step if a != "t" and size(a) >= 16]
        if space:
            finest = min(space, key=lambda a: seq.spacing[a] * step[a])
        elif "t" in step and size("t") >= 8:
            finest = "t"
        else:
            break
        step[finest] += 1
    through = through or {}
    return part_of(seq, {a: slice(through.get(a, 0) % n, None, n) for a, n in step.items()})
