"""Telling an image that was given as a mask, by mistake or under a wrong name, from labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError

#: a mask has at most a few values below 0 (ignore, outside the body); an image in Hounsfield units has hundreds
_MOST_NEGATIVE = 8
#: with more values than this, neighbours in x are looked at: in labels of lesions of a few voxels more than half of the neighbours are
#: equal, in 8-bit CT, MR and ultrasound images with noise fewer than a third
_MANY_VALUES, _EQUAL_NEIGHBOURS = 32, 0.5


def why_image(volume: NDArray[np.generic], most_values: int | None = None) -> str:
    """What tells that whole numbers are an image's; empty if they may be labels.

    Parameters
    ----------
    volume : ndarray of int or bool
        The last axis is x.
    most_values : int, optional
        More different values than these are an image's.

    Examples
    --------
    >>> why_image(np.arange(4000).reshape(10, 20, 20) % 997)
    '997 values that change from voxel to voxel'
    >>> why_image(np.repeat(np.arange(100), 40).reshape(10, 10, 40))
    ''
    """
    alike = equal_neighbours(volume)
    if alike >= _EQUAL_NEIGHBOURS and most_values is None and not (volume.dtype.kind == "i" and volume.min() < 0):
        return ""  # the values of a large mask are not counted without need
    values = np.unique(volume)
    if most_values is not None and len(values) > most_values:
        return f"{len(values)} different values"
    if int((values < 0).sum()) > _MOST_NEGATIVE:
        return f"{int((values < 0).sum())} different values below 0, down to {values[0]}"
    if len(values) > _MANY_VALUES and alike < _EQUAL_NEIGHBOURS:
        return f"{len(values)} values that change from voxel to voxel"
    return ""


def refuse_image(volume: NDArray[np.generic], name: str) -> None:
    """Refuse whole numbers that are an image's where labels are needed.

    Raises
    ------
    MedseqError
        Naming them, and what tells so.
    """
    why = why_image(volume)
    if why:
        raise MedseqError(
            f"{name} has {why}: it is an image, not labels. Give the labels here, and the image in its own place."
        )


def equal_neighbours(volume: NDArray[np.generic]) -> float:
    """Share of the pairs of neighbours along x, both foreground, that have the same value; 1 if there is no such
    pair."""
    one, other = volume[..., :-1], volume[..., 1:]
    both = (one != 0) & (other != 0)
    return float((one[both] == other[both]).mean()) if both.any() else 1.0
