"""Opening what is dropped on a window or chosen in its File menu, as a job with progress and cancel; layers are added
one by one."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from weakref import ref

from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_medseq import viewer as verbs
from napari_medseq._napari.jobs.pieces import pieces_of
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded, warned
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.viewer.layers.conversion import LayerData
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.layers.studies import studies_in
from napari_medseq.viewer.opening import layer_data_of_all

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

T = TypeVar("T")
C = TypeVar("C")


class Opener(QObject):  # type: ignore[misc]
    """Opens files and folders in one window; paths that are dropped together are one job.

    Attributes
    ----------
    work : WorkBar
        Progress and cancel, shown below the canvas while something is opened.
    """

    def __init__(self, viewer: ViewerModel, window: QMainWindow) -> None:
        super().__init__(window)
        self._viewer, self._window = ref(viewer), window
        self._waiting: list[Path | verbs.Recovery] = []
        self.work = WorkBar()
        self._dock = QDockWidget("Opening", window)
        self._dock.setObjectName("medseq opening")  # Qt remembers the positions of docks by their names
        self._dock.setFeatures(QDockWidget.NoDockWidgetFeatures)
        self._dock.setTitleBarWidget(QWidget())
        self._dock.setWidget(self.work)
        self._dock.hide()
        self.work.busy_changed.connect(self._busy)

    def open(self, path: str | os.PathLike[str]) -> None:
        """Open a path, together with others that are requested before the window is idle again."""
        self._add(Path(path))

    def recover(self, recovery: verbs.Recovery) -> None:
        """Open the unsaved work of a process that has ended."""
        self._add(recovery)

    def _add(self, item: Path | verbs.Recovery) -> None:
        self._waiting.append(item)
        if len(self._waiting) == 1 and not self.work.busy:
            QTimer.singleShot(0, self._begin)

    def _busy(self, busy: bool) -> None:
        if busy and self._dock.isHidden():
            self._window.addDockWidget(Qt.BottomDockWidgetArea, self._dock)
            self._dock.show()
        elif not busy:
            self._dock.hide()
            self._window.removeDockWidget(self._dock)
            if self._waiting:
                QTimer.singleShot(0, self._begin)

    def _begin(self) -> None:
        viewer = self._viewer()
        if self.work.busy or not self._waiting or viewer is None:
            return
        alone = next((item for item in self._waiting if _is_whole(item)), None)
        if alone is not None:  # opened by itself; paths that came with it are opened afterwards
            self._waiting.remove(alone)
            _open_whole(viewer, alone, self.work)
            return
        paths, self._waiting = [item for item in self._waiting if isinstance(item, Path)], []
        title = f"Opening {paths[0].name}" if len(paths) == 1 else f"Opening {len(paths)} files"

        taken = studies_in(viewer.layers)

        def job(progress: Progress, cancelled: Cancelled) -> list[LayerData]:
            return layer_data_of_all(paths, taken=taken, progress=progress, cancelled=cancelled)

        start_reading(title, job, self._show, self.work)

    def _show(self, data: Sequence[LayerData]) -> None:
        viewer = self._viewer()
        if viewer is not None:
            show_one_by_one(viewer, data, self.work)


def show_progression_dock(viewer: ViewerModel) -> None:
    """Where the patient in front has a result, show its table and plot in the *Progression* dock, as after *Run*."""
    front, window = verbs.patient_in_front(viewer), getattr(viewer, "window", None)
    if front in verbs.results_of(viewer) and window is not None:
        with suppress(KeyError, ValueError):  # a window without this plugin's menu
            window.add_plugin_dock_widget("napari-medseq", "Progression")


def _is_whole(item: Path | verbs.Recovery) -> bool:
    """Whether a path is a session, a result or recovered work, which is opened by itself and not with others."""
    return isinstance(item, verbs.Recovery) or verbs.is_session(item) or verbs.is_result(item)


def _open_whole(viewer: ViewerModel, item: Path | verbs.Recovery, work: WorkBar) -> None:
    if isinstance(item, verbs.Recovery):
        recover_in_job(viewer, item, work)
    elif verbs.is_session(item):
        open_session_in_job(viewer, item, work)
    else:
        open_result_in_job(viewer, item, work)


def open_session_in_job(
    viewer: ViewerModel,
    folder: Path,
    work: WorkBar,
    on_opened: Callable[[ViewerModel, list[Layer]], None] | None = None,
    name: str = "",
) -> None:
    """Read a session in a worker, then show it layer by layer; Cancel leaves the viewer as it was.

    `on_opened` is called with the viewer and the layers when all is there; `name` is what is opened, by default the folder's name.
    """

    taken = studies_in(viewer.layers)

    def job(progress: Progress, cancelled: Cancelled) -> verbs.SessionContent:
        return verbs.read_session(folder, taken=taken, progress=progress, cancelled=cancelled)

    def finish(now: ViewerModel, content: verbs.SessionContent, added: list[Layer]) -> None:
        verbs.finish_session(now, content)
        show_progression_dock(now)
        if on_opened is not None:
            on_opened(now, added)

    title = f"Opening {name or folder.name}"
    _read_and_show(viewer, title, work, job, lambda content: content.layers, verbs.show_session_layer, finish)


def recover_in_job(viewer: ViewerModel, recovery: verbs.Recovery, work: WorkBar) -> None:
    """Open recovered work as a session is opened; if that fails or is cancelled, it is kept and offered again."""

    def finish(now: ViewerModel, added: list[Layer]) -> None:
        verbs.finish_recovery(now, recovery, added)

    open_session_in_job(viewer, recovery.folder, work, finish, "unsaved work")


def open_result_in_job(
    viewer: ViewerModel, folder: Path, work: WorkBar, on_opened: Callable[[verbs.ResultContent], None] | None = None
) -> None:
    """Read a saved result in a worker, then show it layer by layer; Cancel leaves the viewer as it was.

    `on_opened` is called with it when all is there.
    """
    among = verbs.open_studies(viewer)

    def job(progress: Progress, cancelled: Cancelled) -> verbs.ResultContent:
        return verbs.read_result(folder, among=among, progress=progress, cancelled=cancelled)

    def finish(now: ViewerModel, content: verbs.ResultContent, _added: list[Layer]) -> None:
        verbs.finish_result(now, content)
        show_progression_dock(now)
        if on_opened is not None:
            on_opened(content)

    title = f"Opening {folder.name}"
    _read_and_show(viewer, title, work, job, lambda content: content.layers, verbs.show_result_layer, finish)


def _read_and_show(
    viewer: ViewerModel,
    title: str,
    work: WorkBar,
    read: Callable[[Progress, Cancelled], C],
    layers: Callable[[C], Sequence[T]],
    show: Callable[[ViewerModel, T], Layer | None],
    finish: Callable[[ViewerModel, C, list[Layer]], None],
) -> None:
    weak = ref(real(viewer))

    def done(content: C) -> None:
        alive = weak()
        if alive is not None:
            _one_by_one(alive, layers(content), show, work, lambda now, added: finish(now, content, added))

    start_reading(title, read, done, work)


def start_reading(
    title: str, read: Callable[[Progress, Cancelled], C], done: Callable[[C], None], work: WorkBar
) -> None:
    """Read in a worker what is shown afterwards; napari is made ready for its layers there, too."""

    def job(progress: Progress, cancelled: Cancelled) -> C:
        _load_ahead()
        return read(progress, cancelled)

    work.start(title, job, done, at_once=True)


def _load_ahead() -> None:
    """Load what napari loads with the first image, mask and turn of the canvas, which would hold the window for a
    quarter of a second each."""
    import pandas
    import pint
    from scipy.spatial.transform import Rotation

    _ = pandas, Rotation, pint.application_registry.mm


def show_one_by_one(viewer: ViewerModel, data: Sequence[LayerData], work: WorkBar) -> None:
    """Add layers, one in each turn of the event loop, so that the window stays usable; Cancel removes them again."""
    _one_by_one(viewer, data, lambda now, item: verbs.add_layers(now, [item])[0], work)


def _one_by_one(
    viewer: ViewerModel,
    items: Sequence[T],
    show: Callable[[ViewerModel, T], Layer | None],
    work: WorkBar,
    finish: Callable[[ViewerModel, list[Layer]], None] | None = None,
) -> None:
    weak = ref(real(viewer))
    added: list[Layer] = []
    front = verbs.patient_in_front(viewer)
    pieces = pieces_of(viewer)

    def add(item: T) -> None:
        alive = weak()
        layer = None if alive is None else guarded("Showing an image", lambda: show(alive, item))
        if layer is not None:
            added.append(layer)

    def done(cancelled: bool) -> None:
        alive = weak()
        if alive is None:
            return
        if not cancelled:
            if finish is not None:
                with warned():
                    guarded("Opening", lambda: finish(alive, added))
            return
        for layer in added:
            if layer in alive.layers:
                alive.layers.remove(layer)
        if front is not None:
            verbs.bring_to_front(alive, front)
        show_info(f"{work.title}: cancelled, nothing was changed.")

    work.each(work.title, items, add, done, ready=lambda: pieces is None or pieces.done)


def asked_in_the_window() -> bool:
    """Whether napari reads a file because it was dropped on the window, or chosen in the File menu.

    A script, or the console, that calls ``viewer.open`` expects its layers when the call returns, while a person does
    not wait for a call. napari does not tell a reader which it is, so that the call stack is examined; if napari
    changes it, everything opens as for a script.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "_qt_open" and str(frame.f_globals.get("__name__")).startswith("napari._qt"):
            return True
        frame = frame.f_back
    return False
