"""Services for a window: autosave each minute, a question before unsaved painting is closed, and recovery after a
crash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import ref

from napari.utils.notifications import show_info
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import QAbstractButton, QFileDialog, QMainWindow, QMessageBox

from napari_medseq import viewer as verbs
from napari_medseq._napari.jobs.pieces import pieces_of
from napari_medseq._napari.jobs.work import LOOK_AGAIN_MS, WorkBar
from napari_medseq._napari.notifications import guarded
from napari_medseq._napari.window.counting import SliderTexts
from napari_medseq._napari.window.opening import Opener
from napari_medseq._napari.window.saving import Autosaver, is_saving, save_session_in_job
from napari_medseq._napari.window.tabs import tab_newcomers
from napari_medseq.viewer.layers.proxies import real

if TYPE_CHECKING:
    from napari.components import ViewerModel


class Guardian(QObject):  # type: ignore[misc]
    """The services for one window; made by `accompany`.

    Attributes
    ----------
    autosaver : Autosaver
    slider_texts : SliderTexts
        The numbers beside the sliders.
    opener : Opener
        Opens what is dropped on the window.
    offer : QMessageBox or None
        The question whether to recover what a crash left behind, while it is open.
    """

    def __init__(self, viewer: ViewerModel, window: QMainWindow) -> None:
        super().__init__(window)
        self._viewer, self.window = ref(viewer), window
        self.offer: QMessageBox | None = None
        self._left: verbs.Recovery | None = None
        self.autosaver = Autosaver(viewer, self)
        self.opener = Opener(viewer, window)
        self.slider_texts = SliderTexts(viewer, window)
        self._tabs = QTimer(self)  # a new child of the window is not a dock yet when Qt announces it
        self._tabs.setSingleShot(True)
        self._tabs.setInterval(0)
        self._tabs.timeout.connect(self._put_docks_together)
        window.installEventFilter(self)

    @property
    def viewer(self) -> ViewerModel:
        """The viewer of the window."""
        return self._viewer()

    def _put_docks_together(self) -> None:
        tab_newcomers(self.window)

    # -- closing -------------------------------------------------------------------------------------------------------
    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Before the window closes, save unsaved work, and ask the user if there is one."""
        window = getattr(self, "window", None)  # Qt still sends events while the window is being destroyed
        if window is not None and watched is window and event.type() == QEvent.ChildAdded:
            self._tabs.start()
        if window is not None and watched is window and event.type() == QEvent.Close and not self._may_close():
            event.ignore()
            return True
        return False

    def _may_close(self) -> bool:
        if self._viewer() is None:
            return True
        self.autosaver.finish()
        if is_saving():  # the window closes when writing is finished
            QTimer.singleShot(LOOK_AGAIN_MS, self.window.close)
            return False
        unsaved = verbs.editing_of(self.viewer).unsaved
        # a script closes the viewer inside the window first; then nobody is asked, and the next start offers recovery
        inside = self.window.centralWidget()
        if not unsaved or inside is None or not inside.isVisible():
            return True
        names = ", ".join(sorted(layer.name for layer in unsaved))
        text = f"Painting or corrections in {names} are not saved. Save the session before closing?"
        choices = QMessageBox.Save | QMessageBox.Discard | QMessageBox.Cancel
        answer = QMessageBox.question(self.window, "Not saved", text, choices, QMessageBox.Save)
        if answer == QMessageBox.Discard:
            verbs.editing_of(self.viewer).saved()
            self.autosaver.finish()  # nothing is left to be saved
            return True
        if answer == QMessageBox.Save:
            self.ask_save(self.opener.work, self.window.close)  # once it is saved
        return False

    def ask_save(self, work: WorkBar, on_saved: Callable[[], object] = lambda: None) -> None:
        """Ask for a folder and save the session there, with this bar; `on_saved` is called when it is saved."""
        folder, _ = QFileDialog.getSaveFileName(self.window, "Save the session as a folder", _suggested(self.viewer))
        if folder:
            guarded("Saving the session", lambda: save_session_in_job(self.viewer, Path(folder), work, on_saved))

    # -- after a crash -------------------------------------------------------------------------------------------------
    def offer_recovery(self) -> None:
        """If a process ended with unsaved work, offer to open it; the viewer stays usable meanwhile."""
        recoveries = verbs.recoverable()
        if not recoveries:
            return
        latest = recoveries[0]
        box = QMessageBox(self.window)
        box.setWindowTitle("Recover unsaved painting?")
        names = ", ".join(latest.names) or "corrections"
        box.setText(f"napari ended on {latest.saved:%Y-%m-%d at %H:%M} with unsaved work: {names}. Open it again?")
        box.setStandardButtons(QMessageBox.Open | QMessageBox.Discard | QMessageBox.Cancel)
        box.button(QMessageBox.Cancel).setText("Later")
        box.setModal(False)
        box.buttonClicked.connect(self._answered)
        self.offer, self._left = box, latest
        box.show()

    def _answered(self, button: QAbstractButton) -> None:
        box, recoveries = self.offer, self._left
        if box is None or recoveries is None:
            return
        answer = box.standardButton(button)
        self.offer = self._left = None
        box.deleteLater()
        if answer == QMessageBox.Open:
            self.opener.recover(recoveries)
        elif answer == QMessageBox.Discard:
            verbs.discard(recoveries)
        else:
            show_info(f"It stays in {recoveries.folder} and is offered again at the next start.")


