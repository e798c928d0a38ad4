"""What a person could do instead of `ms.propagate`: methods that carry a painted mask without a trained network.

Each takes the image (step, row, column), the painted masks, which steps are annotated, and the spacing, and gives a mask on every
step; the annotated ones are the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Volume = NDArray[np.float32]
Method = Callable[[Volume, Mask, list[int], tuple[float, float, float]], Mask]


def copied(_image: Volume, painted: Mask, annotated: list[int], _spacing: tuple[float, float, float]) -> Mask:
    """The nearest annotated step, within the outermost annotated ones and half their mean distance beyond."""
    steps = np.arange(len(painted))
    nearest = np.array(annotated)[np.abs(steps[:, None] - np.array(annotated)).argmin(1)]
    out = painted[nearest]
    out[~_within(annotated, len(painted))] = False
    return out


def interpolated(_image: Volume, painted: Mask, annotated: list[int], _spacing: tuple[float, float, float]) -> Mask:
    """Signed distances blended between annotated steps (Raya and Udupa 1990), copied for half their distance beyond."""
    out = np.zeros_like(painted)
    distance = {k: _signed(painted[k]) for k in annotated}
    for below, above in pairwise(annotated):
        for k in range(below + 1, above):
            share = (k - below) / (above - below)
            out[k] = (1 - share) * distance[below] + share * distance[above] > 0
    within = _within(annotated, len(painted))
    for k in np.flatnonzero(within):
        if not annotated[0] <= k <= annotated[-1]:
            out[k] = painted[annotated[0] if k < annotated[0] else annotated[-1]]
    return out


def demons(image: Volume, painted: Mask, annotated: list[int], spacing: tuple[float, float, float]) -> Mask:
    """The nearest annotated step, warped from step to step by fast symmetric demons (Vercauteren et al. 2009)."""
    view, cut = _near(painted, image.shape, spacing)
    pictures = image[:, view[0], view[1]].astype(np.float32)
    low, high = np.percentile(pictures, (1, 99))
    pictures = np.clip((pictures - low) / max(float(high - low), 1e-6), 0, 1) * 255
    within = _within(annotated, len(painted))
    small = np.zeros((len(painted), *cut), bool)
    for at in annotated:
        for direction in (-1, 1):
            shape = sitk.GetImageFromArray(painted[at][view].astype(np.float32))
            step = at
            while 0 <= step + direction < len(painted):
                step += direction
                if not within[step] or _closest(annotated, step) != at:
                    break
                shape = _carried(pictures[step - direction], pictures[step], shape)
                small[step] |= sitk.GetArrayViewFromImage(shape) > 0.5
    out = np.zeros_like(painted)
    out[:, view[0], view[1]] = small
    return out


def walked(image: Volume, painted: Mask, annotated: list[int], spacing: tuple[float, float, float]) -> Mask:
    """Random walker (Grady 2006) from the annotated steps: inside and outside of what is painted there."""
    from skimage.segmentation import random_walker

    view, _ = _near(painted, image.shape, spacing)
    within = np.flatnonzero(_within(annotated, len(painted)))
    span = slice(max(0, int(within[0]) - 1), int(within[-1]) + 2)
    pictures = image[span, view[0], view[1]].astype(np.float64)
    factor = min(1.0, (250_000 / pictures.size) ** 0.5)  # the solver takes minutes for more
    pictures = ndimage.zoom(pictures, (1, factor, factor), order=1)
    seeds = np.zeros(pictures.shape, np.int8)
    for k in annotated:
        inside = ndimage.zoom(painted[k][view].astype(np.float32), factor, order=1) > 0.5
        seeds[k - span.start] = np.where(inside, 1, 2)
    for k in (0, len(seeds) - 1):  # beyond the reach of what is painted there is nothing
        if seeds[k].max() == 0:
            seeds[k] = 2
    if not (seeds == 1).any():
        return np.zeros_like(painted)
    apart = spacing[0] or spacing[1]
    found = random_walker(
        pictures, seeds, beta=130, mode="cg_j", spacing=(apart, spacing[1] / factor, spacing[2] / factor)
    )
    out = np.zeros_like(painted)
    size = [s.stop - s.start for s in view]
    inside = (found == 1).astype(np.float32)
    out[span, view[0], view[1]] = (
        ndimage.zoom(inside, (1, size[0] / inside.shape[1], size[1] / inside.shape[2]), order=1) > 0.5
    )
    return out


METHODS: dict[str, Method] = {
    "copy": copied,
    "interpolation": interpolated,
    "demons": demons,
    "random walker": walked,
}


def _within(annotated: list[int], steps: int) -> Mask:
    """Steps between the outermost annotated ones and half their mean distance beyond; of one annotated step all."""
    at = np.arange(steps)
    if len(annotated) == 1:
        return np.ones(steps, bool)
    more = (annotated[-1] - annotated[0]) / (len(annotated) - 1) / 2
    return (at >= annotated[0] - more) & (at <= annotated[-1] + more)


def _closest(annotated: list[int], step: int) -> int:
    return min(annotated, key=lambda a: (abs(a - step), a))


def _signed(mask: Mask) -> NDArray[np.float64]:
    out: NDArray[np.float64] = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    return out


def _near(
    painted: Mask, shape: tuple[int, ...], spacing: tuple[float, float, float]
) -> tuple[tuple[slice, slice], tuple[int, int]]:
    """The box of what is painted and 60 % of its longest side around it, as the network's window; and its size."""
    where = painted.any(0)
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    span = max((rows[-1] - rows[0] + 1) * spacing[1], (columns[-1] - columns[0] + 1) * spacing[2])
    cut = []
    for at, mm, n in ((rows, spacing[1], shape[1]), (columns, spacing[2], shape[2])):
        room = max(8, round(0.6 * span / mm))
        cut.append(slice(max(0, int(at[0]) - room), min(n, int(at[-1]) + 1 + room)))
    return (cut[0], cut[1]), (cut[0].stop - cut[0].start, cut[1].stop - cut[1].start)


def _carried(moving: Volume, fixed: Volume, shape: sitk.Image) -> sitk.Image:
    """A shape on the moving step, where it lies on the fixed one."""
    a, b = sitk.GetImageFromArray(fixed), sitk.GetImageFromArray(moving)
    search = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    search.SetNumberOfIterations(30)
    search.SetStandardDeviations(1.5)
    field = search.Execute(a, b)
    return sitk.Resample(shape, a, sitk.DisplacementFieldTransform(field), sitk.sitkLinear, 0.0)
