"""Training of a prompted network for a budget of minutes: any structure of any image is an example, painted on a few of its steps.

It continues from its own checkpoint. The recipe is `benchmarks/propagate_train.py`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from napari_medseq.errors import OperationCancelled
from napari_medseq.models.prompted_unet import PromptedNetwork
from napari_medseq.models.prompting import PromptedSequence
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.settings import Settings
from napari_medseq.training.loops import checkpoint
from napari_medseq.training.prompted.augment import bending, invented, likely_gap, parts, spoiled, walls
from napari_medseq.training.prompted.painting import hurried, painted_steps
from napari_medseq.training.prompted.structures import PromptedCase
from napari_medseq.training.prompted.windows import cut_windows, place_window

#: steps and side of the windows of a batch, each as likely
SHAPES = ((8, 64), (12, 64), (16, 64), (24, 64), (12, 88), (20, 80), (10, 112), (32, 64))
_HEADS = (1.0, 0.3, 0.15)  # weights of the heads, fine to coarse
_UNIT = 64 * 64  # pixels of the window for which the batch size is given


class PromptTrainSettings(Settings):
    """How a prompted network is trained.

    Attributes
    ----------
    minutes : float
        Budget; the learning rate falls to its end.
    windows : int
        Steps of 64 × 64 pixels per iteration; larger windows count for more.
    rate : float
        Peak of the learning rate (AdamW, cosine).
    drawn : float
        Share of sequences with a drawn structure.
    walls : float
        Share of structures of which the wall around them is learned instead.
    average : float
        Decay of the exponential mean of the weights, which is what is kept.
    seed : int
    checkpoint_seconds : float
    """

    minutes: float = Field(30.0, gt=0)
    windows: int = Field(1024, ge=8)
    rate: float = Field(3e-3, gt=0)
    drawn: float = Field(0.3, ge=0, le=1)
    walls: float = Field(0.1, ge=0, le=1)
    average: float = Field(0.998, ge=0, lt=1)
    seed: int = 0
    checkpoint_seconds: float = Field(60.0, gt=0)


@dataclass(frozen=True)
class PromptedBatch:
    """Sequences to learn from, (batch, step, …), on the device.

    Attributes
    ----------
    sequence : PromptedSequence
        The sequences with their painted steps.
    truth : Tensor of bool, (batch, step, y, x)
    real : Tensor of bool, (batch, step)
        False beyond the ends of an image.
    kept : Tensor of bool, (batch,)
        False where there is nothing to learn: nothing to paint, or everything is painted.
    """

    sequence: PromptedSequence
    truth: Tensor
    real: Tensor
    kept: Tensor


def draw_batch(
    groups: Mapping[str, Sequence[PromptedCase]],
    shares: Mapping[str, float],
    settings: PromptTrainSettings,
    rng: np.random.Generator,
    device: torch.device,
) -> PromptedBatch:
    """A batch of windows of one shape, some with drawn structures, spoiled and painted.

    Parameters
    ----------
    groups, shares
        See `place_window`.
    settings : PromptTrainSettings
    rng : numpy.random.Generator
        Random choice of places and prompts; augmentation of voxels uses torch's generator.
    device : torch.device
    """
    steps, side = SHAPES[int(rng.integers(len(SHAPES)))]
    batch = max(2, round(settings.windows * _UNIT / (steps * side * side)))
    places = [place_window(groups, shares, steps, side, rng) for _ in range(batch)]
    image, truth = cut_windows(places, side, bending(batch, steps, side, device))
    truth = walls(image, parts(truth), settings.walls)
    gap = torch.tensor([p.gap for p in places], device=device)
    real = np.stack([p.real for p in places])
    drawn = round(batch * settings.drawn)
    if drawn:
        invented_images, mask = invented(image[:drawn])
        image, truth = torch.cat([invented_images, image[drawn:]]), torch.cat([mask, truth[drawn:]])
        gap = torch.cat([likely_gap(mask), gap[drawn:]])
        real[:drawn] = True
    image = spoiled(image)
    area = truth.flatten(2).sum(2).cpu().numpy().astype(np.float64)
    flags = np.zeros((batch, steps), bool)
    for b in range(batch):
        flags[b, painted_steps(area[b], rng, real[b])] = True
    usable = (flags & (area > 0)).any(1) & ((area > 0) & ~flags & real).any(1)
    flags[~flags.any(1), 0] = True
    annotated = torch.from_numpy(flags).to(device)
    painted = truth.clone()
    painted[annotated] = hurried(truth[annotated])
    sequence = PromptedSequence.of(image, painted, annotated, gap)
    return PromptedBatch(sequence, truth, torch.from_numpy(real).to(device), torch.from_numpy(usable).to(device))


def prompted_loss(logits: Sequence[Tensor], batch: PromptedBatch) -> Tensor:
    """Cross-entropy and soft Dice over the steps of the image that are not annotated, at every head."""
    total = logits[0].new_zeros(())
    usable = batch.kept
    free = (~batch.sequence.annotated & batch.real & usable[:, None]).float()[..., None, None]
    truth = batch.truth.float()
    for level, logit in enumerate(logits):
        target = truth if level == 0 else functional.avg_pool2d(truth, 2**level)
        entropy = functional.binary_cross_entropy_with_logits(logit, target, reduction="none")
        entropy = (entropy * free).sum() / (free.sum().clamp_min(1) * logit.shape[-1] * logit.shape[-2])
        predicted, expected = torch.sigmoid(logit) * free, target * free
        overlap = (predicted * expected).sum((1, 2, 3))
        both = predicted.sum((1, 2, 3)) + expected.sum((1, 2, 3))
        small = 20.0 / 4**level  # pixels below which an object weighs less
        dice = 1 - (2 * overlap + small) / (both + small)
        dice = (dice * usable).sum() / usable.sum().clamp_min(1)
        total = total + (4 * entropy + dice) * _HEADS[level]
    return total


def fit_prompted(
    network: PromptedNetwork,
    groups: Mapping[str, Sequence[PromptedCase]],
    shares: Mapping[str, float],
    settings: PromptTrainSettings,
    folder: Path,
    *,
    device: torch.device,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> dict[str, Tensor]:
    """Train a network and give its averaged weights, on the CPU.

    ``checkpoint.pt`` in `folder` is written every `PromptTrainSettings.checkpoint_seconds` and when cancelled; where one is there,
    training continues from it. The loss is in ``curve.csv``.

    Parameters
    ----------
    network : PromptedNetwork
        Changed in place.
    groups, shares
        See `place_window`.
    settings : PromptTrainSettings
    folder : Path
    device : torch.device
        The device that holds the cases.
    progress, cancelled : callable, optional
        Looked at once per iteration.

    Raises
    ------
    OperationCancelled
        When `cancelled` says so; the checkpoint holds what was learned.
    """
    run = _Run(network.to(device), settings, folder, device)
    began, saved = time.monotonic() - run.state.spent, time.monotonic()
    budget = settings.minutes * 60
    while run.state.spent < budget:
        try:
            check(cancelled)
        except OperationCancelled:
            run.save()
            raise
        batch = draw_batch(groups, shares, settings, run.rng, device)
        run.learn(batch, run.state.spent / budget)
        run.state.spent = time.monotonic() - began
        if time.monotonic() - saved > settings.checkpoint_seconds:
            run.save()
            saved = time.monotonic()
        if progress is not None:
            progress(min(round(run.state.spent), round(budget) - 1), round(budget), f"iteration {run.state.iteration}")
    run.save()
    if progress is not None:
        progress(round(budget), round(budget), f"{run.state.iteration} iterations")
    return {k: v.detach().cpu().contiguous().clone() for k, v in run.mean.module.state_dict().items()}


class _Run:
    """A network in training, with the state from which it can be continued."""

    def __init__(
        self, network: PromptedNetwork, settings: PromptTrainSettings, folder: Path, device: torch.device
    ) -> None:
        self.network, self.settings, self.folder, self.device = network.train(), settings, folder, device
        for p in network.parameters():
            if p.ndim == 4:
                p.data = p.data.contiguous(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=1e-3)
        self.mean = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(settings.average), use_buffers=True)
        self.rng = np.random.default_rng(settings.seed)
        torch.manual_seed(settings.seed)
        self.state = checkpoint.State({})
        folder.mkdir(parents=True, exist_ok=True)
        if self._path.is_file():
            self.state, parts = checkpoint.load(self._path, device)
            network.load_state_dict(parts["network"])
            self.mean.load_state_dict(parts["mean"])
            self.optimizer.load_state_dict(parts["optimizer"])
            # another beginning of the random numbers, so that a run that is stopped often does not see the same again
            self.rng = np.random.default_rng([settings.seed, self.state.iteration])
            torch.manual_seed(settings.seed + self.state.iteration)

    @property
    def _path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def learn(self, batch: PromptedBatch, share_done: float) -> None:
        """One iteration, `share_done` (0 to 1) of the way."""
        s = self.settings
        rate = s.rate * min(1.0, (self.state.iteration + 1) / 60)
        rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share_done, 1.0)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        x, prior = batch.sequence.channels()
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            logits = self.network(x, prior, every_head=True)
        loss = prompted_loss(logits, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.mean.update_parameters(self.network)
        self.state.iteration += 1
        if self.state.iteration % 10 == 0:
            minutes = self.state.spent / 60
            row = {
                "iteration": float(self.state.iteration),
                "minutes": minutes,
                "loss": float(loss.detach()),
                "rate": rate,
            }
            self.state.curve.append(row)

    def save(self) -> None:
        """Checkpoint and curve."""
        parts = {
            "network": self.network.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        checkpoint.save(self._path, self.state, parts)
        checkpoint.write_curve(self.folder / "curve.csv", self.state.curve, "dice")
