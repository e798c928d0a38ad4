"""Objects that were carried one by one, put together on the image's grid, and where they are in doubt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_medseq.inference.prompts.carrying import CarriedObject
from napari_medseq.inference.prompts.chain import connected
from napari_medseq.inference.prompts.planes import Planes
from napari_medseq.inference.prompts.window import PromptSettings
from napari_medseq.sequence import SPACE, ImageSequence

_STEPS = 16  # steps that are brought back to native pixels together
#: rows and columns of a plane
Box = tuple[slice, slice]


class Merged:
    """Objects put together on the image's grid: what is painted stays, and the most probable object wins.

    Parameters
    ----------
    planes : Planes
    labels : ImageSequence
        What is painted.
    settings : PromptSettings
    steps : sequence of int, optional
        Label only these.
    several : bool
        Whether there is more than one object.
    """

    def __init__(
        self,
        planes: Planes,
        labels: ImageSequence,
        settings: PromptSettings,
        steps: Sequence[int] | None,
        several: bool,
    ) -> None:
        self.settings, self.several = settings, several
        self.along_space = planes.axis in SPACE
        #: labels in the image's own axes
        self.data = np.array(labels.data)
        self.doubt = np.zeros(planes.steps, np.float32)
        self.painted = planes.view(np.asarray(labels.data))
        self._labels = planes.view(self.data)  # writes into `data`
        self._labelled: dict[tuple[int, ...], Labelled] = {}  # plane by plane
        self._wanted = np.ones(planes.steps, bool)
        if steps is not None:
            self._wanted[:] = False
            self._wanted[list(steps)] = True

    def add(self, carried: CarriedObject) -> None:
        """Label the voxels of an object, and note where they are in doubt."""
        one, window = carried.object, carried.window
        logits, at_first = carried.logits, carried.at_first
        if self.settings.connected and self.along_space:
            same = logits is at_first
            logits = connected(logits, carried.painted, carried.annotated)
            at_first = logits if same else connected(at_first, carried.painted, carried.annotated)
        free = self._wanted.copy()
        free[one.steps] = False
        area = float(carried.painted.flatten(1).sum(1).max().clamp_min(1))
        start, stop = window.steps
        for first in range(start, stop, _STEPS):
            cut = slice(first - start, min(first + _STEPS, stop) - start)
            wrong = expected_wrong(logits[cut], at_first[cut]).numpy() / area
            steps = np.arange(cut.start, cut.stop) + start
            self.doubt[steps] = np.maximum(self.doubt[steps], np.where(carried.annotated[cut], 0, wrong))
            numbers = steps[free[steps]]
            if len(numbers):
                p = torch.sigmoid(window.native(logits[torch.from_numpy(numbers - start)])).numpy()
                self._label(one.place, numbers.tolist(), (slice(*window.rows), slice(*window.columns)), one.value, p)

    def _label(
        self,
        place: tuple[int, ...],
        numbers: Sequence[int],
        box: Box,
        value: int,
        p: NDArray[np.float32],
    ) -> None:
        labels, painted = self._labels[place], self.painted[place]
        for step, plane in zip(numbers, p, strict=True):
            won = (plane > self.settings.threshold) & (painted[step][box] == 0)
            if self.several:
                labelled = self._labelled.setdefault((*place, step), Labelled(labels.shape[1:]))
                won &= plane > labelled.probability(box)
                labelled.add(box, np.where(won, plane, 0))
            labels[step][box][won] = value


class Labelled:
    """How probable the objects are that are labelled on a plane: no more than 2 bytes per pixel of it, less where they lie apart.

    Parameters
    ----------
    size : tuple of int
        Rows and columns of the plane.
    """

    def __init__(self, size: tuple[int, ...]) -> None:
        self.size = size
        self._parts: list[tuple[Box, NDArray[np.float16]]] = []

    @property
    def kept(self) -> int:
        """Bytes that are kept."""
        return sum(part.nbytes for _, part in self._parts)

    def probability(self, box: Box) -> NDArray[np.float16]:
        """The greatest probability of the objects labelled so far, at each pixel of a box; 0 where there is none.

        Parameters
        ----------
        box : (slice, slice)
            Rows and columns, each with a start and a stop.
        """
        greatest = np.zeros([s.stop - s.start for s in box], np.float16)
        for other, p in self._parts:
            low = [max(a.start, b.start) for a, b in zip(box, other, strict=True)]
            high = [min(a.stop, b.stop) for a, b in zip(box, other, strict=True)]
            if low[0] < high[0] and low[1] < high[1]:
                mine, theirs = (
                    tuple(slice(i - s.start, j - s.start) for i, j, s in zip(low, high, corner, strict=True))
                    for corner in (box, other)
                )
                np.maximum(greatest[mine], p[theirs], out=greatest[mine])
        return greatest

    def add(self, box: Box, p: NDArray[np.float32]) -> None:
        """Label one more object.

        Parameters
        ----------
        box : (slice, slice)
        p : ndarray, of the box
            0 where it is not labelled.
        """
        rows, columns = np.flatnonzero(p.any(1)), np.flatnonzero(p.any(0))
        if not len(rows):
            return
        cut = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        shifted = [slice(c.start + b.start, c.stop + b.start) for c, b in zip(cut, box, strict=True)]
        self._parts.append(((shifted[0], shifted[1]), p[cut].astype(np.float16)))
        if self.kept > 2 * self.size[0] * self.size[1]:
            whole = slice(0, self.size[0]), slice(0, self.size[1])
            self._parts = [(whole, self.probability(whole))]


def expected_wrong(logits: Tensor, at_first: Tensor) -> Tensor:
    """Pixels of each step that are expected to be wrong, (step,); see `Propagation.doubt`.

    Parameters
    ----------
    logits, at_first : Tensor, (step, row, column)
        The logits that are returned, and those of the network's first pass.
    """
    first = torch.sigmoid(at_first)
    wrong = torch.minimum(first, 1 - first)
    if logits is not at_first:
        wrong = torch.maximum(wrong, (first - torch.sigmoid(logits)).abs_().div_(2))
    return wrong.flatten(1).sum(1)
