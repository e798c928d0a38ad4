"""Connected components (islands) of one mask: numbered, kept, removed, or made labels of their own. Voxels that touch
at a corner are connected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.masks.labels import wide_enough

Mask = NDArray[np.bool_]
LabelArray = NDArray[np.integer]


def number_islands(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The number of every component, from 1 for the largest, and the number of voxels of each in descending order.

    Parameters
    ----------
    mask : ndarray of bool

    Returns
    -------
    pieces : ndarray of int32
        Numbers of components; 0 outside of the mask.
    sizes : ndarray of int, one per piece
    """
    pieces = np.zeros(mask.shape, np.int32)
    if not mask.any():
        return pieces, np.zeros(0, np.int64)
    (box,) = scipy.ndimage.find_objects(mask.view(np.uint8))  # the mask is often a small part of the volume
    islands, count = scipy.ndimage.label(mask[box], np.ones((3,) * mask.ndim))
    sizes = np.bincount(islands.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    rank = np.zeros(count + 1, np.int32)
    rank[1 + order] = np.arange(1, count + 1)
    pieces[box] = rank[islands]
    return pieces, sizes[order]


def keep_largest(mask: Mask, count: int = 1) -> Mask:
    """The `count` largest components."""
    pieces, _ = number_islands(mask)
    return np.asarray((pieces > 0) & (pieces <= count))


def remove_small(mask: Mask, spacing: Sequence[float], min_ml: float) -> Mask:
    """The components of at least `min_ml` millilitres.

    Parameters
    ----------
    mask : ndarray of bool
    spacing : sequence of float
        Millimetres along all three axes; their product is the volume of a voxel in mm³, of which a millilitre has 1000.
    min_ml : float
    """
    pieces, sizes = number_islands(mask)
    enough = np.concatenate([[False], sizes * float(np.prod(spacing)) / 1000 >= min_ml])
    return np.asarray(enough[pieces])


def keep_at(mask: Mask, at: Sequence[int], *, keep: bool = True) -> Mask:
    """Only the component at a voxel, or (``keep=False``) all others.

    Raises
    ------
    MedseqError
        If the voxel is not in the mask.
    """
    at = tuple(int(k) for k in at)
    inside = all(0 <= k < n for k, n in zip(at, mask.shape, strict=True))
    if not inside or not mask[at]:
        raise MedseqError("There is nothing of this label at that place; click into one of its islands.")
    pieces, _ = number_islands(mask)
    return np.asarray(mask & ((pieces == pieces[at]) == keep))


def split(labels: LabelArray, value: int, used: Sequence[int] = ()) -> tuple[LabelArray, list[int]]:
    """Make each component of a label a label of its own: the largest keeps the number, the others get unused ones.

    Parameters
    ----------
    labels : ndarray of int
    value : int
    used : sequence of int
        Further numbers that are in use, such as those of other visits.

    Returns
    -------
    labels : ndarray of int
        The labels, of a wider type if the numbers need it.
    numbers : list of int
        Numbers of the components, the largest first.
    """
    pieces, sizes = number_islands(labels == value)
    if len(sizes) < 2:
        return np.array(labels), [value] * len(sizes)
    first = max(int(labels.max()), *used, value) + 1
    numbers = [value, *range(first, first + len(sizes) - 1)]
    out = wide_enough(labels, numbers[-1])
    table = np.array([0, *numbers])
    out[pieces > 0] = table[pieces[pieces > 0]]
    return out, numbers
