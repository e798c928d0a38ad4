"""Running and training models: streaming inference, classification, the training loop, devices."""

from __future__ import annotations

from napari_medseq.engine.classification import Classification, classify
from napari_medseq.engine.segmentation import Segmentation, segment
from napari_medseq.engine.train import TrainConfig, TrainingResult, train

__all__ = ["Classification", "Segmentation", "TrainConfig", "TrainingResult", "classify", "segment", "train"]
