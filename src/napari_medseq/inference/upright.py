"""An image in the package's own orientation for a network that reads planes as they are stored, and its answer back in the image's.

Readers turn every file to this orientation, so this is what networks learned from. An image made in memory may lie otherwise; the same
voxels at the same places in the patient then give the same answer. Padding can be left out too, so that it changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.geometry import Reorientation
from napari_medseq.inference.inputs.frame import Region
from napari_medseq.inference.outputs.prediction import Segmentation
from napari_medseq.sequence import SPACE, ImageSequence, check_same_grid
from napari_medseq.unread import UnreadVoxels
from napari_medseq.volumes.part import part_of
from napari_medseq.volumes.trimming import inner_box, placed_back
from napari_medseq.volumes.turning import turned


@dataclass(frozen=True, eq=False)
class Upright:
    """The turn of one image, and its conversions of steps, regions and answers.

    Attributes
    ----------
    image : ImageSequence
        As it was given.
    turn : Reorientation
        The turn to the package's orientation; none for a picture, an unknown orientation, or an image that a reader left as it is in its
        file.
    box : dict of str to (int, int)
        The part of the turned image that is looked at, for each axis of space.
    """

    image: ImageSequence
    turn: Reorientation
    box: dict[str, tuple[int, int]]

    @classmethod
    def of(
        cls, image: ImageSequence, *, trimmed: bool | Literal["planes"] = False, middle_mm: float | None = None
    ) -> Upright:
        """The turn of an image, to the part of it that is not padding if it is to be `trimmed` (see `InferenceSettings`)."""
        # by a reader, which turned it; to turn it again would read all of it
        left_in_file = isinstance(image.data, UnreadVoxels)
        turns = image.oriented and "z" in image.axes and not left_in_file
        turn = geometry.to_codes(image.affine) if turns else Reorientation()
        whole = _turned(image, turn)
        box = {a: (0, whole.size(a)) for a in SPACE if a in whole.axes}
        if trimmed:
            box = inner_box(whole, without=whole.slice_axis if trimmed == "planes" else "")
        return cls(image, turn, box if middle_mm is None else _middle(whole, box, middle_mm))

    @classmethod
    def of_channels(
        cls,
        channels: Sequence[ImageSequence],
        *,
        trimmed: bool | Literal["planes"] = False,
        middle_mm: float | None = None,
    ) -> tuple[Upright, list[ImageSequence]]:
        """The turn of an exam's first channel, and all channels so turned.

        Raises
        ------
        GeometryError
            If the channels lie on different grids.
        """
        turn = cls.of(channels[0], trimmed=trimmed, middle_mm=middle_mm)
        check_same_grid(*channels)
        return turn, [turn.there(c) for c in channels]

    @property
    def is_plain(self) -> bool:
        """Whether the image needs no turn."""
        whole = all(span == (0, self.image.size(a)) for a, span in self.box.items())
        return self.turn == Reorientation() and whole

    def there(self, seq: ImageSequence) -> ImageSequence:
        """An image, or labels on its grid, turned."""
        if self.is_plain:
            return seq
        return part_of(_turned(seq, self.turn), {a: slice(*span) for a, span in self.box.items()})

    def region(self, region: Region | None) -> Region | None:
        """A region of the image in voxels of the turned one."""
        if region is None:
            return None
        spans = {self.axis(a): self._span(a, span) for a, span in region.items()}
        return {a: (start - self._first(a), stop - self._first(a)) for a, (start, stop) in spans.items()}

    def region_back(self, region: Region) -> dict[str, tuple[int, int]]:
        """A region of the turned image in voxels of the image itself."""
        spans = {a: (start + self._first(a), stop + self._first(a)) for a, (start, stop) in region.items()}
        found = {self.own(a): self._span(self.own(a), span) for a, span in spans.items()}
        return {a: found[a] for a in self.image.axes if a in found}

    def steps(self, steps: Sequence[int] | None, axis: str) -> Sequence[int] | None:
        """Steps of the image as steps along an axis of the turned one, without those of padding; a step that does not exist stays so."""
        if steps is None or axis not in self.box or self.is_plain:
            return steps
        (first, stop), last = self.box[axis], self.image.size(self.own(axis)) - 1
        found = []
        for k in steps:
            there = not isinstance(k, bool) and 0 <= k <= last
            at = last - k if there and self.is_reversed(axis) else k
            if not there:
                found.append(k if k < 0 else k + stop)
            elif first <= at < stop:
                found.append(at - first)
        return found

    def axis(self, name: str) -> str:
        """The name of an axis of the image in the turned one."""
        return "xyz"[self.turn.order.index("xyz".index(name))] if name in SPACE else name

    def own(self, axis: str) -> str:
        """The name of an axis of the turned image in the image itself."""
        return "xyz"[self.turn.order["xyz".index(axis)]] if axis in SPACE else axis

    def is_reversed(self, axis: str) -> bool:
        """Whether steps along an axis of the turned image run against those of the image."""
        return axis in SPACE and self.turn.flips["xyz".index(axis)]

    def back(self, seq: ImageSequence) -> ImageSequence:
        """A map or labels of the turned image, on the image's own grid; 0 in its padding."""
        if self.is_plain:
            return seq
        whole = _turned(self.image, self.turn)
        data = placed_back(np.asarray(seq.data), seq, whole)
        data = np.ascontiguousarray(_turned(whole.like(data, axes=seq.axes), self.turn.inverse).data)
        meta = {**self.image.meta, **seq.meta}
        return seq.replace(data=data, affine=self.image.affine, slice_axis=self.image.slice_axis, meta=meta)

    def along(self, values: NDArray[np.float32], axis: str) -> NDArray[np.float32]:
        """Values of the turned image's steps as values of all steps of the image; 0 in its padding."""
        if axis not in self.box or self.is_plain:
            return values
        first, n = self.box[axis][0], self.image.size(self.own(axis))
        out = np.zeros((n, *values.shape[1:]), values.dtype)
        out[first : first + len(values)] = values
        return out[::-1].copy() if self.is_reversed(axis) else out

    def answer(self, result: Segmentation) -> Segmentation:
        """All of an answer on the image's own grid."""
        if self.is_plain:
            return result
        probability, uncertainty = (
            None if m is None else self.back(m) for m in (result.probability, result.uncertainty)
        )
        return replace(result, labels=self.back(result.labels), probability=probability, uncertainty=uncertainty)

    def _first(self, axis: str) -> int:
        return self.box[axis][0] if axis in self.box else 0

    def _span(self, name: str, span: tuple[int, int]) -> tuple[int, int]:
        """A span along an axis of the image, counted from the other end where the turn mirrors it; its own inverse."""
        if not self.is_reversed(self.axis(name)):
            return span
        n = self.image.size(name)
        return n - span[1], n - span[0]


def upright_exams(exams: Sequence[Sequence[ImageSequence]]) -> tuple[list[Upright], list[list[ImageSequence]]]:
    """The turn of each of several exams, such as a patient's visits, and their channels so turned.

    Raises
    ------
    GeometryError
        If the channels of one lie on different grids.
    """
    pairs = [Upright.of_channels(channels) for channels in exams]
    return [turn for turn, _ in pairs], [channels for _, channels in pairs]


def _turned(seq: ImageSequence, turn: Reorientation) -> ImageSequence:
    """As `turned`, but an image that lies right is not touched."""
    return seq if turn == Reorientation() else turned(seq, turn)


def _middle(seq: ImageSequence, box: dict[str, tuple[int, int]], mm: float) -> dict[str, tuple[int, int]]:
    """The middle of a box along rows and columns, so many mm of it; what is smaller stays whole."""
    out = dict(box)
    for axis, (start, stop) in box.items():
        wanted = max(1, round(mm / seq.spacing[axis]))
        is_plane = axis != seq.slice_axis or "z" not in seq.axes
        if is_plane and wanted < stop - start:
            first = start + (stop - start - wanted) // 2
            out[axis] = (first, first + wanted)
    return out
