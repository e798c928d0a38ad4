"""Evaluation: metrics, curves, intervals, cross-validation, classical baselines.

``napari_medseq.evaluate`` is this package and the verb in one: calling it calls `evaluate.evaluation.evaluate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medseq import lazy

if TYPE_CHECKING:
    from napari_medseq.evaluate.curves import (
        Froc,
        Roc,
        auc,
        auc_by_patient,
        average_precision,
        delong,
        froc,
        precision_recall,
        roc,
    )
    from napari_medseq.evaluate.evaluation import Evaluation, evaluate
    from napari_medseq.evaluate.intervals import BlandAltman, Interval, Paired, bland_altman, bootstrap, paired
    from napari_medseq.evaluate.metrics import Detection, Overlap, SurfaceDistances, detect

_WHERE = {
    "evaluate": "evaluation",
    "Evaluation": "evaluation",
    "Overlap": "metrics",
    "SurfaceDistances": "metrics",
    "Detection": "metrics",
    "detect": "metrics",
    "Interval": "intervals",
    "bootstrap": "intervals",
    "BlandAltman": "intervals",
    "bland_altman": "intervals",
    "Paired": "intervals",
    "paired": "intervals",
    "Roc": "curves",
    "Froc": "curves",
    "auc": "curves",
    "auc_by_patient": "curves",
    "average_precision": "curves",
    "delong": "curves",
    "froc": "curves",
    "precision_recall": "curves",
    "roc": "curves",
}

__all__ = [
    "BlandAltman",
    "Detection",
    "Evaluation",
    "Froc",
    "Interval",
    "Overlap",
    "Paired",
    "Roc",
    "SurfaceDistances",
    "auc",
    "auc_by_patient",
    "average_precision",
    "bland_altman",
    "bootstrap",
    "delong",
    "detect",
    "evaluate",
    "froc",
    "paired",
    "precision_recall",
    "roc",
]


__getattr__ = lazy.attributes(__name__, _WHERE)


lazy.make_callable(__name__, "evaluate")
