"""Ctrl-C and a scheduler's SIGTERM during training: finish the iteration, write the checkpoint, then stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def patient() -> Iterator[Callable[[], bool]]:
    """Within this context a first signal only makes the yielded function return True; a second signal stops at once.

    Does nothing outside the main thread, where signals never arrive.
    """
    signals: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if signals:
            raise KeyboardInterrupt
        signals.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(signals)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
