"""A mask put back as a label among others, and one label made from another."""

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
    """One label among others, as an editing tool is given it.

    Parameters
    ----------
    labels : ndarray of int, three axes
        One slice or a plane image has length 1 along `axis`.
    value : int
        The label that is edited.
    spacing : tuple of float
        Millimetres from voxel to voxel, per axis.
    axis : int
        Along which slices follow one another.
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
        """Where the label is."""
        return np.asarray(self.labels == self.value)


def put(labels: LabelArray, value: int, mask: Mask) -> LabelArray:
    """Labels in which `value` lies where `mask` says, as far as other labels leave room.

    Parameters
    ----------
    labels : ndarray of int
    value : int
        Not 0.
    mask : ndarray of bool, of the same shape

    Returns
    -------
    ndarray of int
        Of the same type, or of a wider one where `value` does not fit into it. Voxels of other labels are as they were.

    Raises
    ------
    SettingsError
        If `value` is 0 or negative.
    """
    if value <= 0:
        raise SettingsError(f"Label {value} is background; choose a label from 1 on.")
    fits = value <= np.iinfo(labels.dtype).max
    out = np.array(labels, dtype=labels.dtype if fits else np.min_scalar_type(value))
    out[(labels == value) & ~mask] = 0
    out[mask & (labels == 0)] = value
    return out


def combine(labels: LabelArray, value: int, other: Mask, operation: Operation) -> LabelArray:
    """The label together with another mask on the same grid.

    Parameters
    ----------
    labels : ndarray of int
    value : int
    other : ndarray of bool
        Of the same shape: a label of another layer, or of this one.
    operation : {"add", "subtract", "intersect", "exclusive or", "replace"}
        "replace" makes the label what `other` is.

    Raises
    ------
    MedseqError
        If the two are of different shapes.
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
    """The label's outline of one slice put onto another one as well, where no other label lies.

    Parameters
    ----------
    labels : ndarray of int
    value : int
    axis : int
        Along which slices follow one another.
    source, target : int

    Raises
    ------
    MedseqError
        If there is no such slice, or nothing on the source.
    """
    count = labels.shape[axis]
    if not (0 <= source < count and 0 <= target < count):
        raise MedseqError(f"There is no slice {max(source, target) + 1}: the mask has {count}.")
    mask = labels == value
    lead = (slice(None),) * axis
    if not mask[(*lead, source)].any():
        raise MedseqError(f"Label {value} is not on slice {source + 1}: there is nothing to copy.")
    mask[(*lead, target)] |= mask[(*lead, source)]
    return put(labels, value, mask)
