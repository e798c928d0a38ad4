"""*Study*: the patients, visits and series that are open; what to load is ticked first, one patient is in front,
sessions are saved."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_warning
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QMessageBox,
    QPushButton,
    QTreeWidgetItem,
    QWidget,
)

import napari
from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import ShortBox, follow_layers, scrolled, wrapped
from napari_medseq._napari.controls.parts import set_enabled
from napari_medseq._napari.gone import connect_until_destroyed
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded
from napari_medseq._napari.study_tree import DATE, ROLE, StudyTree, add_row, add_visit_row, shape, short_name, what
from napari_medseq._napari.window.opening import (
    open_result_in_job,
    open_session_in_job,
    show_one_by_one,
    start_reading,
)
from napari_medseq._napari.window.saving import save_masks_in_job
from napari_medseq._napari.window.services import accompany
from napari_medseq.errors import MedseqError
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.sequence import Study, Visit
from napari_medseq.viewer.layers.conversion import LayerData, layer_kind
from napari_medseq.viewer.layers.studies import facts_of, patient_and_visit, series_name, studies_in
from napari_medseq.viewer.opening import load_ticked

if TYPE_CHECKING:
    from napari.layers import Layer

_HINT = "Open a study folder: its visits and series are listed first, and only what you tick is loaded."
_OPEN = (
    "Click a patient to bring it in front, a visit to go there; tick a series to show it; double-click a date to correct it; drag a "
    "visit to another place, or a series to another visit."
)
_UP = "Show the chosen visit, which has no date, one place earlier (Alt+Up in the tree, or drag it)"
_DOWN = "Show the chosen visit, which has no date, one place later (Alt+Down in the tree, or drag it)"
_NAMED = 4  # files that a question names


class StudyWidget(QWidget):  # type: ignore[misc]
    """The dock widget.

    Attributes
    ----------
    listed : list of Study
        The patients of a folder that was looked into and is not loaded yet.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        accompany(napari_viewer)
        self.listed: list[Study] = []
        self._filling = False
        self._tips: dict[QPushButton, str] = {}
        self._build()
        follow_layers(napari_viewer, self._update)
        connect_until_destroyed(napari_viewer.dims.events.point, self._mark)
        connect_until_destroyed(napari_viewer.events.title, self._mark)  # which names the patient in front
        connect_until_destroyed(verbs.editing_of(napari_viewer).events.changed, self._edited)

    def _build(self) -> None:
        self.open_button = self._button(
            "Open folder …", "List the visits and series of a folder; nothing is loaded yet", self._ask_folder
        )
        self.load_button = self._button("Load ticked", "Load the ticked series of the folder", self.load)
        self.recent = ShortBox()
        self.recent.setToolTip("Open a session: images, masks, results, corrections and view as they were saved")
        self.recent.activated.connect(self._recent_chosen)
        self.tree = StudyTree()
        self.tree.visit_moved.connect(self.move_visit)
        self.tree.layer_assigned.connect(self.assign)
        self.tree.currentItemChanged.connect(self._mark)
        self.tree.itemClicked.connect(self._clicked)
        self.tree.itemChanged.connect(self._changed)
        self.save_button = self._button(
            "Save session …", "A folder that brings back everything as it is now", self._ask_save
        )
        self.masks_button = self._button(
            "Save masks …", "The masks of the patient in front, a folder per visit", self._ask_masks
        )
        self.up_button = self._button("Visit up", _UP, lambda: self._move_chosen(-1))
        self.down_button = self._button("Visit down", _DOWN, lambda: self._move_chosen(1))
        self.visit_button = self._button(
            "Add a visit …", "Open a folder as the next visit of the patient in front", self._ask_visit
        )
        self.close_button = self._button(
            "Close patient",
            "Remove the layers of the patient in front; asks first if something is not saved",
            self.close_front,
        )
        self.work = WorkBar()
        self.note = wrapped(_HINT)
        layout = scrolled(self)
        for row in ((self.open_button, self.load_button), (self.recent,)):
            line = QHBoxLayout()
            for widget in row:
                line.addWidget(widget, 1)
            layout.addLayout(line)
        layout.addWidget(self.work)
        layout.addWidget(self.note)
        layout.addWidget(self.tree, 1)
        order = QHBoxLayout()
        for widget in (self.up_button, self.down_button):
            order.addWidget(widget, 1)
        layout.addLayout(order)
        last = QHBoxLayout()
        for widget in (self.save_button, self.masks_button):
            last.addWidget(widget, 1)
        layout.addLayout(last)
        further = QHBoxLayout()
        for widget in (self.visit_button, self.close_button):
            further.addWidget(widget, 1)
        layout.addLayout(further)
        self.work.busy_changed.connect(self._mark)

    def _button(self, text: str, tip: str, action: Callable[[], object]) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tip)
        self._tips[button] = tip
        button.clicked.connect(lambda: guarded(text.removesuffix(" …"), action))
        return button

    # -- opening -------------------------------------------------------------------------------------------------------
    def _ask_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Study folder")
        if folder:
            self.look_into(folder)

    def look_into(self, folder: str) -> None:
        """List a folder's patients, visits and series from headers, so that they can be ticked and loaded."""
        if verbs.is_session(folder):
            open_session_in_job(self.viewer, Path(folder), self.work)
            return

        def job(progress: Progress, cancelled: Cancelled) -> list[Study]:
            return verbs.open_patients(folder, lazy=True, progress=progress, cancelled=cancelled)

        def done(studies: list[Study]) -> None:
            self.listed = studies
            count = sum(len(v.images) + len(v.labels) for s in studies for v in s.visits)
            of = f" of {len(studies)} patients" if len(studies) > 1 else ""
            self.note.setText(f"{count} series{of} in {Path(folder).name}. Tick what to load, then Load ticked.")
            self._update()

        self.work.start("Looking into the folder", job, done, at_once=True)

    def load(self) -> None:
        """Load what is ticked; layers are added one by one, and the window stays usable."""
        chosen = [study for study in (self._ticked(k) for k in range(len(self.listed))) if study.visits]
        if not chosen:
            raise MedseqError("Nothing is ticked. Tick the series to load.")

        taken = studies_in(self.viewer.layers)

        def job(progress: Progress, cancelled: Cancelled) -> list[LayerData]:
            return load_ticked(chosen, taken=taken, progress=progress, cancelled=cancelled)

        def done(data: list[LayerData]) -> None:
            self.listed = []
            self.note.setText("")
            show_one_by_one(self.viewer, data, self.work)

        start_reading("Loading", job, done, self.work)

    def _ticked(self, number: int) -> Study:
        """The ticked series of a listed patient."""
        study = self.listed[number]
        ticked = {
            item.data(0, ROLE)[2:]
            for item in self.tree.rows()
            if item.data(0, ROLE)[:2] == ("listed", number) and item.checkState(0) == Qt.Checked
        }
        visits = []
        for k, visit in enumerate(study.visits):
            images = tuple(s for j, s in enumerate(visit.images) if (k, "image", j) in ticked)
            labels = tuple(s for j, s in enumerate(visit.labels) if (k, "labels", j) in ticked)
            if images or labels:
                visits.append(Visit(visit.date, images, labels, visit.name))
        return Study(study.name, tuple(visits), study.warnings)

    # -- the tree ------------------------------------------------------------------------------------------------------
    def _update(self, _event: object = None) -> None:
        """List what can be loaded and what is open."""
        self._filling = True
        chosen, self._listing = self.tree.role(), self._arrangement()
        self.tree.clear()
        for number, study in enumerate(self.listed):
            self._list(number, study)
        for name in studies_in(self.viewer.layers):
            self._show(name, [layer for layer in self.viewer.layers if facts_of(layer).get("study") == name])
        self._show_free()
        self.tree.expandAll()
        self.tree.choose(chosen)
        self.tree.setIndentation(12)
        self._filling = False
        if not self.listed:
            self.note.setText(_OPEN if self.tree.topLevelItemCount() else _HINT)
        self._list_recent()
        self._mark()

    def _list(self, number: int, study: Study) -> None:
        top = add_row(self.tree, study.name, "to load", "; ".join((*study.warnings, *study.dropped)))
        top.setFlags(top.flags() | Qt.ItemIsAutoTristate)  # its tick is that of all below it
        for k, visit in enumerate(study.visits):
            branch = add_visit_row(top, k, len(study.visits), str(visit.date or ""), visit.name)
            branch.setFlags(branch.flags() | Qt.ItemIsAutoTristate)
            for kind, part in (("image", visit.images), ("labels", visit.labels)):
                for j, seq in enumerate(part):
                    item = add_row(
                        branch,
                        series_name({"study": study.name, "visit_name": visit.name, "name": seq.name}),
                        "",
                        what(seq),
                    )
                    item.setData(0, ROLE, ("listed", number, k, kind, j))
                    # one patient, until more are asked for
                    item.setCheckState(0, Qt.Unchecked if number else Qt.Checked)
                    item.setToolTip(0, "\n".join(seq.warnings) or seq.name)

    def _show(self, name: str, layers: list[Layer]) -> None:
        top = add_row(self.tree, name, "", "")
        top.setData(0, ROLE, ("patient", name))
        ordinals = sorted({facts_of(layer)["ordinal"] for layer in layers})
        count = 1 + ordinals[-1]
        for ordinal in ordinals:
            at_visit = [layer for layer in layers if facts_of(layer)["ordinal"] == ordinal]
            facts = facts_of(at_visit[0])
            branch = add_visit_row(top, ordinal, count, facts.get("date") or "", str(facts["visit_name"]))
            branch.setData(0, ROLE, ("visit", name, ordinal))
            branch.setFlags(branch.flags() | Qt.ItemIsEditable)
            for layer in at_visit:
                item = add_row(
                    branch, short_name(layer, patient_and_visit(name, str(facts["visit_name"]))), "", shape(layer)
                )
                item.setData(0, ROLE, ("layer", layer.name))
                item.setCheckState(0, Qt.Checked if layer.visible else Qt.Unchecked)
                item.setToolTip(0, "\n".join(facts_of(layer).get("warnings", ())) or layer.name)

    def _arrangement(self) -> list[tuple[str, object, object, object]]:
        """The layers with their visits, as the tree lists them."""
        facts = [(layer.name, facts_of(layer)) for layer in self.viewer.layers]
        return [(name, f.get("study"), f.get("ordinal"), f.get("date")) for name, f in facts]

    def _edited(self, _event: object = None) -> None:
        """After a step, its undo or redo, list the visits again if they were arranged anew."""
        if self._listing != self._arrangement():
            self._update()
        else:
            self._mark()

    def _show_free(self) -> None:
        """List the images and masks that belong to no patient below the patients to whose visits they can be dragged."""
        free = [layer for layer in self.viewer.layers if facts_of(layer).get("study") is None]
        free = [layer for layer in free if layer_kind(layer) in ("image", "labels")]
        if not free or not studies_in(self.viewer.layers):
            return
        top = add_row(self.tree, "of no patient", "", "")
        top.setToolTip(0, "Drag an image or mask to the visit to which it belongs")
        for layer in free:
            item = add_row(top, layer.name, "", shape(layer))
            item.setData(0, ROLE, ("layer", layer.name))
            item.setCheckState(0, Qt.Checked if layer.visible else Qt.Unchecked)

    def _mark(self, _event: object = None) -> None:
        """Show which patient is in front, and what can be done now."""
        front, busy = verbs.patient_in_front(self.viewer), self.work.busy
        root = self.tree.invisibleRootItem()
        for k in range(root.childCount()):
            font = root.child(k).font(0)
            font.setBold(root.child(k).text(0) == front)
            root.child(k).setFont(0, font)
        self._tick_visible()
        self.load_button.setVisible(bool(self.listed))
        self.load_button.setEnabled(bool(self.listed) and not busy)
        self.open_button.setEnabled(not busy)
        anything = any(layer_kind(layer) in ("image", "labels") for layer in self.viewer.layers)
        for button in (self.save_button, self.masks_button, self.visit_button, self.close_button):
            lacking = "" if front is not None else "Open a patient's images first"
            if button is self.save_button:  # a session keeps what belongs to no patient, too
                lacking = "" if anything else "Open an image first"
            set_enabled(button, "A job of this widget runs" if busy else lacking, self._tips[button])
        self._mark_order()
        unsaved = len(verbs.editing_of(self.viewer).unsaved)
        self.save_button.setText("Save session … ●" if unsaved else "Save session …")

    def _mark_order(self) -> None:
        """Enable what moves the chosen visit, and explain what cannot be done."""
        visit = self.tree.visit
        visits = [] if visit is None else self.tree.visits(visit[0])
        for button, tip, end in ((self.up_button, _UP, visits[:1]), (self.down_button, _DOWN, visits[-1:])):
            why = (
                "Click a visit in the tree first"
                if visit is None
                else "It is at that end already"
                if [visit[1]] == end
                else ""
            )
            set_enabled(button, why, tip)

    def _tick_visible(self) -> None:
        """The ticks of open series are what is visible, whoever changed it."""
        filling, self._filling = self._filling, True
        for item in self.tree.rows():
            role = item.data(0, ROLE)
            if role[0] == "layer" and role[1] in self.viewer.layers:
                ticked = Qt.Checked if self.viewer.layers[role[1]].visible else Qt.Unchecked
                if item.checkState(0) != ticked:
                    item.setCheckState(0, ticked)
        self._filling = filling

    def _clicked(self, item: QTreeWidgetItem, _column: int) -> None:
        role = item.data(0, ROLE)
        if role is None:
            return
        if role[0] == "patient":
            verbs.bring_to_front(self.viewer, role[1])
        elif role[0] == "visit":
            verbs.bring_to_front(self.viewer, role[1])
            if "visit" in self.viewer.dims.axis_labels:
                self.viewer.dims.set_point(list(self.viewer.dims.axis_labels).index("visit"), float(role[2]))
        elif role[0] == "layer" and role[1] in self.viewer.layers:
            self.viewer.layers[role[1]].visible = item.checkState(0) == Qt.Checked
            self.viewer.layers.selection.active = self.viewer.layers[role[1]]
        self._mark()

    def _changed(self, item: QTreeWidgetItem, column: int) -> None:
        role = item.data(0, ROLE)
        if self._filling or role is None or role[0] != "visit" or column != DATE:
            return
        guarded("Setting the date", lambda: self._set_date(role[1], role[2], item.text(DATE).strip()))
        QTimer.singleShot(0, self._update)

    def _set_date(self, study: str, ordinal: int, text: str) -> None:
        try:
            day = date.fromisoformat(text) if text else None
        except ValueError:
            raise MedseqError(
                f"{text!r} is not a date; write it as 2020-01-31, or nothing where it is unknown."
            ) from None
        now = verbs.set_visit_date(self.viewer, study, ordinal, day)
        self._arranged(("visit", study, now), study)

    def _move_chosen(self, by: int) -> None:
        if self.tree.visit is not None:
            self.move_visit(*self.tree.visit, by)

    def move_visit(self, study: str, ordinal: int, by: int) -> None:
        """Show a visit `by` places later."""

        def move() -> None:
            now = verbs.move_visit(self.viewer, study, ordinal, by)
            self._arranged(("visit", study, now), study)

        guarded("Moving the visit", move)

    def assign(self, name: str, study: str, ordinal: int) -> None:
        """Let a layer belong to a visit."""

        def give() -> None:
            layer = verbs.assign_visit(self.viewer, self.viewer.layers[name], study, ordinal)
            self._arranged(("layer", layer.name), study)

        guarded("Assigning to a visit", give)

    def _arranged(self, role: tuple[object, ...], study: str) -> None:
        """List the visits as they are now with this row chosen, and say if the result of the patient is outdated."""

        def listed() -> None:
            self._update()
            self.tree.choose(role)

        QTimer.singleShot(0, self, listed)  # the tree may be in the middle of a drop
        followed = verbs.results_of(self.viewer).get(study)
        why = "" if followed is None else verbs.why_outdated(self.viewer, followed)
        if why:
            show_warning(f"{why} The table and plot of {study} are as before; press Follow again in Progression.")

    # -- saving --------------------------------------------------------------------------------------------------------
    def _list_recent(self) -> None:
        self.recent.clear()
        self.recent.addItem("Open session …", None)
        for path in verbs.recent_sessions():
            self.recent.addItem(f"{path.name} ({path.parent})", str(path))

    def _recent_chosen(self, index: int) -> None:
        folder = self.recent.itemData(index) or QFileDialog.getExistingDirectory(self, "Folder of a session or result")
        self.recent.setCurrentIndex(0)
        if folder:
            guarded("Opening", lambda: self._open(folder))

    def _open(self, folder: str) -> None:
        if verbs.is_result(folder):
            open_result_in_job(self.viewer, Path(folder), self.work)
        else:
            open_session_in_job(self.viewer, Path(folder), self.work)

    def _ask_save(self) -> None:
        guardian = accompany(self.viewer)
        if guardian is not None:
            guardian.ask_save(self.work)

    def _ask_masks(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for the masks: the study's own, or another")
        front = verbs.patient_in_front(self.viewer)
        if not folder or front is None:
            return
        snapshot = verbs.take_masks(self.viewer, front)
        there = [str(file) for file in snapshot.masks if (Path(folder) / file).exists()]
        if there:
            named = ", ".join(there[:_NAMED]) + (f" and {len(there) - _NAMED} more" if len(there) > _NAMED else "")
            text = f"{folder} already holds {named}. Replace what is there? It cannot be brought back."
            choices = QMessageBox.Yes | QMessageBox.Cancel
            if QMessageBox.question(self, "Masks are there", text, choices, QMessageBox.Cancel) != QMessageBox.Yes:
                return
        save_masks_in_job(self.viewer, snapshot, Path(folder), self.work)

    def _ask_visit(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of the visit")
        front = verbs.patient_in_front(self.viewer)
        if folder and front is not None:
            self.add_visit(front, folder)

    def close_front(self) -> None:
        """Remove the patient in front, once it is saved or given up; the next one comes to the front."""
        front, editing = verbs.patient_in_front(self.viewer), verbs.editing_of(self.viewer)
        if front is None:
            return
        names = ", ".join(sorted(layer.name for layer in editing.unsaved if facts_of(layer).get("study") == front))
        if names:
            text = f"Painting or corrections in {names} are not saved. Close {front} all the same?"
            choices = QMessageBox.Discard | QMessageBox.Cancel
            if QMessageBox.question(self, "Not saved", text, choices, QMessageBox.Cancel) != QMessageBox.Discard:
                return
        verbs.close_patient(self.viewer, front)
        others = studies_in(self.viewer.layers)
        if others and verbs.patient_in_front(self.viewer) is None:
            verbs.bring_to_front(self.viewer, others[-1])

    def add_visit(self, study: str, folder: str) -> None:
        """Open a folder as the next visit of a patient; layers are added one by one."""
        ordinal = verbs.next_ordinal(self.viewer, study)

        def job(progress: Progress, cancelled: Cancelled) -> list[LayerData]:
            return verbs.read_visit(study, ordinal, folder, progress=progress, cancelled=cancelled)

        def done(data: list[LayerData]) -> None:
            verbs.put_onto_slider(self.viewer, study)
            show_one_by_one(self.viewer, data, self.work)

        start_reading(f"Opening {Path(folder).name}", job, done, self.work)
