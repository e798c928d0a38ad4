"""Preprocessing: one transform per module, and the pipeline that chains them.

``napari_medseq.preprocess`` is this package and the verb in one: calling it calls `preprocess.pipeline.preprocess`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medseq import lazy

if TYPE_CHECKING:
    from napari_medseq.preprocess.align import MotionCorrection, Register
    from napari_medseq.preprocess.bias import N4
    from napari_medseq.preprocess.crop import Crop
    from napari_medseq.preprocess.pipeline import STEPS, Step, load, parse, preprocess, save
    from napari_medseq.preprocess.resample import Resample
    from napari_medseq.preprocess.step import StepBase
    from napari_medseq.preprocess.window import PRESETS, Percentile, Window
    from napari_medseq.preprocess.zscore import ZScore

_WHERE = {
    "preprocess": "pipeline",
    "STEPS": "pipeline",
    "Step": "pipeline",
    "load": "pipeline",
    "parse": "pipeline",
    "save": "pipeline",
    "StepBase": "step",
    "N4": "bias",
    "ZScore": "zscore",
    "Window": "window",
    "Percentile": "window",
    "PRESETS": "window",
    "Resample": "resample",
    "Register": "align",
    "MotionCorrection": "align",
    "Crop": "crop",
}

__all__ = [
    "N4",
    "PRESETS",
    "STEPS",
    "Crop",
    "MotionCorrection",
    "Percentile",
    "Register",
    "Resample",
    "Step",
    "StepBase",
    "Window",
    "ZScore",
    "load",
    "parse",
    "preprocess",
    "save",
]


__getattr__ = lazy.attributes(__name__, _WHERE)


lazy.make_callable(__name__, "preprocess")
