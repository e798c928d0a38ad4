"""Short jobs of which only the newest counts: a preview that follows the slider and the form, off the GUI thread."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, QTimer

from napari_medseq._napari.work import WorkBar
from napari_medseq.errors import MedseqError
from napari_medseq.progress import Cancelled

if TYPE_CHECKING:
    from napari.qt.threading import FunctionWorker

R = TypeVar("R")
_log = logging.getLogger(__name__)


class Latest(QObject, Generic[R]):  # type: ignore[misc]
    """Runs the newest job asked for, once nothing newer has come for a while; what is outdated is stopped, and its result dropped.

    It waits while a long job of a `WorkBar` runs, since that may take all memory and cores.

    Parameters
    ----------
    parent : QObject
        With it, everything ends.
    done : callable
        Called in the GUI thread with the result of the newest job.
    failed : callable
        Called in the GUI thread with its error; `OperationCancelled` never comes.
    wait_ms : int
        How long nothing newer must have come.
    """

    def __init__(
        self, parent: QObject, done: Callable[[R], None], failed: Callable[[Exception], None], wait_ms: int = 250
    ) -> None:
        super().__init__(parent)
        self._done, self._failed = done, failed
        self._next: Callable[[Cancelled], R] | None = None
        self._worker: FunctionWorker | None = None
        self._stop = threading.Event()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(wait_ms)
        self._timer.timeout.connect(self._begin)
        parent.destroyed.connect(self._stop_all)

    @property
    def busy(self) -> bool:
        """Whether a job runs or is about to."""
        return self._next is not None or self._worker is not None

    def ask(self, job: Callable[[Cancelled], R]) -> None:
        """Run a job soon, instead of what was asked for before."""
        self._stop.set()
        self._next = job
        self._timer.start()

    def drop(self) -> None:
        """Nothing is wanted any more: neither what runs nor what waits."""
        self._stop.set()
        self._next = None
        self._timer.stop()

    def _stop_all(self, _gone: object = None) -> None:
        self._stop.set()

    def _begin(self) -> None:
        if self._next is None or self._worker is not None or self._timer.isActive():
            return  # what runs begins the next one when it has stopped; what was asked for just now waits a little
        if WorkBar.occupied():
            self._timer.start()
            return
        job, self._next = self._next, None
        self._stop = stop = threading.Event()

        def work() -> tuple[R | None, Exception | None]:  # not a bound method: napari prints its name
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    return job(stop.is_set), None
                except Exception as error:
                    return None, error

        worker = create_worker(work, _start_thread=False)
        worker.returned.connect(lambda outcome: self._finish(stop, outcome))
        self._worker = worker
        worker.start()

    def _finish(self, stop: threading.Event, outcome: tuple[R | None, Exception | None]) -> None:
        try:
            self._worker = None
            if stop.is_set():
                if self._next is not None:
                    self._begin()
                return
            result, error = outcome
            if error is None:
                self._done(result)  # type: ignore[arg-type]  # None only where there is an error
                return
            if not isinstance(error, MedseqError):
                _log.error("A short job failed", exc_info=error)
            self._failed(error)
        except RuntimeError:  # the widget is gone: there is no one left to tell
            return
