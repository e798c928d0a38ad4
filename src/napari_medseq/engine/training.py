"""The training loop: windows in, averaged weights out; it resumes from its own checkpoint.

The loop knows nothing of image files or bundles: `train.py` reads the cases and writes the bundle.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from napari_medseq.engine.augment import AugmentSettings
from napari_medseq.engine.cases import Windows
from napari_medseq.errors import MedseqError
from napari_medseq.progress import Cancelled, Progress, check


class LoopSettings(BaseModel):
    """Settings of the optimisation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    iterations: int = Field(400, ge=1)
    minutes: float | None = Field(None, gt=0, description="wall-clock budget; the schedule then ends with it")
    batch: int = Field(2, ge=1, description="windows per iteration")
    steps: int = Field(8, ge=1, description="steps per window")
    size: tuple[int, int] = Field((208, 176), description="rows and columns of a window")
    rate: float = Field(2e-3, gt=0, description="peak learning rate")
    warm_up: int = Field(20, ge=0, description="iterations until the peak")
    weight_decay: float = Field(1e-4, ge=0)
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    average: float = Field(0.99, ge=0, lt=1, description="decay of the exponential moving average of the weights")
    bfloat16: bool = Field(False, description="mixed precision; only where the processor has bf16 units")
    lesion_share: float = Field(0.7, ge=0, le=1)
    transplant: float = Field(0.3, ge=0, le=1)
    augment: AugmentSettings = AugmentSettings()
    seed: int = 0
    checkpoint_seconds: float = Field(60.0, gt=0)


def _save(path: Path, content: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(dict(content), temporary)
    os.replace(temporary, path)


def _rate(done: float, iteration: int, s: LoopSettings) -> float:
    """Linear warm-up, then a cosine to 1 % of the peak; `done` is the share of the budget spent."""
    warm = min(1.0, (iteration + 1) / max(1, s.warm_up))
    return s.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


#: loss of a network on a batch of windows (batch, step, channel, y, x) with labels (batch, step, y, x)
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def fit(
    network: nn.Module,
    windows: Windows,
    loss: Loss,
    settings: LoopSettings,
    folder: Path,
    *,
    validate: Callable[[nn.Module], float] | None = None,
    validate_every: int = 100,
    device: str = "cpu",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> dict[str, Tensor]:
    """Train `network` on `windows`; returns the averaged weights.

    A checkpoint in `folder` (``checkpoint.pt``) is written every minute and on interrupt; when one is there training goes on
    from it, with the same random numbers as if it had not stopped. The curve is in ``curve.csv``.

    Raises
    ------
    OperationCancelled
        When `cancelled` says so; the checkpoint stays.
    MedseqError
        If the loss stops being finite.
    """
    s = settings
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(s.seed)
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=s.rate, weight_decay=s.weight_decay)
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    start, spent, curve = 0, 0.0, []
    path = folder / "checkpoint.pt"
    if path.exists():
        state = torch.load(path, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        average, start, spent, curve = state["average"], state["iteration"], state["spent"], state["curve"]
        windows.generator.set_state(state["windows"])
        torch.set_rng_state(state["torch"])
    began, saved = time.monotonic() - spent, time.monotonic()

    def checkpoint(iteration: int) -> None:
        _save(
            path,
            {
                "network": network.state_dict(),
                "optimiser": optimiser.state_dict(),
                "average": average,
                "iteration": iteration,
                "spent": time.monotonic() - began,
                "curve": curve,
                "windows": windows.generator.get_state(),
                "torch": torch.get_rng_state(),
            },
        )
        _write_curve(folder / "curve.csv", curve)

    iteration = start
    try:
        while iteration < s.iterations:
            check(cancelled)
            elapsed = (time.monotonic() - began) / 60
            done = iteration / s.iterations
            if s.minutes is not None:
                done = max(done, elapsed / s.minutes)
                if done >= 1:
                    break
            value = _step(network, optimiser, windows, loss, s, _rate(done, iteration, s), device)
            if not math.isfinite(value):
                raise MedseqError(
                    f"The loss became {value} at iteration {iteration}; lower the learning rate ({s.rate})."
                )
            _update_average(average, network, min(s.average, (1 + iteration) / (10 + iteration)))
            iteration += 1
            row = {"iteration": float(iteration), "minutes": (time.monotonic() - began) / 60, "loss": value}
            if validate is not None and iteration % validate_every == 0:
                row["dice"] = _with_weights(network, average, validate)
            curve.append(row)
            if time.monotonic() - saved > s.checkpoint_seconds:
                checkpoint(iteration)
                saved = time.monotonic()
            if progress is not None:
                progress(iteration, s.iterations, f"loss {value:.3f}")
    finally:
        checkpoint(iteration)
    return average


def _step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    windows: Windows,
    loss: Loss,
    s: LoopSettings,
    rate: float,
    device: str,
) -> float:
    network.train()
    x, y = windows.draw(s.batch)
    x, y = x.to(device), y.to(device)
    for group in optimiser.param_groups:
        group["lr"] = rate
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=s.bfloat16):
        value = loss(network, x, y)
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    nn.utils.clip_grad_norm_(network.parameters(), s.clip)
    optimiser.step()
    return float(value.detach())


@torch.no_grad()
def _update_average(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    for k, v in network.state_dict().items():
        if v.is_floating_point():
            average[k].mul_(decay).add_(v, alpha=1 - decay)
        else:
            average[k].copy_(v)


def _with_weights(network: nn.Module, weights: Mapping[str, Tensor], call: Callable[[nn.Module], float]) -> float:
    own = {k: v.clone() for k, v in network.state_dict().items()}
    network.load_state_dict(weights)
    network.eval()
    try:
        return call(network)
    finally:
        network.load_state_dict(own)


def _write_curve(path: Path, curve: Sequence[Mapping[str, float]]) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="") as f:
        writer = csv.DictWriter(f, ["iteration", "minutes", "loss", "dice"], restval="")
        writer.writeheader()
        writer.writerows(curve)
    os.replace(temporary, path)
