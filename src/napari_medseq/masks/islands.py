"""The separate pieces of one mask: numbered, kept, removed, made labels of their own. Pieces that touch at a corner are one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError

Mask = NDArray[np.bool_]
LabelArray = NDArray[np.integer]


def number_islands(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Every piece's number, from 1 for the largest, and how many voxels each has, from the largest on.

    Parameters
    ----------
    mask : ndarray of bool

    Returns
    -------
    pieces : ndarray of int32
        0 where the mask is not.
    sizes : ndarray of int, one per piece
    """
    pieces = np.zeros(mask.shape, np.int32)
    if not mask.any():
        return pieces, np.zeros(0, np.int64)
    (box,) = scipy.ndimage.find_objects(mask.view(np.uint8))  # the mask is often a small part of the whole
    islands, count = scipy.ndimage.label(mask[box], np.ones((3,) * mask.ndim))
    sizes = np.bincount(islands.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    rank = np.zeros(count + 1, np.int32)
    rank[1 + order] = np.arange(1, count + 1)
    pieces[box] = rank[islands]
    return pieces, sizes[order]


def keep_largest(mask: Mask, count: int = 1) -> Mask:
    """The `count` largest pieces."""
    pieces, _ = number_islands(mask)
    return np.asarray((pieces > 0) & (pieces <= count))


def remove_small(mask: Mask, spacing: Sequence[float], min_ml: float) -> Mask:
    """The pieces of at least `min_ml` millilitres.

    Parameters
    ----------
    mask : ndarray of bool
    spacing : sequence of float
        Millimetres along all three axes: their product is a voxel's volume in mm³, 1000 of which are a millilitre.
    min_ml : float
    """
    pieces, sizes = number_islands(mask)
    enough = np.concatenate([[False], sizes * float(np.prod(spacing)) / 1000 >= min_ml])
    return np.asarray(enough[pieces])


def keep_at(mask: Mask, at: Sequence[int], *, keep: bool = True) -> Mask:
    """Only the piece at a voxel, or (``keep=False``) all but that piece.

    Raises
    ------
    MedseqError
        If the mask is not there.
    """
    at = tuple(int(k) for k in at)
    inside = all(0 <= k < n for k, n in zip(at, mask.shape, strict=True))
    if not inside or not mask[at]:
        raise MedseqError("There is nothing of this label at that place; click into one of its islands.")
    pieces, _ = number_islands(mask)
    return np.asarray(mask & ((pieces == pieces[at]) == keep))


def split(labels: LabelArray, value: int, used: Sequence[int] = ()) -> tuple[LabelArray, list[int]]:
    """Each piece of a label as a label of its own: the largest keeps the number, the others get free ones.

    Parameters
    ----------
    labels : ndarray of int
    value : int
    used : sequence of int
        Numbers that are taken although they are not in `labels`, such as those of other visits.

    Returns
    -------
    labels : ndarray of int
        Of a wider type where the numbers need it.
    numbers : list of int
        Of the pieces, the largest first.
    """
    pieces, sizes = number_islands(labels == value)
    if len(sizes) < 2:
        return np.array(labels), [value] * len(sizes)
    first = max(int(labels.max()), *used, value) + 1
    numbers = [value, *range(first, first + len(sizes) - 1)]
    fits = numbers[-1] <= np.iinfo(labels.dtype).max
    out = np.array(labels, dtype=labels.dtype if fits else np.min_scalar_type(numbers[-1]))
    table = np.array([0, *numbers])
    out[pieces > 0] = table[pieces[pieces > 0]]
    return out, numbers