def accompany(viewer: ViewerModel) -> Guardian | None:
    """Serve a viewer from now on: slice views, strokes, identity on the canvas, autosave; None if there is no
    window."""
    viewer = real(viewer)
    verbs.sync_slice_views(viewer)
    verbs.describe(viewer)
    verbs.show_values(viewer)
    window = getattr(getattr(viewer, "window", None), "_qt_window", None)
    if window is None:
        return None
    guardian: Guardian | None = window.findChild(Guardian, options=Qt.FindDirectChildrenOnly)
    if guardian is None:
        guardian = Guardian(viewer, window)
        pieces_of(viewer)
        _bind_keys(viewer)
        if window.isVisible():
            guarded("Looking at napari's settings", _offer_to_be_preferred)
        guarded("Looking for unsaved work", guardian.offer_recovery)
    return guardian


def _suggested(viewer: ViewerModel) -> str:
    return f"{verbs.patient_in_front(viewer) or 'session'}.medseq"


def _bind_keys(viewer: ViewerModel) -> None:
    """Bind the keys for the next and previous visit and lesion, and for undo; widgets bind those of their buttons."""
    for key, step, by in (
        ("Alt-Right", verbs.next_visit, 1),
        ("Alt-Left", verbs.next_visit, -1),
        ("Alt-PageDown", verbs.next_lesion, 1),
        ("Alt-PageUp", verbs.next_lesion, -1),
    ):

        def press(_viewer: ViewerModel, step: Callable[[ViewerModel, int], object] = step, by: int = by) -> None:
            guarded("Going on", lambda: step(viewer, by))

        viewer.bind_key(key, press, overwrite=True)
    for key, redo in (("Control-Z", False), ("Control-Shift-Z", True)):  # label layers have them themselves

        def take_back(viewer: ViewerModel, redo: bool = redo) -> None:
            verbs.editing_of(viewer).by_key(redo=redo)

        viewer.bind_key(key, take_back, overwrite=True)


def _offer_to_be_preferred() -> None:
    """Offer once that napari opens folders and medical files with this package without asking each time."""
    from napari.utils.notifications import Notification, NotificationSeverity, notification_manager

    from napari_medseq.files import write_text
    from napari_medseq.viewer.preference import is_preferred, prefer

    marker = verbs.recovery_folder().parent / "asked-about-reader"
    if marker.exists() or is_preferred():
        return

    def settle(_source: object = None) -> None:
        patterns, _ = prefer()
        show_info(
            f"napari opens {len(patterns)} kinds of files and folders with napari-medseq from now on (Preferences → Plugins)."
        )

    class Question(Notification):  # type: ignore[misc]
        """A question whose source is a name, and not the address of an object of napari."""

        source = "napari-medseq"

    note = Question(
        # napari shows the beginning only, until the note is expanded
        "Always open folders with napari-medseq? napari's own reader says 'No files found' to a folder. "
        "Medical files are opened with it as well, without asking.",
        NotificationSeverity.INFO,
        actions=[("Yes, from now on", settle)],
    )
    notification_manager.dispatch(note)
    write_text(marker, "")
