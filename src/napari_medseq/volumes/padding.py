"""Pixels outside the scanned field, which DICOM files fill with a special value: they are kept in the image, but not
in statistics.

Source: DICOM PS3.3 C.7.5.1.1.2 (pixel padding value). Readers put the value, or its range, into ``meta["padding_value"]``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_medseq.geometry import Volume
from napari_medseq.sequence import ImageSequence


def is_padding(values: Volume, seq: ImageSequence) -> NDArray[np.bool_] | None:
    """Which of `values`, voxels of `seq`, are padding; None if the image has none."""
    padding = seq.meta.get("padding_value")
    if padding is None or not isinstance(padding, (int, float, list, tuple)):
        return None
    low, high = (padding[0], padding[-1]) if isinstance(padding, (list, tuple)) else (padding, padding)
    return np.asarray(np.greater_equal(values, low) & np.less_equal(values, high))


def without_padding(values: Volume, seq: ImageSequence) -> Volume:
    """The values that are not padding, in one row; all of them if nothing else is left."""
    padding = is_padding(values, seq)
    if padding is None or padding.all():
        return values.ravel()
    return values[~padding]


def with_new_values(seq: ImageSequence) -> ImageSequence:
    """The sequence without its padding value, which has no meaning after the values were changed."""
    return seq.replace(meta={k: v for k, v in seq.meta.items() if k != "padding_value"})
