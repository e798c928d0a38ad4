"""*Analyse*: segment or classify images with a model; labels come as layers, probabilities as a plot and a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtWidgets import QFormLayout, QGroupBox, QLabel, QPushButton, QWidget

import napari
import napari_medseq as ms
from napari_medseq import pipeline
from napari_medseq import viewer as verbs
from napari_medseq._napari.analyse_options import AnalyseOptions
from napari_medseq._napari.choosers import CollapsibleSection, LayerBox, LayerChecklist, follow_layers, scrolled
from napari_medseq._napari.classification_view import ClassificationView
from napari_medseq._napari.model_box import ModelBox
from napari_medseq._napari.work import WorkBar, guarded
from napari_medseq.errors import MedseqError
from napari_medseq.preprocessing import preprocess


class AnalyseWidget(QWidget):  # type: ignore[misc]
    """The dock widget; `found` holds the latest results."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.found: list[Any] = []
        self._channels: dict[str, LayerBox] = {}
        verbs.sync_slice_views(napari_viewer)
        active = napari_viewer.layers.selection.active
        self.images = LayerChecklist(napari_viewer, "image", tick=lambda layer: layer == active)
        self.model = ModelBox(["segmentation", "classification"])
        self.channel_rows = QGroupBox("Channels")
        self.channel_form = QFormLayout(self.channel_rows)
        self.options = AnalyseOptions(napari_viewer)
        self.run_button = QPushButton("Run")
        self.run_button.setStyleSheet("font-weight: bold; padding: 6px;")
        self.run_button.clicked.connect(self.run)
        self.work = WorkBar()
        self.view = ClassificationView(napari_viewer)
        self.view.hide()
        self.image_label = QLabel("Images")
        layout = scrolled(self)
        for widget in (
            self.image_label, self.images, QLabel("Model"), self.model, self.channel_rows, CollapsibleSection("Options", self.options),
            self.run_button, self.work,
        ):  # fmt: skip
            layout.addWidget(widget)
        layout.addWidget(self.view, 1)
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
        self.options.for_task("segmentation" if info is None else info.task)
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
        outputs, steps = self.options.outputs, self.options.steps
        explain, boxes = self.options.explanation.isChecked(), self.options.boxes.isChecked()
        locked = self.options.locked.layer if info.task == "segmentation" else None
        keep = None if locked is None else verbs.to_sequence(locked)
        keep = None if keep is None else keep.replace(data=np.array(keep.data))  # painting may go on meanwhile

        def job(progress: Any, cancelled: Any) -> list[Any]:
            loaded = ms.load_model(model)
            more = {"device": device, "cancelled": cancelled}
            found: list[Any] = []
            if info.sequence_axis == "visit" and len(inputs) > 1:
                if info.task != "segmentation" or explain:
                    what = "explanations" if explain else "answers"
                    raise MedseqError(f"{info.name} reads a patient's visits together; its {what} are for scripts.")
                ready = [_prepared(given, steps, None, cancelled) for given in inputs]
                visits = verbs.as_visits(layers, ready)
                return [(s, None) for s in ms.segment(visits, loaded, outputs=outputs, progress=progress, **more)]
            for k, given in enumerate(inputs):
                part = pipeline.stage(progress, k / len(inputs), (k + 1) / len(inputs))
                one = _prepared(given, steps, part, cancelled)
                said = pipeline.stage(part, 0.0, 0.5) if explain else part
                if info.task == "segmentation":
                    answer = ms.segment(one, loaded, outputs=outputs, keep=keep, progress=said, **more)
                else:
                    answer = ms.classify(one, loaded, progress=said, **more)
                why = ms.explain(one, loaded, progress=pipeline.stage(part, 0.5, 1.0), **more) if explain else None
                found.append((answer, why, _located(one, loaded, answer, part, more) if boxes else None))
            return found

        title = "Segmenting" if info.task == "segmentation" else "Classifying"
        self.work.start(title, job, lambda found: self._show(info.task, layers, found))

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

    def _show(self, task: str, layers: list[Any], found: list[Any]) -> None:
        self.found = [answer for answer, _, _ in found]
        for layer, (answer, why, where) in zip(layers, found, strict=True):
            if task == "segmentation":
                verbs.show_segmentation(self.viewer, layer, answer)
            if where is not None and not verbs.show_locations(self.viewer, layer, where):
                show_info(f"{layer.name}: nothing stands out, so there is no box.")
            if why is not None:
                verbs.show_explanation(self.viewer, layer, why)
        if task == "classification":
            self.view.show_results(list(zip(layers, self.found, strict=True)))
            self.view.show()


def _located(images: Any, model: Any, answer: Any, progress: Any, options: dict[str, Any]) -> Any:
    """Boxes of what was labelled; of what stands out to a classifier."""
    if model.info.task == "segmentation":
        return ms.Locations.of(answer)
    return ms.locate(images, model, progress=progress, **options)


def _prepared(images: Any, steps: Sequence[Any], progress: Any, cancelled: Any) -> Any:
    """The images after the steps, which were chosen for each channel alike."""
    if not steps:
        return images
    if isinstance(images, dict):
        return {name: _prepared(one, steps, None, cancelled) for name, one in images.items()}
    return preprocess(images, steps, progress=progress, cancelled=cancelled)
