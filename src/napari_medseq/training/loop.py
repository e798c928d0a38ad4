"""The training loop: windows in, averaged weights out; it resumes from its own checkpoint.

The loop knows nothing of image files or bundles: `train.py` reads the cases and writes the bundle.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from napari_medseq.errors import MedseqError, OperationCancelled, SettingsError
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.training import checkpoint, interrupt
from napari_medseq.training.augment import AugmentSettings
from napari_medseq.training.checkpoint import State
from napari_medseq.training.distributed import Crew, crew
from napari_medseq.training.losses import WithExtraInputs
from napari_medseq.training.memory import warn_of_learning
from napari_medseq.training.samples import Windows

_NO_ROOM = "There is not enough memory for this training; lower loop.batch, loop.steps or loop.size."


class LoopSettings(BaseModel):
    """Settings of the optimisation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    iterations: int = Field(400, ge=1)
    minutes: float | None = Field(None, gt=0, description="wall-clock budget; the schedule then ends with it")
    batch: int = Field(2, ge=1, description="windows per iteration and process")
    accumulate: int = Field(1, ge=1, description="batches whose gradients are summed before the weights change")
    steps: int = Field(8, ge=1, description="steps per window")
    size: tuple[int, int] = Field((208, 176), description="rows and columns of a window")
    slices: int = Field(16, ge=1, description="slices of a window, for a network whose steps are volumes")
    rate: float = Field(2e-3, gt=0, description="peak learning rate")
    schedule: Literal["cosine", "polynomial", "constant"] = Field("cosine", description="how the rate falls")
    power: float = Field(0.9, gt=0, description="exponent of the polynomial schedule")
    warm_up: int = Field(20, ge=0, description="iterations until the peak")
    encoder_rate: float = Field(1.0, ge=0, description="factor on the encoder's learning rate; 0 freezes it")
    weight_decay: float = Field(1e-4, ge=0)
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    average: float = Field(0.99, ge=0, lt=1, description="decay of the exponential moving average of the weights")
    bfloat16: bool = Field(False, description="mixed precision; only where the processor has bf16 units")
    float16: bool = Field(False, description="mixed precision with loss scaling; GPUs only")
    lesion_share: float = Field(0.7, ge=0, le=1, description="share of windows that are centred on something labelled")
    natural_after: float = Field(
        1.0,
        ge=0,
        le=1,
        description="two-phase sampling (Havaei et al. 2017): after this share of the run windows come as they are",
    )
    transplant: float = Field(0.3, ge=0, le=1)
    augment: AugmentSettings = AugmentSettings()
    seed: int = 0
    validate_every: int = Field(
        100, ge=1, description="iterations between validations, where there are patients for it"
    )
    patience: int = Field(0, ge=0, description="validations without a gain after which training stops; 0: never")
    checkpoint_seconds: float = Field(60.0, gt=0)
    tensorboard: bool = Field(False, description="write the curve for TensorBoard too")


def learning_rate(done: float, iteration: int, s: LoopSettings) -> float:
    """Linear warm-up, then down to 1 % of the peak as the schedule says; `done` is the share of the budget spent."""
    warm = min(1.0, (iteration + 1) / max(1, s.warm_up))
    remaining = 1 - min(done, 1.0)
    fall: dict[str, float] = {
        "cosine": 0.5 * (1 + math.cos(math.pi * min(done, 1.0))),
        "polynomial": float(remaining**s.power),
        "constant": 1.0,
    }
    return s.rate * warm * (0.01 + 0.99 * fall[s.schedule])


