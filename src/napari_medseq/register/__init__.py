"""Registration: rigid to deformable, between visits and frames.

``napari_medseq.register`` is this package and the verb in one: calling it calls `register.registration.register`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medseq import lazy

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


__getattr__ = lazy.attributes(__name__, _WHERE)


lazy.make_callable(__name__, "register")
