"""*Compare*: visits side by side, three planes, and the change between two visits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QListWidget, QListWidgetItem, QPushButton, QWidget

import napari
from napari_medseq import viewer as verbs
from napari_medseq._napari.compare.carry_box import CarryBox
from napari_medseq._napari.compare.overlay_box import OverlayBox
from napari_medseq._napari.compare.panes_screen import PanesScreen, put_on_screen
from napari_medseq._napari.controls.choosers import (
    CollapsibleSection,
    ShortBox,
    follow_layers,
    scrolled,
    ticked_list,
    wrapped,
)
from napari_medseq._napari.controls.parts import choice, set_enabled
from napari_medseq._napari.gone import connect_until_destroyed
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded
from napari_medseq._napari.window.services import accompany
from napari_medseq.errors import MedseqError
from napari_medseq.viewer.visits.changes import is_current

if TYPE_CHECKING:
    from napari.layers import Labels, Layer

    from napari_medseq.viewer import Panes

_PLACING = {
    "by registration, else as they lie": "auto",
    "by registration": "registered",
    "as they lie": "as they lie",
    "middles together": "centres",
}
_WINDOWS = {"grey levels go together": "alike", "equal grey levels": "equal", "grey levels apart": "free"}


class CompareWidget(QWidget):  # type: ignore[misc]
    """The dock widget.

    Attributes
    ----------
    screen : PanesScreen or None
        The panes that are on the screen.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.screen: PanesScreen | None = None
        self._exams: list[list[Layer]] = []
        self._map: Labels | None = None
        accompany(napari_viewer)
        self.visits: QListWidget = ticked_list(
            "The visits to show side by side: two to six. What is painted in a pane is painted in that visit's mask"
        )
        self.visits.itemChanged.connect(lambda _item: self._mark())
        self.placing = choice(_PLACING, "How a place at one visit is found at another")
        self.windows = choice(
            _WINDOWS,
            "What happens to the other visits when you change the contrast of one. CT and PET have equal limits; the scale of MR differs "
            "between scans, so each image keeps its own limits and is brightened by the same share",
        )
        self.side_button = self._button("Side by side", self.open_side_by_side)
        self.planes_button = self._button("Three planes", self.open_planes)
        self.one_button = self._button("One canvas", self.close_panes)
        self.earlier, self.later = ShortBox(), ShortBox()
        self.earlier.setToolTip("The earlier visit of the two that are compared")
        self.later.setToolTip("The later visit of the two: results are shown there")
        for box in (self.earlier, self.later):
            box.currentIndexChanged.connect(lambda _index: self._mark())
        self.change_button = self._button("Show what changed", self.show_change)
        self.note, self.why = wrapped(), wrapped()
        self._patient: str | None = None
        self._panes_of: str | None = None
        self._soon = QTimer(self)  # one patient goes and the other comes layer by layer
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(lambda: guarded("Side by side", self._follow_front))
        self.work = WorkBar()
        self.carry = CarryBox(napari_viewer, self.work, lambda: self.later.currentData())
        self.over = OverlayBox(napari_viewer, self.work, lambda: self.pair)
        self.over.kept.connect(lambda: guarded("Side by side", self._place_again))
        self._build()
        self.work.busy_changed.connect(lambda _busy: self._mark())
        follow_layers(napari_viewer, self._update)
        # the title changes with the patient in front; following and carrying are steps of editing
        editing = verbs.editing_of(napari_viewer).events.changed
        for event in (napari_viewer.events.title, napari_viewer.layers.selection.events.active, editing):
            connect_until_destroyed(event, self._update)

    def _build(self) -> None:
        layout = scrolled(self)
        layout.addWidget(self.visits)
        form = QFormLayout()
        form.addRow("Place", self.placing)
        form.addRow("Contrast", self.windows)
        layout.addLayout(form)
        row = QHBoxLayout()
        for button in (self.side_button, self.planes_button, self.one_button):
            row.addWidget(button, 1)
        layout.addLayout(row)
        pair = QFormLayout()
        pair.addRow("Earlier", self.earlier)
        pair.addRow("Later", self.later)
        layout.addLayout(pair)
        layout.addWidget(self.change_button)
        layout.addWidget(self.why)
        layout.addWidget(self.note)
        layout.addWidget(CollapsibleSection("One over the other; alignment", self.over))
        layout.addWidget(CollapsibleSection("Carry a mask on", self.carry))
        layout.addWidget(self.work)
        layout.addStretch(1)

    def _button(self, text: str, action: Callable[[], object]) -> QPushButton:
        button = QPushButton(text)
        button.clicked.connect(lambda: guarded(text, action))
        return button

    # -- what can be done ----------------------------------------------------------------------------------------------
    def _update(self, _event: object = None) -> None:
        """List the visits of the patient in front."""
        titles = verbs.visits_open(self.viewer)
        self._exams = [] if titles else verbs.exams_open(self.viewer)
        titles = titles or {k: exam[0].name for k, exam in enumerate(self._exams)}
        listed = {self.visits.item(k).data(Qt.UserRole): self.visits.item(k).text() for k in range(self.visits.count())}
        if listed != titles:
            self._list(titles)
        if self._map is not None and not is_current(self.viewer, self._map):
            self._map = None  # it was removed, or the result was corrected since
            self.note.clear()
        if self.panes is not None and self._panes_of != verbs.patient_in_front(self.viewer):
            self._soon.start()
        self._mark()

    def _list(self, titles: dict[int, str]) -> None:
        front = verbs.patient_in_front(self.viewer)
        # another patient's ticks are none of this one's
        rows = range(self.visits.count()) if front == self._patient else ()
        ticked, known = set(self.chosen), [self.visits.item(k).data(Qt.UserRole) for k in rows]
        if front != self._patient:
            self.note.clear()  # what changed in another patient
        self._patient = front
        self.visits.blockSignals(True)
        self.visits.clear()
        for ordinal, title in titles.items():
            item = QListWidgetItem(title)
            item.setData(Qt.UserRole, ordinal)
            item.setFlags(Qt.ItemIsEnabled | Qt.ItemIsUserCheckable | Qt.ItemIsSelectable)
            first = ordinal in list(titles)[: verbs.MOST_PANES]
            item.setCheckState(Qt.Checked if (ordinal in ticked if ordinal in known else first) else Qt.Unchecked)
            self.visits.addItem(item)
        self.visits.blockSignals(False)
        for box, default in ((self.earlier, 0), (self.later, len(titles) - 1)):
            before = box.currentData()
            box.blockSignals(True)
            box.clear()
            for ordinal, title in titles.items():
                box.addItem(title, ordinal)
            # visits of a study come one by one: the last one stays the later one
            chosen = before in titles and before in known and (box is self.earlier or before != known[-1])
            box.setCurrentIndex(box.findData(before) if chosen else default)
            box.blockSignals(False)

    def _mark(self) -> None:
        """Enable what can be done now, and explain what cannot."""
        chosen = self.chosen
        count = f"Tick two to {verbs.MOST_PANES} visits first" if not 2 <= len(chosen) <= verbs.MOST_PANES else ""
        none = "" if self.visits.count() else "Open a study with several visits first"
        alone = "These exams belong to no patient's study: assign them to visits first (Study)" if self._exams else ""
        set_enabled(self.side_button, none or count, "Show the ticked visits beside one another, linked")
        names = {str(a) for a in self.viewer.dims.axis_labels}
        flat = "" if {"z", "y", "x"} <= names and len(self.viewer.layers) else "Open a volume first"
        set_enabled(
            self.planes_button, flat, "Axial, coronal and sagittal plane; a click in one brings the others there"
        )
        set_enabled(self.one_button, "" if self.panes else "One canvas is shown already", "Back to one canvas")
        pair = "" if self.order_is_right else "Choose an earlier and a later visit first"
        followed = "" if self._is_followed else "Follow the lesions first (Progression)"
        tip = "A layer with what is new, gone, grown and shrunk since the earlier visit"
        set_enabled(self.change_button, none or alone or pair or followed, tip)
        self.why.setText(
            "" if none else next((f"What changed: {w[0].lower()}{w[1:]}." for w in (alone, pair, followed) if w), "")
        )
        self.why.setVisible(bool(self.why.text()))
        self.carry.mark()
        self.over.mark(none or alone or pair)

    @property
    def chosen(self) -> list[int]:
        """The ordinals of the ticked visits."""
        items = [self.visits.item(k) for k in range(self.visits.count())]
        return [int(item.data(Qt.UserRole)) for item in items if item.checkState() == Qt.Checked]

    @property
    def panes(self) -> Panes | None:
        """The panes that are open; None if there are none."""
        return verbs.panes_of(self.viewer)

    @property
    def order_is_right(self) -> bool:
        """Whether an earlier and a later visit are chosen."""
        first, last = self.earlier.currentData(), self.later.currentData()
        return first is not None and last is not None and first < last

    @property
    def _is_followed(self) -> bool:
        return verbs.patient_in_front(self.viewer) in verbs.results_of(self.viewer)

    @property
    def pair(self) -> tuple[int, int]:
        """The two visits that are compared.

        Raises
        ------
        MedseqError
            If none are chosen, or not in that order.
        """
        if not self.order_is_right:
            raise MedseqError("Choose an earlier and a later visit of one patient first.")
        return int(self.earlier.currentData()), int(self.later.currentData())

    # -- panes ---------------------------------------------------------------------------------------------------------
    def open_side_by_side(self) -> None:
        """Show the ticked visits side by side."""
        options = {"placing": self.placing.currentData(), "windows": self.windows.currentData()}
        if self._exams:
            panes = verbs.side_by_side(self.viewer, exams=[self._exams[k] for k in self.chosen], **options)
        else:
            panes = verbs.side_by_side(self.viewer, self.chosen, **options)
        self.screen = put_on_screen(self.viewer, panes)
        self._panes_of = verbs.patient_in_front(self.viewer)
        self._mark()

    def _follow_front(self) -> None:
        """Panes of a patient who is no longer in front become those of the one who is; one canvas where that one has too few visits."""
        panes, front = self.panes, verbs.patient_in_front(self.viewer)
        if panes is None or self._panes_of == front:
            return
        self.close_panes()
        if front is not None and panes.kind != "visits":
            self.open_planes()
        elif front is not None and 2 <= len(self.chosen) <= verbs.MOST_PANES:
            self.open_side_by_side()

    def _place_again(self) -> None:
        """Place visits that are side by side by the alignment that a person has just made."""
        if self.panes is not None and self.panes.kind == "visits":
            self.open_side_by_side()

    def open_planes(self) -> None:
        """Show three planes."""
        self.screen = put_on_screen(self.viewer, verbs.orthogonal(self.viewer))
        self._panes_of = verbs.patient_in_front(self.viewer)
        self._mark()

    def close_panes(self) -> None:
        """Show one canvas again."""
        verbs.close_panes(self.viewer)
        self.screen = None
        self._mark()

    # -- change --------------------------------------------------------------------------------------------------------
    def show_change(self) -> None:
        """Show the change between the two visits, and go to the later one."""
        earlier, later = self.pair
        layer = verbs.show_change(self.viewer, earlier, later, study=verbs.patient_in_front(self.viewer))
        names = [str(a) for a in self.viewer.dims.axis_labels]
        if "visit" in names:
            self.viewer.dims.set_point(names.index("visit"), float(later))
        self._map = layer
        self.note.setText(verbs.change_in_words(layer))
