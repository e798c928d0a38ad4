"""Dates, order and visits of what is open, set or corrected by hand, and visits that are added later."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from napari_medseq import io
from napari_medseq.errors import MedseqError, ReadError
from napari_medseq.io.naming import date_in
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.registration.byhand import KEY as BY_HAND
from napari_medseq.viewer.editing.model import Editing, VoxelChange, editing_of
from napari_medseq.viewer.identity import describe
from napari_medseq.viewer.layers import conversion as _layers
from napari_medseq.viewer.layers import studies as _studies
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.results.followed import results_of
from napari_medseq.viewer.results.showing import add_layers

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

    from napari_medseq.sequence import ImageSequence
    from napari_medseq.viewer.editing.history import Change


def close_patient(viewer: ViewerModel, study: str) -> None:
    """Remove all layers of a patient, and with them the result; nothing is saved.

    Raises
    ------
    MedseqError
        If no layer belongs to that study.
    """
    study_layers = layers_of(viewer, study)
    editing_of(viewer).saved(
        [layer for layer in study_layers if _layers.layer_kind(layer) == "labels"]
    )  # or not wanted
    for layer in study_layers:
        viewer.layers.remove(layer)


def assign_visit(viewer: ViewerModel, layer: Layer, study: str, ordinal: int) -> Layer:
    """Assign an image or mask to a patient's visit.

    A layer of the same patient moves to the visit, as one step of undo; of any other one, a layer on the slider of visits takes the
    place. A result that was followed before is outdated then.

    Returns
    -------
    Layer
        The layer at that visit.

    Raises
    ------
    MedseqError
        If it has frames and the patient has several visits, no layer belongs to that study, or it shows the followed lesions of
        another visit.
    """
    study_layers = layers_of(viewer, study)
    if _layers.layer_kind(layer) not in ("image", "labels"):
        raise MedseqError(f"{layer.name} is neither an image nor a mask; only these belong to visits.")
    own = _studies.facts_of(layer)
    if own.get("role") == _studies.TRACKED:
        raise MedseqError(
            f"{layer.name} shows what was followed at visit {own['ordinal'] + 1}. Assign the image or the mask itself, then follow again."
        )
    if (own.get("study"), own.get("ordinal")) == (study, ordinal):
        return real(layer)
    seq = _layers.from_layer(layer)
    if not 0 <= ordinal <= max(_studies.facts_of(one)["ordinal"] for one in study_layers) + 1:
        raise MedseqError(f"{study} has no visit {ordinal + 1}, and the next one would not follow the last.")
    pattern = next((one for one in study_layers if _studies.facts_of(one)["ordinal"] == ordinal), None)
    placed = ordinal if pattern is None else _studies.facts_of(pattern).get("visit")
    if "t" in seq.axes and placed is not None:
        raise MedseqError(f"{layer.name} has frames; a visit shows one volume. Choose one frame of it first.")
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
    if own.get("study") == study and own.get("visit") is not None:
        _move(viewer, real(layer), study, facts)
        return real(layer)
    name = " ".join(
        [_studies.patient_and_visit(study, str(facts["visit_name"])), _studies.series_name({**facts, "name": seq.name})]
    )
    look = {"visible": layer.visible, "opacity": layer.opacity, "colormap": layer.colormap}
    if seq.kind == "image":
        look["contrast_limits"] = list(layer.contrast_limits)
    new = add_layers(viewer, [_layers.to_layer_data(seq, visit=placed, facts=facts, name=name, **look)])[0]
    if seq.kind == "labels":
        keep_painting(editing_of(viewer), layer, seq, new)
    if own.get("study") in results_of(viewer) and "role" not in own:
        results_of(viewer)[own["study"]].regrouped = True
    viewer.layers.remove(layer)
    describe(viewer)
    return new


def _move(viewer: ViewerModel, layer: Layer, study: str, facts: Mapping[str, Any]) -> None:
    """Move a layer to another visit of its patient, with everything in it, as one step of undo."""
    now = _studies.facts_of(layer)
    if now["ordinal"] == facts["ordinal"]:
        return
    # napari's duplicate of a layer has the same facts as the layer, and stays where it is
    now = layer.metadata[_layers.KEY] = {**now, "meta": dict(now["meta"])}
    kept = (*_studies.ABOUT, "visit")
    before = {key: now[key] for key in kept if key in now}
    after = {**before, **facts, "visit": facts["ordinal"]}
    by_hand, followed = now["meta"].get(BY_HAND), results_of(viewer).get(study)
    regrouped = followed is not None and followed.regrouped
    weak, editing = ref(layer), editing_of(viewer)

    def put(new: Mapping[str, Any], alignment: object, outdated: bool) -> None:
        moved = weak()
        if moved is None:
            return
        about = _studies.facts_of(moved)
        old = dict(about)
        about.update(new)
        about["meta"].pop(BY_HAND, None)  # how the other visit lies is kept with its own images
        if alignment is not None:
            about["meta"][BY_HAND] = alignment
        move_on_slider(moved, int(new["ordinal"]) - int(old["ordinal"]))
        rename(moved, old)
        if followed is not None:
            followed.regrouped = outdated
        if _layers.layer_kind(moved) == "labels":
            editing.unsaved.add(moved)
        describe(editing.viewer)

    put(after, None, followed is not None and "role" not in now)
    editing.act(
        lambda: put(before, by_hand, regrouped),
        lambda: put(after, None, followed is not None and "role" not in now),
        f"assigning {layer.name} to visit {facts['ordinal'] + 1}",
        of=study,
    )


def move_on_slider(layer: Layer, by: int) -> None:
    """Move a layer along the slider of visits, if it lies on it."""
    if by and [str(a) for a in layer.axis_labels][:1] == ["visit"]:
        translate = np.array(layer.translate)
        translate[0] += by
        layer.translate = translate


def rename(layer: Layer, before: Mapping[str, Any]) -> None:
    """Let the name of a layer begin with its visit and date as its facts have them now; `before` are the earlier
    facts."""
    old, new = (
        _studies.title(str(facts["study"]), str(facts.get("visit_name")), _layers.visit_date(facts))
        for facts in (before, _studies.facts_of(layer))
    )
    if old != new and layer.name.startswith(old):
        layer.name = new + layer.name.removeprefix(old)


def keep_painting(editing: Editing, layer: Labels, seq: ImageSequence, new: Labels) -> None:
    """Give the layer that replaces another one the marks of painting, turned as its voxels are, and the steps of undo, if its voxels
    lie in the same order; it is as unsaved."""
    marks = editing.marks(layer)
    if marks.any:
        flags = _layers.own_array(layer, marks.flags) if _studies.facts_of(layer) else marks.flags
        flags = flags.reshape(seq.data.shape)
        turned = _layers.to_layer_data(seq.replace(data=flags), visit=_studies.facts_of(new)["visit"])[0]
        editing.marks(new).replace(np.asarray(turned))
    old = real(layer)
    if np.array_equal(np.asarray(old.data).reshape(-1), np.asarray(new.data).reshape(-1)):
        editing.history.exchange(lambda change: _in_layer(new, change, old))
    if old in editing.unsaved:
        editing.unsaved.add(new)
        editing.unsaved.discard(old)


def _in_layer(new: Labels, change: Change, old: Labels) -> Change:
    """A change of the old layer as one of the new layer; another one as it is."""
    return replace(change, layer=ref(new)) if isinstance(change, VoxelChange) and change.layer() is old else change


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
        on = seq.acquired.date() if seq.acquired else date_in(Path(path).name)
        day = on.isoformat() if on else None
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
