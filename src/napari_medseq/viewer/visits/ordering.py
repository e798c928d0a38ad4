"""Order and dates of a patient's visits, corrected by hand: everything that belongs to a visit goes with it.

The ordinal of a visit is its place on the slider. When visits change places, the layers of each one move as a whole:
images, masks with what is painted in them, lesions that were followed, marks and landmarks. A result stays as it was
followed, finds its visits where they are now, and counts as outdated until lesions are followed again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medseq import geometry
from napari_medseq.errors import MedseqError, warn
from napari_medseq.registration.byhand import HandAlignment
from napari_medseq.viewer.alignments import hand_alignment, put_alignment
from napari_medseq.viewer.canvases.panes import close_panes
from napari_medseq.viewer.editing.active import shown_visit
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.identity import describe, patient_in_front
from napari_medseq.viewer.layers import studies as _studies
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.results.followed import results_of
from napari_medseq.viewer.visits.arranging import layers_of, move_on_slider, rename

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

#: how the note of a carried mask names the visit that it comes from
_ORIGIN = re.compile(r"visit (\d+)(?: \(.*\))?")


def set_visit_date(viewer: ViewerModel, study: str, ordinal: int, day: date | None) -> int:
    """Set or correct the date of a visit, which then takes its place in the order of dates; one step of undo.

    Visits without a date keep their places. A result that is shown is outdated until lesions are followed again.

    Parameters
    ----------
    viewer : ViewerModel
    study : str
        Name of the patient's study.
    ordinal : int
        Ordinal of the visit, from 0.
    day : date or None
        None: the date is unknown.

    Returns
    -------
    int
        The ordinal of the visit afterwards.

    Raises
    ------
    MedseqError
        If no layer belongs to that visit.
    """
    days = _studies.days_of(layers_of(viewer, study))
    _check_open(study, days, ordinal)
    text = None if day is None else day.isoformat()
    if text == days[ordinal]:
        return ordinal
    to = _by_date({**days, ordinal: text})
    _arrange(viewer, study, _Arrangement(to, {to[ordinal]: text}), f"setting the date of visit {ordinal + 1}")
    return to[ordinal]


def reorder_visits(viewer: ViewerModel, study: str, order: Sequence[int]) -> None:
    """Put the visits of a patient in another order; one step of undo.

    Images, masks with their painting, and followed lesions move with their visit; the slider goes on showing the same visit. A
    result that is shown is outdated until lesions are followed again.

    Parameters
    ----------
    viewer : ViewerModel
    study : str
        Name of the patient's study.
    order : sequence of int
        The present ordinals, from 0, of all visits that are open, in the new order.

    Raises
    ------
    MedseqError
        If these are not the visits that are open, or a visit would lie before one of an earlier date.

    Examples
    --------
    >>> import numpy as np
    >>> from napari.components import ViewerModel
    >>> import napari_medseq as ms
    >>> from napari_medseq import viewer as view
    >>> scan = ms.ImageSequence(np.zeros((3, 4, 4)), ("z", "y", "x"), np.eye(4))
    >>> visits = tuple(ms.Visit(None, (scan.replace(name=name),), (), name) for name in ("late", "early"))
    >>> viewer = ViewerModel()
    >>> _ = view.add_study(viewer, ms.Study("P1", visits))
    >>> view.reorder_visits(viewer, "P1", [1, 0])
    >>> [visit.name for visit in view.study_of(viewer).visits]
    ['early', 'late']
    """
    days = _studies.days_of(layers_of(viewer, study))
    if sorted(order) != sorted(days):
        listed = ", ".join(str(k) for k in sorted(days))
        raise MedseqError(f"The order {list(order)} does not name each open visit of {study} once; these are {listed}.")
    known = [(days[k], k) for k in order if days[k] is not None]
    for (one, earlier), (other, later) in pairwise(known):
        if str(one) > str(other):
            raise MedseqError(
                f"Visit {earlier + 1} ({one}) cannot lie before visit {later + 1} ({other}): visits are in the order of their dates. "
                "Correct a date instead; the visit then takes its place."
            )
    to = dict(zip(order, sorted(days), strict=True))
    if any(old != new for old, new in to.items()):
        _arrange(viewer, study, _Arrangement(to), "putting visits in another order")


def move_visit(viewer: ViewerModel, study: str, ordinal: int, by: int) -> int:
    """Move a visit `by` places later (negative: earlier) among those that are open; see `reorder_visits`.

    Returns
    -------
    int
        Its ordinal afterwards; the same as before at the end of the order.
    """
    days = _studies.days_of(layers_of(viewer, study))
    _check_open(study, days, ordinal)
    order = sorted(days)
    at = order.index(ordinal)
    target = min(max(at + by, 0), len(order) - 1)
    order.insert(target, order.pop(at))
    reorder_visits(viewer, study, order)
    return sorted(days)[target]


def _check_open(study: str, days: Mapping[int, str | None], ordinal: int) -> None:
    if ordinal not in days:
        raise MedseqError(f"{study} has no visit {ordinal + 1} that is open.")


def _by_date(days: Mapping[int, str | None]) -> dict[int, int]:
    """The ordinal that each visit gets if those with a date change places until they are in its order."""
    dated = sorted(k for k, day in days.items() if day is not None)
    to = {k: k for k in days}
    return to | dict(zip(sorted(dated, key=lambda k: str(days[k])), dated, strict=True))


# -- the step ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Arrangement:
    """Where visits go, and what is set there.

    Attributes
    ----------
    to : mapping of int to int
        Present ordinal → new ordinal, one to one.
    dates : mapping of int to str or None
        The date that the visit of a new ordinal gets.
    aligned : mapping of int to HandAlignment or None
        The alignment made by hand that the visit of a new ordinal gets.
    """

    to: Mapping[int, int]
    dates: Mapping[int, str | None] = field(default_factory=dict)
    aligned: Mapping[int, HandAlignment | None] = field(default_factory=dict)


def _arrange(viewer: ViewerModel, study: str, new: _Arrangement, name: str) -> None:
    """Arrange the visits as one step of undo."""
    editing, days = editing_of(viewer), _studies.days_of(layers_of(viewer, study))
    back = {place: old for old, place in new.to.items()}
    hands = {k: hand_alignment(viewer, study, k) for k in days}
    aligned, lost = _to_the_first(hands, back.get(0, 0))
    new = _Arrangement(new.to, new.dates, {new.to.get(k, k): hand for k, hand in aligned.items()})
    old = _Arrangement(back, {back.get(k, k): days[back.get(k, k)] for k in new.dates}, {k: hands[k] for k in aligned})
    _put(viewer, study, new)
    # what was opened in the meantime goes with its visit, so that this goes by visits and not by layers
    editing.act(lambda: _put(editing.viewer, study, old), lambda: _put(editing.viewer, study, new), name, of=study)
    if lost:
        text = (
            f"Another visit is the first one now, and how visits lie to it is not known: alignments made by hand at "
            f"{', '.join(f'visit {new.to.get(k, k) + 1}' for k in lost)} were taken out. Align them again, or undo."
        )
        warn(text)


def _to_the_first(
    hands: Mapping[int, HandAlignment | None], first: int
) -> tuple[dict[int, HandAlignment | None], list[int]]:
    """Alignments to visit 0 as alignments to another one, where they are known, and those that are lost.

    Both are by present ordinals; alignments that stay as they are are in neither.
    """
    if first == 0 or not any(hands.values()):
        return {}, []
    new_first = hands.get(first)
    if new_first is None:
        return {k: None for k, hand in hands.items() if hand is not None}, [
            k for k, h in hands.items() if h is not None
        ]
    onto = np.linalg.inv(new_first.to_first)
    out: dict[int, HandAlignment | None] = {first: None}
    for k, hand in hands.items():
        if k != first and (hand is not None or k == 0):
            matrix = onto if hand is None else onto @ hand.to_first
            known = hand or new_first
            out[k] = HandAlignment(geometry.as_affine(matrix), known.how, known.error_mm)
    return out, []


def _put(viewer: ViewerModel, study: str, new: _Arrangement) -> None:
    """Move all layers of a patient to the new places of their visits, and results and the slider with them."""
    editing, shown, front = editing_of(viewer), shown_visit(viewer), patient_in_front(viewer)
    close_panes(viewer)  # a pane shows the visit of one ordinal
    study_layers = [layer for layer in viewer.layers if _studies.facts_of(layer).get("study") == study]
    # napari's duplicate of a layer has the same facts as the layer, so that all are read before any is changed
    for layer, before in [(layer, dict(_studies.facts_of(layer))) for layer in study_layers]:
        _put_layer(layer, before, new)
    notes = {id(note): note for layer in study_layers if (note := _note(layer)) is not None}
    for note in notes.values():
        _rename_origin(note, study_layers, new.to)
    for ordinal, hand in new.aligned.items():
        put_alignment(viewer, study, ordinal, hand)
    followed = results_of(viewer).get(study)
    if followed is not None:
        followed.places = [new.to.get(place, place) for place in followed.places]
        followed.source = _studies.rearranged(followed.source, new.to)
    editing.unsaved.update(layer for layer in study_layers if layer_kind(layer) == "labels")
    if shown is not None and front == study and new.to.get(shown, shown) != shown:
        viewer.dims.set_point(list(viewer.dims.axis_labels).index("visit"), float(new.to[shown]))
    describe(viewer)
    editing.events.changed()


def _put_layer(layer: Layer, before: Mapping[str, Any], new: _Arrangement) -> None:
    """Move a layer, whose facts were `before`, to the new place of its visit."""
    facts, old = _studies.facts_of(layer), int(before["ordinal"])
    place = new.to.get(old, old)
    if before.get("visit_name") == f"visit {old + 1}" and not _is_folder(before):
        facts["visit_name"] = f"visit {place + 1}"
    facts["ordinal"] = place
    if place in new.dates:
        facts["date"] = new.dates[place]
    if before.get("visit") is not None:
        facts["visit"] = place
    move_on_slider(layer, place - old)
    rename(layer, before)


def _is_folder(facts: Mapping[str, Any]) -> bool:
    """Whether a visit has the name of a folder, which stays, and not only that of its number."""
    source = facts.get("meta", {}).get("source")
    return isinstance(source, str) and facts["visit_name"] in Path(source).parts


def _note(layer: Layer) -> dict[str, object] | None:
    """What a mask that was carried from another visit says of that."""
    note = _studies.facts_of(layer).get("meta", {}).get("carried")
    return note if isinstance(note, dict) else None


def _rename_origin(note: dict[str, object], study_layers: Sequence[Layer], to: Mapping[int, int]) -> None:
    """Let the note of a carried mask name the visit that it comes from as it is called now."""
    found = _ORIGIN.fullmatch(str(note.get("from")))
    if found is None:
        return
    old = int(found[1]) - 1
    place = to.get(old, old)
    at_visit = [f for f in map(_studies.facts_of, study_layers) if f["ordinal"] == place]
    day = at_visit[0].get("date") if at_visit else None
    note["from"] = f"visit {place + 1}" + (f" ({day})" if day else "")
