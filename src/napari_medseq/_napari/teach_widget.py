"""*Teach*: paint a few slices, get a model that labels the rest; correct a slice, teach again."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QFormLayout, QLineEdit, QPushButton, QWidget

import napari
import napari_medseq as ms
from napari_medseq import pipeline
from napari_medseq import viewer as verbs
from napari_medseq._napari.choosers import LayerBox, follow_layers, scrolled, wrapped
from napari_medseq._napari.work import WorkBar, guarded
from napari_medseq.errors import MedseqError

_HOW = (
    "Paint what is to be found in three slices or more, whole slices: what is not painted in them is background. Then Teach. "
    "Where the answer is wrong, paint that slice too and teach again."
)


class TeachWidget(QWidget):  # type: ignore[misc]
    """The dock widget; `model` is what was taught last."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.model: Any = None
        self.answer: Any = None
        verbs.keep_views_true(napari_viewer)
        self.image = LayerBox(napari_viewer, ["image"])
        self.image.choose(napari_viewer.layers.selection.active)
        self.labels = LayerBox(napari_viewer, ["labels"])
        self.new_button = QPushButton("New labels on this image")
        self.new_button.clicked.connect(lambda: guarded("New labels", self._new_labels))
        self.name = QLineEdit("taught")
        self.name.setToolTip("The model's name, under which Analyse, scripts and the command find it")
        self.minutes = QDoubleSpinBox()
        self.minutes.setRange(0.1, 600)
        self.minutes.setValue(2)
        self.minutes.setToolTip("Longest time that one lesson takes")
        self.go_on = QCheckBox("go on from the last lesson")
        self.go_on.setEnabled(False)
        self.run_button = QPushButton("Teach")
        self.run_button.setStyleSheet("font-weight: bold; padding: 6px;")
        self.run_button.clicked.connect(lambda: guarded("Teaching", self._run))
        self.work = WorkBar()
        self.outcome = wrapped()
        how = wrapped(_HOW)
        form = QFormLayout()
        for title, widget in (
            ("Image", self.image), ("", self.new_button), ("Painted labels", self.labels), ("Name", self.name),
            ("Minutes", self.minutes), ("", self.go_on),
        ):  # fmt: skip
            form.addRow(title, widget)
        layout = scrolled(self)
        layout.addWidget(how)
        layout.addLayout(form)
        for widget in (self.run_button, self.work, self.outcome):
            layout.addWidget(widget)
        layout.addStretch(1)
        self.work.busy_changed.connect(self._update)
        follow_layers(napari_viewer, self._update)

    def _update(self, _event: Any = None) -> None:
        self.new_button.setEnabled(self.image.layer is not None)
        both = self.image.layer is not None and self.labels.layer is not None
        self.run_button.setEnabled(both and not self.work.busy)
        self.run_button.setToolTip("" if both else "Open an image and paint a few of its slices first")

    def _new_labels(self) -> None:
        if self.image.layer is None:
            raise MedseqError("No image is chosen. Open one first.")
        self.labels.choose(verbs.new_labels(self.viewer, self.image.layer))

    def _run(self) -> None:
        image, layer = self.image.layer, self.labels.layer
        if image is None or layer is None:
            raise MedseqError("An image and a label layer are needed. Open an image and paint a few of its slices.")
        name = self.name.text().strip()
        seq, painted = verbs.to_sequence(image), verbs.to_sequence(layer)
        painted = painted.replace(data=np.array(painted.data))  # painting may go on meanwhile
        settings: dict[str, Any] = {"name": name, "minutes": self.minutes.value()}
        if self.go_on.isChecked() and self.model is not None:
            settings["start_from"] = self.model.info.folder

        def job(progress: Any, cancelled: Any) -> Any:
            from napari_medseq.models.library import user_folder

            settings["out"] = str(user_folder() / (name or "taught"))
            lesson = pipeline.stage(progress, 0.0, 0.9)
            found = ms.teach(seq, painted, settings, progress=lesson, cancelled=cancelled)
            rest = pipeline.stage(progress, 0.9, 1.0)
            return found.model, ms.segment(seq, found.model, keep=painted, progress=rest, cancelled=cancelled)

        self.work.start("Teaching", job, lambda found: self._show(image, found))

    def _show(self, image: Any, found: tuple[Any, Any]) -> None:
        self.model, answer = found
        if self.answer in self.viewer.layers:
            self.viewer.layers.remove(self.answer)
        self.answer = verbs.show_segmentation(self.viewer, image, answer)[0]
        self.answer.name = f"{image.name} {self.model.info.name}"
        if self.labels.layer is not None:  # painting goes on there
            self.viewer.layers.selection.active = self.labels.layer
        self.go_on.setEnabled(True)
        self.outcome.setText(
            f"{self.model.info.description} The answer for all slices is the layer {self.answer.name}. "
            f"Analyse and ms.segment(…, {self.model.info.name!r}) use the model from now on."
        )
