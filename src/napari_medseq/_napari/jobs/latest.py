"""Short jobs of which only the newest counts, such as a preview that follows the slider and the form, in another
thread."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, QTimer

from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq.errors import MedseqError
from napari_medseq.progress import Cancelled

if TYPE_CHECKING:
    from napari.qt.threading import FunctionWorker

R = TypeVar("R")
_log = logging.getLogger(__name__)


class Latest(QObject, Generic[R]):  # type: ignore[misc]
    """Runs the newest requested job, once no newer one was requested for a while; an outdated job is stopped, and its
    result dropped.

    It waits while a long job of a `WorkBar` runs, because that may take all memory and cores.

    Parameters
    ----------
    parent : QObject
        The owner, with which everything ends.
    done : callable
        Called in the GUI thread with the result of the newest job.
    failed : callable
        Called in the GUI thread with its error; `OperationCancelled` never comes.
    wait_ms : int
        Milliseconds without a newer request before a job starts.
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
        """Run a job soon, instead of the one that was requested before."""
        self._stop.set()
        self._next = job
        self._timer.start()

    def drop(self) -> None:
        """Stop the job that runs, and forget the one that waits."""
        self._stop.set()
        self._next = None
        self._timer.stop()

    def _stop_all(self, _gone: object = None) -> None:
        self._stop.set()

    def _begin(self) -> None:
        if self._next is None or self._worker is not None or self._timer.isActive():
            return  # the running job starts the next one when it has stopped; a new request waits a little
        if WorkBar.occupied():
            self._timer.start()
            return
        job, self._next = self._next, None
        self._stop = stop = threading.Event()

        def work() -> tuple[R | None, Exception | None]:  # not a bound method, because napari prints its name
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
        except RuntimeError:  # the widget is deleted, so nobody needs the result
            return
