"""*Preprocess*: choose a layer and steps, Apply, and a new layer comes; the chain can be saved for scripts and the command."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QListWidget,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

import napari
from napari_medseq import viewer as verbs
from napari_medseq._napari.chains import CHAINS
from napari_medseq._napari.choosers import LayerBox, follow_layers, narrow, scrolled
from napari_medseq._napari.forms import ModelForm
from napari_medseq._napari.window import accompany
from napari_medseq._napari.work import WorkBar, guarded
from napari_medseq.errors import MedseqError
from napari_medseq.preprocessing import PRESETS, STEPS, load, parse, preprocess, save

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_medseq.preprocessing.pipeline import StepLike
    from napari_medseq.preprocessing.step import Step
    from napari_medseq.progress import Cancelled, Progress
    from napari_medseq.sequence import ImageSequence

#: what the steps are called here; every step of the package is offered, these are only nicer words
_TITLES = {
    "n4": "N4 bias correction",
    "zscore": "Z-score",
    "window": "Intensity window (HU presets)",
    "percentile": "Percentile clipping",
    "resample": "Resample",
    "register": "Register to another layer",
    "motion": "Motion correction (frames)",
    "crop": "Crop to the body",
}
_WITH_REFERENCE = ("register", "resample", "crop")
_START = {"window": "window:brain"}


class PreprocessWidget(QWidget):  # type: ignore[misc]
    """The dock widget; `chain` are the steps with what their forms say."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self._forms: list[tuple[str, ModelForm[Step]]] = []
        accompany(napari_viewer)
        self.layer = LayerBox(napari_viewer, ["image", "labels"])
        self.layer.choose(napari_viewer.layers.selection.active)
        self.offer = narrow(QComboBox())
        for kind in STEPS:
            self.offer.addItem(_TITLES.get(kind, kind), kind)
        self.add_button = self._button("Add", lambda: self.add_step(str(self.offer.currentData())))
        self.ready_made = narrow(QComboBox())
        self.ready_made.addItem("ready-made chain …", None)
        for title, steps in CHAINS.items():
            self.ready_made.addItem(title, steps)
        self.ready_made.setToolTip("Replace the steps by a usual chain; change them then as you like")
        self.ready_made.activated.connect(self._ready_made_chosen)
        self.list = QListWidget()
        self.list.setMaximumHeight(90)
        self.list.currentRowChanged.connect(self._show_form)
        self.form_box = QGroupBox("Settings of the step")
        self.form_layout = QVBoxLayout(self.form_box)
        self.reference = LayerBox(napari_viewer, ["image", "labels"], optional="(none)")
        self.reference_row = QWidget()
        reference = QFormLayout(self.reference_row)
        reference.setContentsMargins(0, 0, 0, 0)
        reference.addRow("Other layer", self.reference)
        self.reference.setToolTip("What Register follows, and whose grid Resample takes when no spacing is given")
        self.apply_button = self._button("Apply", self.run)
        self.apply_button.setStyleSheet("font-weight: bold; padding: 6px;")
        self.work = WorkBar()
        self._build()
        self.work.busy_changed.connect(self._update)
        follow_layers(napari_viewer, self._update)

    def _build(self) -> None:
        layout = scrolled(self)
        form = QFormLayout()
        form.addRow("Layer", self.layer)
        form.addRow("Steps", self.ready_made)
        layout.addLayout(form)
        layout.addLayout(_row(self.offer, self.add_button))
        layout.addWidget(self.list)
        layout.addLayout(
            _row(
                self._button("Up", lambda: self._move(-1)),
                self._button("Down", lambda: self._move(1)),
                self._button("Remove", self._remove),
            )
        )
        layout.addLayout(_row(self._button("Load …", self._ask_load), self._button("Save …", self._ask_save)))
        for widget in (self.form_box, self.reference_row, self.apply_button, self.work):
            layout.addWidget(widget)
        layout.addStretch(1)
        self._update()

    def _button(self, text: str, action: Callable[[], object]) -> QPushButton:
        button = QPushButton(text)
        button.clicked.connect(lambda: action())
        return button

    # -- the chain -----------------------------------------------------------------------------------------------------
    @property
    def chain(self) -> list[Step]:
        """The steps, validated.

        Raises
        ------
        SettingsError
            If a value in a form cannot be used.
        """
        return [form.settings for _, form in self._forms]

    def add_step(self, step: StepLike) -> None:
        """Add a step by name or as settings, with its form."""
        model = parse(_START.get(step, step) if isinstance(step, str) else step)[0]
        kind = model.kind
        choices = {"preset": [None, *PRESETS]} if kind == "window" else {}
        self._forms.append((kind, ModelForm(type(model), model, choices=choices)))
        self._refill(len(self._forms) - 1)

    def _ready_made_chosen(self, index: int) -> None:
        steps = self.ready_made.itemData(index)
        if steps is not None:
            self.replace_chain(steps)

    def replace_chain(self, steps: Iterable[StepLike]) -> None:
        """These steps instead of those there are."""
        self._forms = []
        self._refill(-1)
        for step in steps:
            self.add_step(step)

    def _refill(self, current: int) -> None:
        self.list.blockSignals(True)
        self.list.clear()
        self.list.addItems([_TITLES.get(kind, kind) for kind, _ in self._forms])
        self.list.blockSignals(False)
        self.list.setCurrentRow(current)
        self._show_form(current)
        self._update()

    def _show_form(self, row: int) -> None:
        while self.form_layout.count():
            old = self.form_layout.takeAt(0).widget()
            old.setParent(None)
        if 0 <= row < len(self._forms):
            form = self._forms[row][1]
            self.form_layout.addWidget(form)
            form.show()
        self.form_box.setVisible(0 <= row < len(self._forms))

    def _move(self, by: int) -> None:
        row = self.list.currentRow()
        if 0 <= row < len(self._forms) and 0 <= row + by < len(self._forms):
            self._forms.insert(row + by, self._forms.pop(row))
            self._refill(row + by)

    def _remove(self) -> None:
        row = self.list.currentRow()
        if 0 <= row < len(self._forms):
            self._forms.pop(row)
            self._refill(min(row, len(self._forms) - 1))

    def _ask_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Pipeline file", "", "Pipelines (*.yaml *.yml *.json)")
        if path:
            guarded("Loading steps", lambda: self.load(Path(path)))

    def load(self, path: Path) -> None:
        """Replace the chain by that of a pipeline file."""
        self.replace_chain(load(path))

    def _ask_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Pipeline file", "pipeline.yaml", "Pipelines (*.yaml *.json)")
        if path and guarded("Saving steps", lambda: save(self.chain, path)):
            show_info(f"Saved: {path}")

    def _update(self, _event: object = None) -> None:
        self.reference_row.setVisible(any(kind in _WITH_REFERENCE for kind, _ in self._forms))
        ready = self.layer.layer is not None and bool(self._forms)
        self.apply_button.setEnabled(ready and not self.work.busy)
        self.apply_button.setToolTip("" if ready else "Choose a layer and add a step first")

    # -- the job -------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Apply the chain; the new layer comes when the worker is done."""
        guarded("Preprocessing", self._run)

    def _run(self) -> None:
        layer = self.layer.layer
        if layer is None:
            raise MedseqError("No layer is chosen. Open an image and choose it.")
        chain = self.chain
        if not chain:
            raise MedseqError("There is no step to apply. Add one first.")
        seq = verbs.to_sequence(layer)
        other = self.reference.layer if self.reference_row.isVisibleTo(self) else None
        reference = None if other is None else verbs.to_sequence(other)

        def job(progress: Progress, cancelled: Cancelled) -> ImageSequence:
            return preprocess(seq, chain, reference=reference, progress=progress, cancelled=cancelled)

        title = ", ".join(kind for kind, _ in self._forms)
        self.work.start("Preprocessing", job, lambda found: self._done(layer, other, found, title))

    def _done(self, layer: Layer, other: Layer | None, found: ImageSequence, title: str) -> None:
        verbs.show_derived(self.viewer, layer, found, reference=other, name=f"{layer.name} ({title})")


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row
