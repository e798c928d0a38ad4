"""Registration: rigid to deformable, between visits and frames.

``napari_medseq.register`` is this package and the verb in one: calling it calls `register.registration.register`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_medseq.register.alignment import Alignment, VisitAlignment, aligned, visits
    from napari_medseq.register.motion import Motion, frames
    from napari_medseq.register.registration import register
    from napari_medseq.register.transform import Quality, Spline, Transform

_WHERE = {
    "register": "registration",
    "Transform": "transform",
    "Quality": "transform",
    "Spline": "transform",
    "aligned": "alignment",
    "Alignment": "alignment",
    "visits": "alignment",
    "VisitAlignment": "alignment",
    "frames": "motion",
    "Motion": "motion",
}

__all__ = [
    "Alignment",
    "Motion",
    "Quality",
    "Spline",
    "Transform",
    "VisitAlignment",
    "aligned",
    "frames",
    "register",
    "visits",
]


class _Verb(ModuleType):
    """The package itself can be called, so that importing it never hides the verb ``ms.register``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return import_module(f"{__name__}.registration").register(*args, **kwargs)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


sys.modules[__name__].__class__ = _Verb
