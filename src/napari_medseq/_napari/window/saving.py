"""Saving in the background: what is open is copied at one moment, a worker writes the copy, and later painting stays
unsaved."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet, ref

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QFileDialog, QWidget

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.gone import WhenGone
from napari_medseq._napari.jobs.work import LOOK_AGAIN_MS, WorkBar, mouse_is_held
from napari_medseq._napari.notifications import guarded, tell
from napari_medseq.errors import MedseqError
from napari_medseq.io.naming import untaken
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.sequence import ImageSequence
from napari_medseq.viewer.layers.conversion import from_layer
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

Written = TypeVar("Written")

_ENDINGS = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".dcm")
_LABELS_ONLY = ";;3D Slicer (*.seg.nrrd);;DICOM SEG (*.dcm)"
_FILES = f"NIfTI (*.nii.gz *.nii);;NRRD (*.nrrd);;MetaImage (*.mha){_LABELS_ONLY}"
#: time between two autosaves
AUTOSAVE_MS = 60_000

#: progress bars of what is, or was, being saved
_BARS: WeakSet[WorkBar] = WeakSet()


def is_saving() -> bool:
    """Whether a session or masks are being written, which closing the window now would interrupt."""
    return any(bar.busy for bar in _BARS)


def save_session_in_job(
    viewer: ViewerModel, folder: Path, work: WorkBar, on_saved: Callable[[], object] = lambda: None
) -> bool:
    """Save the session as it is now; Cancel leaves the previous one. `on_saved` is called when it is saved.

    Returns
    -------
    bool
        Whether the job was started.
    """
    snapshot = verbs.take_session(viewer)

    def finish(alive: ViewerModel, path: Path) -> None:
        verbs.finish_saving(alive, snapshot, path)
        later = "; what changed since is not saved yet" if verbs.editing_of(alive).is_unsaved else ""
        show_info(" ".join(filter(None, (f"The session is saved in {path}{later}.", verbs.not_in_session(snapshot)))))
        on_saved()

    return _save_in_job(viewer, work, "Saving the session", partial(verbs.write_session, snapshot, folder), finish)


def save_masks_in_job(viewer: ViewerModel, snapshot: verbs.TakenMasks, folder: Path, work: WorkBar) -> bool:
    """Save masks that were copied, all or none.

    Returns
    -------
    bool
        Whether the job was started.
    """

    def finish(alive: ViewerModel, files: list[Path]) -> None:
        verbs.editing_of(alive).written(snapshot.changes)
        show_info(f"{how_many(len(files), 'mask')} saved in {folder}.")

    return _save_in_job(viewer, work, "Saving masks", partial(verbs.write_masks, snapshot, folder), finish)


def save_result_in_job(
    viewer: ViewerModel,
    followed: verbs.Followed,
    path: Path,
    work: WorkBar,
    *,
    rules: Sequence[str] | None = None,
    on_saved: Callable[[Path], object] = lambda _path: None,
) -> bool:
    """Save a result as it is now: its folder, or with `rules` its report; `on_saved` is called with the path that was
    written.

    Returns
    -------
    bool
        Whether the job was started.
    """
    snapshot = verbs.take_result(viewer, followed)

    def finish(alive: ViewerModel, written: Path) -> None:
        later = "; what changed since is not in it" if verbs.changed_since(alive, snapshot) else ""
        if rules is None:
            verbs.editing_of(alive).written(snapshot.changes)
        show_info(f"Saved: {written}{later}.")
        on_saved(written)

    title = "Saving the result" if rules is None else "Writing the report"
    return _save_in_job(viewer, work, title, partial(verbs.write_taken_result, snapshot, path, rules=rules), finish)


def ask_save_layer(
    viewer: ViewerModel, layer: Layer, work: WorkBar, parent: QWidget, inside: Sequence[Layer] = ()
) -> bool:
    """Ask for a file and save a mask or an image there as it is now, in its own geometry.

    Layers whose voxels it holds (`inside`) count as saved with it. napari's own dialog offers napari's kinds of files first, and fails
    for the others as long as no other kind is chosen there.

    Returns
    -------
    bool
        Whether the job was started.

    Raises
    ------
    MedseqError
        If the layer is neither a mask nor an image, or an ending was added to the name and there is such a file.
    """
    layer = real(layer)
    seq = from_layer(layer)
    kinds = _FILES if seq.kind == "labels" else _FILES.replace(_LABELS_ONLY, "")
    chosen, _ = QFileDialog.getSaveFileName(parent, f"Save {layer.name}", str(_suggested_file(seq, layer.name)), kinds)
    if not chosen:
        return False
    path = Path(chosen)
    if not path.name.lower().endswith(tuple(_ENDINGS)):
        path = path.with_name(f"{path.name}{_ENDINGS[0]}")
        if path.exists():  # the dialog asked about the name that was typed
            raise MedseqError(
                f"{path} exists already. Type its whole name if it is to be replaced, or choose another one."
            )
    if isinstance(seq.data, np.ndarray):
        seq = seq.replace(data=np.array(seq.data))  # painting may go on
    changes = verbs.editing_of(viewer).unsaved.as_they_are([layer, *map(real, inside)])

    def write(**_whole_or_not_at_all: object) -> Path:
        return ms.write(seq, path)

    def finish(alive: ViewerModel, written: Path) -> None:
        verbs.editing_of(alive).written(changes)
        show_info(f"{layer.name} is saved in {written}.")

    return _save_in_job(viewer, work, f"Saving {layer.name}", write, finish)


def _suggested_file(seq: ImageSequence, name: str) -> Path:
    """A file that does not exist yet beside the one that a layer came from, or in the home folder where that is read-only."""
    source = Path(str(seq.meta.get("source", "")))
    folder = source.parent if source.is_absolute() and os.access(source.parent, os.W_OK) else Path.home()
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    taken = {file.name.casefold() for file in folder.iterdir()}
    return folder / untaken(stem, taken, f"{'_mask' if seq.kind == 'labels' else ''}{_ENDINGS[0]}")


def _save_in_job(
    viewer: ViewerModel,
    work: WorkBar,
    title: str,
    write: Callable[..., Written],
    finish: Callable[[ViewerModel, Written], None],
) -> bool:
    """Let a worker write a copy (`write` takes progress and cancelled), then call `finish` if the viewer still
    exists."""
    weak = ref(real(viewer))

    def job(progress: Progress, cancelled: Cancelled) -> Written:
        return write(progress=progress, cancelled=cancelled)

    def done(written: Written) -> None:
        alive = weak()
        if alive is not None:
            finish(alive, written)

    _BARS.add(work)
    return work.start(title, job, done, at_once=True, writes=True)


class Autosaver(QObject):  # type: ignore[misc]
    """Writes unsaved work each minute, in a thread of its own, independently of other jobs.

    Attributes
    ----------
    timer : QTimer
    """

    failed = Signal(object)

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = ref(viewer)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="medseq-autosave")
        self._last: Future[Path | None] | None = None
        WhenGone(self, partial(self._thread.shutdown, wait=False))
        self.failed.connect(lambda error: tell(error, "Autosave"))
        self.timer = QTimer(self)
        self.timer.setInterval(AUTOSAVE_MS)
        self.timer.timeout.connect(self.begin)
        self.timer.start()

    def begin(self) -> None:
        """Write unsaved work once no mouse button is held, so that no stroke is saved by half."""
        if self._last is not None and not self._last.done():
            return  # the previous autosave is still being written; the next one follows in a minute
        if mouse_is_held():
            QTimer.singleShot(LOOK_AGAIN_MS, self.begin)
            return
        guarded("Autosave", self._submit)

    def finish(self) -> None:
        """Write unsaved work and wait until it is written, because the window closes."""
        if self._last is not None:
            self._last.exception()
        viewer = self._viewer()
        if viewer is not None:
            guarded("Autosave", lambda: verbs.autosave(viewer))

    def _submit(self) -> None:
        viewer = self._viewer()
        snapshot = None if viewer is None else verbs.take_autosave(viewer)
        if snapshot is not None:
            self._last = self._thread.submit(verbs.write_autosave, snapshot)
            self._last.add_done_callback(self._written)

    def _written(self, written: Future[Path | None]) -> None:
        """Called in the thread: errors are shown in the window."""
        error = written.exception()
        if error is not None:
            try:
                self.failed.emit(error)
            except RuntimeError:  # the window is gone
                return
