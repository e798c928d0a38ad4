"""Maps of what changed between two visits, for viewing: where followed lesions are new, gone, grown and shrunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet, ref

import numpy as np

from napari_medseq.errors import MedseqError
from napari_medseq.viewer.editing.model import Editing, editing_of
from napari_medseq.viewer.layers import conversion as _layers
from napari_medseq.viewer.layers import studies as _studies
from napari_medseq.viewer.results.followed import Followed, rearranged_since, result_of, results_of, why_outdated
from napari_medseq.viewer.results.showing import add_layers

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels
    from napari.utils.colormaps import DirectLabelColormap

    from napari_medseq.progression import Progression

#: `role` in the metadata of maps of change, which are not masks of the study
CHANGE = "change"
#: what is added to the name of a map when its result was changed since
_OUTDATED = " (outdated)"

#: change → colour, distinguishable without telling red from green (Okabe and Ito 2008, jfly.uni-koeln.de/color)
_COLOURS: dict[int, tuple[str, tuple[float, float, float, float]]] = {
    1: ("grey", (0.6, 0.6, 0.6, 0.6)),  # unchanged
    2: ("vermilion", (0.835, 0.369, 0.0, 1.0)),  # new
    3: ("blue", (0.0, 0.447, 0.698, 1.0)),  # gone
    4: ("yellow", (0.941, 0.894, 0.259, 1.0)),  # grown
    5: ("sky blue", (0.337, 0.706, 0.914, 1.0)),  # shrunk
    6: ("purple", (0.8, 0.475, 0.655, 1.0)),  # not seen before
}


#: a result and the corrections that it had
_State = tuple["ref[Progression]", tuple[str, ...]]


class _Map(NamedTuple):
    """The name of a map of change, the study, and the result that it shows; None if that one is gone."""

    name: str
    study: str
    state: _State | None


_MAPS: WeakKeyDictionary[Labels, _Map] = WeakKeyDictionary()
#: the models of editing whose steps mark maps that are outdated
_WATCHED: WeakSet[Editing] = WeakSet()


def show_change(viewer: ViewerModel, earlier: int, later: int, *, study: str | None = None) -> Labels:
    """Show where followed lesions are new, gone, grown and shrunk between two visits, as a Labels layer at the later visit.

    The map is for viewing only; see `Progression.change_map`. It replaces an earlier map of the same visits. Its name says so when
    the result was corrected or followed again since.

    Parameters
    ----------
    viewer : ViewerModel
    earlier, later : int
        Ordinals of visits of the study, from 0.
    study : str, optional
        The study whose result is meant, if there are several.

    Raises
    ------
    MedseqError
        If no lesions are followed, a visit has no mask, or what is painted is not followed yet.
    """
    followed = result_of(viewer, study)
    why = why_outdated(viewer, followed)
    if why:
        raise MedseqError(f"{why} Follow again first; the map is of what is followed.")
    at = followed.places
    for visit in (earlier, later):
        if visit not in at:
            raise MedseqError(f"Visit {visit + 1} is not among those that were followed.")
    changed = followed.progression.change_map(at.index(earlier), at.index(later))
    still = None if len(followed.source.visits) == 1 else later
    name = f"{_studies.visit_title(followed.source, later)} change since visit {earlier + 1}"
    for layer in [layer for layer in viewer.layers if layer in _MAPS and _MAPS[layer].name == name]:
        viewer.layers.remove(layer)
    data = _studies.visit_layer_data(
        followed.source, later, changed, visit=still, name=name, colormap=_colormap(), opacity=0.7,
    )  # fmt: skip
    data[1]["metadata"][_layers.KEY]["role"] = CHANGE
    active = viewer.layers.selection.active
    layer_shown: Labels = add_layers(viewer, [data])[0]
    layer_shown.editable = False
    _MAPS[layer_shown] = _Map(name, followed.source.name, _state(followed))
    _watch(editing_of(viewer))
    if active in viewer.layers:
        viewer.layers.selection.active = active
    return layer_shown


def change_in_words(layer: Labels) -> str:
    """The contents of a map of change in words: each kind of change with its colour and its number of voxels."""
    values, counts = np.unique(np.asarray(layer.data), return_counts=True)
    names = _layers.from_layer(layer).label_names
    parts = [
        f"{names[int(v)]} ({_COLOURS[int(v)][0]}) {n}"
        for v, n in zip(values, counts, strict=True)
        if int(v) in _COLOURS
    ]
    return f"Voxels: {', '.join(parts) or 'no lesion at either visit'}. To look at; volumes are in the tables."


def _colormap() -> DirectLabelColormap:
    from napari.utils.colormaps import DirectLabelColormap

    table: dict[int | None, tuple[float, ...]] = {None: (0.6, 0.6, 0.6, 1.0), 0: (0.0, 0.0, 0.0, 0.0)}
    return DirectLabelColormap(color_dict=table | {value: colour for value, (_, colour) in _COLOURS.items()})


def _state(followed: Followed) -> _State:
    return ref(followed.progression), tuple(followed.progression.corrections)


def is_current(viewer: ViewerModel, layer: Labels) -> bool:
    """Whether a map of change is open and shows the present result."""
    known = _MAPS.get(layer)
    followed = None if known is None else results_of(viewer).get(known.study)
    if layer not in viewer.layers or known is None or followed is None or known.state != _state(followed):
        return False
    return not rearranged_since(viewer, followed)


def map_facts(viewer: ViewerModel, layer: Labels) -> dict[str, object] | None:
    """What a session holds of a map of change, for `restore_map`; None for another layer."""
    known = _MAPS.get(layer)
    return None if known is None else {"name": known.name, "study": known.study, "current": is_current(viewer, layer)}


def restore_map(viewer: ViewerModel, layer: Labels, facts: Mapping[str, Any]) -> None:
    """Let a layer of a session be a map of change again, whose name follows the result of its patient."""
    study = _studies.facts_of(layer).get("study")  # which may have got another name
    followed = results_of(viewer).get(str(study))
    state = _state(followed) if followed is not None and facts.get("current") else None
    layer.editable = False
    _MAPS[layer] = _Map(str(facts["name"]).replace(str(facts["study"]), str(study), 1), str(study), state)
    _watch(editing_of(viewer))


def _watch(editing: Editing) -> None:
    """Let the names of maps say whether they show the present result, after each step, undo and redo."""
    if editing in _WATCHED:
        return
    _WATCHED.add(editing)
    weak = ref(editing)

    def mark(_event: object = None) -> None:
        alive = weak()
        if alive is None:
            return
        for layer in [layer for layer in alive.viewer.layers if layer in _MAPS]:
            name = _MAPS[layer].name + ("" if is_current(alive.viewer, layer) else _OUTDATED)
            if layer.name != name:
                layer.name = name

    editing.events.changed.connect(mark)
