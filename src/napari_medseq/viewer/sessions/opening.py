"""Opening a session: first it is read, which touches no viewer and may be done by a worker, then it is shown layer by
layer."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np

from napari_medseq import io
from napari_medseq.errors import MedseqError, OperationCancelled, ReadError, warn
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.registration.byhand import KEY as BY_HAND
from napari_medseq.sequence import ImageSequence, Study
from napari_medseq.viewer.editing.marks import Flags
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.identity import describe
from napari_medseq.viewer.layers import conversion as _layers
from napari_medseq.viewer.layers import studies as _studies
from napari_medseq.viewer.layers.appearance import colormap_of_facts
from napari_medseq.viewer.layers.namesakes import renamed, renamed_studies
from napari_medseq.viewer.layers.placement import camera_of, follow_order
from napari_medseq.viewer.masks.difference import restore_difference
from napari_medseq.viewer.results.colouring import colour_by
from napari_medseq.viewer.results.followed import results_of, show_progression
from napari_medseq.viewer.results.showing import add_layers
from napari_medseq.viewer.sessions.records import read_labels, restored
from napari_medseq.viewer.sessions.saving import FILE, FORMAT, remember
from napari_medseq.viewer.teaching.last_answers import remember_answer
from napari_medseq.viewer.visits.changes import restore_map

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_medseq.progression import Progression


@dataclass(frozen=True, eq=False)
class SessionLayer:
    """A layer of a session that was read and is not shown yet.

    Attributes
    ----------
    data : LayerData
    about : mapping
        Facts about its study and visit.
    flags : ndarray of uint8 or None
        The marks of painting; None for an image, and if nothing is painted.
    number : int
        Its place among all layers of the session, of which some may not be readable.
    contour : int
        Width of the outline as which a mask is drawn; 0: filled.
    change, difference : mapping or None
        What a map of change, or a layer of differences between two masks, was made from.
    """

    data: _layers.LayerData
    about: Mapping[str, object]
    flags: Flags | None
    number: int = 0
    contour: int = 0
    change: Mapping[str, Any] | None = None
    difference: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class SessionContent:
    """A session that was read and is not shown yet; from `read_session`.

    Attributes
    ----------
    path : Path
        Its folder.
    layers : tuple of SessionLayer
    results : tuple of (str, Progression, mapping)
        Patient, result, and what the session's JSON holds of it.
    answers : tuple of mapping
        What answers came from; layers by their `SessionLayer.number`.
    view : mapping
        Sliders, camera and the active layer.
    missing : tuple of str
        What could not be read, and why.
    """

    path: Path
    layers: tuple[SessionLayer, ...]
    results: tuple[tuple[str, Progression, Mapping[str, Any]], ...]
    answers: tuple[Mapping[str, Any], ...]
    view: Mapping[str, Any]
    missing: tuple[str, ...]


def read_session(
    folder: str | os.PathLike[str],
    *,
    taken: Collection[str] = (),
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> SessionContent:
    """Read a session: images from where they lie, masks, what was painted, results; touches no viewer.

    Parameters
    ----------
    folder : path
    taken : collection of str
        Names of the patients that are open; one of the session that is called so gets another name.
    progress, cancelled : callable, optional

    Raises
    ------
    ReadError
        If the folder is not a session, or is one of a later version.
    OperationCancelled
        When `cancelled` says so.
    """
    from napari_medseq.progression import Progression

    path = Path(folder)
    facts = _read(path)
    files = path / Path(str(facts.get("files", ""))).name
    layers: list[SessionLayer] = []
    missing: list[str] = []
    opened: dict[str, list[ImageSequence]] = {}
    whole = len(facts["layers"]) + len(facts["results"])
    for number, entry in enumerate(facts["layers"]):
        check(cancelled)
        try:
            layer = _session_layer(path, files, entry, opened, cancelled)
            kept = {name: entry.get(name) for name in ("change", "difference")}
            layers.append(replace(layer, number=number, contour=int(entry.get("contour", 0)), **kept))
        except OperationCancelled:
            raise
        except MedseqError as error:
            missing.append(f"{entry['look']['name']}: {error}")
        if progress is not None:
            progress(number + 1, whole, str(entry["look"]["name"]))
    results = []
    for name, result in facts["results"].items():
        check(cancelled)
        try:
            results.append((name, Progression.load(files / Path(str(result["folder"])).name), result))
        except MedseqError as error:
            missing.append(f"result of {name}, whose masks can be followed again in Progression: {error}")
        if progress is not None:
            progress(len(facts["layers"]) + len(results), whole, f"result of {name}")
    answers = tuple(facts.get("answers", ()))
    return _apart(SessionContent(path, tuple(layers), tuple(results), answers, facts["view"], tuple(missing)), taken)


def _apart(content: SessionContent, taken: Collection[str]) -> SessionContent:
    """The session, of which no patient has a name that is taken."""
    studies = [str(name) for one in content.layers if (name := one.about.get("study")) is not None]
    new = renamed_studies([*studies, *(name for name, _, _ in content.results)], taken)
    if not new:
        return content
    layers = []
    for one in content.layers:
        data, kwargs, kind = one.data
        study = str(one.about.get("study"))
        about = {**one.about, "study": new[study]} if study in new else one.about
        layers.append(replace(one, data=(data, renamed(kwargs, new), kind), about=about))
    results = tuple((new.get(name, name), progression, about) for name, progression, about in content.results)
    return replace(content, layers=tuple(layers), results=results)


#: layers of sessions → the layers that show them
_SHOWN: WeakKeyDictionary[SessionLayer, ref[Layer]] = WeakKeyDictionary()


def show_session_layer(viewer: ViewerModel, session_layer: SessionLayer) -> Layer:
    """Add a layer of a session with the marks of its painting."""
    describe(viewer)
    layer = add_layers(viewer, [session_layer.data])[0]
    _studies.facts_of(layer).update(session_layer.about)
    if session_layer.flags is not None:
        editing_of(viewer).marks(layer).replace(session_layer.flags)
    if session_layer.contour:
        layer.contour = session_layer.contour
    _SHOWN[session_layer] = ref(layer)
    return layer


def finish_session(viewer: ViewerModel, content: SessionContent) -> None:
    """After its layers were added, restore results, what answers came from, and the view, and mark all of it as saved.

    What was open before keeps its undo steps, and stays unsaved if it was.

    Images that are no longer where they were are named in a warning.
    """
    editing = editing_of(viewer)
    unsaved, steps = list(editing.unsaved), editing.history.copy()
    for name, progression, about in content.results:
        _show_result(viewer, progression, name, about)
    _restore_answers(content)
    _restore_comparisons(viewer, content)
    _look(viewer, content.view)
    editing.history = steps
    editing.saved([layer for layer in editing.unsaved if layer not in unsaved])
    remember(content.path)
    if content.missing:
        text = f"Not everything of {content.path.name} could be opened: {'; '.join(content.missing)}"
        warn(text)


def open_session(viewer: ViewerModel, folder: str | os.PathLike[str]) -> list[Layer]:
    """Open a session: images from their files, masks, painting, results, corrections and view.

    Images that are no longer where they were are named in a warning; masks and results come back all the same.

    Raises
    ------
    ReadError
        If the folder is not a session, or is one of a later version.
    """
    content = read_session(folder, taken=_studies.studies_in(viewer.layers))
    added = [show_session_layer(viewer, one) for one in content.layers]
    finish_session(viewer, content)
    return added


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = restored(json.loads((path / FILE).read_text(encoding="utf-8")))
        if not isinstance(facts, dict) or facts.get("format") not in (1, FORMAT):
            raise ReadError(
                f"{path} is a session of another version of napari-medseq. Update the package and open it again."
            )
        _ = [(k["kind"], k["look"]["name"], k["about"], k["visit"], k["sequence"]) for k in facts["layers"]]
        _ = facts["results"], facts["view"]
        _ = [
            (int(k["answer"]), int(k["image"]), int(k["labels"]), k["doubt"], k["finished"])
            for k in facts.get("answers", ())
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReadError(
            f"{path} is not a session that can be opened: {error}. Choose a folder that Save session wrote."
        ) from error
    return facts


def _session_layer(
    path: Path,
    files: Path,
    entry: Mapping[str, Any],
    opened: dict[str, list[ImageSequence]],
    cancelled: Cancelled | None,
) -> SessionLayer:
    seq, flags = _sequence(path, files, entry, opened, cancelled)
    extra = dict(entry["look"])
    if seq.kind == "image":
        extra |= {"contrast_limits": entry["contrast_limits"], "colormap": entry["colormap"]}
    elif "colours" in entry:  # not in sessions of earlier versions
        extra["colormap"] = colormap_of_facts(entry["colours"])
    about = entry["about"]
    data = _layers.to_layer_data(seq, visit=entry["visit"], facts=about, along=about.get("along", "z"), **extra)
    if flags is None or not flags.any():
        return SessionLayer(data, about, None)
    flags_shown = np.asarray(_layers.to_layer_data(seq.replace(data=flags), visit=entry["visit"])[0])
    return SessionLayer(data, about, flags_shown)


def _sequence(
    path: Path,
    files: Path,
    entry: Mapping[str, Any],
    opened: dict[str, list[ImageSequence]],
    cancelled: Cancelled | None,
) -> tuple[ImageSequence, Any]:
    """The sequence of a stored layer, and its marks if it is labels."""
    facts, flags = dict(entry["sequence"]), None
    if "source" in entry:
        source = str(entry["source"])
        beside = path / str(entry.get("beside", ""))
        if "beside" in entry and not Path(source).exists() and beside.exists():  # moved together with the session
            source = str(beside.resolve())
        if source not in opened:
            opened[source] = io.read(source, lazy="auto", cancelled=cancelled)
        seq = _shown_before(opened[source], facts, source)
        by_hand = {k: v for k, v in facts["meta"].items() if k == BY_HAND}  # facts that the file does not hold
        return seq.replace(meta={**seq.meta, **by_hand}), None
    file = files / Path(str(entry["file"])).name
    if entry["kind"] == "labels":
        data, flags = read_labels(file)
    else:
        try:
            data = np.load(file, allow_pickle=False)
        except (OSError, EOFError, ValueError) as error:
            raise ReadError(f"{file} is damaged: {error}.") from error
    acquired = facts.pop("acquired")
    seq = ImageSequence(
        data, tuple(facts.pop("axes")), facts.pop("affine"), kind=entry["kind"], warnings=tuple(facts.pop("warnings")),
        acquired=None if acquired is None else datetime.fromisoformat(acquired), **facts,
    )  # fmt: skip
    return seq, flags


def _shown_before(found: list[ImageSequence], facts: Mapping[str, Any], source: str) -> ImageSequence:
    """Of the images that a file or folder holds, the one that a layer of the session showed.

    A name alone does not say which: visits in one folder have series of the same name, of which later ones may be numbered.

    Raises
    ------
    ReadError
        If none of several is the one.
    """
    meta = facts["meta"]

    def likeness(seq: ImageSequence) -> tuple[bool, ...]:
        acquired = None if seq.acquired is None else seq.acquired.isoformat()
        same = (seq.meta.get(key) == meta.get(key) for key in ("series_uid", "study_uid", "study_date"))
        return *same, seq.name == facts["name"], np.allclose(seq.affine, facts["affine"]), acquired == facts["acquired"]

    best = max(found, key=likeness)
    same_series = meta.get("series_uid") is not None and best.meta.get("series_uid") == meta["series_uid"]
    if len(found) > 1 and not same_series and best.name != facts["name"]:
        raise ReadError(f"{source} does not hold {facts['name']} any more; open it again.")
    return best


def _show_result(viewer: ViewerModel, progression: Progression, name: str, about: Mapping[str, Any]) -> None:
    try:
        study = _studies.study_from_layers(viewer.layers, name)
    except MedseqError:
        study = Study(name, ())
    if len(study.visits) < len(progression.dates):
        from napari_medseq.viewer.results.showing import study_for

        study = Study(name, study_for(progression).visits)
    places = _studies.ordinals(study, progression)
    known = about.get("places")  # not in sessions of earlier versions
    if known is not None and len(known) == len(places) == len(set(known)):
        places = [int(place) for place in known]
        study = _studies.rearranged(study, {place: place for place in places})  # of a visit nothing may be open
    if places != sorted(places):  # alignments to the visit that was the first are no longer those of the images
        progression.provenance.pop(BY_HAND, None)
    images = [next(iter(study.visits[k].images), None) for k in places]
    if all(image is None for image in progression.images):
        progression.images = images
    show_progression(viewer, progression, study, card=str(about["card"]), places=places)
    if known is not None and places == known:
        followed = results_of(viewer)[name]
        followed.days = list(about.get("days", followed.days))
        followed.regrouped = bool(about.get("regrouped"))
    if about.get("colours", "identity") != "identity":
        with suppress(MedseqError):  # a rule of a later version
            colour_by(viewer, about["colours"], study=name, rule=str(about.get("rule")))


def _restore_answers(content: SessionContent) -> None:
    """Tell of each answer what it came from, where all three of its layers could be opened."""
    shown = {one.number: layer for one in content.layers if one in _SHOWN and (layer := _SHOWN[one]()) is not None}
    for facts in content.answers:
        answer, image, labels = (shown.get(int(facts[role])) for role in ("answer", "image", "labels"))
        if answer is not None and image is not None and labels is not None:
            remember_answer(answer, image, labels, facts["doubt"], facts["finished"], facts.get("axis"))


def _restore_comparisons(viewer: ViewerModel, content: SessionContent) -> None:
    """Let maps of change and layers of differences say again whether they are of what is shown."""
    shown = [(one, layer) for one in content.layers if one in _SHOWN and (layer := _SHOWN[one]()) is not None]
    by_name = {one.data[1]["name"]: layer for one, layer in shown}
    for one, layer in shown:
        if one.change is not None:
            restore_map(viewer, layer, one.change)
        if one.difference is not None:
            first, second = (by_name.get(str(one.difference[which])) for which in ("first", "second"))
            if first is not None and second is not None:
                restore_difference(viewer, layer, first, second, one.difference)


def _look(viewer: ViewerModel, view: Mapping[str, Any]) -> None:
    with suppress(ValueError, IndexError, KeyError):  # there may be fewer layers than before
        if len(view["order"]) == viewer.dims.ndim:
            viewer.dims.order = tuple(int(a) for a in view["order"])
            follow_order(viewer)
            for axis, where in enumerate(view["point"]):
                viewer.dims.set_point(axis, float(where))
        camera = camera_of(viewer)
        camera.center, camera.zoom = tuple(view["center"]), float(view["zoom"])
        if view["active"] in viewer.layers:
            viewer.layers.selection.active = viewer.layers[view["active"]]
