"""How a network is run on a device: numbers' precision, memory layout, and how many steps go through it together.

On the CPU this is fixed, so that two computers and two runs agree: float32, channels-last (benchmarks/inference.py), one step at a
time; bfloat16 only where the bundle asks for it and the processor has units for it. Elsewhere a quick measurement on the device
decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_TOGETHER = 8  # steps that go through the encoder together where that pays
_WORTH = 1.15  # a lower precision must be this much faster to be used


@dataclass(frozen=True)
class Plan:
    """How to run a network.

    Attributes
    ----------
    dtype : torch.dtype or None
        Of convolutions, by autocast; None is float32.
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
        """Within it the network computes in the plan's precision."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device, self.dtype)

    def to_memory_format(self, x: Tensor) -> Tensor:
        """Steps (n, channel, y, x) in the plan's memory layout; steps that are volumes stay as they are."""
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last and x.ndim == 4 else x

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "channels first"
        number = "float32" if self.dtype is None else str(self.dtype).removeprefix("torch.")
        return f"{number}, {layout}, {self.together} step(s) at once"


_PLANS: WeakKeyDictionary[nn.Module, dict[torch.device, Plan]] = WeakKeyDictionary()


def prepare(network: nn.Module, device: torch.device, together: int | None = None, precision: str = "float32") -> Plan:
    """Bring a network to a device and say how it is run there.

    Parameters
    ----------
    network : torch.nn.Module
        Moved in place.
    device : torch.device
    together : int, optional
        Steps encoded at once, off the CPU.
    precision : {"float32", "bfloat16"}
        What the bundle asks for on the CPU.

    Returns
    -------
    Plan
    """
    network.to(device)
    if device.type == "cpu":
        _lay_out(network, True)
        _keep_memory()
        return Plan(dtype=torch.bfloat16 if precision == "bfloat16" and has_bfloat16() else None)
    known = _PLANS.setdefault(network, {})
    if device not in known:
        known[device] = choose(measure(network, device))
    plan = known[device]
    _lay_out(network, plan.channels_last)
    return plan if together is None else replace(plan, together=max(1, together))


def has_bfloat16() -> bool:
    """Whether the processor has units for bf16 products; without them one is 200 times slower than in float32."""
    asked = (getattr(torch.cpu, f"_is_{unit}_supported", None) for unit in ("avx512_bf16", "amx_tile"))
    return any(ask is not None and ask() for ask in asked)


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
    network: nn.Module, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> dict[Plan, float]:
    """Seconds that the network's encoder takes for some 128×128 steps, for each plan that the device can run."""
    first = next((m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)), None)
    encode = getattr(network, "encode", None)
    whole = Plan(device=device.type, together=_TOGETHER, channels_last=False)
    if not isinstance(first, nn.Conv2d) or encode is None:
        return {whole: 0.0}
    found: dict[Plan, float] = {}
    x = torch.zeros(_TOGETHER, first.in_channels, 128, 128, device=device)
    lower = [torch.bfloat16 if device.type != "cuda" or torch.cuda.is_bf16_supported() else torch.float16]
    for plan in [replace(whole, dtype=d, channels_last=c) for d in (None, *lower) for c in (False, True)]:
        _lay_out(network, plan.channels_last)
        try:
            with torch.inference_mode(), plan.precision():
                found[plan] = min(_timed(encode, plan.to_memory_format(x), device, clock) for _ in range(3))
        except (RuntimeError, NotImplementedError):
            if plan == whole:
                raise
    return found


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
        if p.ndim == 4:
            p.data = p.data.contiguous(memory_format=layout)
