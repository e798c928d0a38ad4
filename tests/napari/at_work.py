"""A viewer in the middle of work; no Qt and no pytest, so that a process that is to be killed starts quickly."""

from __future__ import annotations

from pathlib import Path

from napari.components import ViewerModel

from napari_medseq import viewer as verbs


def at_work(folder: Path) -> ViewerModel:
    """A viewer with followed lesions, of which one is excluded and one is painted anew."""
    viewer = ViewerModel()
    verbs.open_path(viewer, folder)
    verbs.track_layers(viewer)
    verbs.correct(viewer, "exclude", 2)
    layer = verbs.result_of(viewer).layers[0]
    layer.brush_size = 3
    layer.paint((0, 8, 40, 6), 9)
    return viewer
