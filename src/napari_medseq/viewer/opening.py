"""Files and folders to layer data, and how they are shown when they come into an empty viewer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from napari_medseq import io
from napari_medseq.errors import ReadError
from napari_medseq.viewer.appearance import arranged
from napari_medseq.viewer.editing import editing_of
from napari_medseq.viewer.layers import LayerData, to_layer_data
from napari_medseq.viewer.placement import step_through_slices, sync_slice_views
from napari_medseq.viewer.study import by_patient, study_layer_data

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def arrange_when_added(viewer: Any) -> None:
    """When the next layer comes into an empty viewer, show it along its slices, head up."""
    sync_slice_views(viewer)
    editing_of(viewer)
    if len(viewer.layers):
        return

    def arrange(event: Any) -> None:
        viewer.layers.events.inserted.disconnect(arrange)
        step_through_slices(viewer, event.value)

    viewer.layers.events.inserted.connect(arrange, position="last")


def layer_data(path: Paths) -> list[LayerData]:
    """Layer data of a file, a list of files, a folder or an archive; a folder of several visits is a study on a slider `visit`.

    Of several patients each is a study of its own, and the layers of all but the first are hidden.

    Raises
    ------
    ReadError
        If nothing could be opened.
    """
    if isinstance(path, str | os.PathLike) and io.detect(path) in ("folder", "archive"):
        first, *others = (study_layer_data(s) for s in by_patient(io.read_study(path, lazy="auto")))
        for _, kwargs, _ in (item for data in others for item in data):
            kwargs["visible"] = False  # one patient at a time
        return [*first, *(item for data in others for item in data)]
    where = path if isinstance(path, str | os.PathLike) else [os.fspath(p) for p in path]
    found = io.read(where, lazy="auto")
    if not found:
        raise ReadError(f"{where} holds no image that can be opened; choose a NIfTI, DICOM, NRRD or MetaImage file.")
    return arranged([to_layer_data(seq) for seq in found])
