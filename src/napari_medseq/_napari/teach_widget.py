"""*Teach*: paint a few slices, get a model that labels the rest; correct a slice, teach again."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QWidget,
)

import napari
from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import (
    CollapsibleSection,
    LayerBox,
    ShortBox,
    follow_layers,
    scrolled,
    wrapped,
)
from napari_medseq._napari.controls.keys import press_by_keys, with_key
from napari_medseq._napari.gone import connect_until_destroyed
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded
from napari_medseq._napari.teach.hints_box import HintsBox
from napari_medseq._napari.teach.lesson_box import LessonBox
from napari_medseq._napari.teach.more import FOUND, HOW, DifferenceBox, TrainBox, at_visit, has_model
from napari_medseq._napari.window.saving import ask_save_layer
from napari_medseq._napari.window.services import accompany
from napari_medseq.errors import MedseqError
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.viewer.editing.active import shown_visit, visit_of
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.layers.studies import facts_of
from napari_medseq.viewer.visibility import set_visible, show_uncovered

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer
    from napari.utils.events import Event

    from napari_medseq.inference import Segmentation


class TeachWidget(QWidget):  # type: ignore[misc]
    """The dock widget; `answer` is the layer of the last answer."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.answer: Labels | None = None
        self._chosen_for: Image | None = None
        self._known: verbs.Answered | None = None
        self._seen: WeakSet[Labels] = WeakSet()
        self._next: int | None = None
        self._named: WeakSet[Labels] = WeakSet()
        self._visit = shown_visit(napari_viewer)
        self._undone = 0
        accompany(napari_viewer)
        self.work = WorkBar()
        self.outcome = wrapped()
        self._make_choices()
        self._make_buttons()
        self._make_answer_buttons()
        self._bind_keys()
        self._lay_out()
        self._connect()
        self._choose_labels()

    # -- the controls ----------------------------------------------------------------------------------------------------
    def _make_choices(self) -> None:
        """The image, and the labels that are painted on it."""
        self.image = LayerBox(self.viewer, ["image"])
        self.image.begin_with_shown()
        self.image.setToolTip("The image to learn from")
        self.labels = LayerBox(self.viewer, ["labels"])
        self.labels.setToolTip("The label layer in which you painted whole slices of it")
        self.direction = ShortBox()
        self.direction.setToolTip(
            "The slices that you painted, between and beyond which Propagate fills in: found from what is painted, unless you choose"
        )
        self.new_button = QPushButton("New labels on this image")
        self.new_button.clicked.connect(lambda: guarded("New labels", self._new_labels))

    def _make_buttons(self) -> None:
        """*Propagate*, and how."""
        self.propagate_button = QPushButton("Propagate")
        self.propagate_button.setStyleSheet("font-weight: bold; padding: 6px;")
        self.propagate_button.clicked.connect(lambda: guarded("Propagating", self._propagate))
        self.only_between = QCheckBox("interpolate only")
        self.only_between.setToolTip(
            "Fill the slices between painted ones by interpolating their outlines, without the network"
        )

    def _make_answer_buttons(self) -> None:
        """What can be done with an answer, slice by slice and object by object."""
        self.finish_button = QPushButton("Finish object")
        self.finish_button.clicked.connect(lambda: guarded("Finishing an object", self._finish))
        self.next_button = QPushButton()
        self.next_button.clicked.connect(self._look_next)
        self.save_button = QPushButton("Save this mask …")
        self.save_button.clicked.connect(lambda: guarded("Saving", self._save))
        self.right_button = QPushButton("This slice is right")
        self.right_button.clicked.connect(lambda: guarded("Accepting the slice", lambda: self._settle(True)))
        self.empty_button = QPushButton("Nothing is here")
        self.empty_button.clicked.connect(lambda: guarded("Rejecting the slice", lambda: self._settle(False)))

    def _bind_keys(self) -> None:
        keys = {
            "Alt-S": self.propagate_button,
            "Alt-N": self.next_button,
            "Alt-A": self.right_button,
            "Alt-X": self.empty_button,
        }
        press_by_keys(self, self.viewer, keys)

    def _lay_out(self) -> None:
        """Put the controls into the dock, and the sections that are used less often below them."""
        self.train = TrainBox(self.viewer, self.work)
        self.compare = DifferenceBox(self.viewer)
        self.hints = HintsBox(self.viewer, self._both)
        self.lesson = LessonBox(self.work, lambda: self._lesson(whole=True), self._show, self.outcome.setText)
        form = QFormLayout()
        form.addRow("Image", self.image)
        form.addRow("", self.new_button)
        form.addRow("Painted labels", self.labels)
        form.addRow("Direction", self.direction)
        self._form = form
        carry, look = QHBoxLayout(), QHBoxLayout()
        carry.addWidget(self.propagate_button, 1)
        carry.addWidget(self.only_between)
        look.addWidget(self.right_button, 1)
        look.addWidget(self.empty_button, 1)
        layout = scrolled(self)
        layout.addWidget(wrapped(HOW))
        layout.addLayout(form)
        layout.addLayout(carry)
        layout.addWidget(self.work)
        layout.addWidget(self.next_button)
        layout.addLayout(look)
        layout.addWidget(self.finish_button)
        layout.addWidget(self.save_button)
        layout.addWidget(self.outcome)
        layout.addWidget(CollapsibleSection("Start from a box, points or scribbles", self.hints))
        layout.addWidget(self.lesson)
        layout.addWidget(CollapsibleSection("Train on what I painted", self.train))
        layout.addWidget(CollapsibleSection("Compare two masks", self.compare))
        layout.addStretch(1)

    def _connect(self) -> None:
        """Follow what is chosen, and the layers of the viewer."""
        self.work.busy_changed.connect(self._update)
        self.only_between.toggled.connect(lambda _on: self._update())
        for box in (self.image, self.labels):
            box.currentIndexChanged.connect(self._recall)
        self.labels.currentIndexChanged.connect(lambda _index: self.hints.forget())
        self.image.currentIndexChanged.connect(self._choose_labels)
        self.image.activated.connect(self._show_image)
        follow_layers(self.viewer, self._update)
        connect_until_destroyed(self.viewer.layers.events.inserted, self._choose_new)
        connect_until_destroyed(self.viewer.layers.selection.events.active, self._show_painted)
        connect_until_destroyed(self.viewer.layers.selection.events.active, self._name_object)
        connect_until_destroyed(self.viewer.dims.events.point, self._follow_visit)
        connect_until_destroyed(verbs.editing_of(self.viewer).events.changed, self._offer_again)

    def _choose_new(self, event: Event) -> None:
        """Empty labels on the image's grid, wherever they were made, are what is painted in next."""
        layer, image = event.value, self.image.layer
        if layer_kind(layer) != "labels" or image is None or facts_of(layer).get("role") or np.any(layer.data):
            return
        if not verbs.why_not_together(image, layer):
            self.labels.choose(layer)

    def _choose_labels(self, _event: object = None) -> None:
        """Choose the labels of the image's last answer; else labels on its grid, if there are any and the chosen ones are not."""
        image, labels = self.image.layer, self.labels.layer
        before = None if image is None or image == self._chosen_for else verbs.last_answer(self.viewer, image)
        known = None if before is None else verbs.answered(before)
        self._chosen_for = image
        if known is not None:
            self.labels.choose(known.labels())
        elif image is not None and (labels is None or verbs.why_not_together(image, labels)):
            masks = (layer for layer in self.viewer.layers if layer_kind(layer) == "labels")
            fitting = [layer for layer in masks if not verbs.why_not_together(image, layer)]
            if fitting:
                self.labels.choose(fitting[-1])
        self._recall()

    def _show_image(self, _index: int) -> None:
        """Show the image that a person chose."""
        if self.image.layer is not None:
            show_uncovered(self.viewer, self.image.layer)

    def _follow_visit(self, _event: object = None) -> None:
        """When the slider goes to another visit, go on with the same series, and the same mask, there."""
        image, labels, visit = self.image.layer, self.labels.layer, shown_visit(self.viewer)
        if visit == self._visit:
            return
        self._visit = visit
        there, mask = at_visit(self.viewer, image, labels, visit)
        if there is not None:
            self.image.choose(there)
        if mask is not None:
            self.labels.choose(mask)

    def _name_object(self, _event: object = None) -> None:
        """Name the object on the button that finishes it, or goes on with it."""
        for layer in (self.answer, self.labels.layer):
            if layer is not None and layer not in self._named:
                self._named.add(layer)
                connect_until_destroyed(layer.events.selected_label, self._name_object)
        label = self._selected_object()
        self.finish_button.setText(
            f"Object {label} is finished: go on with it"
            if label in self._finished
            else f"Finish object {label or ''}".strip()
        )

    def _selected_object(self) -> int | None:
        """The label that is selected in the answer, if that is the active layer, else in the painted labels."""
        active = self.viewer.layers.selection.active
        at = self.answer if self.answer is not None and active == self.answer else self.labels.layer
        return None if at is None else int(at.selected_label)

    def _recall(self, _event: object = None) -> None:
        """Go on with the answer that was computed from what is chosen, also one of a dock that was closed since."""
        image, labels = self.image.layer, self.labels.layer
        self.answer = None if image is None or labels is None else verbs.last_answer(self.viewer, image, labels)
        if self.answer is not None:
            self._seen.add(self.answer)
        self._offer()
        self._update()

    def _show_painted(self, event: Event) -> None:
        """Show the painted labels that an answer hid again when a person, or an outline made from a box, goes on in them."""
        if self.answer is not None and event.value == self.labels.layer:
            set_visible(event.value, True)

    def _update(self, _event: object = None) -> None:
        """Enable what can be done now, and explain what cannot."""
        image, both = self.image.layer is not None, self.image.layer is not None and self.labels.layer is not None
        self.new_button.setEnabled(image)
        self.new_button.setToolTip(
            "An empty mask on the image's grid, ready to paint" if image else "Open an image first"
        )
        apart = verbs.why_not_together(self.image.layer, self.labels.layer) if both else ""
        why = (
            "Another job runs"
            if self.work.busy
            else apart
            if both
            else "Open an image and paint a few of its slices first"
        )
        self.hints.mark(apart if both else "Open an image and make new labels on it first")
        self.lesson.mark(why)
        why = why or (
            ""
            if self.only_between.isChecked() or has_model(verbs.PROPAGATE)
            else f"The model {verbs.PROPAGATE!r} is not installed"
        )
        self.propagate_button.setEnabled(not why)
        self.propagate_button.setToolTip(
            why
            or with_key(
                "Continue the painted objects over all other slices; it needs no training and takes seconds", "Alt-S"
            )
        )
        self._list_directions()
        self._update_answer()

    def _list_directions(self) -> None:
        """List the directions of the image's slices; nothing to choose where there is only one."""
        image, chosen = self.image.layer, self.direction.currentData()
        named = {} if image is None else verbs.directions(image)
        self._form.setRowVisible(self.direction, len(named) > 1)
        entries = {FOUND: None} | {name: axis for axis, name in named.items()}
        if [self.direction.itemText(k) for k in range(self.direction.count())] != list(entries):
            self.direction.clear()
            for name, axis in entries.items():
                self.direction.addItem(name, axis)
        self.direction.setCurrentIndex(
            max(0, list(entries.values()).index(chosen) if chosen in entries.values() else 0)
        )

    def _update_answer(self) -> None:
        """Enable what can be done with the answer that is shown."""
        has_answer = self.answer is not None and self.answer in self.viewer.layers
        if self.answer is not None and not has_answer:  # the layer was removed, so its description is removed too
            self.answer = self._next = self._known = None
            self.outcome.clear()
        why = "" if has_answer else "There is no answer yet: press Propagate or Teach first"
        doubts = why or ("" if self._next is not None else "No slice that you did not paint is in doubt")
        saving = why or ("Another job runs" if self.work.busy else "")
        self.next_button.setText(
            f"Look at the next {self._word}" if self._next is None else f"Look at {self._word} {self._next + 1} next"
        )
        self.right_button.setText(f"This {self._word} is right")
        for button, reason, tip, key in (
            (self.next_button, doubts, "The slice that the answer is least sure of, among those that you did not paint", "Alt-N"),
            (self.right_button, why, "What the answer has in the slice that is shown counts as painted by you, whole", "Alt-A"),
            (self.finish_button, why, "No new answer, and no painting with another label, changes this object; press again to go on", ""),
            (self.save_button, saving, "The answer with all that is painted in it, as NIfTI, NRRD or DICOM SEG", ""),
            (self.empty_button, why, "The slice that is shown holds nothing: it is emptied, and counts as painted by you", "Alt-X"),
        ):  # fmt: skip
            button.setVisible(has_answer)
            button.setEnabled(not reason)
            button.setToolTip(reason or (with_key(tip, key) if key else tip))
        self._name_object()

    def _new_labels(self) -> None:
        if self.image.layer is None:
            raise MedseqError("No image is chosen. Open one first.")
        self.labels.choose(verbs.new_labels(self.viewer, self.image.layer))

    def _both(self) -> tuple[Image, Labels]:
        image, layer = self.image.layer, self.labels.layer
        if image is None or layer is None:
            raise MedseqError("An image and a label layer are needed. Open an image and paint a few of its slices.")
        return image, layer

    def _lesson(self, *, whole: bool = False) -> verbs.LessonJob:
        """What is painted, corrected, accepted and finished now."""
        image, layer = self._both()
        return verbs.lesson_job(
            self.viewer, image, layer, answer=self.answer, finished=self._finished, whole=whole,
            along=self.direction.currentData(),
        )  # fmt: skip

    def _propagate(self) -> None:
        lesson, only_between = self._lesson(), self.only_between.isChecked()
        model = None if only_between else verbs.PROPAGATE

        def job(progress: Progress, cancelled: Cancelled) -> Segmentation:
            return lesson.propagate(model, progress=progress, cancelled=cancelled)

        def show(segmentation: Segmentation) -> None:
            where = self._show(lesson, segmentation, "propagated")
            carried = (
                f"interpolated between the painted {self._word}s" if only_between else f"carried to all {self._word}s"
            )
            self.outcome.setText(f"What is painted was {carried}: {where}")

        self.work.start("Propagating", job, show)

    def _show(self, lesson: verbs.LessonJob, segmentation: Segmentation, name: str) -> str:
        """Show an answer, offer the next slice to look at, and report what was taken over from the last answer and where
        the new one is."""
        active, before = self.viewer.layers.selection.active, self._word
        answer = verbs.show_lesson(self.viewer, lesson, segmentation, name=f"{lesson.image.name} {name}")
        set_visible(answer, True)
        self._recall()
        self._paint_in(answer, lesson.labels, active)
        verbs.hide_painted(answer, lesson.labels)
        if lesson.corrected:
            noun = f"{before} counts" if len(lesson.corrected) == 1 else f"{before}s count"
            show_info(f"{len(lesson.corrected)} corrected {noun} as painted from now on, in {lesson.labels.name}.")
        return (
            f"the layer {answer.name}. Where it is wrong, paint in it, then Propagate or Teach again: {self._word}s that you corrected "
            "count as painted, whole, and no new answer changes them."
        )

    @property
    def _word(self) -> str:
        """The name of the answer's steps: slice or frame."""
        return "frame" if self.answer is not None and verbs.answer_axis(self.answer) == "t" else "slice"

    @property
    def _finished(self) -> set[int]:
        """Labels of the objects that a new answer must not change."""
        known = None if self.answer is None else verbs.answered(self.answer)
        return set() if known is None else known.finished

    def _offer(self) -> None:
        """Offer the slice that is most worth looking at next; what was said of another answer goes."""
        known = None if self.answer is None else verbs.answered(self.answer)
        if known is not self._known:
            self._known = known
            self.outcome.clear()
        self._next = None if self.answer is None else verbs.next_slice(self.viewer, self.answer)
        self._update_answer()

    def _offer_again(self, _event: object = None) -> None:
        """Look at what is offered again after something was undone or redone, the offered slice was corrected, or a session
        brought an answer; a stroke elsewhere is not worth counting slices."""
        image, labels = self.image.layer, self.labels.layer
        arrived = None if image is None or self.answer is not None else verbs.last_answer(self.viewer, image)
        if arrived is not None and arrived not in self._seen:
            self._seen.add(arrived)
            self._chosen_for = None
            self._choose_labels()
        undone = len(verbs.editing_of(self.viewer).history.undone)
        if undone == self._undone and not self._at_offered():
            return
        self._undone = undone
        self._offer()
        if self.answer is not None and labels is not None and not verbs.holds_painted(self.answer, labels):
            set_visible(labels, True)  # an earlier answer lacks what was painted since

    def _at_offered(self) -> bool:
        """Whether the slice that is offered is the one that is shown."""
        if self._next is None or self.answer is None or self.answer not in self.viewer.layers:
            return False
        try:
            return verbs.shown_slice(self.viewer, self.answer, verbs.answer_axis(self.answer)) == self._next
        except MedseqError:  # planes across the slices are shown, or another image
            return False

    def _settle(self, right: bool) -> None:
        """Count the slice that is shown as right, or as empty, and offer the next one."""
        _, layer = self._both()
        if self.answer is None or self.answer not in self.viewer.layers:
            raise MedseqError("There is no answer for this image. Teach or propagate first.")
        step = verbs.shown_slice(self.viewer, self.answer, verbs.answer_axis(self.answer))
        with verbs.editing_of(self.viewer).step(f"{'accepting' if right else 'rejecting'} {self._word} {step + 1}"):
            (verbs.accept_slice if right else verbs.reject_slice)(self.viewer, self.answer, layer, step)
        self.viewer.status = (
            f"{self._word.capitalize()} {step + 1} counts as painted{'' if right else ', and as empty'}."
        )
        self._offer()

    def _finish(self) -> None:
        """Finish the object whose label is selected in the active layer, or continue it."""
        self._both()
        label, finished = self._selected_object(), self._finished
        if label:
            finished ^= {label}
        self._name_object()
        numbers = ", ".join(map(str, sorted(finished)))
        self.viewer.status = f"Finished: {numbers}." if numbers else "No object is finished."

    def _save(self) -> None:
        """Save the answer, and with it the painted labels, if it holds them."""
        answer, labels = self.answer, self.labels.layer
        if answer is not None:
            held = labels is not None and verbs.holds_painted(answer, labels)
            ask_save_layer(self.viewer, answer, self.work, self, [labels] if held else [])

    def _look_next(self) -> None:
        if self._next is not None and self.answer is not None and self.answer in self.viewer.layers:
            verbs.go_to_slice(self.viewer, self.answer, self._next, verbs.answer_axis(self.answer))
            self._paint_in(self.answer, self.labels.layer, self.viewer.layers.selection.active)

    def _paint_in(self, answer: Labels, painted: Labels | None, active: Layer | None) -> None:
        """Make the answer, which is on top, the layer to paint in, with the same brush, because the user corrects what
        is visible."""
        if painted is not None and visit_of(answer) in (None, shown_visit(self.viewer)):
            verbs.hand_brush(self.viewer, answer if active == answer else painted, answer)
