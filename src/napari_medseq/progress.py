"""Progress and cancelling as plain callables, shared by every long verb.

A long verb takes ``progress``, called as ``progress(done, total, message)``, and ``cancelled``, called without arguments
and returning True when the work should stop. Neither knows of threads or widgets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from napari_medseq.errors import OperationCancelled

Progress = Callable[[int, int, str], None]
Cancelled = Callable[[], bool]

T = TypeVar("T")
#: into how many steps the parts of a job divide it: a tenth of a percent each
_STEPS = 1000


def check(cancelled: Cancelled | None) -> None:
    """Raise `OperationCancelled` if the caller asked to stop."""
    if cancelled is not None and cancelled():
        raise OperationCancelled("Cancelled: nothing was changed.")


def part(progress: Progress | None, start: float, stop: float, prefix: str = "") -> Progress | None:
    """A callback for one part of a longer job: its own 0 to 100 % becomes `start` to `stop` of the whole.

    Parameters
    ----------
    progress : callable or None
        The whole job's callback; None gives None.
    start, stop : float
        Shares of the whole, 0 to 1, between which this part lies; equal parts are ``k / n`` and ``(k + 1) / n``.
    prefix : str
        Put before each message.

    Examples
    --------
    >>> half = part(lambda done, total, message: print(f"{done / total:.0%} {message}"), 0.5, 1.0, "Tracking: ")
    >>> half(1, 2, "visit 1")
    75% Tracking: visit 1
    """
    if progress is None:
        return None

    def report(done: int, total: int, message: str) -> None:
        share = min(max(done / max(total, 1), 0.0), 1.0)
        progress(round(_STEPS * (start + (stop - start) * share)), _STEPS, prefix + message)

    return report


def with_progress(
    items: Iterable[T], total: int, message: str, progress: Progress | None, cancelled: Cancelled | None
) -> Iterator[T]:
    """Yield `items`, looking at `cancelled` before each and reporting after each.

    Raises
    ------
    OperationCancelled
        As soon as `cancelled` returns True.
    """
    for done, item in enumerate(items):
        check(cancelled)
        yield item
        if progress is not None:
            progress(done + 1, total, message)
    check(cancelled)


def duration(seconds: float) -> str:
    """Seconds in the unit that people use for so many."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
