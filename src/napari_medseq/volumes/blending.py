"""Two images on one grid in one picture: a checkerboard, a curtain, their difference, and matched grey levels.

This is plain numpy. The pictures are for viewing only: nothing is measured in them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import SettingsError
from napari_medseq.geometry import Volume

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]

#: residuals beyond this many robust standard deviations count as change or misfit and not as scale (Huber's usual limit)
_TRIM = 2.5
_MAD_TO_SD = 1.4826
_ROUNDS = 10
#: number of voxels that a scale and an offset are estimated from; more do not change their third digit
_ENOUGH = 200_000
#: least number of voxels of air, as a share of those of tissue, from which its level is known
_LEAST_AIR = 0.05
#: tissue that exceeds air by less than this share of its median would be noise in a ratio
_DARK = 0.2


def checkerboard(first: Volume, second: Volume, tile: Sequence[int]) -> Volume:
    """Alternating tiles of two images, as on a chess board, beginning with `first`.

    Parameters
    ----------
    first, second : ndarray, of one shape
    tile : sequence of int
        Voxels of a tile along each axis; 0: the axis is not divided.
    """
    _check(first, second)
    if len(tile) != first.ndim or any(n < 0 for n in tile) or not any(tile):
        raise SettingsError(f"A tile of {tuple(tile)} voxels does not fit an image of {first.ndim} axes.")
    field = np.zeros((1,) * first.ndim, np.intp)
    for axis, size in enumerate(tile):
        if size:
            wide = [1] * first.ndim
            wide[axis] = -1
            field = field + (np.arange(first.shape[axis]) // size).reshape(wide)
    return np.asarray(np.where(field % 2 == 0, first, second))


def curtain(first: Volume, second: Volume, axis: int, share: float) -> Volume:
    """`first` up to a line across an axis, `second` beyond.

    Parameters
    ----------
    first, second : ndarray, of one shape
    axis : int
        The axis that the line cuts.
    share : float
        Position of the line, from 0 (all `second`) to 1 (all `first`).
    """
    _check(first, second)
    if not 0 <= share <= 1:
        raise SettingsError(f"The line of a curtain lies between 0 and 1, not at {share}.")
    count = first.shape[axis]
    wide = [1] * first.ndim
    wide[axis] = -1
    return np.asarray(np.where((np.arange(count) < round(share * count)).reshape(wide), first, second))


def difference(before: Volume, after: Volume, where: Mask | None = None) -> Volume:
    """`after` − `before`, as float32; 0 where `where` is False (outside one of the images)."""
    _check(before, after)
    out = np.asarray(after, np.float32) - np.asarray(before, np.float32)
    if where is not None:
        out[~where] = 0
    return out


def match_intensities(moving: Volume, fixed: Volume, where: Mask, air: Mask | None = None) -> tuple[float, float]:
    """The scale and offset that match the grey levels of one image to those of another on the same grid.

    If there is air, its level is the common point of both scales, and the scale is the median ratio of the tissue's
    values above it, so that changed tissue has no influence and air stays dark. Without air, the fixed values are
    fitted to the moving ones by iteratively trimmed least squares, without residuals beyond 2.5 robust standard
    deviations.

    Parameters
    ----------
    moving, fixed : ndarray, of one shape
    where : ndarray of bool
        Voxels of tissue in both.
    air : ndarray of bool, optional
        Voxels of air in both.

    Returns
    -------
    tuple of float
        ``scale * moving + offset`` matches `fixed`; (1, 0) if they cannot be estimated.
    """
    _check(moving, fixed)
    x, y = _values(moving, fixed, where)
    if len(x) < 2 or np.ptp(x) == 0:
        return 1.0, 0.0
    if air is not None:
        dark_x, dark_y = _values(moving, fixed, air)
        if len(dark_x) >= _LEAST_AIR * len(x):
            return _above_air(x, y, float(np.median(dark_x)), float(np.median(dark_y)))
    scale, offset = _trimmed_fit(x, y)
    return (scale, offset) if scale > 0 else (1.0, 0.0)


def _values(moving: Volume, fixed: Volume, where: Mask) -> tuple[Values, Values]:
    """Finite values of both at some voxels, drawn evenly if there are very many."""
    at = np.flatnonzero(where & np.isfinite(moving) & np.isfinite(fixed))
    at = at[:: max(1, len(at) // _ENOUGH)]
    first, second = (np.asarray(np.ravel(v)[at], np.float64) for v in (moving, fixed))
    return first, second


def _above_air(x: Values, y: Values, dark_x: float, dark_y: float) -> tuple[float, float]:
    tissue = x - dark_x > _DARK * float(np.median(x - dark_x))
    if not tissue.any():
        return 1.0, 0.0
    scale = float(np.median((y[tissue] - dark_y) / (x[tissue] - dark_x)))
    return (scale, dark_y - scale * dark_x) if scale > 0 else (1.0, 0.0)


def _trimmed_fit(x: Values, y: Values) -> tuple[float, float]:
    kept_points = np.ones(len(x), bool)
    # the fit begins with medians of the thirds of x (Tukey's resistant line), because least squares would follow what changed
    order = np.argsort(x, kind="stable")
    low, high = order[: max(1, len(x) // 3)], order[-max(1, len(x) // 3) :]
    run = float(np.median(x[high]) - np.median(x[low]))
    scale = float(np.median(y[high]) - np.median(y[low])) / run if run > 0 else 1.0
    offset = float(np.median(y - scale * x))
    for _ in range(_ROUNDS):
        miss = y - (scale * x + offset)
        spread = _MAD_TO_SD * float(np.median(np.abs(miss - np.median(miss))))
        now = np.abs(miss - np.median(miss)) <= max(_TRIM * spread, 1e-9 * (float(np.ptp(y)) or 1.0))
        if np.count_nonzero(now) < 2 or np.ptp(x[now]) == 0:
            break
        scale, offset = (float(v) for v in np.polyfit(x[now], y[now], 1))
        if np.array_equal(now, kept_points):
            break
        kept_points = now
    return scale, offset


def _check(first: Volume, second: Volume) -> None:
    if first.shape != second.shape:
        raise SettingsError(f"The images have {first.shape} and {second.shape} voxels; bring them to one grid first.")
