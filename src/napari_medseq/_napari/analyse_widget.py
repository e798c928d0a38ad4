"""*Analyse*: segment or classify images with a model; labels come as layers, probabilities as a plot and a table."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QCheckBox, QFormLayout, QGroupBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

import napari
import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.choosers import LayerBox, LayerChecklist, follow_layers
from napari_medseq._napari.classification_view import ClassificationView
from napari_medseq._napari.model_box import ModelBox
from napari_medseq._napari.work import DISCLAIMER, WorkBar, guarded
from napari_medseq.errors import MedseqError


class AnalyseWidget(QWidget):  # type: ignore[misc]
    """The dock widget; `found` holds the latest results."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.found: list[Any] = []
        self._channels: dict[str, LayerBox] = {}
        verbs.keep_views_true(napari_viewer)
        active = napari_viewer.layers.selection.active
        self.images = LayerChecklist(napari_viewer, "image", tick=lambda layer: layer is active)
        self.model = ModelBox(["segmentation", "classification"])
        self.channel_rows = QGroupBox("Channels")
        self.channel_form = QFormLayout(self.channel_rows)
        self.uncertainty = QCheckBox("uncertainty")
        self.probability = QCheckBox("probability")
        self.uncertainty.setToolTip("Entropy of the class probabilities: 0 sure, 1 undecided")
        self.run_button = QPushButton("Run")
        self.run_button.setStyleSheet("font-weight: bold; padding: 6px;")
        self.run_button.clicked.connect(self.run)
        self.work = WorkBar()
        self.view = ClassificationView(napari_viewer)
        self.view.hide()
        extras = QHBoxLayout()
        self.extras = QWidget()
        self.extras.setLayout(extras)
        extras.setContentsMargins(0, 0, 0, 0)
        extras.addWidget(QLabel("Also show"))
        extras.addWidget(self.probability)
        extras.addWidget(self.uncertainty)
        extras.addStretch(1)
        self.image_label = QLabel("Images")
        layout = QVBoxLayout(self)
        for widget in (
            self.image_label, self.images, QLabel("Model"), self.model, self.channel_rows, self.extras,
            self.run_button, self.work,
        ):  # fmt: skip
            layout.addWidget(widget)
        layout.addWidget(self.view, 1)
        note = QLabel(DISCLAIMER)
        note.setStyleSheet("font-style: italic;")
        layout.addWidget(note)
        layout.addStretch(0)
        self.images.changed.connect(self._images_changed)
        self.model.changed.connect(self._model_changed)
        self.model.loaded.connect(self._images_changed)
        self.work.busy_changed.connect(self._update)
        follow_layers(napari_viewer, self._update)
        self._model_changed()

    def _images_changed(self) -> None:
        self.model.fit_to([verbs.to_sequence(layer) for layer in self.images.layers])
        self._update()

    def _model_changed(self) -> None:
        info = self.model.info
        many = info is not None and len(info.channels) > 1
        if list(self._channels) != (list(info.channels) if many else []):
            while self.channel_form.rowCount():
                self.channel_form.removeRow(0)
            self._channels = {name: LayerBox(self.viewer, ["image"]) for name in info.channels} if many else {}
            for name, box in self._channels.items():
                self.channel_form.addRow(name, box)
        self.channel_rows.setVisible(many)
        self.images.setVisible(not many)
        self.image_label.setVisible(not many)
        self.extras.setVisible(info is None or info.task == "segmentation")
        self._update()

    def _update(self, _event: Any = None) -> None:
        chosen = bool(self._channels) or bool(self.images.layers)
        self.run_button.setEnabled(self.model.info is not None and chosen and not self.work.busy)
        self.run_button.setToolTip("" if chosen else "Tick an image first")

    # -- the job -------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Segment or classify the ticked images; the result comes when the worker is done."""
        guarded("Analysis", self._run)

    def _run(self) -> None:
        info = self.model.info
        if info is None:
            raise MedseqError("No model is chosen. Choose one, or a folder with '…'.")
        layers, inputs = self._inputs()
        model, device = self.model.reference, self.model.device_name
        outputs = ["labels"]
        outputs += ["probability"] if self.probability.isChecked() else []
        outputs += ["uncertainty"] if self.uncertainty.isChecked() else []

        def job(progress: Any, cancelled: Any) -> list[Any]:
            loaded = ms.load_model(model)
            more = {"device": device, "progress": progress, "cancelled": cancelled}
            if info.task == "segmentation":
                return [ms.segment(one, loaded, outputs=outputs, **more) for one in inputs]
            return [ms.classify(one, loaded, **more) for one in inputs]

        title = "Segmenting" if info.task == "segmentation" else "Classifying"
        show = self._show_labels if info.task == "segmentation" else self._show_classes
        self.work.start(title, job, lambda found: show(layers, found))

    def _inputs(self) -> tuple[list[Any], list[Any]]:
        """The layers that results belong to, and what the verbs take."""
        if self._channels:
            boxes = {name: box.layer for name, box in self._channels.items()}
            missing = [name for name, layer in boxes.items() if layer is None]
            if missing:
                raise MedseqError(f"No image is chosen for the channel(s) {', '.join(missing)}. Open and choose one.")
            first = next(iter(boxes.values()))
            return [first], [{name: verbs.to_sequence(layer) for name, layer in boxes.items()}]
        layers = self.images.layers
        if not layers:
            raise MedseqError("No image is ticked. Tick at least one in the list.")
        return layers, [verbs.to_sequence(layer) for layer in layers]

    def _show_labels(self, layers: list[Any], found: list[Any]) -> None:
        self.found = found
        for layer, one in zip(layers, found, strict=True):
            verbs.show_segmentation(self.viewer, layer, one)

    def _show_classes(self, layers: list[Any], found: list[Any]) -> None:
        self.found = found
        self.view.show_results(list(zip(layers, found, strict=True)))
        self.view.show()
