"""Writing a mask into labels among others, and making one label from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError, SettingsError

Mask = NDArray[np.bool_]
LabelArray = NDArray[np.integer]
Operation = Literal["add", "subtract", "intersect", "exclusive or", "replace"]


@dataclass(frozen=True)
class Labelled:
    """One label among others, as an editing tool gets it.

    Parameters
    ----------
    labels : ndarray of int, three axes
        The labels; a single slice has length 1 along `axis`.
    value : int
        The label that is edited.
    spacing : tuple of float
        Millimetres from voxel to voxel, per axis.
    axis : int
        The axis along which slices follow one another.
    image : ndarray, optional
        Intensities on the same grid.
    at : tuple of int, optional
        The voxel that is pointed at.
    """

    labels: LabelArray
    value: int
    spacing: tuple[float, ...]
    axis: int = 0
    image: NDArray[np.generic] | None = None
    at: tuple[int, ...] | None = None

    @property
    def mask(self) -> Mask:
        """Where the label is, bool."""
        return np.asarray(self.labels == self.value)


def wide_enough(labels: LabelArray, value: int) -> LabelArray:
    """A copy of labels that can hold `value` too: of the same type, or of the smallest one that also holds all values of that."""
    fits = labels.dtype.kind != "b" and value <= np.iinfo(labels.dtype).max
    return np.array(labels, dtype=labels.dtype if fits else np.result_type(labels.dtype, np.min_scalar_type(value)))


def put(labels: LabelArray, value: int, mask: Mask) -> LabelArray:
    """Labels with `value` at the mask, except where other labels are; voxels of the label outside the mask become
    background.

    Parameters
    ----------
    labels : ndarray of int
    value : int
        Not 0.
    mask : ndarray of bool, of the same shape

    Returns
    -------
    ndarray of int
        The labels, of the same type or of a wider one if `value` does not fit. Voxels of other labels do not change.

    Raises
    ------
    SettingsError
        If `value` is 0 or negative.
    """
    if value <= 0:
        raise SettingsError(f"Label {value} is background; choose a label from 1 on.")
    out = wide_enough(labels, value)
    out[(labels == value) & ~mask] = 0
    out[mask & (labels == 0)] = value
    return out


def combine(labels: LabelArray, value: int, other: Mask, operation: Operation) -> LabelArray:
    """Combine the label with another mask on the same grid.

    Parameters
    ----------
    labels : ndarray of int
    value : int
    other : ndarray of bool
        A mask of the same shape: a label of another layer, or of this one.
    operation : {"add", "subtract", "intersect", "exclusive or", "replace"}
        "replace" makes the label equal to `other`.

    Raises
    ------
    MedseqError
        If the two have different shapes.
    """
    if labels.shape != other.shape:
        raise MedseqError(
            f"The two masks have different grids ({labels.shape} and {other.shape} voxels). Resample one onto the other first."
        )
    own = labels == value
    results = {
        "add": own | other,
        "subtract": own & ~other,
        "intersect": own & other,
        "exclusive or": own ^ other,
        "replace": other,
    }
    return put(labels, value, np.asarray(results[operation]))


def copy_slice(labels: LabelArray, value: int, axis: int, source: int, target: int) -> LabelArray:
    """Add the label's outline of one slice to another slice, except where other labels are.

    Parameters
    ----------
    labels : ndarray of int
    value : int
    axis : int
        The axis along which slices follow one another.
    source, target : int

    Raises
    ------
    MedseqError
        If there is no such slice, or the source does not hold the label.
    """
    count = labels.shape[axis]
    missing = [k + 1 for k in (source, target) if not 0 <= k < count]
    if missing:
        raise MedseqError(f"There is no slice {missing[0]}: the mask has slices 1 to {count}.")
    mask = labels == value
    lead = (slice(None),) * axis
    if not mask[(*lead, source)].any():
        raise MedseqError(f"Label {value} is not on slice {source + 1}: there is nothing to copy.")
    mask[(*lead, target)] |= mask[(*lead, source)]
    return put(labels, value, mask)
