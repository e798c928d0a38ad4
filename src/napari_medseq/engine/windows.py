"""Windows drawn from training cases: some steps, cut and changed alike, with what the network is to say of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from napari_medseq.engine.augment import AugmentSettings, recolour, transplant, warp
from napari_medseq.engine.transforms import Extra
from napari_medseq.errors import MedseqError

if TYPE_CHECKING:
    from napari_medseq.engine.cases import Case

_LARGE = 1.5  # an image this many times as large as the window is searched, not only shaken

#: what a window's target is: its labels (batch, step, y, x); its image without the noise; or the exam's answers (batch, class)
Target = Literal["labels", "image", "exam"]


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
    target : {"labels", "image", "exam"}
    noise : (float, float)
        For the target "image": smallest and largest standard deviation of the noise that is added to what the network
        sees, in robust units. A step has one noise, wherever it enters as a neighbour.
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
        target: Target = "labels",
        noise: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        if not cases:
            raise MedseqError("There is no training case; give at least one image with labels.")
        self.cases, self.steps, self.size, self.neighbours = list(cases), steps, size, neighbours
        # a noisy or blurred image is nothing to learn to make
        self.augment = augment if target != "image" else augment.model_copy(update={"noise": 0.0, "blur": 0.0})
        self.lesion_share, self.target, self.noise = lesion_share, target, noise
        self.transplant = transplant if target == "labels" else 0.0
        self.weights = torch.tensor(list(weights) if weights is not None else [1.0] * len(self.cases))
        self.generator = torch.Generator().manual_seed(seed)
        self.extra = Extra(self.augment.extra) if self.augment.extra else None

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """Windows (batch, step, channel · (2 · neighbours + 1), y, x) and their targets, as `Target` says."""
        pairs = [self._window() for _ in range(batch)]
        return torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])

    def _window(self) -> tuple[Tensor, Tensor]:
        g = self.generator
        case = self._pick()
        image, labels = self._cut(case)
        if float(torch.rand((), generator=g)) < self.transplant:
            other, other_labels = self._cut(self._pick(), always=True)
            image, labels = transplant(image, labels, other, other_labels, g)
        image = recolour(image, self.augment, g)
        if self.extra is not None:
            image, labels = self.extra(image, labels, g)
        n = self.neighbours
        seen = image
        if self.target == "image" and self.noise[1] > 0:
            level = self.noise[0] + (self.noise[1] - self.noise[0]) * float(torch.rand((), generator=g))
            seen = image + level * torch.randn(image.shape, generator=g)
        centre = torch.arange(n, n + self.steps)
        x = torch.cat([seen[centre + d] for d in range(-n, n + 1)], dim=1)
        if self.target == "image":
            return x, image[n : n + self.steps]
        if self.target == "exam":
            if case.target is None:
                raise MedseqError(f"{case.name} of {case.patient} has no answer to learn from.")
            return x, case.target
        return x, labels[n : n + self.steps]

    def _pick(self) -> Case:
        return self.cases[int(torch.multinomial(self.weights, 1, generator=self.generator))]

    def _cut(self, case: Case, always: bool = False) -> tuple[Tensor, Tensor]:
        """A warped window with `neighbours` more steps at either end; ends of the sequence repeat."""
        g = self.generator
        total, (h, w) = case.image.shape[0], case.image.shape[-2:]
        length = self.steps + 2 * self.neighbours
        flat = case.labels.flatten(1)
        wanted = flat.gt(0).any(1)
        anywhere = not bool(wanted.any()) or not (always or float(torch.rand((), generator=g)) < self.lesion_share)
        if anywhere:
            # any step will do, but for one that nobody looked at
            known = flat.ge(0).any(1)
            wanted = known if self.target == "labels" and bool(known.any()) else torch.ones(total)
        hit = torch.nonzero(wanted).flatten()
        middle = int(hit[int(torch.randint(len(hit), (), generator=g))])
        # a window at random around a step, pushed inside: the ends of a sequence are seen as often as its middle
        first = middle - int(torch.randint(self.steps, (), generator=g))
        start = min(max(first, 0), max(total - self.steps, 0)) - self.neighbours
        at = (torch.arange(length) + start).clamp(0, total - 1)
        shake = (torch.rand(2, generator=g) * 2 - 1) * self.augment.move
        centre = ((h - 1) / 2 + float(shake[0]) * h, (w - 1) / 2 + float(shake[1]) * w)
        if h > _LARGE * self.size[0] or w > _LARGE * self.size[1]:
            centre = self._search(case.labels[middle], h, w, anywhere)
        return warp(case.image[at].float(), case.labels[at].long(), self.size, centre, self.augment, g)

    def _search(self, plane: Tensor, h: int, w: int, anywhere: bool) -> tuple[float, float]:
        """Middle of a window in a large image: near a labelled pixel of `plane`, or anywhere looked at; within the image."""
        g = self.generator
        place = torch.rand(2, generator=g)
        middle = [float(place[0]) * h, float(place[1]) * w]
        there = torch.nonzero(plane >= 0 if anywhere else plane > 0)
        if len(there):
            pixel = there[int(torch.randint(len(there), (), generator=g))]
            middle = [float(pixel[i]) + float(place[i] - 0.5) * self.size[i] * 0.5 for i in (0, 1)]
        margins = (min(self.size[0], h) / 2, min(self.size[1], w) / 2)
        return (
            min(max(middle[0], margins[0]), h - margins[0]),
            min(max(middle[1], margins[1]), w - margins[1]),
        )
