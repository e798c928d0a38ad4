"""Training cases: an image and its labels as network steps, kept in memory in half precision, and windows drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_medseq.engine.augment import AugmentSettings, recolour, transplant, warp
from napari_medseq.engine.frame import frame, take
from napari_medseq.errors import MedseqError
from napari_medseq.sequence import ImageSequence

_SHAKE = 0.08  # largest shift of a window's middle, as a share of the image


@dataclass(frozen=True)
class Case:
    """One image with its labels, framed for a network.

    Attributes
    ----------
    patient, name : str
        Splits are by `patient`.
    image : Tensor, shape (step, channel, y, x), float16, robust units
    labels : Tensor, shape (step, y, x), int8; -1 is unlabelled
    """

    patient: str
    name: str
    image: Tensor
    labels: Tensor


def make_case(
    patient: str,
    channels: Sequence[ImageSequence],
    labels: ImageSequence,
    *,
    along: str = "slices",
    pixel_mm: float | None = None,
    unlabelled: int | None = None,
    merge: bool = True,
) -> Case:
    """Frame an image and its labels for training.

    Parameters
    ----------
    patient : str
    channels : sequence of ImageSequence
    labels : ImageSequence
        On the same grid as the channels.
    along, pixel_mm
        As in `frame.frame`.
    unlabelled : int, optional
        Label value that marks voxels nobody looked at.
    merge : bool
        All positive labels become class 1.

    Raises
    ------
    MedseqError
        If labels and image are not on one grid.
    """
    first = channels[0]
    if first.grid != labels.grid or not labels.same_grid(first, 1e-2):
        raise MedseqError(f"{labels.name} is not on the grid of {first.name}; labels must lie on the image's own grid.")
    f = frame(channels, along=along, pixel_mm=pixel_mm, stride=1)
    image = torch.stack([f.read(channels, i) for i in range(f.steps)]).half()
    r0, r1, c0, c1 = f.crop
    planes = [torch.from_numpy(take(labels, f.axes, i)[r0:r1, c0:c1].astype(np.int16)) for i in range(f.steps)]
    y = torch.stack(planes)
    blank = y == unlabelled if unlabelled is not None else None
    if merge:
        y = (y > 0).to(torch.int16)
    if blank is not None:
        y[blank] = -1
    size = tuple(image.shape[-2:])
    if tuple(y.shape[-2:]) != size:
        y = functional.interpolate(y[None].float(), size=size, mode="nearest-exact")[0].to(torch.int16)
    return Case(patient, first.name, image, y.to(torch.int8))


class Windows:
    """Draws augmented training windows from cases; the state is the random generator alone.

    Parameters
    ----------
    cases : sequence of Case
    steps : int
        Steps per window.
    size : (rows, columns)
    neighbours : int
        Steps on either side that enter each step as channels.
    augment : AugmentSettings
    seed : int
    lesion_share : float
        Share of windows that are centred on a step with a labelled structure.
    transplant : float
        Probability of pasting another case's lesion.
    weights : sequence of float, optional
        Relative frequency of each case.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        *,
        steps: int,
        size: tuple[int, int],
        neighbours: int,
        augment: AugmentSettings,
        seed: int,
        lesion_share: float = 0.7,
        transplant: float = 0.3,
        weights: Sequence[float] | None = None,
    ) -> None:
        if not cases:
            raise MedseqError("There is no training case; give at least one image with labels.")
        self.cases, self.steps, self.size, self.neighbours = list(cases), steps, size, neighbours
        self.augment, self.lesion_share, self.transplant = augment, lesion_share, transplant
        self.weights = torch.tensor(list(weights) if weights is not None else [1.0] * len(self.cases))
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """Windows (batch, step, channel · (2 · neighbours + 1), y, x) and labels (batch, step, y, x)."""
        pairs = [self._window() for _ in range(batch)]
        return torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])

    def _window(self) -> tuple[Tensor, Tensor]:
        g = self.generator
        image, labels = self._cut(self._pick())
        if float(torch.rand((), generator=g)) < self.transplant:
            other, other_labels = self._cut(self._pick(), always=True)
            image, labels = transplant(image, labels, other, other_labels, g)
        image = recolour(image, self.augment, g)
        n = self.neighbours
        centre = torch.arange(n, n + self.steps)
        x = torch.cat([image[centre + d] for d in range(-n, n + 1)], dim=1)
        return x, labels[n : n + self.steps]

    def _pick(self) -> Case:
        return self.cases[int(torch.multinomial(self.weights, 1, generator=self.generator))]

    def _cut(self, case: Case, always: bool = False) -> tuple[Tensor, Tensor]:
        """A warped window with `neighbours` more steps at either end; ends of the sequence repeat."""
        g = self.generator
        total, (h, w) = case.image.shape[0], case.image.shape[-2:]
        length = self.steps + 2 * self.neighbours
        start = int(torch.randint(-self.neighbours, max(total - self.steps, 0) + 1, (), generator=g))
        hit = torch.nonzero(case.labels.flatten(1).gt(0).any(1)).flatten()
        if len(hit) and (always or float(torch.rand((), generator=g)) < self.lesion_share):
            middle = int(hit[int(torch.randint(len(hit), (), generator=g))])
            start = middle - int(torch.randint(self.neighbours, self.neighbours + self.steps, (), generator=g))
        at = (torch.arange(length) + start).clamp(0, total - 1)
        shake = (torch.rand(2, generator=g) * 2 - 1) * _SHAKE
        centre = ((h - 1) / 2 + float(shake[0]) * h, (w - 1) / 2 + float(shake[1]) * w)
        return warp(case.image[at].float(), case.labels[at].long(), self.size, centre, self.augment, g)
