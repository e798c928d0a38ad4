"""*Teach*: paint a few slices, get a model that labels the rest; correct a slice, teach again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QFormLayout, QLineEdit, QPushButton, QWidget

import napari
import napari_medseq as ms
from napari_medseq import pipeline
from napari_medseq import viewer as verbs
from napari_medseq._napari.choosers import LayerBox, follow_layers, scrolled, wrapped
from napari_medseq._napari.window import accompany
from napari_medseq._napari.work import WorkBar, guarded
from napari_medseq.errors import MedseqError
from napari_medseq.progress import Cancelled, Progress

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_medseq.inference import Segmentation
    from napari_medseq.models import Model

_HOW = (
    "Paint what is to be found in three slices or more, whole slices: what is not painted in them is background. Then Teach. "
    "Where the answer is wrong, correct it there and teach again."
)


class TeachWidget(QWidget):  # type: ignore[misc]
    """The dock widget; `model` is what was taught last."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.model: Model | None = None
        self.answer: Labels | None = None
        self._image: Image | None = None
        accompany(napari_viewer)
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
        self.go_on.setToolTip("Train the model of the last lesson further, instead of a new one")
        self.replace = QCheckBox("replace a model of that name")
        self.replace.setToolTip("Otherwise a model that is there already stays, and you are asked for another name")
        self.run_button = QPushButton("Teach")
        self.run_button.setStyleSheet("font-weight: bold; padding: 6px;")
        self.run_button.clicked.connect(lambda: guarded("Teaching", self._run))
        self.work = WorkBar()
        self.outcome = wrapped()
        how = wrapped(_HOW)
        form = QFormLayout()
        for title, widget in (
            ("Image", self.image), ("", self.new_button), ("Painted labels", self.labels), ("Name", self.name),
            ("", self.replace),
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

    def _update(self, _event: object = None) -> None:
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
        name = self.name.text().strip() or "taught"
        self._check_name(name)
        settings: dict[str, object] = {"name": name, "minutes": self.minutes.value()}
        if self.answer is not None and self.answer in self.viewer.layers and self.answer != layer:
            corrected = verbs.take_over(self.viewer, self.answer, layer)
            if set(corrected) - set(verbs.painted_slices(layer)):  # some were corrected to hold nothing
                settings["steps"] = sorted({*corrected, *verbs.painted_slices(layer)})
            if corrected:
                show_info(f"{len(corrected)} corrected slices of {self.answer.name} are taken over into {layer.name}.")
        seq, painted = verbs.to_sequence(image), verbs.to_sequence(layer)
        painted = painted.replace(data=np.array(painted.data))  # painting may go on meanwhile
        if self.go_on.isChecked() and self.model is not None:
            settings["start_from"] = self.model.info.folder

        def job(progress: Progress, cancelled: Cancelled) -> tuple[Model, Segmentation]:
            from napari_medseq.models.library import user_folder

            settings["out"] = str(user_folder() / name)
            lesson = pipeline.stage(progress, 0.0, 0.9)
            found = ms.teach(seq, painted, settings, progress=lesson, cancelled=cancelled)
            rest = pipeline.stage(progress, 0.9, 1.0)
            answer = ms.segment(seq, found.model, keep=painted, progress=rest, cancelled=cancelled)
            return found.model, answer

        self.work.start("Teaching", job, lambda found: self._show(image, *found))

    def _check_name(self, name: str) -> None:
        """Refuse the name of a shipped model, and that of another one unless *replace it* is ticked."""
        from napari_medseq.models.library import SHIPPED, user_folder

        if (SHIPPED / name).exists():
            raise MedseqError(f"{name} is a model that ships with napari-medseq. Choose another name.")
        mine = self.model is not None and self.model.info.name == name
        if (user_folder() / name).exists() and not mine and not self.replace.isChecked():
            raise MedseqError(
                f"There is a model called {name} already. Choose another name, or tick 'replace a model of that name'."
            )

    def _show(self, image: Image, model: Model, answer: Segmentation) -> None:
        before = self.answer if self._image == image else None
        self.model, self._image = model, image
        self.answer = verbs.show_answer(self.viewer, image, answer, before)
        self.answer.name = f"{image.name} {model.info.name}"
        if self.labels.layer is not None:  # painting goes on there
            self.viewer.layers.selection.active = self.labels.layer
        self.go_on.setEnabled(True)
        self.outcome.setText(
            f"{model.info.description} The answer for all slices is the layer {self.answer.name}. Where it is wrong, paint in it, or in "
            f"{self.labels.currentText()}, and teach again: slices that you corrected count as painted, and no new answer changes them. "
            f"Analyse and ms.segment(…, {model.info.name!r}) use the model from now on."
        )
