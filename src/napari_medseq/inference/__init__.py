"""Running models: streaming inference over slices, frames and visits; segment, classify, explain, locate, export."""

from __future__ import annotations

from napari_medseq.inference.classification import Classification, classify
from napari_medseq.inference.explanation import explain
from napari_medseq.inference.exporting import export
from napari_medseq.inference.localisation import Location, Locations, locate
from napari_medseq.inference.propagation import Propagation, propagate
from napari_medseq.inference.segmentation import Segmentation, segment

__all__ = [
    "Classification",
    "Location",
    "Locations",
    "Propagation",
    "Segmentation",
    "classify",
    "explain",
    "export",
    "locate",
    "propagate",
    "segment",
]
