"""The training loop: it draws windows, updates the network, returns the averaged weights, and resumes from its
checkpoint.

The loop knows nothing of image files or bundles: `trainer` reads the cases and writes the bundle.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_medseq.errors import MedseqError, OperationCancelled, SettingsError
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.training.loops import checkpoint, interrupt
from napari_medseq.training.loops.averaging import averaged_model
from napari_medseq.training.loops.checkpoint import State
from napari_medseq.training.loops.distributed import ProcessGroup, current_group
from napari_medseq.training.loops.losses import WithExtraInputs
from napari_medseq.training.loops.memory import warn_of_learning
from napari_medseq.training.loops.muon import set_rate
from napari_medseq.training.loops.settings import LoopSettings
from napari_medseq.training.loops.windows import Windows

_NO_ROOM = "There is not enough memory for this training; lower loop.batch, loop.steps or loop.size."


def learning_rate(share_done: float, iteration: int, s: LoopSettings) -> float:
    """Linear warm-up, then down to 1 % of the peak as the schedule says; `share_done` is the share of the budget spent."""
    warm = min(1.0, (iteration + 1) / max(1, s.warm_up))
    remaining = 1 - min(share_done, 1.0)
    fall: dict[str, float] = {
        "cosine": 0.5 * (1 + math.cos(math.pi * min(share_done, 1.0))),
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
    there training continues from it, with the same random numbers as if it had not stopped. The curve is in ``curve.csv``.

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
    run = _Run(network, windows, loss, settings, folder, current_group(device), measure)
    state, s, group = run.state, settings, run.group
    saved = time.monotonic()
    writer = _tensorboard(folder, state.iteration) if s.tensorboard and group.rank == 0 else None
    with interrupt.patient() as interrupted:
        while state.iteration < s.iterations and not (s.patience and state.waited >= s.patience):
            if group.any(interrupted() or (cancelled is not None and cancelled())):
                run.save()
                raise OperationCancelled(
                    f"Stopped: {folder} keeps where training stood; the same call continues from it."
                )
            spent, took = group.broadcast(run.spent), group.broadcast(run.took)
            if s.minutes is not None and spent + took / 2 >= 60 * s.minutes:  # ends as often early as late
                break
            share_done = max(state.iteration / s.iterations, spent / 60 / s.minutes if s.minutes is not None else 0.0)
            row = run.step(share_done)
            run.took = run.spent - spent
            if validate is not None and state.iteration % s.validate_every == 0:
                row[measure] = run.judge(validate)
            state.curve.append(row)
            if writer is not None:
                for name in set(row) - {"iteration", "minutes"}:
                    writer.add_scalar(name, row[name], state.iteration)
            if group.broadcast(float(time.monotonic() - saved > s.checkpoint_seconds)):
                run.save()
                saved = time.monotonic()
            if progress is not None and group.rank == 0:
                done = (state.iteration, s.iterations) if s.minutes is None else (round(1000 * share_done), 1000)
                progress(*done, f"loss {row['loss']:.3f}")
    if writer is not None:
        writer.close()
    run.save()
    return state.weights


class _Run:
    """The state of a training run: what a checkpoint holds, and how to take a step."""

    def __init__(
        self,
        network: nn.Module,
        windows: Windows,
        loss: Loss,
        s: LoopSettings,
        folder: Path,
        group: ProcessGroup,
        measure: str,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.network, self.windows, self.loss, self.s, self.group = network, windows, loss, s, group
        self.folder, self.measure, self.path = folder, measure, folder / "checkpoint.pt"
        torch.manual_seed(s.seed + group.rank)
        if group.rank:
            windows.generator.manual_seed(s.seed + 7919 * group.rank)
        network.to(group.device)
        for p in network.parameters():
            if p.ndim == 4:  # of images; kernels of volumes stay as they are
                p.data = p.data.contiguous(memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(_groups(network, s), lr=s.rate, weight_decay=s.weight_decay)
        self.scaler = torch.amp.GradScaler(group.device.type, enabled=s.float16)
        self.averaged = averaged_model(network, s.average)
        self.state = State(self.averaged.module.state_dict())
        if self.path.exists():
            self._resume()
        self.trained = group.wrap(network)
        self.began, self.took, self.estimated = self._now() - self.state.spent, 0.0, False

    def _now(self) -> float:
        return time.process_time() if self.s.clock == "process" else time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds of all runs together."""
        return self._now() - self.began

    def _resume(self) -> None:
        self.state, parts = checkpoint.load(self.path, self.group.device)
        try:
            self.network.load_state_dict(parts["network"])
            self.averaged.module.load_state_dict(self.state.average)
            self.optimiser.load_state_dict(parts["optimiser"])
            self.scaler.load_state_dict(parts["scaler"])
            windows, *own = parts["random"][self.group.rank]
            checkpoint.restore_random(own, self.group.device)
        except (KeyError, IndexError, ValueError, RuntimeError) as error:
            raise SettingsError(
                f"{self.path} is of another network or number of processes ({error}); remove it to start again."
            ) from None
        self.averaged.n_averaged.fill_(self.state.iteration)
        self.state.average = self.averaged.module.state_dict()  # the tensors that the average goes on in
        self.windows.generator.set_state(windows.cpu())

    def save(self) -> None:
        """Write the checkpoint and the curve; all processes together."""
        random = self.group.gather((self.windows.generator.get_state(), *checkpoint.random_states(self.group.device)))
        if self.group.rank == 0:
            self.state.spent = self.spent
            parts = {
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "scaler": self.scaler.state_dict(),
                "random": random,
            }
            checkpoint.save(self.path, self.state, parts)
            checkpoint.write_curve(self.folder / "curve.csv", self.state.curve, self.measure)
        self.group.barrier()  # the files are there for every process

    def step(self, share_done: float) -> dict[str, float]:
        """One change of the weights; the row that it adds to the curve."""
        s, state = self.s, self.state
        self.network.train()
        rate = learning_rate(share_done, state.iteration, s)
        set_rate([self.optimiser], rate)
        self.windows.lesion_share = s.lesion_share if share_done < s.natural_after else 0.0
        self.optimiser.zero_grad(set_to_none=True)
        try:
            value = self.group.mean(sum(self._gradients(last=k == s.accumulate - 1) for k in range(s.accumulate)))
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
        self.averaged.update_parameters(self.network)
        state.iteration += 1
        minutes = self.spent / 60
        return {"iteration": float(state.iteration), "minutes": minutes, "loss": value, "rate": rate}

    def _gradients(self, *, last: bool) -> float:
        """Add the gradients of one batch; they travel between processes with the last batch only."""
        s, device = self.s, self.group.device
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
        """Validate: the score of the averaged weights, which are kept if they are the best so far."""
        state = self.state
        own = validate(self.averaged.module.eval()) if self.group.rank == 0 else 0.0
        score = self.group.broadcast(own)
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


def _tensorboard(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SettingsError(
            "loop.tensorboard needs TensorBoard: pip install 'napari-medseq[tensorboard]', or leave it out; "
            "the curve is in curve.csv all the same."
        ) from None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)
