"""Dates, order and visits of what is open, set or corrected by hand, and visits that are added later."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_medseq import io
from napari_medseq.errors import MedseqError, ReadError
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.viewer import layers as _layers
from napari_medseq.viewer import study as _studies
from napari_medseq.viewer.editing import Editing, editing_of, real
from napari_medseq.viewer.identity import describe
from napari_medseq.viewer.results import add_layers

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

    from napari_medseq.sequence import ImageSequence


def close_patient(viewer: ViewerModel, study: str) -> None:
    """Remove all layers of a patient, and with them the result; nothing is saved.

    Raises
    ------
    MedseqError
        If no layer belongs to that study.
    """
    for layer in layers_of(viewer, study):
        viewer.layers.remove(layer)


def assign_visit(viewer: ViewerModel, layer: Layer, study: str, ordinal: int) -> Layer:
    """Assign an image or mask to a patient's visit; a layer on the slider of visits replaces it.

    Raises
    ------
    MedseqError
        If it has frames, or no layer belongs to that study.
    """
    study_layers = layers_of(viewer, study)
    seq = _layers.from_layer(layer)
    if "t" in seq.axes:
        raise MedseqError(f"{layer.name} has frames; a visit shows one volume. Choose one frame of it first.")
    if not 0 <= ordinal <= max(_studies.facts_of(one)["ordinal"] for one in study_layers) + 1:
        raise MedseqError(f"{study} has no visit {ordinal + 1}, and the next one would not follow the last.")
    pattern = next((one for one in study_layers if _studies.facts_of(one)["ordinal"] == ordinal), None)
    facts = {
        "study": study,
        "ordinal": ordinal,
        "visit_name": f"visit {ordinal + 1}",
        "date": None,
        "study_warnings": [],
    }
    if pattern is not None:
        facts |= {k: v for k, v in _studies.facts_of(pattern).items() if k in _studies.ABOUT}
    elif seq.acquired is not None:
        facts["date"] = seq.acquired.date().isoformat()
    name = " ".join(
        [_studies.patient_and_visit(study, str(facts["visit_name"])), _studies.series_name({**facts, "name": seq.name})]
    )
    look = {"visible": layer.visible, "opacity": layer.opacity, "colormap": layer.colormap}
    if seq.kind == "image":
        look["contrast_limits"] = list(layer.contrast_limits)
    new = add_layers(viewer, [_layers.to_layer_data(seq, visit=ordinal, facts=facts, name=name, **look)])[0]
    if seq.kind == "labels":
        _keep_painting(editing_of(viewer), layer, seq, new)
    viewer.layers.remove(layer)
    describe(viewer)
    return new


def _keep_painting(editing: Editing, layer: Labels, seq: ImageSequence, new: Labels) -> None:
    """Give the layer that replaces another one the marks of painting, turned as its voxels are; it is as unsaved."""
    marks = editing.marks(layer)
    if marks.any:
        flags = _layers.own_array(layer, marks.flags) if _studies.facts_of(layer) else marks.flags
        flags = flags.reshape(seq.data.shape)
        turned = _layers.to_layer_data(seq.replace(data=flags), visit=_studies.facts_of(new)["visit"])[0]
        editing.marks(new).replace(np.asarray(turned))
    if real(layer) in editing.unsaved:
        editing.unsaved.add(new)


def add_visit(viewer: ViewerModel, study: str, path: str | os.PathLike[str]) -> list[Layer]:
    """Open a file or folder as the next visit of a patient whose study is open.

    Raises
    ------
    MedseqError
        If no layer belongs to that study.
    ReadError
        If nothing could be opened.
    """
    layers = add_layers(viewer, read_visit(study, next_ordinal(viewer, study), path))
    describe(viewer)
    return layers


def next_ordinal(viewer: ViewerModel, study: str) -> int:
    """Ordinal, from 0, of a visit that would follow those that are open.

    Raises
    ------
    MedseqError
        If no layer belongs to that study.
    """
    return int(max(_studies.facts_of(layer)["ordinal"] for layer in layers_of(viewer, study))) + 1


def read_visit(
    study: str,
    ordinal: int,
    path: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[_layers.LayerData]:
    """Read a file or folder as layer data of a patient's visit; touches no viewer, so that a worker may do it.

    Parameters
    ----------
    study : str
    ordinal : int
        Ordinal of the visit, from 0.
    path : path
    progress, cancelled : callable, optional

    Raises
    ------
    ReadError
        If nothing could be opened.
    OperationCancelled
        When `cancelled` says so.
    """
    out = []
    for seq in io.read(os.fspath(path), lazy="auto", progress=progress, cancelled=cancelled):
        day = seq.acquired.date().isoformat() if seq.acquired else None
        facts = {
            "study": study,
            "ordinal": ordinal,
            "visit_name": Path(path).name.split(".")[0],
            "date": day,
            "study_warnings": [],
        }
        name = " ".join(
            [
                _studies.patient_and_visit(study, str(facts["visit_name"])),
                _studies.series_name({**facts, "name": seq.name}),
            ]
        )
        out.append(_layers.to_layer_data(seq, visit=None if "t" in seq.axes else ordinal, facts=facts, name=name))
    if not out:
        raise ReadError(f"{path} holds no image that can be opened. Choose the folder of a visit.")
    return out


def layers_of(viewer: ViewerModel, study: str) -> list[Layer]:
    """The layers of a patient.

    Raises
    ------
    MedseqError
        If there are none.
    """
    study_layers = [layer for layer in viewer.layers if _studies.facts_of(layer).get("study") == study]
    if not study_layers:
        raise MedseqError(f"No layer belongs to a study called {study!r}.")
    return study_layers
