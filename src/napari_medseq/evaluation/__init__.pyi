from .agreement import McNemar as McNemar
from .agreement import mcnemar as mcnemar
from .calibration import brier_score as brier_score
from .calibration import calibration_error as calibration_error
from .classes import auc_interval as auc_interval
from .classes import class_scores as class_scores
from .classical import ClassicalSettings as ClassicalSettings
from .classical import OutOfFold as OutOfFold
from .classical import classical_pipeline as classical_pipeline
from .classical import judge_classical as judge_classical
from .classical import patient_folds as patient_folds
from .curves import Froc as Froc
from .curves import Roc as Roc
from .curves import auc as auc
from .curves import auc_by_patient as auc_by_patient
from .curves import average_precision as average_precision
from .curves import delong as delong
from .curves import froc as froc
from .curves import precision_recall as precision_recall
from .curves import roc as roc
from .evaluation import Evaluation as Evaluation
from .evaluation import evaluate as evaluate
from .features import FeatureSettings as FeatureSettings
from .features import slice_features as slice_features
from .intervals import BlandAltman as BlandAltman
from .intervals import Interval as Interval
from .intervals import Paired as Paired
from .intervals import bland_altman as bland_altman
from .intervals import bootstrap as bootstrap
from .intervals import paired as paired
from .locations import LocationScores as LocationScores
from .metrics import Detection as Detection
from .metrics import Overlap as Overlap
from .metrics import SurfaceDistances as SurfaceDistances
from .metrics import detect as detect

__all__ = [
    "BlandAltman",
    "ClassicalSettings",
    "Detection",
    "Evaluation",
    "FeatureSettings",
    "Froc",
    "Interval",
    "LocationScores",
    "McNemar",
    "OutOfFold",
    "Overlap",
    "Paired",
    "Roc",
    "SurfaceDistances",
    "auc",
    "auc_by_patient",
    "auc_interval",
    "average_precision",
    "bland_altman",
    "bootstrap",
    "brier_score",
    "calibration_error",
    "class_scores",
    "classical_pipeline",
    "delong",
    "detect",
    "evaluate",
    "froc",
    "judge_classical",
    "mcnemar",
    "paired",
    "patient_folds",
    "precision_recall",
    "roc",
    "slice_features",
]
