"""Painted slices as tasks for a prompted network: some of the slices are shown, and the others have to be
predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_medseq.inference.prompts.carrying import FilledWindow, fill
from napari_medseq.inference.prompts.objects import PromptedObject
from napari_medseq.inference.prompts.planes import Planes
from napari_medseq.inference.prompts.window import Growth, PromptSettings, window_around
from napari_medseq.models.prompting import PromptedSequence
from napari_medseq.training.prompted.augment import bending, spoiled
from napari_medseq.training.prompted.training import PromptedBatch
from napari_medseq.volumes.sampling import spread

_AROUND = 5  # steps beyond the outermost painted ones that are looked at
_LONGEST = 24  # steps of a task; of a longer stretch every second, third … step is taken
_SPOILED = 0.5  # share of tasks with another contrast, noise or blur
_QUANTILES = (0.003, 0.998)  # intensities that become 0 and 1 before contrast is bent


@dataclass(frozen=True, eq=False)
class Lesson:
    """One object in its window, from the first painted step to the last.

    Attributes
    ----------
    image : Tensor, (step, y, x)
        Intensities about 0 to 1.
    painted : Tensor of bool, (step, y, x)
        True to what is there on annotated steps, False elsewhere.
    annotated : ndarray of int
        Steps of the window that are complete.
    gap : float
        Distance from step to step in window pixels; 0 between frames.
    """

    image: Tensor
    painted: Tensor
    annotated: NDArray[np.intp]
    gap: float

    @property
    def filled(self) -> list[int]:
        """The annotated steps that show the object."""
        has_mask = self.painted.flatten(1).any(1)
        return [int(s) for s in self.annotated if has_mask[s]]

    def without(self, step: int) -> Lesson:
        """The lesson with one painted step removed."""
        painted = self.painted.clone()
        painted[step] = False
        return replace(self, painted=painted, annotated=self.annotated[self.annotated != step])

    def sequence(
        self, shown_steps: Sequence[int], horizon: tuple[float, float], device: torch.device | None = None
    ) -> PromptedSequence:
        """The whole lesson with some steps shown, a batch of one."""
        flags = torch.zeros(1, len(self.image), dtype=torch.bool)
        flags[0, list(shown_steps)] = True
        tensors = [self.image[None], self.painted[None], flags, torch.tensor([self.gap])]
        image, painted, annotated, gap = (g.to(device) if device is not None else g for g in tensors)
        return PromptedSequence.of(image, painted, annotated, gap, horizon)


def lesson_of(planes: Planes, labels: NDArray[np.generic], item: PromptedObject, settings: PromptSettings) -> Lesson:
    """The painted slices of an object, in the first window of `propagate`.

    Parameters
    ----------
    planes : Planes
    labels : ndarray, (*across, step, row, column)
    item : PromptedObject
    settings : PromptSettings
    """
    growth = Growth(steps=(_AROUND, _AROUND))
    window = window_around(item.painted, item.steps, planes.spacing, item.within, growth, settings)
    filled = FilledWindow.blank(item, growth, window)
    fill([filled], planes, labels, settings.contrast)
    image = filled.image
    some = torch.from_numpy(spread(image.numel(), 10**6))
    low, high = torch.quantile(image.flatten()[some], torch.tensor(_QUANTILES))
    image = (image - low) / (high - low).clamp_min(1e-6)
    annotated = item.steps - window.steps[0]
    return Lesson(image.clamp(-0.5, 1.5), filled.painted, annotated, planes.spacing[0] / window.pixel_mm)


def draw_tasks(
    lesson: Lesson, count: int, horizon: tuple[float, float], rng: np.random.Generator, device: torch.device
) -> PromptedBatch:
    """Tasks of one lesson: bent, mirrored and spoiled windows, some painted steps shown, the others to be found.

    Parameters
    ----------
    lesson : Lesson
        A lesson with at least two filled steps.
    count : int
    horizon : (float, float)
        See `PromptedSequence.of`.
    rng : numpy.random.Generator
        Random choice of the steps shown; augmentation of voxels uses torch's generator.
    device : torch.device
    """
    steps, is_annotated, stride = _stretch(lesson, rng)
    image, truth = (v[steps].to(device) for v in (lesson.image, lesson.painted))
    image, truth = _bent(image, truth, count, device)
    image, truth = _mirrored(image, truth, rng)
    if rng.random() < 0.5:
        image, truth, is_annotated = image.flip(1), truth.flip(1), is_annotated[::-1].copy()
    image = spoiled(image) if rng.random() < _SPOILED else image
    area = truth.flatten(2).sum(2).cpu().numpy()
    flags = np.zeros((count, len(steps)), bool)
    for b in range(count):
        flags[b, _shown(area[b], is_annotated, rng)] = True
    annotated = torch.from_numpy(flags).to(device)
    gap = torch.full((count,), lesson.gap * stride, device=device)
    real = torch.from_numpy(is_annotated).to(device).expand(count, -1)
    usable = (real & ~annotated).any(1) & (truth.flatten(2).any(2) & annotated).any(1)
    return PromptedBatch(PromptedSequence.of(image, truth, annotated, gap, horizon), truth, real, usable)


def _stretch(lesson: Lesson, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.bool_], int]:
    """Steps of a task, which of them are painted, and the stride from one to the next; a painted step keeps its place."""
    n = len(lesson.image)
    stride = int(np.ceil(n / _LONGEST))
    steps = np.arange(int(rng.integers(0, stride)), n, stride)
    is_annotated = np.zeros(len(steps), bool)
    free = 0  # the first place that a later step may take
    for step in lesson.annotated:
        at = max(free, int(np.abs(steps - step).argmin()))
        if at < len(steps):
            steps[at], is_annotated[at], free = step, True, at + 1
    return steps, is_annotated, stride


def _shown(area: NDArray[np.int64], is_annotated: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.intp]:
    """The painted steps but one; one that shows the object is among them."""
    steps = np.flatnonzero(is_annotated)
    filled = steps[area[steps] > 0]
    hidden = rng.permutation(steps)[:1] if len(filled) > 1 else rng.permutation(np.setdiff1d(steps, filled))[:1]
    return np.setdiff1d(steps, hidden)


def _bent(image: Tensor, truth: Tensor, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """`count` versions (count, step, y, x) of a window, bent, turned and sized a little."""
    steps, height, width = image.shape
    side = max(height, width)
    shift = bending(count, steps, side, device).movedim(2, -1)  # (…, y, x, 2), along (y, x)
    angle = torch.randn(count, 1, 1, device=device) * 0.15
    size = torch.exp(torch.randn(count, 1, 1, device=device) * 0.1)
    line = torch.arange(side, device=device) - (side - 1) / 2
    y, x = line[:, None], line[None, :]
    to_y = size * (torch.cos(angle) * y - torch.sin(angle) * x)
    to_x = size * (torch.sin(angle) * y + torch.cos(angle) * x)
    grid_y = (to_y[:, None] + shift[..., 0]) * 2 / height
    grid_x = (to_x[:, None] + shift[..., 1]) * 2 / width
    grid = torch.stack([grid_x, grid_y], -1).flatten(0, 1)
    pair = torch.stack([image, truth.float()], 1).repeat(count, 1, 1, 1)
    warped = functional.grid_sample(pair, grid, mode="bilinear", padding_mode="border", align_corners=False)
    warped = warped.unflatten(0, (count, steps))
    return warped[:, :, 0], warped[:, :, 1] > 0.5


def _mirrored(image: Tensor, truth: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    axes = [a for a in (2, 3) if rng.random() < 0.5]
    return (image.flip(axes), truth.flip(axes)) if axes else (image, truth)
