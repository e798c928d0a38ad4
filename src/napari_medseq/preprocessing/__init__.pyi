from .align import MotionCorrection as MotionCorrection
from .align import Register as Register
from .bias import N4 as N4
from .brain import BrainMask as BrainMask
from .crop import Crop as Crop
from .denoising import AnisotropicDiffusion as AnisotropicDiffusion
from .denoising import CurvatureFlow as CurvatureFlow
from .denoising import Median as Median
from .denoising import NonLocalMeans as NonLocalMeans
from .difference import Difference as Difference
from .follow import follow as follow
from .follow import transforms_of as transforms_of
from .gabor import Gabor as Gabor
from .gabor import GaborResponse as GaborResponse
from .gabor import gabor_kernel as gabor_kernel
from .gabor import gabor_responses as gabor_responses
from .n3 import N3 as N3
from .nyul import Landmarks as Landmarks
from .nyul import Nyul as Nyul
from .nyul import learn_landmarks as learn_landmarks
from .pipeline import STEPS as STEPS
from .pipeline import load as load
from .pipeline import parse as parse
from .pipeline import preprocess as preprocess
from .pipeline import save as save
from .preview import Preview as Preview
from .preview import estimate_seconds as estimate_seconds
from .preview import preview as preview
from .region import RegionOfInterest as RegionOfInterest
from .reorient import Reorient as Reorient
from .resample import Resample as Resample
from .slices import SelectSlices as SelectSlices
from .slices import slice_entropy as slice_entropy
from .step import Job as Job
from .step import Step as Step
from .step import settings_of as settings_of
from .temporal import Baseline as Baseline
from .temporal import TemporalFilter as TemporalFilter
from .tissue import TISSUES as TISSUES
from .tissue import Tissue as Tissue
from .window import PRESETS as PRESETS
from .window import Percentile as Percentile
from .window import Window as Window
from .zscore import ZScore as ZScore

__all__ = [
    "N3",
    "N4",
    "PRESETS",
    "STEPS",
    "TISSUES",
    "AnisotropicDiffusion",
    "Baseline",
    "BrainMask",
    "Crop",
    "CurvatureFlow",
    "Difference",
    "Gabor",
    "GaborResponse",
    "Job",
    "Landmarks",
    "Median",
    "MotionCorrection",
    "NonLocalMeans",
    "Nyul",
    "Percentile",
    "Preview",
    "RegionOfInterest",
    "Register",
    "Reorient",
    "Resample",
    "SelectSlices",
    "Step",
    "TemporalFilter",
    "Tissue",
    "Window",
    "ZScore",
    "estimate_seconds",
    "follow",
    "gabor_kernel",
    "gabor_responses",
    "learn_landmarks",
    "load",
    "parse",
    "preprocess",
    "preview",
    "save",
    "settings_of",
    "slice_entropy",
    "transforms_of",
]
