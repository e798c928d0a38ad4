"""How much memory is free, saying before the start that it may not suffice, and arrays that need not lie in it."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import warn

Number = TypeVar("Number", bound=np.generic)

#: bytes under which an estimate is not worth saying: any machine has them
WORTH_SAYING = 1 << 28
#: an array is large that takes more than this share of the memory that is free: what is made on the way to it needs room, too
LARGE = 0.25


def available_bytes() -> int | None:
    """Memory that this process can still get: what the system, its control group and its own limit leave; None where unknown."""
    limits = [_system(), _control_group(), _own_limit()]
    return min((n for n in limits if n is not None), default=None)


def is_large(size: int, beside: int = 0) -> bool:
    """Whether so many bytes are better kept out of memory, of which they would take more than a quarter (`LARGE`).

    Parameters
    ----------
    size : int
    beside : int
        Bytes of the same kind that are held already.
    """
    free = available_bytes() if size + beside >= WORTH_SAYING else None
    return free is not None and size + beside > LARGE * (free + beside)


def is_too_much(size: int) -> bool:
    """Whether so many bytes fit neither into the memory that is free nor beside it into the swap space.

    Systems promise memory that they do not have and end the process that uses it, so this is asked before it is filled.
    """
    free = available_bytes() if size >= WORTH_SAYING else None
    return free is not None and size > free + (_system("SwapFree:") or 0)


def zeros(shape: Sequence[int], dtype: np.dtype[Number] | type[Number], *, beside: int = 0) -> NDArray[Number]:
    """An array of zeros; a large one in a temporary file without a name, of which the system keeps in memory what there is room for.

    The file lies where temporary files do (``TMPDIR``) and goes with the array. Without room on that disk it is memory all the same.
    `beside`: bytes of other arrays that are held with it, where many small ones are large together.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not is_large(size, beside) or shutil.disk_usage(tempfile.gettempdir()).free < size:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(prefix="medseq-") as file:
        return np.memmap(file, dtype, "w+", shape=tuple(shape))


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
        Name of the image or of the job, for messages.
    available : int, optional
        Bytes; asked of the system by default.
    instead : str
        What needs less, besides closing other programs.
    """
    free = available_bytes() if available is None else available
    if free is not None and needed > free:
        warn(
            f"{name}: about {needed / 2**30:.1f} GB of memory are needed and {free / 2**30:.1f} GB are free; close other "
            f"programs, {instead}."
        )


def _system(field: str = "MemAvailable:") -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return _elsewhere(field)
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith(field)), None)


def _elsewhere(field: str) -> int | None:
    """The same on systems other than Linux, where psutil is installed (the extras `all` and `cluster` have it)."""
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.swap_memory().free if field == "SwapFree:" else psutil.virtual_memory().available)


def _control_group() -> int | None:
    """Memory that a container or a cluster job may still use (control groups, version 2)."""
    root = Path("/sys/fs/cgroup")
    try:
        limit, used = ((root / n).read_text(encoding="ascii").strip() for n in ("memory.max", "memory.current"))
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - int(used))


def _own_limit() -> int | None:
    """Memory that `ulimit -v` and `ulimit -d` leave; a cohort limits its patients by the second."""
    if os.name != "posix":
        return None
    import resource

    limits = {
        field: resource.getrlimit(limit)[0]
        for field, limit in (("VmSize:", resource.RLIMIT_AS), ("VmData:", resource.RLIMIT_DATA))
    }
    if all(limit == resource.RLIM_INFINITY for limit in limits.values()):
        return None
    try:
        lines = [line.split() for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    used = {words[0]: int(words[1]) * 1024 for words in lines if words and words[0] in limits}
    free = [limit - used[field] for field, limit in limits.items() if limit != resource.RLIM_INFINITY and field in used]
    return max(0, min(free)) if free else None
