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
    "Detection",
    "Evaluation",
    "Froc",
    "Interval",
    "LocationScores",
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