#: loss of a network on a batch of windows (batch, step, channel, y, x) with targets, as `Windows.draw` gives them
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def fit(
    network: nn.Module,
    windows: Windows,
    loss: Loss,
    settings: LoopSettings,
    folder: Path,
    *,
    validate: Callable[[nn.Module], float] | None = None,
    measure: str = "dice",
    device: str = "cpu",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> dict[str, Tensor]:
    """Train `network` on `windows`; returns the averaged weights, of the best validation where there is one.

    A checkpoint in `folder` (``checkpoint.pt``) is written every minute, when cancelled and on Ctrl-C or SIGTERM; when one is
    there training goes on from it, with the same random numbers as if it had not stopped. The curve is in ``curve.csv``.

    Parameters
    ----------
    network, windows, loss, settings, folder
    validate : callable, optional
        Gives the score (more is better) of a network in evaluation mode; called every ``validate_every`` iterations.
    measure : str
        What the score is called in the curve.
    device : str
    progress, cancelled : callable, optional
        Looked at once per iteration.

    Raises
    ------
    OperationCancelled
        When `cancelled` says so, or on the first Ctrl-C; the checkpoint stays.
    WriteError
        If the disk is full; the checkpoint before stays.
    MedseqError
        If the loss stops being finite, or memory is short.
    """
    run = _Run(network, windows, loss, settings, folder, crew(device), measure)
    state, s, team = run.state, settings, run.crew
    saved = time.monotonic()
    writer = _tensorboard(folder, state.iteration) if s.tensorboard and team.rank == 0 else None
    with interrupt.patient() as interrupted:
        while state.iteration < s.iterations and not (s.patience and state.waited >= s.patience):
            if team.any(interrupted() or (cancelled is not None and cancelled())):
                run.save()
                raise OperationCancelled(
                    f"Stopped: {folder} keeps where training stood; the same call goes on from it."
                )
            spent = team.lead(time.monotonic() - run.began)
            done = max(state.iteration / s.iterations, spent / 60 / s.minutes if s.minutes is not None else 0.0)
            if done >= 1:
                break
            row = run.step(done)
            if validate is not None and state.iteration % s.validate_every == 0:
                row[measure] = run.judge(validate)
            state.curve.append(row)
            if writer is not None:
                for name in set(row) - {"iteration", "minutes"}:
                    writer.add_scalar(name, row[name], state.iteration)
            if team.lead(float(time.monotonic() - saved > s.checkpoint_seconds)):
                run.save()
                saved = time.monotonic()
            if progress is not None and team.rank == 0:
                progress(state.iteration, s.iterations, f"loss {row['loss']:.3f}")
    if writer is not None:
        writer.close()
    run.save()
    return state.weights


class _Run:
    """A network on its way: what a checkpoint holds, and how to take a step."""

    def __init__(
        self, network: nn.Module, windows: Windows, loss: Loss, s: LoopSettings, folder: Path, team: Crew, measure: str
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.network, self.windows, self.loss, self.s, self.crew = network, windows, loss, s, team
        self.folder, self.measure, self.path = folder, measure, folder / "checkpoint.pt"
        torch.manual_seed(s.seed + team.rank)
        if team.rank:
            windows.generator.manual_seed(s.seed + 7919 * team.rank)
        network.to(team.device)
        for p in network.parameters():
            if p.ndim == 4:  # of images; kernels of volumes stay as they are
                p.data = p.data.contiguous(memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(_groups(network, s), lr=s.rate, weight_decay=s.weight_decay)
        self.scaler = torch.amp.GradScaler(team.device.type, enabled=s.float16)
        self.state = State({k: v.detach().clone() for k, v in network.state_dict().items()})
        if self.path.exists():
            self._resume()
        self.trained = team.wrap(network)
        self.began, self.estimated = time.monotonic() - self.state.spent, False

    def _resume(self) -> None:
        self.state, parts = checkpoint.load(self.path, self.crew.device)
        try:
            self.network.load_state_dict(parts["network"])
            self.optimiser.load_state_dict(parts["optimiser"])
            self.scaler.load_state_dict(parts["scaler"])
            windows, own = parts["random"][self.crew.rank]
        except (KeyError, IndexError, ValueError, RuntimeError) as error:
            raise SettingsError(
                f"{self.path} is of another network or number of processes ({error}); remove it to start anew."
            ) from None
        self.windows.generator.set_state(windows.cpu())
        torch.set_rng_state(own.cpu())

    def save(self) -> None:
        """Write the checkpoint and the curve; all processes together."""
        random = self.crew.gather((self.windows.generator.get_state(), torch.get_rng_state()))
        if self.crew.rank == 0:
            self.state.spent = time.monotonic() - self.began
            parts = {
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "scaler": self.scaler.state_dict(),
                "random": random,
            }
            checkpoint.save(self.path, self.state, parts)
            checkpoint.write_curve(self.folder / "curve.csv", self.state.curve, self.measure)
        self.crew.wait()  # the files are there for every process

    def step(self, done: float) -> dict[str, float]:
        """One change of the weights; the row that it adds to the curve."""
        s, state = self.s, self.state
        self.network.train()
        rate = learning_rate(done, state.iteration, s)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        self.windows.lesion_share = s.lesion_share if done < s.natural_after else 0.0
        self.optimiser.zero_grad(set_to_none=True)
        try:
            value = self.crew.mean(sum(self._gradients(last=k == s.accumulate - 1) for k in range(s.accumulate)))
        except (torch.OutOfMemoryError, MemoryError):
            raise MedseqError(_NO_ROOM) from None
        if not math.isfinite(value):
            raise MedseqError(
                f"The loss became {value} at iteration {state.iteration}; lower the learning rate ({s.rate})."
            )
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.network.parameters(), s.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        _update_average(state.average, self.network, min(s.average, (1 + state.iteration) / (10 + state.iteration)))
        state.iteration += 1
        minutes = (time.monotonic() - self.began) / 60
        return {"iteration": float(state.iteration), "minutes": minutes, "loss": value, "rate": rate}

    def _gradients(self, *, last: bool) -> float:
        """Add the gradients of one batch; they travel between processes with the last batch only."""
        s, device = self.s, self.crew.device
        x, y, extras = self.windows.draw(s.batch)
        x, y = x.to(device), y.to(device)
        if not self.estimated:
            warn_of_learning(self.network, x.shape, device, "lower loop.batch, loop.steps or loop.size")
            self.estimated = True
        network = (
            WithExtraInputs(self.trained, {k: v.to(device) for k, v in extras.items()}) if extras else self.trained
        )
        kind = torch.float16 if s.float16 else torch.bfloat16
        quiet = nullcontext() if last or self.trained is self.network else self.trained.no_sync()  # type: ignore[operator]
        with quiet:
            with torch.autocast(device.type, kind, enabled=s.bfloat16 or s.float16):
                value = self.loss(network, x, y) / s.accumulate
            self.scaler.scale(value).backward()
        return float(value.detach())

    def judge(self, validate: Callable[[nn.Module], float]) -> float:
        """Score of the averaged weights; keeps them when they are the best so far."""
        state = self.state
        own = _with_weights(self.network, state.average, validate) if self.crew.rank == 0 else 0.0
        score = self.crew.lead(own)
        if score > state.best:
            state.best, state.waited = score, 0
            state.best_weights = {k: v.clone() for k, v in state.average.items()}
        else:
            state.waited += 1
        return score


def _groups(network: nn.Module, s: LoopSettings) -> list[dict[str, Any]]:
    """Parameters in groups by learning rate; a frozen encoder is in none."""
    if s.encoder_rate == 1:
        return [{"params": list(network.parameters())}]
    inside = {n for n, _ in network.named_parameters() if n.startswith("encoder.")}
    if not inside:
        raise SettingsError(f"{type(network).__name__} has no part called encoder; leave loop.encoder_rate at 1.")
    encoder = [p for n, p in network.named_parameters() if n in inside]
    other_parameters = [{"params": [p for n, p in network.named_parameters() if n not in inside], "factor": 1.0}]
    if s.encoder_rate == 0:
        for p in encoder:
            p.requires_grad_(False)
        return other_parameters
    return [*other_parameters, {"params": encoder, "factor": s.encoder_rate}]


@torch.no_grad()
def _update_average(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    for k, v in network.state_dict().items():
        if v.is_floating_point():
            average[k].mul_(decay).add_(v, alpha=1 - decay)
        else:
            average[k].copy_(v)


@torch.no_grad()
def _with_weights(network: nn.Module, weights: Mapping[str, Tensor], call: Callable[[nn.Module], float]) -> float:
    own = {k: v.clone() for k, v in network.state_dict().items()}
    network.load_state_dict(weights)
    network.eval()
    try:
        return call(network)
    finally:
        network.load_state_dict(own)


def _tensorboard(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SettingsError(
            "loop.tensorboard needs TensorBoard: pip install 'napari-medseq[tensorboard]', or leave it out; "
            "the curve is in curve.csv all the same."
        ) from None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)
