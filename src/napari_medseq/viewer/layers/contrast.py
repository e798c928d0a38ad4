"""Grey levels between which an image is shown, from percentiles of a sample of its voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.padding import without_padding

#: percentiles between which an image is shown when it is opened
SHOWN = (0.5, 99.8)
#: the number of voxels that percentiles are computed from
_SAMPLE = 2_000_000


def percentile_limits(seq: ImageSequence, low: float = SHOWN[0], high: float = SHOWN[1]) -> tuple[float, float]:
    """The values at two percentiles of an image, without padding and non-finite values; never equal.

    Where both percentiles are background, they are the lowest and the highest value.

    Parameters
    ----------
    seq : ImageSequence
    low, high : float
        Percentiles, 0 to 100.
    """
    values = sampled_values(seq, _SAMPLE)
    bottom, top = (float(v) for v in np.percentile(values, (low, high)))
    if top <= bottom:
        bottom, top = float(values.min()), float(values.max())
    return (bottom, top) if top > bottom else (bottom, bottom + 1.0)


def sampled_values(seq: ImageSequence, most: int) -> NDArray[np.float64]:
    """At most so many values of an image, evenly spread, without padding and non-finite values; 0 if none is left.

    Of an image that is read when it is looked at, they are those of the middle slice.
    """
    data = seq.data
    if seq.is_lazy:
        data = data[tuple(n // 2 if a in ("t", seq.slice_axis) else slice(None) for a, n in seq.sizes.items())]
    step = max(1, int(np.ceil((np.prod(data.shape) / most) ** (1 / data.ndim))))
    sample = np.asarray(data[(slice(None, None, step),) * data.ndim], dtype=np.float64)
    values = np.asarray(without_padding(sample, seq), dtype=np.float64)
    values = values[np.isfinite(values)]
    return values if values.size else np.zeros(1)
