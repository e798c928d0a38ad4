"""Long jobs outside of the GUI thread: one bar with progress and cancel.

Only this module, and the widgets that use it, know of threads. A job is a function ``job(progress, cancelled)`` that
touches no layer; ``done(result)`` is called in the GUI thread afterwards, and only on success.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple, TypeVar

from napari.qt.threading import create_worker
from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QApplication,
    QDockWidget,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_medseq._napari.gone import WhenGone
from napari_medseq._napari.jobs.activity import Activity
from napari_medseq._napari.notifications import tell
from napari_medseq.errors import OperationCancelled, heard
from napari_medseq.progress import Cancelled, Progress

if TYPE_CHECKING:
    from napari.qt.threading import FunctionWorker

R = TypeVar("R")
T = TypeVar("T")
Job = Callable[[Progress, Cancelled], R]


class Outcome(NamedTuple, Generic[R]):
    """The outcome of a job: its result or its error, and its warnings."""

    result: R | None
    error: Exception | None
    doubts: list[str]


_EVERY_S = 0.05
#: time between two checks whether a mouse button is held
LOOK_AGAIN_MS = 20


class WorkBar(QWidget):  # type: ignore[misc]
    """Progress, message and a Cancel button for one job at a time; hidden while idle."""

    progressed = Signal(int, int, str)
    busy_changed = Signal(bool)

    #: title and worker of the running job, and whether it has ended; jobs run one after the other, because each may
    #: take all memory and cores
    _running: tuple[str, FunctionWorker, threading.Event] | None = None
    #: the bars whose jobs wait, each with the function that starts its job
    _waiting: ClassVar[deque[tuple[WorkBar, Callable[[], None]]]] = deque()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = self._kept = ""
        self._writes = False
        self._worker: FunctionWorker | None = None
        self._queued = self._each = False
        self._activity: Activity | None = None
        self._stop = threading.Event()
        self.bar = QProgressBar()
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop after the slice that is being computed; nothing is changed")
        self.cancel_button.clicked.connect(self.cancel)
        row = QHBoxLayout()
        row.addWidget(self.bar)
        row.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.message)
        self.progressed.connect(self._show)
        WhenGone(self, self._stop.set)
        self._set_busy(False)

    @property
    def busy(self) -> bool:
        """Whether a job of this bar runs or waits."""
        return self._worker is not None or self._queued or self._each

    def start(
        self,
        title: str,
        job: Job[R],
        done: Callable[[R], None],
        *,
        at_once: bool = False,
        kept: str = "",
        writes: bool = False,
    ) -> bool:
        """Run `job` in a thread after the jobs that were started before it, then call `done` with its result in the
        GUI thread.

        Parameters
        ----------
        title : str
        job, done : callable
        at_once : bool
            Neither wait for other jobs nor let others wait; for cheap jobs such as saving, while training takes an
            hour.
        kept : str
            What a job that is cancelled leaves behind, in a sentence; by default nothing.
        writes : bool
            It writes files. If it has ended before it noticed that it was cancelled, they are there, so `done` is called all the same.

        Returns
        -------
        bool
            False, with a notification, if a job of this bar runs or waits already.
        """
        if self.busy:
            show_warning(f"{self.title} is still running: wait for it, or cancel it first.")
            return False
        self.title, self._kept, self._writes = title, kept, writes
        self._stop.clear()
        self.bar.setRange(0, 0)
        running = WorkBar._running
        if running is not None and WorkBar.occupied() and not at_once:
            self._queued = True
            self.message.setText(f"{title}: waits until {running[0].lower()} is done")
            WorkBar._waiting.append((self, lambda: self._begin(job, done)))
            self._set_busy(True)
            return True
        self._begin(job, done, alone=not at_once)
        return True

    def _begin(self, job: Job[R], done: Callable[[R], None], *, alone: bool = True) -> None:
        self._queued = False
        self.message.setText(self.title)

        task = _Task(self, job, done)
        worker = create_worker(task.run, _start_thread=False)
        worker.returned.connect(lambda outcome: task.finish(outcome))
        self._worker = worker
        if alone:
            WorkBar._running = (self.title, worker, task.ended)
        self._set_busy(True)
        worker.start()

    @classmethod
    def occupied(cls) -> bool:
        """Whether a job of any bar runs, or is about to, since its thread may not have begun yet."""
        return cls._running is not None and not cls._running[2].is_set()

    @classmethod
    def _next(cls) -> None:
        """Start the job that has waited longest, if its bar still exists and no job runs."""
        while cls._waiting and not cls.occupied():
            _bar, begin = cls._waiting.popleft()
            try:
                begin()
            except RuntimeError:  # its widget has been deleted
                continue
            return

    def each(
        self,
        title: str,
        items: Sequence[T],
        action: Callable[[T], object],
        done: Callable[[bool], object],
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """Do something with one item in each turn of the event loop, in the GUI thread, so that the window stays
        usable.

        Parameters
        ----------
        title : str
        items : sequence
        action : callable
            Called with each item.
        done : callable
            Called at the end with whether it was cancelled; earlier items have then been processed.
        ready : callable
            Tells whether the next item may be processed now; if not, it waits a little.
        """
        waiting = deque(items)
        self.title, self._each = title, True
        self._stop.clear()

        def step() -> None:
            if mouse_is_held() or not ready():
                QTimer.singleShot(LOOK_AGAIN_MS, step)
                return
            try:
                if waiting and not self._stop.is_set():
                    action(waiting.popleft())
                    QTimer.singleShot(0, show)
                    return
                self._each = False
                self._set_busy(False)
            except RuntimeError:  # the window was closed meanwhile
                return
            done(self._stop.is_set())

        def show() -> None:  # in a turn of its own, because a moving bar redraws the whole window at once
            at = len(items) - len(waiting)
            with suppress(RuntimeError):  # the window was closed meanwhile
                self._show(at, len(items), f"{title}: {at} of {len(items)}")
                QTimer.singleShot(0, step)

        self._set_busy(True)
        QTimer.singleShot(0, step)

    def cancel(self) -> None:
        """Ask the job to stop, which it does at its next slice. A job that waits is dropped at once."""
        if self._queued:
            WorkBar._waiting = deque(item for item in WorkBar._waiting if item[0] is not self)
            self._queued = False
            self._set_busy(False)
            show_info(f"{self.title}: cancelled before it began.")
            return
        self._stop.set()
        self.message.setText(f"{self.title}: stopping …")

    def _run(self, job: Job[R]) -> Outcome[R]:
        """Run in the worker's thread; errors are passed on like a result."""
        last = 0.0

        def progress(done: int, total: int, message: str) -> None:
            nonlocal last
            now = time.monotonic()
            if done >= total or now - last > _EVERY_S:
                last = now
                self.progressed.emit(done, total, message)

        with heard() as doubts, warnings.catch_warnings(record=True):  # recorded, so that they are not shown twice
            warnings.simplefilter("always")
            try:
                result = job(progress, self._stop.is_set)
            except Exception as error:
                return Outcome(None, error, [])
        if self._stop.is_set() and not self._writes:
            return Outcome(None, OperationCancelled("Cancelled: nothing was changed."), [])
        return Outcome(result, None, doubts)

    def _show(self, done: int, total: int, message: str) -> None:
        if self._left_alone():
            self.cancel()
        elif self.busy and not self._stop.is_set():
            self.bar.setRange(0, total)
            self.bar.setValue(done)
            self.message.setText(message)
            if self._activity is not None:
                self._activity.show_step(done, total)

    def _left_alone(self) -> bool:
        """Cancel the job if its dock was closed, because nobody could cancel it any longer."""
        top = self.window()
        return not isinstance(top, QMainWindow | QDockWidget) and top.isHidden()

    def _finish(self, done: Callable[[R], None], outcome: Outcome[R]) -> None:
        try:
            self._release()
        except RuntimeError:  # the viewer was closed meanwhile, so nobody needs the outcome
            return
        finally:
            WorkBar._next()
        if outcome.error is not None:
            self._tell(outcome.error)
            return
        try:
            done(outcome.result)  # type: ignore[arg-type]  # None only where there is an error
        except Exception as error:  # any error is shown once, and the viewer stays usable
            self._tell(error)
        if outcome.doubts:
            show_warning("\n".join(outcome.doubts))

    def _tell(self, error: BaseException) -> None:
        if isinstance(error, OperationCancelled):
            show_info(f"{self.title}: cancelled{f'. {self._kept}' if self._kept else ', nothing was changed.'}")
        else:
            tell(error, self.title)

    def _release(self) -> None:
        if WorkBar._running is not None and WorkBar._running[1] is self._worker:
            WorkBar._running = None
        self._worker = None
        self._set_busy(False)

    def _set_busy(self, busy: bool) -> None:
        if busy and self._activity is None:
            self._activity = Activity(self.title, self.cancel)
        elif not busy and self._activity is not None:
            self._activity.close()
            self._activity = None
        self.setVisible(busy)
        self.busy_changed.emit(busy)


class _Task(Generic[R]):
    """A job and its completion, both released when it is done.

    napari keeps each worker in the window's list of tasks, and the window as long as the process lives, so that
    everything that a worker holds would stay in memory.
    """

    def __init__(self, bar: WorkBar, job: Job[R], done: Callable[[R], None]) -> None:
        self._parts: tuple[WorkBar, Job[R], Callable[[R], None]] | None = bar, job, done
        self.ended = threading.Event()

    def run(self) -> Outcome[R]:
        """Run the job in the worker's thread."""
        assert self._parts is not None  # the job runs only once
        bar, job, _ = self._parts
        try:
            return bar._run(job)
        finally:
            self.ended.set()

    def finish(self, outcome: Outcome[R]) -> None:
        """Run the completion in the GUI thread once no mouse button is held, because a new layer would interrupt a
        stroke."""
        if self._parts is None:
            return
        if mouse_is_held():
            QTimer.singleShot(LOOK_AGAIN_MS, lambda: self.finish(outcome))
            return
        bar, _, done = self._parts
        self._parts = None
        bar._finish(done, outcome)


def mouse_is_held() -> bool:
    """Whether a mouse button is held, so that a stroke may be half done."""
    return bool(QApplication.mouseButtons() != Qt.NoButton)
