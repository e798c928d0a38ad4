"""Windows drawn from training cases: a few steps, cropped and augmented alike, with their targets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from napari_medseq.errors import MedseqError
from napari_medseq.models.sequence_network import ExtraInput
from napari_medseq.training.loops.augment import recolour, transplant, warp
from napari_medseq.training.loops.settings import LoopSettings
from napari_medseq.training.loops.transforms import Extra

if TYPE_CHECKING:
    from napari_medseq.training.cases import Case

_LARGE = 1.5  # an image this many times as large as the window is searched for structures, not only shifted a little

#: what a window's target is: its labels (batch, step, y, x); its image without the noise; or the exam's answers (batch, class)
Target = Literal["labels", "image", "exam"]


class Batch(NamedTuple):
    """A batch of training windows.

    `x` (batch, step, channel · (2 · neighbours + 1), y, x), or (…, z, y, x) for a network whose steps are volumes; `y` its
    targets, as `Target` says; `extras`: keywords of the network, each (batch, …).
    """

    x: Tensor
    y: Tensor
    extras: dict[ExtraInput, Tensor]


class _Cut(NamedTuple):
    """A window before its colours change: (n, channel, y, x) and (n, y, x); and which steps of the case it holds.

    For volumes n is step · slice. `real`: those steps that the case has; the others repeat its last.
    """

    image: Tensor
    labels: Tensor
    at: Tensor
    real: Tensor


class Windows:
    """Draws augmented training windows from cases; its only state is the random generator.

    Parameters
    ----------
    cases : sequence of Case
    settings : LoopSettings
        Steps, rows, columns and slices of a window, how it is augmented, how often it is centred on a labelled structure or
        gets another case's lesion pasted in, and the seed.
    neighbours : int
        Steps on either side that enter each step as channels.
    weights : sequence of float, optional
        Relative frequency of each case.
    target : {"labels", "image", "exam"}
    noise : (float, float)
        For the target "image": smallest and largest standard deviation of the noise that is added to what the network
        sees, in robust units. A step has one noise, wherever it enters as a neighbour.
    volumes : bool
        Whether the network's steps are volumes, of ``settings.slices`` slices each.
    extra_inputs : collection of {"times", "present", "tabular"}
        What the network is given in addition to the images.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        settings: LoopSettings,
        *,
        neighbours: int,
        weights: Sequence[float] | None = None,
        target: Target = "labels",
        noise: tuple[float, float] = (0.0, 0.0),
        volumes: bool = False,
        extra_inputs: Collection[ExtraInput] = (),
    ) -> None:
        if not cases:
            raise MedseqError("There is no training case; give at least one image with labels.")
        if volumes and any(c.image.ndim == 4 for c in cases):
            raise MedseqError("The network's steps are volumes, so it learns along t or visit, not along slices.")
        self.cases, self.neighbours, self.target, self.noise = list(cases), neighbours, target, noise
        self.steps, self.size, self.lesion_share = settings.steps, settings.size, settings.lesion_share
        self.slices, self.extra_inputs = settings.slices if volumes else 0, extra_inputs
        # a network that makes images must not learn to make noisy or blurred ones
        clean = {"noise": 0.0, "blur": 0.0} if target == "image" else {}
        self.augment = settings.augment.model_copy(update=clean)
        # only into sequences of slices: a lesion of another patient would change on other days
        pastes = target == "labels" and self.cases[0].image.ndim == 4
        self.transplant = settings.transplant if pastes else 0.0
        self.weights = torch.tensor(list(weights) if weights is not None else [1.0] * len(self.cases))
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.extra = Extra(self.augment.extra) if self.augment.extra else None

    def draw(self, batch: int) -> Batch:
        """Windows and their targets."""
        drawn = [self._window() for _ in range(batch)]
        extras: dict[ExtraInput, Tensor] = {k: torch.stack([d.extras[k] for d in drawn]) for k in drawn[0].extras}
        return Batch(torch.stack([d.x for d in drawn]), torch.stack([d.y for d in drawn]), extras)

    def _window(self) -> Batch:
        """One window, without the batch's axis."""
        g = self.generator
        case = self._pick()
        cut = self._cut(case)
        image, labels = cut.image, cut.labels
        if float(torch.rand((), generator=g)) < self.transplant:
            other = self._cut(self._pick(), always=True)
            image, labels = transplant(image, labels, other.image, other.labels, g)
        image = recolour(image, self.augment, g)
        if self.extra is not None:
            image, labels = self.extra(image, labels, g)
        if self.slices:
            parts = (-1, self.slices)
            image, labels = image.unflatten(0, parts).transpose(1, 2), labels.unflatten(0, parts)
        n = self.neighbours
        seen = image
        if self.target == "image" and self.noise[1] > 0:
            level = self.noise[0] + (self.noise[1] - self.noise[0]) * float(torch.rand((), generator=g))
            seen = image + level * torch.randn(image.shape, generator=g)
        centre = torch.arange(n, n + self.steps)
        x = torch.cat([seen[centre + d] for d in range(-n, n + 1)], dim=1)
        extras = self._extras(case, cut)
        if self.target == "image":
            return Batch(x, image[n : n + self.steps], extras)
        if self.target == "exam":
            if case.target is None:
                raise MedseqError(f"{case.name} of {case.patient} has no answer to learn from.")
            if case.of_steps is None:
                return Batch(x, case.target, extras)
            inner = slice(n, n + self.steps)
            return Batch(x, torch.where(cut.real[inner, None], case.of_steps[cut.at[inner]], torch.nan), extras)
        y = labels[n : n + self.steps]
        y[~cut.real[n : n + self.steps]] = -1
        return Batch(x, y, extras)

    def _extras(self, case: Case, cut: _Cut) -> dict[ExtraInput, Tensor]:
        inner = slice(self.neighbours, self.neighbours + self.steps)
        extras: dict[ExtraInput, Tensor] = {}
        if "times" in self.extra_inputs:  # of an exam without dates there are no gaps
            extras["times"] = torch.zeros(self.steps) if case.times is None else case.times[cut.at[inner]]
        if "present" in self.extra_inputs:
            extras["present"] = cut.real[inner]
        if "tabular" in self.extra_inputs and case.table is not None:
            extras["tabular"] = case.table
        return extras

    def _pick(self) -> Case:
        return self.cases[int(torch.multinomial(self.weights, 1, generator=self.generator))]

    def _cut(self, case: Case, always: bool = False) -> _Cut:
        """A warped window with `neighbours` more steps at either end; ends of the sequence repeat."""
        g = self.generator
        h, w = case.image.shape[-2:]
        positive, looked_at = case.labels.gt(0).flatten(-2).any(-1), case.labels.ge(0).flatten(-2).any(-1)
        anywhere = not bool(positive.any()) or not (always or float(torch.rand((), generator=g)) < self.lesion_share)
        candidates = positive
        if anywhere:
            # any plane will do, except an unlabelled one
            candidates = looked_at if self.target == "labels" and bool(looked_at.any()) else torch.ones_like(looked_at)
            if self.target == "exam" and case.of_steps is not None:  # a window shows a step whose class is known
                known = case.of_steps.isfinite().all(-1)
                candidates = known.view(-1, *[1] * (looked_at.ndim - 1)).expand_as(looked_at)
        hit = torch.nonzero(candidates)
        middle = hit[int(torch.randint(len(hit), (), generator=g))]
        at, real = self._steps_around(case, int(middle[0]))
        shake = (torch.rand(2, generator=g) * 2 - 1) * self.augment.move
        centre = ((h - 1) / 2 + float(shake[0]) * h, (w - 1) / 2 + float(shake[1]) * w)
        if h > _LARGE * self.size[0] or w > _LARGE * self.size[1]:
            centre = self._search(case.labels[tuple(middle)], h, w, anywhere)
        image, labels = case.image[at], case.labels[at]
        if case.image.ndim == 5:
            image, labels = self._slices_around(image.transpose(1, 2), labels, int(middle[1]))
        image, labels = warp(image.float(), labels.long(), self.size, centre, self.augment, g)
        return _Cut(image, labels, at, real)

    def _steps_around(self, case: Case, middle: int) -> tuple[Tensor, Tensor]:
        """Steps of a window at random around `middle`, with neighbours; and which of them are not repetitions.

        A window is pushed inside: the ends of a sequence are seen as often as its middle. Where a step is a frame or a visit
        some may be left out. There, and where the exam's answer is learned, a short sequence does not repeat.
        """
        g = self.generator
        steps = torch.arange(case.image.shape[0])
        if case.image.ndim == 5 and self.augment.skip > 0:
            stays = torch.rand(len(steps), generator=g) >= self.augment.skip
            stays[middle] = True
            steps = steps[stays]
            middle = int((steps == middle).nonzero())
        first = middle - int(torch.randint(self.steps, (), generator=g))
        start = min(max(first, 0), max(len(steps) - self.steps, 0)) - self.neighbours
        places = torch.arange(self.steps + 2 * self.neighbours) + start
        repeats = self.target == "image" or (case.image.ndim == 4 and self.target != "exam")
        real = (places < len(steps)) | torch.tensor(repeats)
        return steps[places.clamp(0, len(steps) - 1)], real

    def _slices_around(self, image: Tensor, labels: Tensor, middle: int) -> tuple[Tensor, Tensor]:
        """Of (step, position, channel, y, x) the one position; or, for volumes, some around it, with step · slice as
        one axis."""
        if not self.slices:
            return image[:, middle], labels[:, middle]
        total = image.shape[1]
        first = middle - int(torch.randint(self.slices, (), generator=self.generator))
        start = min(max(first, 0), max(total - self.slices, 0))
        at = (torch.arange(self.slices) + start).clamp(0, total - 1)
        return image[:, at].flatten(0, 1), labels[:, at].flatten(0, 1)

    def _search(self, plane: Tensor, h: int, w: int, anywhere: bool) -> tuple[float, float]:
        """Middle of a window in a large image: near a labelled pixel of `plane`, or anywhere looked at; within the image."""
        g = self.generator
        place = torch.rand(2, generator=g)
        middle = [float(place[0]) * h, float(place[1]) * w]
        pixels = torch.nonzero(plane >= 0 if anywhere else plane > 0)
        if len(pixels):
            pixel = pixels[int(torch.randint(len(pixels), (), generator=g))]
            middle = [float(pixel[i]) + float(place[i] - 0.5) * self.size[i] * 0.5 for i in (0, 1)]
        margins = (min(self.size[0], h) / 2, min(self.size[1], w) / 2)
        return (
            min(max(middle[0], margins[0]), h - margins[0]),
            min(max(middle[1], margins[1]), w - margins[1]),
        )
