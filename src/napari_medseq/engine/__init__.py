"""Running and training models: streaming inference, classification, the training loop, devices."""

from __future__ import annotations

from napari_medseq.engine.classification import Classification, classify
from napari_medseq.engine.compression import CompressSettings, compress
from napari_medseq.engine.explanation import explain
from napari_medseq.engine.exporting import export
from napari_medseq.engine.localisation import Location, Locations, locate
from napari_medseq.engine.preview import preview
from napari_medseq.engine.segmentation import Segmentation, segment
from napari_medseq.engine.teach import TeachSettings, teach
from napari_medseq.engine.train import TrainConfig, TrainingResult, train

__all__ = [
    "Classification",
    "CompressSettings",
    "Location",
    "Locations",
    "Segmentation",
    "TeachSettings",
    "TrainConfig",
    "TrainingResult",
    "classify",
    "compress",
    "explain",
    "export",
    "locate",
    "preview",
    "segment",
    "teach",
    "train",
]
