"""The part of *Compare* that shows one visit's image over another's, and displays and corrects their alignment."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QDoubleSpinBox, QFormLayout, QHBoxLayout, QPushButton, QSlider, QVBoxLayout, QWidget

from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import wrapped
from napari_medseq._napari.controls.parts import choice, set_enabled
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded
from napari_medseq.errors import MedseqError
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.registration import Transform, register

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_medseq.viewer import Overlaid, Overlay

_MODES = {
    "checkerboard": "checkerboard",
    "curtain": "curtain",
    "difference (later − earlier)": "difference",
    "blink": "blink",
    "fade": "fade",
}
#: time for which each of the two images is shown while they blink
BLINK_MS = 600
_TILES_MM = (5.0, 60.0)
_AXES = ("right", "anterior", "superior")


class OverlayBox(QWidget):  # type: ignore[misc]
    """Shows an overlay of the two visits that `pair` gives, moves it, and keeps its alignment."""

    kept = Signal()

    def __init__(self, viewer: ViewerModel, work: WorkBar, pair: Callable[[], tuple[int, int]]) -> None:
        super().__init__()
        self.viewer, self.work, self._pair = viewer, work, pair
        self.why_not = ""
        self.mode = choice(_MODES, "How the two images are put together, at the later visit")
        self.slider = QSlider(Qt.Horizontal)
        self.slider.setRange(0, 100)
        self.slider.setValue(50)
        self.show_button = self._button("Lay over", "Laying over", self.show_overlay)
        self.close_button = self._button("Take away", "Taking away", self.take_away)
        self.measure = wrapped()
        self.shifts = [self._spin(f"Move the earlier image to the patient's {a}", 1.0, " mm") for a in _AXES]
        self.turns = [self._spin(f"Turn the earlier image about the axis to the {a}", 1.0, "°") for a in _AXES]
        self.search_button = self._button("Register", "Registering", self.register)
        self.landmarks_button = self._button("Set landmarks", "Landmarks", self.set_landmarks)
        self.align_button = self._button("Align by them", "Aligning", self.align)
        self.back_button = self._button("Put back", "Putting back", self.put_back)
        self.keep_button = self._button("Keep this alignment", "Keeping", self.keep)
        self.timer = QTimer(self)
        self.timer.setInterval(BLINK_MS)
        self.timer.timeout.connect(self._blink)
        self._later = QTimer(self)  # not at each step of a slider or spin box, but when it stops
        self._later.setSingleShot(True)
        self._later.setInterval(80)
        self._later.timeout.connect(lambda: guarded("Moving", self._apply))
        self._build()
        self.mode.currentIndexChanged.connect(lambda _index: guarded("Showing", self._mode_chosen))
        self.slider.valueChanged.connect(lambda _value: self._later.start())
        self._filling = False

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        form = QFormLayout()
        form.addRow("As", self.mode)
        form.addRow("Amount", self.slider)
        layout.addLayout(form)
        layout.addLayout(_row(self.show_button, self.close_button))
        layout.addWidget(self.measure)
        moved = QFormLayout()
        moved.setRowWrapPolicy(QFormLayout.WrapLongRows)
        moved.addRow("Shift R, A, S", _wide(self.shifts))
        moved.addRow("Turn R, A, S", _wide(self.turns))
        layout.addLayout(moved)
        layout.addLayout(_row(self.search_button, self.landmarks_button, self.align_button))
        layout.addLayout(_row(self.back_button, self.keep_button))

    def _button(self, text: str, doing: str, action: Callable[[], object]) -> QPushButton:
        button = QPushButton(text)
        button.clicked.connect(lambda: guarded(doing, action))
        return button

    def _spin(self, tip: str, step: float, unit: str) -> QDoubleSpinBox:
        box = QDoubleSpinBox()
        box.setRange(-300, 300)
        box.setDecimals(1)
        box.setSingleStep(step)
        box.setSuffix(unit)
        box.setMinimumWidth(60)
        box.setToolTip(tip)
        box.valueChanged.connect(lambda _value: None if self._filling else self._later.start())
        return box

    @property
    def overlay(self) -> Overlay | None:
        """The overlay that is shown; None if there is none."""
        return verbs.overlay_of(self.viewer)

    def mark(self, why_not: str) -> None:
        """Enable what can be done now; `why_not` tells why no pair of visits is chosen."""
        self.why_not = why_not
        busy = "Another job runs" if self.work.busy else ""
        overlay = self.overlay
        none = "" if overlay is not None else "Lay one visit over the other first"
        set_enabled(
            self.show_button,
            why_not or busy,
            "The earlier visit's image over the later one, aligned, grey levels matched",
        )
        set_enabled(self.close_button, none, "Take the overlay away; the alignment stays as it was kept")
        tips = {
            "checkerboard": "Size of the tiles",
            "curtain": "Where the curtain hangs",
            "fade": "How much of the earlier image is seen",
        }
        unused = "" if self.mode.currentData() in tips else "There is nothing to set for this way of showing"
        set_enabled(self.slider, unused, tips.get(str(self.mode.currentData()), ""))
        for box in (*self.shifts, *self.turns):
            box.setEnabled(overlay is not None)
        tip = "Search how the two lie to each other (rigid), however near they are already"
        set_enabled(self.search_button, none or busy, tip)
        set_enabled(
            self.landmarks_button,
            why_not,
            "A layer of points at each of the two visits: mark the same places in both, in order",
        )
        pairs = none or (
            "" if verbs.landmark_pairs(self.viewer) else "Mark the same places at both visits first (Set landmarks)"
        )
        set_enabled(self.align_button, pairs, "Bring the landmarks of the two visits onto each other, rigidly")
        moved = none or ("" if overlay is not None and overlay.is_changed else "Nothing was moved")
        set_enabled(self.back_button, moved, "As it lay before")
        tip = "Kept with the session and the result; lesions that are followed again are matched by it. Masks are never warped"
        set_enabled(self.keep_button, moved, tip)
        if overlay is None:
            self.timer.stop()
            self.measure.setText("")

    # -- showing -------------------------------------------------------------------------------------------------------
    def show_overlay(self) -> None:
        """Show the earlier image over the later one, in a job, because the two may have to be registered."""
        earlier, later = self._pair()
        job = verbs.overlay_job(self.viewer, earlier, later, study=verbs.patient_in_front(self.viewer))

        def work(progress: Progress, cancelled: Cancelled) -> Overlaid:
            return verbs.prepare_overlay(job, progress=progress, cancelled=cancelled)

        def done(overlaid: Overlaid) -> None:
            verbs.show_overlay(self.viewer, overlaid, self.mode.currentData())
            self._zero()
            self._mode_chosen()

        self.work.start("Laying one visit over the other", work, done)

    def take_away(self) -> None:
        """Remove the overlay."""
        verbs.close_overlay(self.viewer)
        self.mark(self.why_not)

    def _mode_chosen(self) -> None:
        overlay = self.overlay
        if overlay is not None:
            overlay.mode = self.mode.currentData()
            self._share()
            self._tell()
        if overlay is not None and self.mode.currentData() == "blink":
            self.timer.start()
        else:
            self.timer.stop()
        self.mark(self.why_not)

    def _blink(self) -> None:
        overlay = self.overlay
        if overlay is None:
            self.timer.stop()
        else:
            overlay.blink()

    def _share(self) -> None:
        overlay, share = self.overlay, self.slider.value() / 100
        if overlay is not None and overlay.mode == "checkerboard":
            overlay.set_tile(_TILES_MM[0] + share * (_TILES_MM[1] - _TILES_MM[0]))
        elif overlay is not None:
            overlay.set_share(share)

    # -- the alignment -------------------------------------------------------------------------------------------------
    def _apply(self) -> None:
        overlay = self.overlay
        if overlay is None:
            return
        values = [box.value() for box in (*self.shifts, *self.turns)]
        if any(values) or self._nudged:
            overlay.nudge(values[:3], values[3:])
            self._nudged = any(values)
        self._share()
        self._tell()
        self.mark(self.why_not)

    _nudged = False

    def _zero(self) -> None:
        self._filling = True
        for box in (*self.shifts, *self.turns):
            box.setValue(0)
        self._filling, self._nudged = False, False

    def _tell(self) -> None:
        overlay = self.overlay
        self.measure.setText("" if overlay is None else overlay.measure_in_words())

    def register(self) -> None:
        """Register the two images rigidly, even if they are aligned already."""
        overlay = self.overlay
        if overlay is None:
            raise MedseqError("Lay one visit over the other first.")
        job = overlay.job

        def work(progress: Progress, cancelled: Cancelled) -> Transform:
            return register(job.moving, job.fixed, progress=progress, cancelled=cancelled)

        def done(transform: Transform) -> None:
            if self.overlay is overlay:
                overlay.take(transform)
                self._zero()
                self._tell()
            self.mark(self.why_not)

        self.work.start("Registering", work, done)

    def set_landmarks(self) -> None:
        """Add layers of points, one per visit."""
        earlier, later = self._pair()
        verbs.new_landmarks(self.viewer, earlier, later)
        self.mark(self.why_not)

    def align(self) -> None:
        """Align the images by the landmarks that are marked."""
        overlay, pairs = self.overlay, verbs.landmark_pairs(self.viewer)
        if overlay is None or pairs is None:
            raise MedseqError("Lay one visit over the other, and mark the same places at both, first.")
        residual_mm = overlay.align_by_landmarks(*pairs)
        self._zero()
        self._tell()
        self.measure.setText(
            f"Landmarks are {residual_mm:.1f} mm apart (root mean square of {len(np.asarray(pairs[0]))}); {self.measure.text()}"
        )
        self.mark(self.why_not)

    def put_back(self) -> None:
        """Restore the alignment with which the overlay was opened."""
        overlay = self.overlay
        if overlay is not None:
            overlay.put_back()
            self._zero()
            self._tell()
        self.mark(self.why_not)

    def keep(self) -> None:
        """Keep the alignment."""
        overlay = self.overlay
        if overlay is not None:
            overlay.keep()
            self._zero()
            self._tell()
            self.kept.emit()
        self.mark(self.why_not)


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget, 1)
    return row


def _wide(boxes: list[QDoubleSpinBox]) -> QWidget:
    holder = QWidget()
    row = _row(*boxes)
    row.setContentsMargins(0, 0, 0, 0)
    holder.setLayout(row)
    return holder
