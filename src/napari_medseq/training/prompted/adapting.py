"""A prompted network adapted to one image: it learns from the painted slices, each hidden in turn, and is kept only if that helps.

A lesson hides one of the painted slices and asks for it; on the slices that nobody painted the network is to answer as before, so that it
forgets nothing. Whether that helps, and after how many iterations, is seen on painted slices that a first, separate round of learning
never saw. Where it does not help, the weights stay as they were.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from napari_medseq.errors import MedseqError, ModelError
from napari_medseq.inference.prompts.objects import Annotated, objects_of, one_label_image
from napari_medseq.inference.prompts.parts import in_parts
from napari_medseq.inference.prompts.planes import painted_axis, planes_along
from napari_medseq.inference.prompts.window import PromptSettings
from napari_medseq.inference.propagation import annotated_there
from napari_medseq.inference.resources import tuning
from napari_medseq.inference.upright import Upright
from napari_medseq.masks.overlap import Overlap
from napari_medseq.models import Model
from napari_medseq.models.prompted_unet import PromptedNetwork
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.sequence import ImageSequence
from napari_medseq.settings import Settings, checked
from napari_medseq.training.loops.checkpoint import random_states, restore_random
from napari_medseq.training.prompted.lessons import Lesson, draw_tasks, lesson_of
from napari_medseq.training.prompted.training import PromptedBatch, prompted_loss

_TASKS = 2  # tasks of one lesson in an iteration
_WARM = 5  # iterations until the learning rate is reached


class AdaptSettings(Settings):
    """How a prompted network is adapted.

    Attributes
    ----------
    iterations : int
        At most; half of them, and none, are tried too.
    rate : float
        Learning rate (AdamW).
    folds : int
        How many painted slices are held back, one after the other, to see whether it helps.
    gain : float
        Mean Dice on held-back slices that must be gained.
    seed : int
    """

    iterations: int = Field(24, ge=2)
    rate: float = Field(3e-5, gt=0)
    folds: int = Field(3, ge=1)
    gain: float = Field(0.005, ge=-1)
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Adapted:
    """A prompted network after adapting.

    Attributes
    ----------
    weights : dict of str to Tensor
    iterations : int
        After how many it helped most; 0: it did not, and the weights are those of before.
    held_back : dict of int to float
        Mean Dice on held-back slices after so many iterations; 0: of the network as it was.
    losses : list of float
        Loss of each iteration of the last round.
    """

    weights: dict[str, Tensor]
    iterations: int
    held_back: dict[int, float]
    losses: list[float]

    def __str__(self) -> str:
        before, best = self.held_back[0], max(self.held_back.values())
        if self.iterations:
            return f"Dice on painted slices that were held back: {before:.3f} before, {best:.3f} after adapting."
        return f"Adapting does not help here (Dice on painted slices that were held back {before:.3f}); the network is as it was."


def adapt(
    model: Model,
    image: ImageSequence,
    prompts: ImageSequence,
    *,
    annotated: Annotated | None = None,
    settings: AdaptSettings | None = None,
    device: torch.device | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Adapted:
    """Adapt a prompted network to what is painted on an image.

    Parameters
    ----------
    model : Model
        Not changed.
    image, prompts : ImageSequence
        As for `propagate`; an object that is painted on three steps or more is learned from.
    annotated : sequence of int, or mapping of value to sequence of int, optional
        More steps that are complete.
    settings : AdaptSettings, optional
    device : torch.device, optional
        Default the CPU.
    progress, cancelled : callable, optional
        Looked at once per iteration.

    Raises
    ------
    ModelError
        If the model is not a promptable network.
    MedseqError
        If no object is painted on three steps, or what `propagate` raises for such prompts.
    OperationCancelled
        When `cancelled` says so.
    """
    s = settings or AdaptSettings()
    if not isinstance(model.network, PromptedNetwork):
        raise ModelError(f"{model.info.name} is a {model.info.task} model, which cannot take painted steps.")
    lessons = _lessons(model, image, one_label_image(prompts, image), annotated)
    run = _Run(model, s, device or torch.device("cpu"), progress, cancelled)
    folds = min(s.folds, max(len(lesson.filled) for lesson in lessons))
    run.total = (folds + 1) * s.iterations
    held_back = run.held_back(lessons, folds)
    best = max((k for k in held_back if k), key=lambda k: (held_back[k], -k))
    if held_back[best] - held_back[0] <= s.gain:
        return Adapted({k: v.clone() for k, v in model.network.state_dict().items()}, 0, held_back, [])
    losses: list[float] = []
    *_, (_, network) = run.learned(lessons, (best,), losses)
    weights = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
    return Adapted(weights, best, held_back, losses)


def _lessons(model: Model, image: ImageSequence, labels: ImageSequence, annotated: Annotated | None) -> list[Lesson]:
    turn = Upright.of(image)  # as in use
    image, labels = turn.there(image), turn.there(labels)
    axis = painted_axis(image, labels)
    planes, annotated = planes_along(image, axis), annotated_there(annotated, turn, axis)
    inference = checked(PromptSettings, model.inference, where=model.info.name, error=ModelError)
    painted = planes.view(np.asarray(labels.data))
    objects = objects_of(labels, planes, annotated)
    if inference.parts:
        objects = in_parts(objects, painted, planes.spacing)
    lessons = [lesson_of(planes, painted, one, inference) for one in objects]
    lessons = [lesson for lesson in lessons if len(lesson.filled) > 2]
    if not lessons:
        raise MedseqError(
            f"No object of {labels.name} is painted on three steps or more, of which one can be held back; paint it on more, or propagate."
        )
    return lessons


class _Run:
    """Rounds of learning, each from the network as it was."""

    def __init__(
        self,
        model: Model,
        settings: AdaptSettings,
        device: torch.device,
        progress: Progress | None,
        cancelled: Cancelled | None,
    ) -> None:
        assert isinstance(model.network, PromptedNetwork)
        self.settings, self.device, self.progress, self.cancelled = settings, device, progress, cancelled
        self.before = copy.deepcopy(model.network).to(device).eval().requires_grad_(False)
        inference = checked(PromptSettings, model.inference, where=model.info.name, error=ModelError)
        self.lower = inference.precision == "bfloat16" and (device.type != "cpu" or tuning.has_bfloat16())
        self.horizon_along = inference.horizon_along
        self.done, self.total = 0, 1

    def held_back(self, lessons: Sequence[Lesson], folds: int) -> dict[int, float]:
        """Mean Dice on held-back slices after none, half and all of the iterations."""
        scores: dict[int, list[float]] = {0: []}
        for fold in range(folds):
            hidden = [(lesson, lesson.filled[fold]) for lesson in lessons if fold < len(lesson.filled)]
            lessons_left = [lesson.without(step) for lesson, step in hidden]
            lessons_left += [lesson for lesson in lessons if fold >= len(lesson.filled)]
            scores[0] += [self._dice(self.before, *each) for each in hidden]
            half = self.settings.iterations // 2
            for iterations, network in self.learned(lessons_left, (half, self.settings.iterations), []):
                scores.setdefault(iterations, []).extend(self._dice(network, *each) for each in hidden)
        return {k: float(np.mean(v)) for k, v in scores.items()}

    def learned(
        self, lessons: Sequence[Lesson], at: Sequence[int], losses: list[float]
    ) -> Iterator[tuple[int, PromptedNetwork]]:
        """The network after each of these numbers of iterations."""
        s = self.settings
        network = copy.deepcopy(self.before).requires_grad_(True)
        optimizer = torch.optim.AdamW(network.parameters(), lr=s.rate, weight_decay=0)
        rng = np.random.default_rng(s.seed)
        cards = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(cards):
            torch.manual_seed(s.seed)
            states = random_states(self.device)
        for k in range(1, max(at) + 1):
            check(self.cancelled)
            with torch.random.fork_rng(cards):
                restore_random(states, self.device)
                loss = self._loss(network, lessons[k % len(lessons)], rng)
                states = random_states(self.device)
            for group in optimizer.param_groups:
                group["lr"] = s.rate * min(1.0, k / _WARM)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
            self.done += 1
            if self.progress is not None:
                self.progress(min(self.done, self.total), self.total, "adapting")
            if k in at:
                yield k, network

    def _loss(self, network: PromptedNetwork, lesson: Lesson, rng: np.random.Generator) -> Tensor:
        """Loss on the hidden slice, and on changes of slices that nobody painted."""
        batch = draw_tasks(lesson, _TASKS, self.horizon_along(lesson.gap > 0), rng, self.device)
        x, prior = batch.sequence.channels()
        with self._precision():
            logits = network(x, prior, every_head=True)
            with torch.no_grad():
                before = self.before(x, prior)[0]
        rescaled: PromptedBatch = replace(
            batch, truth=torch.sigmoid(before.float()), real=~batch.real, kept=torch.ones_like(batch.kept)
        )
        return prompted_loss(logits, batch) + prompted_loss(logits, rescaled)

    def _dice(self, network: PromptedNetwork, lesson: Lesson, step: int) -> float:
        """Dice on a painted slice (which holds the object), predicted from all other painted slices."""
        shown_steps = [int(s) for s in lesson.annotated if s != step]
        sequence = lesson.sequence(shown_steps, self.horizon_along(lesson.gap > 0), self.device)
        x, prior = sequence.channels()
        with torch.no_grad(), self._precision():
            logits = network(x, prior)[0]
        return Overlap.of((logits[0, step] > 0).cpu().numpy(), lesson.painted[step].numpy()).dice

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.lower)
