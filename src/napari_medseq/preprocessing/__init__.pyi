from .align import MotionCorrection as MotionCorrection
from .align import Register as Register
from .bias import N4 as N4
from .crop import Crop as Crop
from .fields import SettingFacts as SettingFacts
from .fields import settings_of as settings_of
from .pipeline import STEPS as STEPS
from .pipeline import load as load
from .pipeline import parse as parse
from .pipeline import preprocess as preprocess
from .pipeline import save as save
from .preview import Preview as Preview
from .preview import estimate_seconds as estimate_seconds
from .preview import preview as preview
from .resample import Resample as Resample
from .step import Job as Job
from .step import Step as Step
from .units import Unit as Unit
from .window import PRESETS as PRESETS
from .window import Percentile as Percentile
from .window import Window as Window
from .zscore import ZScore as ZScore

__all__ = [
    "N4",
    "PRESETS",
    "STEPS",
    "Crop",
    "Job",
    "MotionCorrection",
    "Percentile",
    "Preview",
    "Register",
    "Resample",
    "SettingFacts",
    "Step",
    "Unit",
    "Window",
    "ZScore",
    "estimate_seconds",
    "load",
    "parse",
    "preprocess",
    "preview",
    "save",
    "settings_of",
]
