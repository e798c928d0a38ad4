"""How much memory is free, and saying before the start that it may not suffice."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from napari_medseq.errors import MedseqWarning

#: bytes under which an estimate is not worth saying: any machine has them
WORTH_SAYING = 1 << 28


def available_bytes() -> int | None:
    """Memory that this process can still get: what the system, its control group and its own limit leave; None where unknown."""
    limits = [_system(), _control_group(), _own_limit()]
    return min((n for n in limits if n is not None), default=None)


def warn_if_short(
    needed: int,
    name: str,
    available: int | None = None,
    *,
    instead: str = "ask for fewer outputs, or crop the image (region=)",
) -> None:
    """Say before the start that memory may not suffice, and what can be done.

    Parameters
    ----------
    needed : int
        Bytes.
    name : str
        Of the image, or of what is to be done.
    available : int, optional
        Bytes; asked of the system by default.
    instead : str
        What needs less, besides closing other programs.
    """
    free = available_bytes() if available is None else available
    if free is not None and needed > free:
        warnings.warn(
            f"{name}: about {needed / 2**30:.1f} GB of memory are needed and {free / 2**30:.1f} GB are free; close other "
            f"programs, {instead}.",
            MedseqWarning,
            stacklevel=4,
        )


def _system() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:")), None)


def _control_group() -> int | None:
    """What a container or a job of a cluster may still take (control groups, version 2)."""
    root = Path("/sys/fs/cgroup")
    try:
        limit, used = ((root / n).read_text(encoding="ascii").strip() for n in ("memory.max", "memory.current"))
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - int(used))


def _own_limit() -> int | None:
    """What `ulimit -v` leaves."""
    if os.name != "posix":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return None
    return max(0, limit - pages * resource.getpagesize())
