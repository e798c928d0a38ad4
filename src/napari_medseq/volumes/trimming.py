"""The part of an image without borders that hold one value alone: these are padding and show nothing of the patient."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from napari_medseq.sequence import SPACE, ImageSequence
from napari_medseq.volumes.part import part_of


def inner_box(seq: ImageSequence, *, without: str = "") -> dict[str, tuple[int, int]]:
    """Where the image lies within its padding: for each axis of space the first voxel and the last but one.

    The outermost plane of an axis is padding if all of its voxels that are numbers are equal. Planes are left out until none of the
    six outermost ones is padding, so that further padding does not change what is left.

    Parameters
    ----------
    seq : ImageSequence
        May be lazy; it is read one plane along its first axis at a time, once more each time that planes are left out.
    without : str
        An axis that stays whole, such as that of the slices.

    Returns
    -------
    dict of str to (int, int)
        The whole image where nothing would be left.
    """
    axes = [a for a in SPACE if a in seq.axes]
    whole = {a: (0, seq.size(a)) for a in axes}
    box = dict(whole)
    while True:
        ranges = _ranges(seq, box)
        smaller = {}
        for axis in axes:
            if axis == without:
                smaller[axis] = whole[axis]
                continue
            low, high = ranges[axis]
            varied = np.flatnonzero(low < high)  # inf and -inf where no voxel is a number
            if not varied.size:
                return whole
            smaller[axis] = (box[axis][0] + int(varied[0]), box[axis][0] + int(varied[-1]) + 1)
        if smaller == box:
            return box
        box = smaller


def trimmed(seq: ImageSequence) -> ImageSequence:
    """The image without its padding, as a view at its true place."""
    box = inner_box(seq)
    if all(span == (0, seq.size(a)) for a, span in box.items()):
        return seq
    return part_of(seq, {a: slice(*span) for a, span in box.items()})


def placed_back(array: NDArray[np.generic], part: ImageSequence, whole: ImageSequence) -> NDArray[np.generic]:
    """An array on the grid of a part of an image on the grid of the whole, 0 around it.

    Parameters
    ----------
    array : ndarray
        Axes as those of the images, without colours.
    part, whole : ImageSequence
        What `trimmed` made, and of what.
    """
    if part is whole:
        return array
    first = np.linalg.solve(whole.affine, part.affine[:, 3])[:3]
    start = dict(zip("xyz", np.round(first).astype(int), strict=True))
    axes = [a for a in whole.axes if a != "c"]
    out = np.zeros([whole.size(a) for a in axes], array.dtype)
    out[tuple(slice(start.get(a, 0), start.get(a, 0) + n) for a, n in zip(axes, array.shape, strict=True))] = array
    return out


def _ranges(
    seq: ImageSequence, box: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Of each plane across each axis within a box, the least and the greatest value that is a number."""
    found = {a: (np.full(stop - start, np.inf), np.full(stop - start, -np.inf)) for a, (start, stop) in box.items()}
    first, *rest = seq.axes
    start, stop = box.get(first, (0, seq.size(first)))
    inside = tuple(slice(*box[a]) if a in box else slice(None) for a in rest)
    for number in range(start, stop):
        plane = np.asarray(seq.data[number])[inside]
        low = high = plane
        if plane.dtype.kind == "f" and not (known := np.isfinite(plane)).all():
            low, high = np.where(known, plane, np.inf), np.where(known, plane, -np.inf)
        for axis in (a for a in rest if a in box):
            others = tuple(k for k, a in enumerate(rest) if a != axis)
            np.minimum(found[axis][0], low.min(others), out=found[axis][0])
            np.maximum(found[axis][1], high.max(others), out=found[axis][1])
        if first in box:
            found[first][0][number - start], found[first][1][number - start] = low.min(), high.max()
    return found
