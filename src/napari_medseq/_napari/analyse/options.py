"""Options of a model in *Analyse*: further outputs, steps before it, and labels that stay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QFileDialog, QFormLayout, QHBoxLayout, QWidget

from napari_medseq._napari.controls.choosers import LayerBox, ShortBox
from napari_medseq._napari.notifications import guarded
from napari_medseq._napari.preprocess.chains import CHAINS
from napari_medseq.preprocessing import load

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_medseq.inference.segmentation import Output
    from napari_medseq.preprocessing.pipeline import StepLike

_FROM_FILE = "pipeline file …"
#: text of the choice → its name in `napari_medseq.viewer.part_of`
PARTS = {"the whole image": "whole", "the slice that is shown": "slice", "the region that is drawn": "region"}


class AnalyseOptions(QWidget):  # type: ignore[misc]
    """Check boxes and choices; `outputs`, `explain`, `steps` and `keep` hold what was chosen."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.probability = QCheckBox("probability")
        self.uncertainty = QCheckBox("uncertainty")
        self.explanation = QCheckBox("explanation")
        self.boxes = QCheckBox("boxes")
        self.boxes.setToolTip("A box around each lesion in each slice (Shapes), and its centre (Points)")
        self.probability.setToolTip("Probability of any of the model's classes, as an image layer")
        self.uncertainty.setToolTip(
            "Entropy of the class probabilities, from 0 (certain) to 1 (undecided), as an image layer"
        )
        self.explanation.setToolTip(
            "A map of the parts of the image that the answer rests on (grad-CAM); it takes as long as the model itself"
        )
        self.chain = ShortBox()
        self.chain.addItem("(nothing)", ())
        for title, steps in CHAINS.items():
            self.chain.addItem(title, steps)
        self.chain.addItem(_FROM_FILE, None)
        self.chain.setToolTip(
            "Preprocessing steps that run before the model. Shipped models normalise images themselves and need none"
        )
        self.chain.activated.connect(self._chain_chosen)
        self.where = ShortBox()
        for title, part in PARTS.items():
            self.where.addItem(title, part)
        self.where.setToolTip(
            "The whole image, the slice that is shown (the model still reads its neighbours), or a region drawn in a Shapes layer"
        )
        self.locked = LayerBox(viewer, ["labels"], optional="(none)")
        self.locked.setToolTip("What is painted in this layer is kept; the model labels the rest")
        also = QHBoxLayout()
        for box in (self.boxes, self.probability, self.uncertainty, self.explanation):
            also.addWidget(box)
        also.addStretch(1)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setRowWrapPolicy(QFormLayout.WrapLongRows)  # in a narrow dock the boxes stand below their title
        form.addRow("Also show", also)
        form.addRow("Run on", self.where)
        form.addRow("First apply", self.chain)
        form.addRow("Keep labels of", self.locked)
        self.form = form

    def for_task(self, task: str) -> None:
        """Offer what a model of this task can give."""
        segments = task == "segmentation"
        for widget in (self.probability, self.uncertainty):
            widget.setVisible(segments)
        for widget in (self.locked, self.where):
            self.form.setRowVisible(widget, segments)
        # the decisions of a segmentation model may depend on any place, even on air, which explains nothing to a person
        self.explanation.setVisible(not segments)
        if segments:
            self.explanation.setChecked(False)

    @property
    def outputs(self) -> list[Output]:
        """The outputs of `ms.segment`."""
        optional: dict[Output, QCheckBox] = {"probability": self.probability, "uncertainty": self.uncertainty}
        return ["labels", *(name for name, box in optional.items() if box.isChecked())]

    @property
    def part(self) -> str:
        """The part of the image to label: one of `PARTS`."""
        return str(self.where.currentData())

    @property
    def steps(self) -> Sequence[StepLike]:
        """The steps to apply before the model."""
        return self.chain.currentData() or ()

    def _chain_chosen(self, index: int) -> None:
        if self.chain.itemText(index) != _FROM_FILE:
            return
        path, _ = QFileDialog.getOpenFileName(self, "Pipeline file", "", "Pipelines (*.yaml *.yml *.json)")
        if not path or guarded("Loading steps", lambda: self.load(Path(path))) is None:
            self.chain.setCurrentIndex(0)

    def load(self, path: Path) -> Sequence[StepLike]:
        """Offer the steps of a pipeline file and choose them."""
        steps = load(path)
        self.chain.insertItem(self.chain.count() - 1, path.name, steps)
        self.chain.setCurrentIndex(self.chain.count() - 2)
        return steps
