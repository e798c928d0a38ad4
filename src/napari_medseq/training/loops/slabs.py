"""The training loop of slab networks, for a given time: a thread makes the next batch while the network learns.

The learning rate falls with the time spent, so that a run on any processor goes through the whole schedule.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from napari_medseq.errors import MedseqError, OperationCancelled, SettingsError
from napari_medseq.models.slab_unet import FIRST_KERNEL, SlabUNet
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.training.loops import checkpoint, interrupt
from napari_medseq.training.loops.averaging import averaged_model
from napari_medseq.training.loops.memory import warn_of_learning
from napari_medseq.training.loops.muon import Kind, optimisers, set_rate
from napari_medseq.training.loops.slab_windows import SlabWindows

Clock = Literal["wall", "process"]

_AHEAD = 3  # batches made in advance
#: iterations until the full rate
WARM_UP = 50
_LEAST = 0.01  # learning rate at the end, as a share of that at the beginning
_SAVE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class SlabLoop:
    """The settings of the loop, taken from the plan.

    Attributes
    ----------
    seconds : float
        Budget of the loop.
    clock : {"wall", "process"}
        What is counted: time that passes, or processor time of this process.
    batch : int
    optimiser : {"adamw", "muon"}
        As in `optimisers`.
    rate, weight_decay, clip, average : float
        Peak learning rate of AdamW, decay of all weights but biases and norms, largest gradient norm, decay of the moving
        average.
    bfloat16 : bool
    seed : int
    device : str
        The device on which the network learns; windows are made on the CPU.
    """

    seconds: float
    clock: Clock = "wall"
    batch: int = 2
    optimiser: Kind = "muon"
    rate: float = 2e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    average: float = 0.995
    bfloat16: bool = True
    seed: int = 0
    device: str = "cpu"


@dataclass
class Course:
    """The result of a run: the network with averaged weights, the number of windows it saw, and the curve."""

    network: SlabUNet
    seen: int = 0
    spent: float = 0.0
    waited: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)


def soft_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy, and one minus the mean soft Dice of the foreground classes over the batch (Milletari et al. 2016).

    Parameters
    ----------
    logits, target : Tensor, shape (batch, class, step, row, column)
        Targets sum to 1 over the classes, or to 0 where nothing is known.
    """
    logs = logits.float().log_softmax(1)
    covered = target.sum(1, keepdim=True)
    entropy = -(target * logs).sum() / covered.sum().clamp_min(1)
    p = logs.exp() * covered
    over = (0, 2, 3, 4)
    both, total = (p * target)[:, 1:].sum(over), (p + target)[:, 1:].sum(over)
    return entropy + 1 - ((2 * both + 1) / (total + 1)).mean()


def deep_loss(levels: list[Tensor], target: Tensor) -> Tensor:
    """`soft_loss` of logits at several levels, each half the weight of the finer one; targets are averaged down."""
    total, weight = torch.zeros((), device=target.device), 1.0
    for logits in levels:
        at = (
            target
            if logits.shape[2:] == target.shape[2:]
            else functional.adaptive_avg_pool3d(target, _three(logits.shape[2:]))
        )
        total, weight = total + weight * soft_loss(logits, at), weight / 2
    return total / sum(0.5**k for k in range(len(levels)))


def _three(size: Sequence[int]) -> tuple[int, int, int]:
    a, b, c = size
    return a, b, c


@contextmanager
def _made_ahead(windows: SlabWindows, batch: int) -> Iterator[queue.Queue[tuple[Tensor, Tensor] | BaseException]]:
    """A queue that a thread keeps filled with batches."""
    ready: queue.Queue[tuple[Tensor, Tensor] | BaseException] = queue.Queue(_AHEAD)
    ended = threading.Event()

    def put(item: tuple[Tensor, Tensor] | BaseException) -> None:
        while not ended.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.2)
                return

    def work() -> None:
        try:
            while not ended.is_set():
                with torch.no_grad():
                    x, y = windows.draw(batch)
                put((x.contiguous(memory_format=torch.channels_last_3d), y))
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="windows", daemon=True)
    thread.start()
    try:
        yield ready
    finally:
        ended.set()
        thread.join()


