"""Additions to *Teach*: a model trained on the masks of several patients, and the comparison of two masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QFormLayout, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import LayerBox, LayerChecklist, follow_layers, wrapped
from napari_medseq._napari.controls.model_box import announce_models
from napari_medseq._napari.controls.tables import Table
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded
from napari_medseq.errors import MedseqError
from napari_medseq.models.library import user_folder
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.viewer.editing.active import counterpart, visit_of
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.layers.studies import DERIVED, facts_of, is_tracked
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_medseq.training import TrainingResult

_LONGEST_MINUTES = 60 * 24 * 7


def _visit(layer: Labels) -> tuple[object, object]:
    facts = facts_of(layer)
    return facts.get("study"), facts.get("ordinal")


HOW = (
    "Paint what is to be found in one slice, then press Propagate (Alt+S): it is carried to the other slices in seconds. Where it is "
    "wrong, correct a slice and propagate again."
)
#: the entry that leaves the direction of slices to what is painted
FOUND = "found from what is painted"


class TrainBox(QWidget):  # type: ignore[misc]
    """Masks to tick, a name, minutes, and *Train*."""

    def __init__(self, viewer: ViewerModel, work: WorkBar) -> None:
        super().__init__()
        self.viewer, self.work = viewer, work
        self.masks = LayerChecklist(viewer, "labels", tick=self._is_first_of_its_visit)
        self.masks.setToolTip("Tick the masks that are correct in every slice, of as many patients as possible")
        self.name = QLineEdit("painted")
        self.name.setToolTip("The name of the model in Analyse, in Progression, in scripts and on the command line")
        self.replace = QCheckBox("replace a model of that name")
        self.replace.setToolTip("Otherwise an existing model is kept, and you are asked for another name")
        self.minutes = QDoubleSpinBox()
        self.minutes.setRange(1, _LONGEST_MINUTES)
        self.minutes.setDecimals(0)
        self.minutes.setValue(60)
        self.minutes.setToolTip(
            "The time for reading, training and measuring how good the model is; more masks need more time"
        )
        self.button = QPushButton("Train on what I painted")
        self.button.clicked.connect(lambda: guarded("Training", self.run))
        self.outcome = wrapped()
        self.count = wrapped()
        form = QFormLayout()
        form.addRow("Name", self.name)
        form.addRow("", self.replace)
        form.addRow("Minutes", self.minutes)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.masks)
        layout.addWidget(self.count)
        layout.addLayout(form)
        layout.addWidget(self.button)
        layout.addWidget(self.outcome)
        self.masks.changed.connect(self._update)
        self._seen: WeakSet[Labels] = WeakSet()
        follow_layers(viewer, self._prefer_followed)
        work.busy_changed.connect(self._update)
        self._update()

    def _is_first_of_its_visit(self, layer: Labels) -> bool:
        """Whether it is a study's mask and the first of its visit; later ones are answers that nobody may have looked
        at."""
        facts = facts_of(layer)
        first = next(k for k in self.viewer.layers if layer_kind(k) == "labels" and _visit(k) == _visit(layer))
        return bool(facts.get("study")) and facts.get("role") != DERIVED and first == layer

    def _prefer_followed(self, _event: object = None) -> None:
        """Prefer the followed lesions, including corrections, to the masks that they came from."""
        new = [layer for layer in self.viewer.layers if is_tracked(layer) and layer not in self._seen]
        self._seen.update(new)
        visits = {_visit(layer) for layer in new}
        if visits:
            kept = [k for k in self.masks.layers if is_tracked(k) or _visit(k) not in visits]
            self.masks.tick([*kept, *(layer for layer in new if layer not in kept)])

    def _update(self, _event: object = None) -> None:
        why = "Another job runs" if self.work.busy else "" if self.masks.layers else "Tick a mask first"
        patients = {facts_of(layer).get("study") or layer.name for layer in self.masks.layers}
        self.count.setText(
            f"Ticked: {how_many(len(self.masks.layers), 'mask')} of {how_many(len(patients), 'patient')}."
        )
        self.button.setEnabled(not why)
        self.button.setToolTip(why or "One model of all ticked masks and their images, for new patients")

    def run(self) -> None:
        """Train on the ticked masks as they are now; the training set stays beside the models."""
        name = self.name.text().strip() or "painted"
        replace, minutes = self.replace.isChecked(), self.minutes.value()
        verbs.check_model_name(name, replace=replace)
        cases = verbs.painted_cases(self.viewer, self.masks.layers)
        folder = _unused(user_folder().with_name("training-sets") / name)

        def job(progress: Progress, cancelled: Cancelled) -> TrainingResult:
            return verbs.train_on_painted(
                cases, name, folder=folder, minutes=minutes, replace=replace, progress=progress, cancelled=cancelled
            )

        def done(_found: TrainingResult) -> None:
            announce_models()
            self.outcome.setText(
                f"The model {name} learned from {how_many(len(cases), 'mask')}; choose it in Analyse or Progression. Its training set "
                "is kept as an "
                f"nnU-Net folder: {folder}"
            )

        kept = f"What was learned is kept: train {name} again on the same masks, and it continues from there."
        self.work.start("Training", job, done, kept=kept, writes=True)


def _unused(folder: Path) -> Path:
    """This folder, or one with a number if it exists already."""
    at, number = folder, 1
    while at.exists():
        number += 1
        at = folder.with_name(f"{folder.name}-{number}")
    return at


class DifferenceBox(QWidget):  # type: ignore[misc]
    """A choice of two masks, their Dice per label, and a layer that shows where they differ."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = viewer
        self.found: verbs.MaskDifference | None = None
        self.first, self.second = LayerBox(viewer, ["labels"]), LayerBox(viewer, ["labels"])
        for box in (self.first, self.second):
            box.setToolTip("The mask to compare it with")
        self.button = QPushButton("Compare")
        self.button.clicked.connect(lambda: guarded("Comparing", self.run))
        self.table = Table()
        self.table.setMaximumHeight(120)
        self.table.setToolTip("Dice: 1 if both are the same, 0 if they share nothing. Ctrl+C copies the table")
        self.table.hide()
        form = QFormLayout()
        form.addRow("Mask", self.first)
        form.addRow("and", self.second)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.button)
        layout.addWidget(self.table)
        for box in (self.first, self.second):
            box.currentIndexChanged.connect(self._update)
        follow_layers(viewer, self._update)

    def _update(self, _event: object = None) -> None:
        one, other = self.first.layer, self.second.layer
        why = (
            "Open or paint two masks first"
            if one is None or other is None
            else "Choose two masks"
            if one == other
            else ""
        )
        self.button.setEnabled(not why)
        self.button.setToolTip(why or "Dice of each label, and a layer that shows where they differ")

    def run(self) -> None:
        """Compare the two masks as they are painted now."""
        one, other = self.first.layer, self.second.layer
        if one is None or other is None:
            raise MedseqError("Two masks are needed. Open or paint another one.")
        self.found = verbs.compare_masks(self.viewer, one, other)
        rows = self.found.table.to_dict("records")
        as_cell: Callable[[object], str | float] = lambda value: value if isinstance(value, str) else float(str(value))  # noqa: E731
        self.table.fill(
            ["label", "Dice", "both (mL)", "first (mL)", "second (mL)"],
            [[as_cell(v) for v in row.values()] for row in rows],
        )
        self.table.show()


def has_model(name: str) -> bool:
    """Whether a model of this name is shipped or installed; no model is loaded."""
    from napari_medseq.models.library import SHIPPED

    return any((folder / name).exists() for folder in (SHIPPED, user_folder()))


def at_visit(
    viewer: ViewerModel, image: Image | None, labels: Labels | None, visit: int | None
) -> tuple[Image | None, Labels | None]:
    """The same series, and the same mask on its grid, at another visit; None where there is none or it is that visit's own."""
    if image is None or visit is None or visit_of(image) in (None, visit):
        return None, None
    there = counterpart(viewer, image, visit)
    mask = None if labels is None or there is None else counterpart(viewer, labels, visit)
    return there, None if mask is None or verbs.why_not_together(there, mask) else mask
