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


def check(cancelled: Cancelled | None) -> None:
    """Raise `OperationCancelled` if the caller asked to stop."""
    if cancelled is not None and cancelled():
        raise OperationCancelled("Cancelled: nothing was changed.")


def watched(
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
