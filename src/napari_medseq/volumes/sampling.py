"""A few of very many voxels, spread over all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spread(count: int, most: int) -> NDArray[np.intp]:
    """Indices, in ascending order, of at most `most` of `count` values.

    One is drawn from each of `most` equal stretches, always the same one. A fixed step could be a multiple of the length of a row, and
    would then take all values from a single column of an image: in 200 × 200 × 100 voxels, every 200th lies at its left edge.

    Parameters
    ----------
    count : int
    most : int

    Returns
    -------
    ndarray of int, shape (min(count, most),)
    """
    if count <= most:
        return np.arange(count)
    edges = np.arange(most + 1) * count // most
    within = np.random.default_rng(0).random(most) * np.diff(edges)
    return edges[:-1] + within.astype(np.intp)
