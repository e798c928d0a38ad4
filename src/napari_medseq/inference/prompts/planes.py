"""An image as sequences of planes along one of its axes: slices in any direction, or frames; read one plane at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseq.colours import LUMINANCE
from napari_medseq.errors import MedseqError
from napari_medseq.sequence import SPACE, ImageSequence

#: no intensity is so large: it marks what was not measured (-3.4e38 is usual), and the sum of its squares is not a float32
_HUGE = 1e15


@dataclass(frozen=True, eq=False)
class Planes:
    """An image seen along an axis.

    Attributes
    ----------
    image : ImageSequence
    axis : str
        The axis along which the planes follow each other.
    plane : tuple of str
        The axes of a plane, rows first.
    across : tuple of str
        The axes that are left (frames of slices, slices of frames): each of their places has a sequence of its own.
    """

    image: ImageSequence
    axis: str
    plane: tuple[str, str]
    across: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Planes of each sequence."""
        return self.image.size(self.axis)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a plane."""
        return self.image.size(self.plane[0]), self.image.size(self.plane[1])

    @property
    def spacing(self) -> tuple[float, float, float]:
        """From plane to plane (0 between frames), and from row to row and column to column, in mm."""
        apart = self.image.spacing[self.axis] if self.axis in SPACE else 0.0
        return apart, self.image.spacing[self.plane[0]], self.image.spacing[self.plane[1]]

    def places(self) -> Iterator[tuple[int, ...]]:
        """The places of `across`, whose sequences are independent of each other."""
        return np.ndindex(*(self.image.size(a) for a in self.across))

    def read(self, place: tuple[int, ...], step: int) -> NDArray[np.float32]:
        """One plane (row, column) as float32; NaN, infinite and huge values become its least or greatest
        intensity."""
        at = {self.axis: step, **dict(zip(self.across, place, strict=True))}
        index = tuple(at.get(a, slice(None)) for a in self.image.axes)
        names = [a for a in self.image.axes if a not in at]
        plane = np.asarray(self.image.data[index])
        if "c" in names:
            plane = plane[..., :3].astype(np.float32) @ np.array(LUMINANCE, np.float32)
            names = names[:-1]
        plane = plane.astype(np.float32, copy=False)
        usable = np.abs(plane) < _HUGE  # False for NaN
        if not usable.all():
            intensities = plane[usable]
            low, high = (float(intensities.min()), float(intensities.max())) if intensities.size else (0.0, 0.0)
            plane = np.where(usable, plane, np.where(plane > 0, np.float32(high), np.float32(low)))
        return plane if names == list(self.plane) else plane.T

    def view(self, labels: NDArray[np.generic]) -> NDArray[np.generic]:
        """An array on the image's grid, without colours, as a view with axes (*across, step, row, column)."""
        axes = [a for a in self.image.axes if a != "c"]
        order = [*self.across, self.axis, *self.plane]
        if self.axis not in axes:
            labels, axes = labels[np.newaxis], [self.axis, *axes]
        return labels.transpose([axes.index(a) for a in order])


def planes_along(image: ImageSequence, axis: str) -> Planes:
    """An image as planes along "z", "y", "x" or "t".

    Raises
    ------
    MedseqError
        If the image has no such axis, or no planes across it.
    """
    space = [a for a in SPACE if a in image.axes]
    present = [a for a in ("t", *space) if a in image.axes and (a == "t" or len(space) == 3)]
    if axis not in present and not (len(space) == 2 and axis == "z"):  # a single image is a sequence of one
        raise MedseqError(f"{image.name} has no planes along {axis!r}; choose from {', '.join(present) or 'none'}.")
    if axis == "t" and len(space) == 3:
        plane = [a for a in space if a != image.slice_axis]
        across: tuple[str, ...] = (image.slice_axis,)
    else:
        plane = [a for a in space if a != axis]
        across = ("t",) if axis != "t" and "t" in image.axes else ()
    return Planes(image, axis, (plane[0], plane[1]), across)


