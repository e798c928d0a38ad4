"""What changed between visits, lesion by lesion, and how sure we are: matching, measures, response, plots, report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medseq import lazy

#: public name → the module of this package that defines it
_PUBLIC = {
    "track": "_track",
    "Progression": "_progression",
    "TrackSettings": "_settings",
    "lesion_colour": "colours",
}

__all__ = [*_PUBLIC]  # noqa: PLE0604

if TYPE_CHECKING:
    from napari_medseq.progression._progression import Progression as Progression
    from napari_medseq.progression._settings import TrackSettings as TrackSettings
    from napari_medseq.progression._track import track as track
    from napari_medseq.progression.colours import lesion_colour as lesion_colour


__getattr__ = lazy.attributes(__name__, _PUBLIC)
