"""Changing the shape of one mask: larger, smaller, smoother, filled or hollow; lengths in mm, by exact distances.

Distances are measured between voxel centres, so that unequal spacing is taken into account. Whatever lies beyond the
edge of the array is unknown, so that a mask that touches the edge is not eroded from there. An axis of length 1 is
ignored: a single slice is treated as a plane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from napari_medseq.errors import SettingsError

Mask = NDArray[np.bool_]
Side = Literal["inside", "outside", "both"]
Smoothing = Literal["gaussian", "median", "opening", "closing"]


def margin(mask: Mask, spacing: Sequence[float], mm: float) -> Mask:
    """The mask dilated by so many millimetres, or eroded if `mm` is negative.

    Parameters
    ----------
    mask : ndarray of bool
    spacing : sequence of float
        Millimetres per axis.
    mm : float
    """
    if mm >= 0:
        return _within_box(mask, spacing, mm, lambda part: _distance(part, spacing) <= mm)
    return _within_box(mask, spacing, 0.0, lambda part: _distance(~part, spacing) > -mm)


def opening(mask: Mask, spacing: Sequence[float], mm: float) -> Mask:
    """The mask without parts into which a ball of radius `mm` does not fit: bridges, spikes, specks."""
    return margin(margin(mask, spacing, -mm), spacing, mm) & mask


def closing(mask: Mask, spacing: Sequence[float], mm: float) -> Mask:
    """The mask with gaps and inlets filled into which a ball of radius `mm` does not fit."""

    def closed(part: Mask) -> Mask:
        grown = _distance(part, spacing) <= mm
        return np.asarray(_distance(~grown, spacing) > mm) | part

    return _within_box(mask, spacing, mm, closed, beyond=True)


def hollow(mask: Mask, spacing: Sequence[float], mm: float, side: Side = "inside") -> Mask:
    """A wall of thickness `mm` along the mask's outline.

    Parameters
    ----------
    mask : ndarray of bool
    spacing : sequence of float
        Millimetres per axis.
    mm : float
        Thickness of the wall.
    side : {"inside", "outside", "both"}
        Side of the outline on which the wall lies; "both": half on each side.
    """
    if mm <= 0:
        raise SettingsError(f"A wall cannot be {mm:g} mm thick; its thickness must be above 0.")
    inner = {"inside": mm, "outside": 0.0, "both": mm / 2}[side]
    outer = mm - inner
    core = margin(mask, spacing, -inner) if inner else mask
    shell = margin(mask, spacing, outer) if outer else mask
    return shell & ~core


def fill_holes(mask: Mask, axis: int | None = None) -> Mask:
    """The mask together with everything that it encloses.

    Parameters
    ----------
    mask : ndarray of bool
    axis : int, optional
        Fill slice by slice along this axis; None: only what is enclosed in all directions. A single slice is filled as
        a plane.
    """
    if axis is None and 1 in mask.shape:
        axis = mask.shape.index(1)

    def filled(part: Mask) -> Mask:
        if axis is None:
            return np.asarray(scipy.ndimage.binary_fill_holes(part))
        out = np.moveaxis(part.copy(), axis, 0)
        for k in np.flatnonzero(out.any(axis=tuple(range(1, out.ndim)))):
            out[k] = scipy.ndimage.binary_fill_holes(out[k])
        return np.moveaxis(out, 0, axis)

    return _within_box(mask, [1.0] * mask.ndim, 0.0, filled)


def smooth(mask: Mask, spacing: Sequence[float], mm: float, method: Smoothing = "gaussian") -> Mask:
    """The mask with a smoother outline.

    Parameters
    ----------
    mask : ndarray of bool
    spacing : sequence of float
        Millimetres per axis.
    mm : float
        Standard deviation of the Gaussian, or radius of the ball of the other methods. "median" ignores an axis whose
        voxels are longer than that.
    method : {"gaussian", "median", "opening", "closing"}
        "gaussian": where the blurred mask exceeds one half. "median": the majority of voxels within the radius.
        "opening" removes parts that are thinner than the ball, "closing" fills gaps that are narrower.
    """
    if mm <= 0:
        raise SettingsError(f"{mm:g} mm smooths nothing; it must be above 0.")
    if method == "opening":
        return opening(mask, spacing, mm)
    if method == "closing":
        return closing(mask, spacing, mm)
    if method == "gaussian":
        sigma = [mm / s for s in spacing]
        return _within_box(mask, spacing, 4 * mm, lambda part: _blurred(part, sigma) > 0.5)
    ball = _ball([s if n > 1 else np.inf for s, n in zip(spacing, mask.shape, strict=True)], mm)
    half = ball.sum() / 2
    return _within_box(
        mask, spacing, mm, lambda part: scipy.ndimage.convolve(part.astype(np.int32), ball, mode="nearest") > half
    )


def _blurred(part: Mask, sigma: Sequence[float]) -> NDArray[np.float32]:
    blurred: NDArray[np.float32] = scipy.ndimage.gaussian_filter(part.astype(np.float32), sigma, mode="nearest")
    return blurred


def _ball(spacing: Sequence[float], mm: float) -> NDArray[np.int32]:
    """Voxels whose centre is at most `mm` from the central one, as 0 and 1."""
    reach = [int(mm / s + 1e-6) for s in spacing]
    lines = [np.arange(-n, n + 1) * (s if n else 1.0) for n, s in zip(reach, spacing, strict=True)]
    steps = np.meshgrid(*lines, indexing="ij")
    squares = np.sum(np.square(steps), axis=0)
    return np.asarray(squares <= (mm + 1e-6) ** 2, np.int32)


def _distance(mask: Mask, spacing: Sequence[float]) -> NDArray[np.float64]:
    """Millimetres to the nearest voxel of the mask; infinite if there is none."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    distance: NDArray[np.float64] = scipy.ndimage.distance_transform_edt(~mask, sampling=spacing)
    return np.asarray(distance - 1e-9)  # a distance equal to the radius is included in spite of rounding


def _within_box(
    mask: Mask, spacing: Sequence[float], room: float, work: Callable[[Mask], Mask], beyond: bool = False
) -> Mask:
    """Apply `work` to the part of the array that contains the mask and a margin of `room` mm, and put the result back.

    With `beyond` the margin exists even beyond the end of the array, so that the end does not act as an edge.
    """
    if not mask.any():
        return np.array(mask)
    (box,) = scipy.ndimage.find_objects(mask.view(np.uint8))
    margins = [int(np.ceil(room / s)) + 1 if n > 1 else 0 for s, n in zip(spacing, mask.shape, strict=True)]
    low = [max(b.start - m, -m if beyond else 0) for b, m in zip(box, margins, strict=True)]
    high = [min(b.stop + m, n + m if beyond else n) for b, m, n in zip(box, margins, mask.shape, strict=True)]
    inside = tuple(slice(max(a, 0), min(b, n)) for a, b, n in zip(low, high, mask.shape, strict=True))
    pad = [(max(-a, 0), max(b - n, 0)) for a, b, n in zip(low, high, mask.shape, strict=True)]
    changed = work(np.pad(mask[inside], pad))
    out = np.zeros_like(mask)
    out[inside] = changed[tuple(slice(p, changed.shape[k] - q) for k, (p, q) in enumerate(pad))]
    return out
