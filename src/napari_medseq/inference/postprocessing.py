"""What is done to labels after the network: gaps closed, holes filled, the largest piece kept. Only background is ever filled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_medseq.inference.settings import InferenceSettings

_AROUND = np.ones((3, 3, 3))


def postprocess(
    labels: NDArray[np.uint8], spacing_mm: Sequence[float], settings: InferenceSettings
) -> NDArray[np.uint8]:
    """Labels (step, row, column) after the steps that the bundle asks for, class by class.

    Parameters
    ----------
    labels : ndarray of uint8, shape (step, row, column)
    spacing_mm : sequence of float
        Along these axes. A step that is no distance (a frame) is infinitely far from the next.
    settings : InferenceSettings
        Of which ``closing_mm``, ``fill_holes`` and ``keep_largest`` are looked at, in this order.
    """
    from scipy import ndimage

    if not (settings.closing_mm or settings.fill_holes or settings.keep_largest):
        return labels
    out = labels.copy()
    apart = not np.isfinite(spacing_mm[0])
    for value in (int(v) for v in np.unique(labels) if v):
        for part in _parts(out, apart):
            mask = part == value
            if not mask.any():
                continue
            if settings.closing_mm:
                mask = _closed(mask, [1.0 if apart else spacing_mm[0], *spacing_mm[1:]], settings.closing_mm, apart)
            if settings.fill_holes:
                mask = ndimage.binary_fill_holes(mask[0])[None] if len(mask) == 1 else ndimage.binary_fill_holes(mask)
            part[mask & (part == 0)] = value
            if settings.keep_largest:
                pieces, n = ndimage.label(part == value, _AROUND)
                if n > 1:
                    part[(pieces > 0) & (pieces != np.bincount(pieces.ravel())[1:].argmax() + 1)] = 0
    return out


def _parts(labels: NDArray[np.uint8], apart: bool) -> Iterator[NDArray[np.uint8]]:
    """The whole, or each step by itself, as views."""
    if not apart:
        yield labels
        return
    for k in range(len(labels)):
        yield labels[k : k + 1]


def _closed(mask: NDArray[np.bool_], spacing: Sequence[float], radius: float, flat: bool) -> NDArray[np.bool_]:
    """Morphological closing by a ball of so many millimetres, by distances, so that unequal spacing is no matter."""
    from scipy import ndimage

    # room for the ball on all sides, in the box that holds the mask
    margin = [0 if flat and k == 0 else int(np.ceil(radius / s)) + 1 for k, s in enumerate(spacing)]
    (box,) = ndimage.find_objects(mask.view(np.uint8))
    inside = np.pad(mask[box], [(m, m) for m in margin])
    grown = ndimage.distance_transform_edt(~inside, sampling=spacing) <= radius
    closed = ndimage.distance_transform_edt(grown, sampling=spacing) > radius
    out = mask.copy()
    middle = tuple(slice(m, n - m) for m, n in zip(margin, inside.shape, strict=True))
    out[box] |= closed[middle]
    return out
