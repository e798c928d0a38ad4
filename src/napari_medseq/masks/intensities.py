"""Intensities that can be computed with: without NaN and infinities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def finite(image: NDArray[np.generic]) -> NDArray[np.float64]:
    """Intensities in which NaN and −∞ are the lowest finite value, and +∞ the highest; 0 throughout if none is finite."""
    values = np.asarray(image, np.float64)
    usable = values[np.isfinite(values)]
    low, high = (float(usable.min()), float(usable.max())) if usable.size else (0.0, 0.0)
    return np.nan_to_num(values, nan=low, neginf=low, posinf=high)