class _Run:
    """The state of a training run, and its checkpoint."""

    def __init__(self, network: SlabUNet, loop: SlabLoop, path: Path | None) -> None:
        self.network, self.loop, self.path = network, loop, path
        self.device = torch.device(loop.device)
        network.to(self.device).to(memory_format=torch.channels_last_3d).train()  # type: ignore[call-overload]
        self.optimisers = optimisers(
            network,
            kind=loop.optimiser,
            rate=loop.rate,
            weight_decay=loop.weight_decay,
            not_kernels=[network.get_parameter(FIRST_KERNEL), *network.heads.parameters()],
            bfloat16=loop.bfloat16,
        )
        self.average = averaged_model(network, loop.average)
        self.iteration, self.seen, self.before = 0, 0, 0.0
        self.curve: list[dict[str, float]] = []
        if path is not None and path.exists():
            self._resume(path)
        self.began, self.took, self.estimated = self._now(), 0.0, False

    def _now(self) -> float:
        return time.process_time() if self.loop.clock == "process" else time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds of all runs together."""
        return self.before + self._now() - self.began

    def _resume(self, path: Path) -> None:
        _, parts = checkpoint.load(path, self.device)
        try:
            self.network.load_state_dict(parts["network"])
            self.average.load_state_dict(parts["averaged"])
            for optimiser, state in zip(self.optimisers, parts["optimisers"], strict=True):
                optimiser.load_state_dict(state)
            self.iteration, self.seen, self.before = parts["done"], parts["seen"], parts["seconds"]
            self.curve = parts["rows"]
        except (KeyError, ValueError, RuntimeError) as error:
            raise SettingsError(f"{path} is of another plan ({error}); remove it to start again.") from None

    def save(self) -> None:
        if self.path is None:
            return
        parts = {
            "network": self.network.state_dict(),
            "averaged": self.average.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "done": self.iteration,
            "seen": self.seen,
            "seconds": self.spent,
            "rows": self.curve,
        }
        checkpoint.save(self.path, checkpoint.State({}), parts)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """One change of the weights; the loss."""
        loop = self.loop
        share_done = min(1.0, self.spent / loop.seconds)
        rate = loop.rate * min(1.0, (self.iteration + 1) / WARM_UP)
        rate *= _LEAST + (1 - _LEAST) * 0.5 * (1 + math.cos(math.pi * share_done))
        set_rate(self.optimisers, rate)
        x, y = x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=loop.bfloat16):
            levels = self.network.at_levels(x)
        value = deep_loss(levels, y)
        self.network.zero_grad(set_to_none=True)
        value.backward()
        clip_grad_norm_(self.network.parameters(), loop.clip)
        for optimiser in self.optimisers:
            optimiser.step()
        if self.iteration % 2:
            self.average.update_parameters(self.network)
        self.iteration += 1
        self.seen += len(x)
        return value.detach()

    def result(self, waited: float) -> Course:
        chosen = self.average.module if self.iteration > 1 else self.network
        assert isinstance(chosen, SlabUNet)
        return Course(chosen.cpu().eval(), self.seen, self.spent, waited, self.curve)


def fit_slabs(
    network: SlabUNet,
    windows: SlabWindows,
    loop: SlabLoop,
    *,
    path: Path | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Course:
    """Train until the budget is spent, to the nearest iteration.

    Parameters
    ----------
    network, windows, loop
    path : Path, optional
        Checkpoint, written every minute and when stopped; where there is one training continues from it.
    progress, cancelled : callable, optional
        Looked at once per iteration.

    Raises
    ------
    OperationCancelled
        The checkpoint stays.
    MedseqError
        If the loss stops being finite, or memory is short.
    """
    run = _Run(network, loop, path)
    windows.generator.manual_seed(loop.seed + run.iteration)
    saved, waited = time.monotonic(), 0.0
    with interrupt.patient() as interrupted, _made_ahead(windows, loop.batch) as ready:
        while run.spent + run.took / 2 < loop.seconds:  # ends as often early as late
            if interrupted() or (cancelled is not None and cancelled()):
                run.save()
                raise OperationCancelled(
                    "Stopped: the checkpoint keeps where training stood; the same call continues from it."
                )
            began, started = run.spent, time.monotonic()
            item = ready.get()
            waited += time.monotonic() - started
            if isinstance(item, BaseException):
                raise item
            if not run.estimated:
                run.estimated = True
                warn_of_learning(network, item[0].transpose(1, 2).shape, run.device, "lower the plan's window or batch")
            try:
                value = run.step(*item)
            except (torch.OutOfMemoryError, MemoryError):
                raise MedseqError("There is not enough memory for this plan; lower its window or batch.") from None
            run.took = run.spent - began
            if run.iteration % 20 == 0:
                _note(run, float(value))
                if progress is not None:
                    share = min(1000, round(1000 * run.spent / loop.seconds))
                    progress(share, 1000, f"training: {run.seen} windows seen, loss {float(value):.3f}")
            if time.monotonic() - saved > _SAVE_SECONDS:
                run.save()
                saved = time.monotonic()
    run.save()
    return run.result(waited)


def _note(run: _Run, value: float) -> None:
    if not math.isfinite(value):
        raise MedseqError(
            f"The loss became {value} at iteration {run.iteration}; lower the plan's rate ({run.loop.rate})."
        )
    minutes = run.spent / 60
    run.curve.append({"iteration": float(run.iteration), "minutes": minutes, "loss": value, "seen": float(run.seen)})
