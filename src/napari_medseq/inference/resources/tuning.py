"""How a network is run on a device: its numerical precision, its memory layout, and how many steps are computed
together.

On the CPU this is fixed, so that two computers and two runs agree: float32, channels-last (benchmarks/inference.py), one step at a
time; bfloat16 only where the bundle asks for it and the processor has units for it. Elsewhere a quick measurement on the device
chooses the layout; and a lower precision only where the bundle allows it, so that the answer stays within 1e-4 of the CPU's, however
many steps go through together.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.models.sequence_classifier import SequenceClassifier
from napari_medseq.wording import how_many

Network = TypeVar("Network", bound=nn.Module)
_TOGETHER = 8  # steps that go through the encoder together where that pays
_CPU_PIXELS = 1 << 15  # largest step of which several go through a CPU together; larger ones go one at a time
_WORTH = 1.15  # a lower precision must be this much faster to be used


#: see `weights_version`
Version = tuple[tuple[int, int], ...]


def weights_version(network: nn.Module) -> Version:
    """A value that changes when a network is trained, loaded or moved: each tensor's address, and how often it was written to.

    What is made of a network once and kept beside it (`prompts.passes.ready`, `slabs.windows.folded`) is made again when this differs.
    """
    tensors = (*network.parameters(), *network.buffers())
    return tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)


@dataclass(frozen=True)
class Plan:
    """How to run a network.

    Attributes
    ----------
    dtype : torch.dtype or None
        Type of convolutions under autocast; None: float32.
    channels_last : bool
    together : int
        Steps encoded at once.
    device : str
        Kind of device, "cpu", "cuda" or "mps".
    """

    dtype: torch.dtype | None = None
    channels_last: bool = True
    together: int = 1
    device: str = "cpu"

    def precision(self) -> AbstractContextManager[object]:
        """A context in which the network computes in the plan's precision."""
        if self.dtype is not None:
            return torch.autocast(self.device, self.dtype)
        return _without_tf32() if self.device == "cuda" else nullcontext()

    def for_steps(self, x: Tensor) -> Plan:
        """The plan for steps like `x` (n, channel, …): on the CPU so many together as the caches of small ones are worth."""
        if self.device != "cpu" or self.together != 1:
            return self
        together = max(1, min(_TOGETHER, _CPU_PIXELS // (len(x) * x[0, 0].numel())))
        return self if together == 1 else replace(self, together=together)

    def to_memory_format(self, x: Tensor) -> Tensor:
        """Steps (n, channel, y, x) in the plan's memory layout; steps that are volumes stay as they are."""
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last and x.ndim == 4 else x

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "channels first"
        number = "float32" if self.dtype is None else str(self.dtype).removeprefix("torch.")
        return f"{number}, {layout}, {how_many(self.together, 'step')} at once"


class _Rounding(Protocol):
    """How torch says in which precision cuDNN computes."""

    fp32_precision: str


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Stop cuDNN from rounding the inputs of float32 convolutions to TF32 (10 bits)."""
    kinds = cast("tuple[_Rounding, ...]", (torch.backends.cudnn.conv, torch.backends.cudnn.rnn))  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        for kind, value in zip(kinds, before, strict=True):
            kind.fp32_precision = value


_PLANS: WeakKeyDictionary[nn.Module, dict[tuple[torch.device, str], Plan]] = WeakKeyDictionary()


#: copies of networks on other devices than their own, with the version of the weights that were copied
_PLACED: WeakKeyDictionary[nn.Module, dict[torch.device, tuple[Version, nn.Module]]] = WeakKeyDictionary()


def placed(network: Network, device: torch.device) -> Network:
    """The network on a device: itself where it lies there, else a copy, which is kept for the next call until its weights change.

    The network itself is never moved, so that jobs on different devices can share it.
    """
    tensors = [*network.parameters(), *network.buffers()]
    if all(t.device.type == device.type and device.index in (None, t.device.index) for t in tensors):
        return network
    copies, version = _PLACED.setdefault(network, {}), weights_version(network)
    if device not in copies or copies[device][0] != version:
        copies[device] = version, copy.deepcopy(network).to(device)
    return cast(Network, copies[device][1])


def prepare(
    network: Network, device: torch.device, together: int | None = None, precision: str = "float32"
) -> tuple[Network, Plan]:
    """A network as it lies on a device (see `placed`), and how it is run there.

    Parameters
    ----------
    network : torch.nn.Module
        Neither moved nor changed but for the memory layout of its weights.
    device : torch.device
    together : int, optional
        Steps encoded at once, off the CPU.
    precision : {"float32", "bfloat16"}
        What the bundle allows: "bfloat16" lets a lower precision be chosen.
    """
    network = placed(network, device)
    if device.type == "cpu":
        _lay_out(network, True)
        _keep_memory()
        return network, Plan(dtype=torch.bfloat16 if precision == "bfloat16" and has_bfloat16() else None)
    plans = _PLANS.setdefault(network, {})
    if (device, precision) not in plans:
        plans[device, precision] = choose(measure(network, device, lower=precision == "bfloat16"))
    plan = plans[device, precision]
    _lay_out(network, plan.channels_last)
    return network, plan if together is None else replace(plan, together=max(1, together))


def has_bfloat16() -> bool:
    """Whether the processor has units for bf16 products; without them one is 200 times slower than in float32."""
    checks = (getattr(torch.cpu, f"_is_{unit}_supported", None) for unit in ("avx512_bf16", "amx_tile"))
    return any(ask is not None and ask() for ask in checks)


@cache
def _keep_memory() -> None:
    """Let the C library keep freed blocks for the next step.

    glibc gives large blocks back to the system, whose fresh pages cost a tenth of the time of a step. The largest block that was
    ever freed, up to 32 MiB, is its measure of what to keep (``mallopt(3)``, M_MMAP_THRESHOLD), so one is allocated, never
    touched, and freed. Elsewhere this does nothing.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


def choose(seconds: Mapping[Plan, float]) -> Plan:
    """The fastest plan; one of lower precision only where it is well ahead of the fastest in float32."""
    whole = {p: s for p, s in seconds.items() if p.dtype is None}
    best, fastest = min(whole, key=whole.__getitem__), min(seconds, key=seconds.__getitem__)
    return fastest if whole[best] / max(seconds[fastest], 1e-12) >= _WORTH else best


def measure(
    network: nn.Module,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
    *,
    lower: bool = True,
) -> dict[Plan, float]:
    """Seconds that the network's encoder takes for some 128×128 steps, for each plan that the device can run.

    `lower`: those of lower precision too. A network without an encoder per step has one plan only.
    """
    whole = Plan(device=device.type, together=_TOGETHER, channels_last=False)
    if not isinstance(network, RecurrentUNet | SequenceClassifier) or network.volumes:
        return {whole: 0.0}
    encode = network.encode
    seconds: dict[Plan, float] = {}
    x = torch.zeros(_TOGETHER, network.input_channels, 128, 128, device=device)
    half = torch.bfloat16 if device.type != "cuda" or torch.cuda.is_bf16_supported() else torch.float16
    dtypes = (None, half) if lower else (None,)
    for plan in [replace(whole, dtype=d, channels_last=c) for d in dtypes for c in (False, True)]:
        _lay_out(network, plan.channels_last)
        try:
            with torch.inference_mode(), plan.precision():
                seconds[plan] = min(_timed(encode, plan.to_memory_format(x), device, clock) for _ in range(3))
        except (RuntimeError, NotImplementedError):
            if plan == whole:
                raise
    return seconds


def _timed(encode: Callable[[Tensor], object], x: Tensor, device: torch.device, clock: Callable[[], float]) -> float:
    began = clock()
    encode(x)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return clock() - began


def _lay_out(network: nn.Module, channels_last: bool) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for p in network.parameters():
        if p.ndim == 4 and not p.is_contiguous(memory_format=layout):
            p.data = p.data.contiguous(memory_format=layout)
