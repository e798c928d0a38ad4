"""Post-processing of labels: close gaps, fill holes, keep the largest component. Only background is ever filled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_medseq.inference.settings import InferenceSettings
from napari_medseq.volumes.labelled import grown, value_boxes


def postprocess(
    labels: NDArray[np.uint8], spacing_mm: Sequence[float], settings: InferenceSettings
) -> NDArray[np.uint8]:
    """Apply the post-processing that the bundle asks for to labels (step, row, column), class by class.

    Parameters
    ----------
    labels : ndarray of uint8, shape (step, row, column)
    spacing_mm : sequence of float
        Spacing along these axes. A step that is not a distance (a frame) is infinitely far from the next.
    settings : InferenceSettings
        The settings ``closing_mm``, ``fill_holes`` and ``keep_largest`` are applied, in this order.
    """
    from napari_medseq.masks import closing, fill_holes, keep_largest

    if not (settings.closing_mm or settings.fill_holes or settings.keep_largest):
        return labels
    out = labels.copy()
    apart = not np.isfinite(spacing_mm[0])
    for value, box in value_boxes(labels).items():
        for part in _parts(out[grown(box, out.shape)], apart):
            mask = part == value
            if not mask.any():
                continue
            if settings.closing_mm:
                mask = closing(mask, [1.0 if apart else spacing_mm[0], *spacing_mm[1:]], settings.closing_mm)
            if settings.fill_holes:
                mask = fill_holes(mask)
            part[mask & (part == 0)] = value
            if settings.keep_largest:
                mask = part == value
                part[mask & ~keep_largest(mask)] = 0
    return out


def _parts(labels: NDArray[np.uint8], apart: bool) -> Iterator[NDArray[np.uint8]]:
    """The whole, or each step by itself, as views."""
    if not apart:
        yield labels
        return
    for k in range(len(labels)):
        yield labels[k : k + 1]
