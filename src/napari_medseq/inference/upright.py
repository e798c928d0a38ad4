"""An image in the package's own orientation for a network that reads planes as they are stored, and its answer back in the image's.

Readers turn every file to this orientation, so this is what networks learned from. An image made in memory may lie otherwise; the same
voxels at the same places in the patient then give the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_medseq import geometry
from napari_medseq.geometry import Reorientation
from napari_medseq.inference.frame import Region
from napari_medseq.inference.prediction import Segmentation
from napari_medseq.sequence import SPACE, ImageSequence
from napari_medseq.volumes.turning import turned


@dataclass(frozen=True, eq=False)
class Upright:
    """The turn of one image, and what follows from it for all that is said in its voxels.

    Attributes
    ----------
    image : ImageSequence
        As it was given.
    turn : Reorientation
        To the package's orientation; none for a picture, or where the orientation is unknown.
    """

    image: ImageSequence
    turn: Reorientation

    @classmethod
    def of(cls, image: ImageSequence) -> Upright:
        """The turn of an image."""
        lies = image.oriented and "z" in image.axes
        return cls(image, geometry.to_codes(image.affine) if lies else Reorientation())

    @property
    def is_turned(self) -> bool:
        """Whether the image does not lie so already."""
        return self.turn != Reorientation()

    def there(self, seq: ImageSequence) -> ImageSequence:
        """An image or labels on the same grid, turned."""
        return turned(seq, self.turn) if self.is_turned else seq

    def region(self, region: Region | None) -> Region | None:
        """A region of the image in voxels of the turned one."""
        if region is None or not self.is_turned:
            return region
        return {self.axis(a): self._span(a, span) for a, span in region.items()}

    def region_back(self, region: Region) -> dict[str, tuple[int, int]]:
        """A region of the turned image in voxels of the image itself."""
        found = {self.own(a): span for a, span in region.items()}
        return {a: self._span(a, found[a]) for a in self.image.axes if a in found}

    def steps(self, steps: Sequence[int] | None, axis: str) -> Sequence[int] | None:
        """Steps of the image as steps along an axis of the turned one."""
        if steps is None or not self.is_reversed(axis):
            return steps
        last = self.image.size(self.own(axis)) - 1
        return [last - k if not isinstance(k, bool) and 0 <= k <= last else k for k in steps]

    def axis(self, name: str) -> str:
        """What an axis of the image is called in the turned one."""
        return "xyz"[self.turn.order.index("xyz".index(name))] if name in SPACE else name

    def own(self, axis: str) -> str:
        """What an axis of the turned image is called in the image itself."""
        return "xyz"[self.turn.order["xyz".index(axis)]] if axis in SPACE else axis

    def is_reversed(self, axis: str) -> bool:
        """Whether steps along an axis of the turned image run against those of the image."""
        return axis in SPACE and self.turn.flips["xyz".index(axis)]

    def back(self, seq: ImageSequence) -> ImageSequence:
        """A map or labels of the turned image, on the image's own grid."""
        if not self.is_turned:
            return seq
        data = np.ascontiguousarray(turned(seq, self.turn.inverse).data)
        meta = {**self.image.meta, **seq.meta}
        return seq.replace(data=data, affine=self.image.affine, slice_axis=self.image.slice_axis, meta=meta)

    def answer(self, result: Segmentation) -> Segmentation:
        """All of an answer on the image's own grid."""
        if not self.is_turned:
            return result
        maps = {n: None if (m := getattr(result, n)) is None else self.back(m) for n in ("probability", "uncertainty")}
        return replace(result, labels=self.back(result.labels), **maps)

    def _span(self, name: str, span: tuple[int, int]) -> tuple[int, int]:
        """A span along an axis of the image, counted from the other end where the turn mirrors it; its own inverse."""
        if not self.is_reversed(self.axis(name)):
            return span
        n = self.image.size(name)
        return n - span[1], n - span[0]
