"""A patient that was opened with one visit gets onto the slider of visits when a second one is added."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from napari_medseq.errors import MedseqError
from napari_medseq.viewer.editing.active import BRUSH
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.identity import describe
from napari_medseq.viewer.layers import conversion as _layers
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.layers.studies import ABOUT, facts_of
from napari_medseq.viewer.results.followed import results_of
from napari_medseq.viewer.results.showing import add_layers
from napari_medseq.viewer.teaching.last_answers import answered, remember_answer
from napari_medseq.viewer.visits.arranging import keep_painting, layers_of, next_ordinal, read_visit

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_LOOK = {
    "image": ("name", "visible", "opacity", "blending", "colormap", "contrast_limits", "gamma", "interpolation2d"),
    "labels": ("name", "visible", "opacity", "blending", "colormap"),
}


def add_visit(viewer: ViewerModel, study: str, path: str | os.PathLike[str]) -> list[Layer]:
    """Open a file or folder as the next visit of a patient whose study is open.

    Raises
    ------
    MedseqError
        If no layer belongs to that study, or lesions were followed at its only visit.
    ReadError
        If nothing could be opened.
    """
    data = read_visit(study, next_ordinal(viewer, study), path)
    put_onto_slider(viewer, study)
    layers = add_layers(viewer, data)
    describe(viewer)
    return layers


def put_onto_slider(viewer: ViewerModel, study: str) -> list[Layer]:
    """Give the volumes of a patient an axis of visits, as a patient with several visits has it; otherwise they would be seen at every
    visit.

    Each layer is replaced by one with the same voxels, look, painting, steps of undo and answers. Layers that have the axis, and
    series with frames, stay as they are.

    Returns
    -------
    list of Layer
        The new layers.

    Raises
    ------
    MedseqError
        If no layer belongs to that study, or lesions were followed at its only visit; nothing is changed then.
    """
    viewer = real(viewer)  # what is unsaved is known by the layers themselves
    flat = [
        real(layer)
        for layer in layers_of(viewer, study)
        if _layers.layer_kind(layer) in _LOOK and facts_of(layer).get("visit") is None
    ]
    flat = [layer for layer in flat if "t" not in _layers.from_layer(layer).axes]
    if flat and study in results_of(viewer):
        raise MedseqError(
            f"Lesions of {study} were followed at its only visit. Save what is to be kept, close the patient, and open the folder that "
            "holds all of its visits."
        )
    active, new = viewer.layers.selection.active, {layer: _replaced(viewer, layer) for layer in flat}
    for old, layer in new.items():
        known = answered(old)
        if known is None:
            continue
        image, labels = known.image(), known.labels()
        if image in new and labels in new:
            remember_answer(layer, new[image], new[labels], known.doubt, known.finished, known.axis)
    for old in flat:
        viewer.layers.remove(old)
        new[old].name = old.name
    if active is not None and real(active) in new:
        viewer.layers.selection.active = new[real(active)]
    return list(new.values())


def _replaced(viewer: ViewerModel, layer: Layer) -> Layer:
    """Add a layer like this one, at its visit on the slider, just above it."""
    about, kind, editing = facts_of(layer), _layers.layer_kind(layer), editing_of(viewer)
    seq, look = _layers.from_layer(layer), {name: getattr(layer, name) for name in _LOOK[kind]}
    facts = {key: about[key] for key in ABOUT if key in about}
    new = add_layers(viewer, [_layers.to_layer_data(seq, visit=about["ordinal"], facts=facts, **look)])[0]
    mine = facts_of(new)
    mine.update({key: value for key, value in about.items() if key not in mine})
    if kind == "labels":
        keep_painting(editing, layer, seq, new)
        for name in BRUSH:
            setattr(new, name, getattr(layer, name))
        if layer.visible:
            new.mode = str(layer.mode)
    viewer.layers.move(viewer.layers.index(new), viewer.layers.index(layer) + 1)
    return new
