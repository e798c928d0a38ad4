"""The same work on many things in a few threads: results as they come; the rest is dropped when the caller stops listening.

`concurrent.futures` does the same, but takes a tenth of a small series' reading time to load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import TypeVar

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def in_threads(work: Callable[[Thing], Result], items: Sequence[Thing], threads: int) -> Iterator[Result]:
    """Results of `work` on each of `items`, in the order in which they are done.

    Parameters
    ----------
    work : callable
        What it raises is raised here.
    items : sequence
    threads : int
        With 1 everything runs in the caller's thread, in order.
    """
    if threads < 2:
        yield from map(work, items)
        return
    waiting, lock, stop = iter(items), Lock(), Event()
    results: SimpleQueue[tuple[bool, Result | BaseException]] = SimpleQueue()
    nothing = object()

    def run() -> None:
        while not stop.is_set():
            with lock:
                item = next(waiting, nothing)
            if item is nothing:
                return
            try:
                results.put((True, work(item)))  # type: ignore[arg-type]
            except BaseException as error:  # handed to the caller's thread
                results.put((False, error))

    # in the caller's context, so that doubts reach whoever listens there
    workers = [Thread(target=copy_context().run, args=(run,), daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        for _ in items:
            good, result = results.get()
            if not good:
                raise result  # type: ignore[misc]
            yield result  # type: ignore[misc]
    finally:
        stop.set()
        for worker in workers:
            worker.join()
