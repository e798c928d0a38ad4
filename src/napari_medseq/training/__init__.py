"""Training of models: cases, windows, losses and loops, and the verbs `train`, `teach` and `compress`."""

from __future__ import annotations

from napari_medseq.training.case_preview import preview
from napari_medseq.training.compression import CompressSettings, compress
from napari_medseq.training.teaching import TeachSettings, teach
from napari_medseq.training.trainer import TrainConfig, TrainingResult, plan_training, train

__all__ = [
    "CompressSettings",
    "TeachSettings",
    "TrainConfig",
    "TrainingResult",
    "compress",
    "plan_training",
    "preview",
    "teach",
    "train",
]
