"""The colour axis of pictures: grey images are often stored as red, green and blue of the same value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COLOURS = 3


def without_grey_colours(
    array: NDArray[np.generic], axes: tuple[str, ...]
) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """The array and its axes; a last axis "c" of three equal channels is dropped, since the picture is grey.

    Parameters
    ----------
    array : ndarray
    axes : tuple of str
        Names of the axes of `array`; colours, where there are any, come last.
    """
    if axes[-1] != "c" or array.shape[-1] != COLOURS:
        return array, axes
    if all(np.array_equal(array[..., 0], array[..., k]) for k in range(1, COLOURS)):
        return array[..., 0], axes[:-1]
    return array, axes