def painted_axis(image: ImageSequence, labels: ImageSequence) -> str:
    """The axis along which an image's planes are painted.

    The image's own slice axis, or "t" where it has no slices; another axis of space where somebody painted in planes across that one
    (coronal slices of an axial scan). Of volumes over time "t" where an object was painted whole, without a gap between its slices, in
    some frames and not in others.

    Raises
    ------
    MedseqError
        If objects are painted in planes of different directions, or one object is.
    """
    if "z" not in image.axes:
        return "t" if "t" in image.axes else "z"
    data = np.asarray(labels.data)
    if "t" in image.axes and _is_whole(data != 0, labels, image.slice_axis):
        return "t"
    where = np.nonzero(data)
    places = {a: where[labels.axes.index(a)] for a in SPACE}
    values = data[where]
    found: dict[str, list[int]] = {}
    for value in np.unique(values).tolist():
        of_value = values == value
        axis = _across({a: places[a][of_value] for a in SPACE}, image.slice_axis)
        if axis is None:
            raise MedseqError(
                f"Object {value} of {labels.name} is painted on slices of two directions. Erase it on those of one of them: an object is "
                "carried from slices of one direction. Or choose the direction: axis=."
            )
        found.setdefault(axis, []).append(int(value))
    if len(found) > 1:
        listed = "; ".join(f"{', '.join(map(str, v))} on slices along {a}" for a, v in sorted(found.items()))
        raise MedseqError(
            f"The objects of {labels.name} are painted on slices of different directions ({listed}). Carry them one after the other: "
            "paint each direction in labels of its own. Or choose one direction for all: axis=."
        )
    return next(iter(found), image.slice_axis)


#: planes that follow each other: painted one by one there are fewer, and where they cut through other planes there are more
_IN_A_ROW = 3
#: share of the slices that only lines run through, from which on an object is painted across them, too
_LINES = 0.6


def _across(places: Mapping[str, NDArray[np.intp]], own: str) -> str | None:
    """The axis across which the voxels of an object are painted plane by plane; None if they are on planes of two directions.

    Planes across another axis than the image's own are few (half as many; where they lie side by side, as in a vessel that was painted
    slice by slice, a quarter), while the paint on them runs through neighbouring slices.
    """
    painted = {a: np.unique(places[a]) for a in SPACE}
    if _in_a_row(painted[own]) < _IN_A_ROW:
        return own
    best = min((a for a in SPACE if a != own), key=lambda a: len(painted[a]))
    if (2 if _in_a_row(painted[best]) < _IN_A_ROW else 4) * len(painted[best]) <= len(painted[own]):
        return best
    return None if any(_has_lines(places[own], places[a]) for a in SPACE if a != own) else own


def _in_a_row(steps: NDArray[np.intp]) -> float:
    """The mean number of steps that follow each other without a gap."""
    return len(steps) / (1 + int(np.count_nonzero(np.diff(steps) > 1)))


def _has_lines(slices: NDArray[np.intp], across: NDArray[np.intp]) -> bool:
    """Whether most slices hold only a line in one and the same plane across another axis, and others hold more."""
    steps, of_step = np.unique(slices, return_inverse=True)
    low, high = np.full(len(steps), np.iinfo(np.intp).max), np.full(len(steps), -1)
    np.minimum.at(low, of_step, across)
    np.maximum.at(high, of_step, across)
    thin = low == high
    if thin.all() or thin.mean() < _LINES:
        return False
    most = int(np.unique(low[thin], return_counts=True)[1].max())
    return most >= _LINES * len(steps) and most >= _IN_A_ROW


def _is_whole(painted: NDArray[np.bool_], labels: ImageSequence, across: str) -> bool:
    """Whether some frames are not painted, and in the others several slices, one after the other."""
    order = [labels.axes.index(a) for a in ("t", across)]
    slices = np.asarray(painted.any(axis=tuple(k for k in range(painted.ndim) if k not in order)))
    if order[0] > order[1]:
        slices = slices.T
    frames = [np.flatnonzero(frame) for frame in slices if frame.any()]
    return 0 < len(frames) < len(slices) and all(len(f) > 1 and f[-1] - f[0] + 1 == len(f) for f in frames)
