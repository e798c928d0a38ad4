"""What is dropped on a window, or chosen in its File menu, opens as a job with bar and cancel; its layers come one by one."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from weakref import ref

from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_medseq import viewer as verbs
from napari_medseq._napari.work import WorkBar, guarded, warned
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.viewer.layers import LayerData
from napari_medseq.viewer.opening import layer_data_of_all

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

T = TypeVar("T")


class Opener(QObject):  # type: ignore[misc]
    """Opens files and folders in one window; what is dropped together is one job.

    Attributes
    ----------
    work : WorkBar
        Bar and cancel, below the canvas while something is opened.
    """

    def __init__(self, viewer: ViewerModel, window: QMainWindow) -> None:
        super().__init__(window)
        self._viewer, self._window = ref(viewer), window
        self._paths: list[Path] = []
        self.work = WorkBar()
        self._dock = QDockWidget("Opening", window)
        self._dock.setObjectName("medseq opening")  # Qt remembers where docks are by their names
        self._dock.setFeatures(QDockWidget.NoDockWidgetFeatures)
        self._dock.setTitleBarWidget(QWidget())
        self._dock.setWidget(self.work)
        self._dock.hide()
        self.work.busy_changed.connect(self._busy)

    def open(self, path: str | os.PathLike[str]) -> None:
        """Open this, with whatever else comes before the window is idle again."""
        self._paths.append(Path(path))
        if len(self._paths) == 1 and not self.work.busy:
            QTimer.singleShot(0, self._begin)

    def _busy(self, busy: bool) -> None:
        if busy and self._dock.isHidden():
            self._window.addDockWidget(Qt.BottomDockWidgetArea, self._dock)
            self._dock.show()
        elif not busy:
            self._dock.hide()
            self._window.removeDockWidget(self._dock)
            if self._paths:
                QTimer.singleShot(0, self._begin)

    def _begin(self) -> None:
        if self.work.busy or not self._paths:
            return
        session = next((path for path in self._paths if verbs.is_session(path)), None)
        viewer = self._viewer()
        if session is not None and viewer is not None:  # by itself; what came with it opens afterwards
            self._paths.remove(session)
            open_session_in_job(viewer, session, self.work)
            return
        paths, self._paths = self._paths, []
        title = f"Opening {paths[0].name}" if len(paths) == 1 else f"Opening {len(paths)} files"

        def job(progress: Progress, cancelled: Cancelled) -> list[LayerData]:
            return layer_data_of_all(paths, progress=progress, cancelled=cancelled)

        self.work.start(title, job, self._show)

    def _show(self, data: Sequence[LayerData]) -> None:
        viewer = self._viewer()
        if viewer is not None:
            show_one_by_one(viewer, data, self.work)


def open_session_in_job(viewer: ViewerModel, folder: Path, work: WorkBar) -> None:
    """Read a session in a worker, then show it layer by layer; Cancel leaves the viewer as it was."""
    weak = ref(getattr(viewer, "__wrapped__", viewer))

    def job(progress: Progress, cancelled: Cancelled) -> verbs.SessionContent:
        return verbs.read_session(folder, progress=progress, cancelled=cancelled)

    def done(content: verbs.SessionContent) -> None:
        alive = weak()
        if alive is not None:
            _one_by_one(
                alive, content.layers, verbs.show_session_layer, work, lambda now: verbs.finish_session(now, content)
            )

    work.start(f"Opening {folder.name}", job, done)


def show_one_by_one(viewer: ViewerModel, data: Sequence[LayerData], work: WorkBar) -> None:
    """Add layers, one for each turn of the event loop: in between the window draws itself and can be used; Cancel takes them out again."""
    _one_by_one(viewer, data, lambda now, item: verbs.add_layers(now, [item])[0], work)


def _one_by_one(
    viewer: ViewerModel,
    items: Sequence[T],
    show: Callable[[ViewerModel, T], Layer],
    work: WorkBar,
    finish: Callable[[ViewerModel], None] | None = None,
) -> None:
    weak = ref(getattr(viewer, "__wrapped__", viewer))
    added: list[Layer] = []
    front = verbs.patient_in_front(viewer)

    def add(item: T) -> None:
        alive = weak()
        if alive is not None:
            guarded("Showing an image", lambda: added.append(show(alive, item)))

    def done(cancelled: bool) -> None:
        alive = weak()
        if alive is None:
            return
        if not cancelled:
            if finish is not None:
                with warned():
                    guarded("Opening", lambda: finish(alive))
            return
        for layer in added:
            if layer in alive.layers:
                alive.layers.remove(layer)
        if front is not None:
            verbs.bring_to_front(alive, front)
        show_info(f"{work.title}: cancelled, nothing was changed.")

    work.each(work.title, items, add, done)


def asked_in_the_window() -> bool:
    """Whether napari reads a file because somebody dropped it on the window, or chose it in the File menu.

    A script, or the console, that calls ``viewer.open`` expects its layers when the call returns; a person does not wait for a call.
    napari tells a reader nothing of this, so the way it was called is looked at; where that changes, everything opens as a script wants it.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "_qt_open" and str(frame.f_globals.get("__name__")).startswith("napari._qt"):
            return True
        frame = frame.f_back
    return False
