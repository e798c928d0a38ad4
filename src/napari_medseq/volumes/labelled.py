"""The values of a volume of labels: how often each occurs, in which box it lies, and other values in their place.

Each function takes a time that does not grow with the number of labels, and holds nothing as large as the volume in a wider type: a scan
of the whole body may have a hundred labels and 80 million voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

Scalar = TypeVar("Scalar", bound=np.generic)
Box = tuple[slice, ...]

_MANY_VALUES = 1 << 16  # a range of values up to this is looked up in a table, a larger one by sorting


def value_counts(labels: NDArray[np.generic]) -> dict[int, int]:
    """Voxels of each value that occurs, in ascending order of the values.

    Parameters
    ----------
    labels : ndarray
        Whole numbers, of any type.
    """
    labels = _whole(labels)
    if not labels.size:
        return {}
    low, high = int(labels.min()), int(labels.max())
    if high - low >= _MANY_VALUES:
        values, counts = np.unique(labels, return_counts=True)
        return {int(v): int(n) for v, n in zip(values, counts, strict=True)}
    histogram = np.zeros(high - low + 1, np.int64)
    for plane in np.atleast_2d(labels):
        histogram += np.bincount(_from(low, plane).ravel(), minlength=len(histogram))
    return {low + int(k): int(histogram[k]) for k in np.flatnonzero(histogram)}


def replaced(labels: NDArray[np.generic], by: Mapping[int, int], dtype: DTypeLike) -> NDArray[np.generic]:
    """Labels with other values in the place of theirs, in another type; 0 for a value that `by` does not name."""
    out = np.zeros(labels.shape, dtype)
    if not labels.size or not by:
        return out
    low, high = int(labels.min()), int(labels.max())
    if high - low >= _MANY_VALUES:
        for old, new in by.items():
            out[labels == old] = new
        return out
    table = np.zeros(high - low + 1, dtype)
    for old, new in by.items():
        if low <= old <= high:
            table[old - low] = new
    for plane, into in zip(np.atleast_2d(labels), np.atleast_2d(out), strict=True):
        into[...] = table[_from(low, plane)]
    return out


def value_boxes(labels: NDArray[np.generic]) -> dict[int, Box]:
    """The bounding box of each value other than 0, in ascending order of the values.

    Parameters
    ----------
    labels : ndarray
        Whole numbers, of any type.
    """
    from scipy import ndimage

    array = _whole(labels)
    if not array.size:
        return {}
    if int(array.min()) >= 0 and int(array.max()) < _MANY_VALUES:
        found = ndimage.find_objects(array)
        return {value: box for value, box in enumerate(found, 1) if box is not None}
    values = [v for v in value_counts(array) if v]
    numbers = replaced(array, {v: k for k, v in enumerate(values, 1)}, np.min_scalar_type(len(values)))
    return dict(zip(values, ndimage.find_objects(numbers), strict=True))


def grown(box: Box, shape: tuple[int, ...], by: int = 1) -> Box:
    """A box with a margin of so many voxels, within an array of this shape."""
    return tuple(slice(max(0, s.start - by), min(n, s.stop + by)) for s, n in zip(box, shape, strict=True))


def _whole(labels: NDArray[np.generic]) -> NDArray[np.generic]:
    """Labels in a type of whole numbers; what is not a number is 0."""
    if labels.dtype.kind == "b":
        return labels.view(np.uint8)
    return np.nan_to_num(labels).astype(np.int64) if labels.dtype.kind == "f" else labels


def _from(low: int, plane: NDArray[np.generic]) -> NDArray[np.intp]:
    """Values counted from the lowest, as indices."""
    index: NDArray[np.intp] = plane.astype(np.intp)
    if low:
        index -= low
    return index
