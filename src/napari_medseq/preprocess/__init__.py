"""Preprocessing: one transform per module, and the pipeline that chains them.

``napari_medseq.preprocess`` is this package and the verb in one: calling it calls `preprocess.pipeline.preprocess`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

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


class _Verb(ModuleType):
    """The package itself can be called, so that importing it never hides the verb ``ms.preprocess``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return import_module(f"{__name__}.pipeline").preprocess(*args, **kwargs)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


sys.modules[__name__].__class__ = _Verb
