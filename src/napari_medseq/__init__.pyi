from .cohort import run_cohort as run_cohort
from .errors import MedseqError as MedseqError
from .errors import MedseqWarning as MedseqWarning
from .evaluation import Evaluation as Evaluation
from .evaluation import evaluate as evaluate
from .inference import Classification as Classification
from .inference import Locations as Locations
from .inference import Propagation as Propagation
from .inference import Segmentation as Segmentation
from .inference import classify as classify
from .inference import explain as explain
from .inference import export as export
from .inference import locate as locate
from .inference import propagate as propagate
from .inference import segment as segment
from .io import info as info
from .io import read as read
from .io import read_study as read_study
from .io import write as write
from .models import Model as Model
from .models import ModelInfo as ModelInfo
from .models import list_models as list_models
from .models import load_model as load_model
from .pipeline import run as run
from .preprocessing import preprocess as preprocess
from .progression import Progression as Progression
from .progression import TrackSettings as TrackSettings
from .progression import track as track
from .registration import Transform as Transform
from .registration import register as register
from .repeatability import RetestSettings as RetestSettings
from .repeatability import retest as retest
from .sequence import ImageSequence as ImageSequence
from .sequence import Study as Study
from .sequence import Visit as Visit
from .training import TrainingResult as TrainingResult
from .training import compress as compress
from .training import teach as teach
from .training import train as train

__version__: str
__all__ = [
    "Classification",
    "Evaluation",
    "ImageSequence",
    "Locations",
    "MedseqError",
    "MedseqWarning",
    "Model",
    "ModelInfo",
    "Progression",
    "Propagation",
    "RetestSettings",
    "Segmentation",
    "Study",
    "TrackSettings",
    "TrainingResult",
    "Transform",
    "Visit",
    "__version__",
    "classify",
    "compress",
    "evaluate",
    "explain",
    "export",
    "info",
    "list_models",
    "load_model",
    "locate",
    "preprocess",
    "propagate",
    "read",
    "read_study",
    "register",
    "retest",
    "run",
    "run_cohort",
    "segment",
    "teach",
    "track",
    "train",
    "write",
]
