"""*Analyse*: segment or classify images with a model; labels become layers, probabilities a plot and a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtWidgets import QFormLayout, QGroupBox, QLabel, QPushButton, QWidget

import napari
import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.analyse.classification_view import ClassificationView
from napari_medseq._napari.analyse.options import AnalyseOptions
from napari_medseq._napari.controls.choosers import (
    CollapsibleSection,
    LayerBox,
    LayerChecklist,
    follow_layers,
    image_looked_at,
    scrolled,
    wrapped,
)
from napari_medseq._napari.controls.model_box import ModelBox
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded
from napari_medseq._napari.window.services import accompany
from napari_medseq.errors import MedseqError
from napari_medseq.models.info import takes_colours
from napari_medseq.preprocessing import preprocess
from napari_medseq.progress import Cancelled, Progress, part
from napari_medseq.sequence import ImageSequence
from napari_medseq.viewer.editing.active import shown_visit, visit_of

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_medseq.inference import Classification, Locations, Segmentation
    from napari_medseq.preprocessing.pipeline import Steps

#: the images of one exam, as a verb with a model takes them
Given = ImageSequence | dict[str, ImageSequence]


@dataclass(frozen=True)
class Answered:
    """The answers for one image, or for one visit.

    Attributes
    ----------
    answer : Segmentation or Classification
    why : ImageSequence or None
        Map of where in the image the answer comes from, if requested.
    where : Locations or None
        Boxes, if requested.
    """

    answer: Segmentation | Classification
    why: ImageSequence | None = None
    where: Locations | None = None


class AnalyseWidget(QWidget):  # type: ignore[misc]
    """The dock widget; `found` holds the latest results."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.found: list[Segmentation | Classification] = []
        self._channels: dict[str, LayerBox] = {}
        self._by_hand: set[str] = set()
        accompany(napari_viewer)
        looked_at = image_looked_at(napari_viewer)
        self.images = LayerChecklist(napari_viewer, "image", tick=lambda layer: layer == looked_at)
        self.images.setToolTip("Tick the images to segment or classify")
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
        self.note, self.outcome = wrapped(), wrapped()
        self.outcome.hide()
        layout = scrolled(self)
        for widget in (
            self.image_label, self.images, QLabel("Model"), self.model, self.channel_rows, CollapsibleSection("Options", self.options),
            self.run_button, self.note, self.work, self.outcome,
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
        channels = [] if info is None or len(info.channels) == 1 or takes_colours(info) else list(info.channels)
        several = bool(channels)
        if list(self._channels) != channels:
            while self.channel_form.rowCount():
                self.channel_form.removeRow(0)
            self._channels = {name: LayerBox(self.viewer, ["image"], optional="(none)") for name in channels}
            self._by_hand = set()
            for name, box in self._channels.items():
                box.setToolTip(f"The image of the channel {name}; some models do without one of their channels")
                self.channel_form.addRow(name, box)
                box.activated.connect(lambda _index, name=name: self._by_hand.add(name))
                box.currentIndexChanged.connect(self._update)
                box.listed.connect(self._choose_channels)
            self._choose_channels()
        self.channel_rows.setVisible(several)
        self.images.setVisible(not several)
        self.image_label.setVisible(not several)
        self.options.for_task("segmentation" if info is None else info.task)
        self._update()

    def _choose_channels(self) -> None:
        """Choose the image of each channel by its name or modality, unless the user has chosen."""
        if self.model.info is not None:
            known = verbs.channel_layers(self.viewer, self.model.info)
            for name, box in self._channels.items():
                if box.layer is None and name in known and name not in self._by_hand:
                    box.choose(known[name])

    def _update(self, _event: object = None) -> None:
        channels = [box.layer for box in self._channels.values() if box.layer is not None]
        chosen = bool(channels) if self._channels else bool(self.images.layers)
        why = (
            "A job of this widget runs"
            if self.work.busy
            else self.model.why_none
            if self.model.info is None
            else ""
            if chosen
            else "Choose the image of a channel first"
            if self._channels and self.images.count()
            else "Tick an image first"
            if self.images.count()
            else "Open an image first: drag a file or folder into the viewer"
        )
        self.note.setText(f"{why}." if why and not self.work.busy else "")
        self.note.setVisible(bool(self.note.text()))
        self.run_button.setEnabled(not why)
        self.run_button.setToolTip(why or "Run the model on the ticked images; the results are added as layers")

    # -- the job -------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Segment or classify the ticked images; results are shown when the worker is done."""
        guarded("Analysis", self._run)

    def _run(self) -> None:
        info = self.model.info
        if info is None:
            raise MedseqError(f"{self.model.why_none}.")
        layers, inputs = self._inputs()
        model, device = self.model.reference, self.model.device_name
        outputs, steps = self.options.outputs, self.options.steps
        explain, boxes = self.options.explanation.isChecked(), self.options.boxes.isChecked()
        parts = [self._part(layer) for layer in layers] if info.task == "segmentation" else [{} for _ in layers]
        force = self.model.force
        locked = self.options.locked.layer if info.task == "segmentation" else None
        keep = None if locked is None else verbs.to_sequence(locked)
        keep = None if keep is None else keep.replace(data=np.array(keep.data))  # painting may go on meanwhile

        def job(progress: Progress, cancelled: Cancelled) -> list[Answered]:
            loaded = ms.load_model(model)
            if info.sequence_axis == "visit" and len(inputs) > 1:
                if info.task != "segmentation" or explain:
                    noun = "explanations" if explain else "answers"
                    raise MedseqError(f"{info.name} reads a patient's visits together; its {noun} are for scripts.")
                if keep is not None or any(parts):
                    raise MedseqError(
                        f"{info.name} reads a patient's visits together: run it on the whole images, and keep the labels of (none)."
                    )
                ready = [_prepared(inputs_of_image, steps, None, cancelled) for inputs_of_image in inputs]
                visits = verbs.as_visits(layers, [_single(seq) for seq in ready])
                answers = ms.segment(
                    visits, loaded, outputs=outputs, force=force, progress=progress, device=device, cancelled=cancelled
                )
                return [Answered(a, where=ms.Locations.of(a) if boxes else None) for a in answers]
            answered = []
            for k, inputs_of_image in enumerate(inputs):
                share = part(progress, k / len(inputs), (k + 1) / len(inputs))
                seq = _prepared(inputs_of_image, steps, share, cancelled)
                first = part(share, 0.0, 0.5) if explain else share
                answer: Segmentation | Classification
                if info.task == "segmentation":
                    answer = ms.segment(
                        seq, loaded, outputs=outputs, keep=keep, force=force, progress=first, device=device,
                        cancelled=cancelled, **parts[k],
                    )  # fmt: skip
                else:
                    answer = ms.classify(seq, loaded, force=force, progress=first, device=device, cancelled=cancelled)
                second_half = part(share, 0.5, 1.0)
                why = (
                    ms.explain(seq, loaded, progress=second_half, device=device, cancelled=cancelled)
                    if explain
                    else None
                )
                where = None
                if boxes and isinstance(answer, ms.Segmentation):
                    where = ms.Locations.of(answer)
                elif boxes:  # what was decisive for a classifier
                    where = ms.locate(
                        seq, loaded, force=force, progress=second_half, device=device, cancelled=cancelled
                    )
                answered.append(Answered(answer, why, where))
            return answered

        title = "Segmenting" if info.task == "segmentation" else "Classifying"
        self.outcome.hide()  # it tells of the answer before
        self.work.start(title, job, lambda answered: self._show(layers, answered))

    def _part(self, layer: Image) -> verbs.Part:
        return verbs.part_of(self.viewer, layer, self.options.part)

    def _inputs(self) -> tuple[list[Image], list[Given]]:
        """The layers that results belong to, and the images for the verb."""
        if self._channels:
            boxes = {name: box.layer for name, box in self._channels.items()}
            chosen = {name: layer for name, layer in boxes.items() if layer is not None}
            for layer in chosen.values():
                of_layer = [name for name, other in chosen.items() if other == layer]
                if len(of_layer) > 1:
                    raise MedseqError(
                        f"{layer.name} is chosen for {' and '.join(of_layer)}. Choose the image of each channel, or (none)."
                    )
            first = next(iter(chosen.values()))
            return [first], [{name: verbs.to_sequence(layer) for name, layer in chosen.items()}]
        layers = self.images.layers
        if not layers:
            raise MedseqError("No image is ticked. Tick at least one in the list.")
        return layers, [verbs.to_sequence(layer) for layer in layers]

    def _show(self, layers: Sequence[Image], answered: Sequence[Answered]) -> None:
        self.found = [answer.answer for answer in answered]
        classified: list[tuple[Image, Classification]] = []
        segmented: list[Labels] = []
        for layer, answer in zip(layers, answered, strict=True):
            if isinstance(answer.answer, ms.Segmentation):
                segmented.append(verbs.show_segmentation(self.viewer, layer, answer.answer)[0])
            else:
                classified.append((layer, answer.answer))
            if answer.where is not None and not verbs.show_locations(self.viewer, layer, answer.where):
                show_info(f"{layer.name}: nothing stands out, so there is no box.")
            if answer.why is not None:
                verbs.show_explanation(self.viewer, layer, answer.why)
        if classified:
            self.view.show_results(classified)
            self.view.show()
        self._say(segmented)

    def _say(self, segmented: Sequence[Labels]) -> None:
        """Say what was found, and show it: the first answer at the visit that is shown, where its slice holds nothing."""
        self.outcome.setText("\n".join(verbs.found_in_words(self.viewer, layer) for layer in segmented))
        self.outcome.setVisible(bool(segmented))
        visit = shown_visit(self.viewer)
        here = [layer for layer in segmented if visit_of(layer) in (None, visit)]
        if here:
            verbs.show_found(self.viewer, here[0])


def _single(images: Given) -> ImageSequence:
    """The one image of a visit."""
    if isinstance(images, ImageSequence):
        return images
    raise MedseqError("A model that reads a patient's visits together takes one image of each. Choose another model.")


def _prepared(images: Given, steps: Steps, progress: Progress | None, cancelled: Cancelled) -> Given:
    """The images after the steps, which are the same for each channel."""
    if not steps:
        return images
    if not isinstance(images, ImageSequence):
        return {name: preprocess(one, steps, cancelled=cancelled) for name, one in images.items()}
    return preprocess(images, steps, progress=progress, cancelled=cancelled)
