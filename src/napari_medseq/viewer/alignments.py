"""Alignments of visits made by hand, kept with the images: in the layers, in sessions, and in the record of a
result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from napari_medseq.errors import MedseqError
from napari_medseq.registration.byhand import KEY, HandAlignment
from napari_medseq.sequence import Study
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.layers.studies import facts_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_medseq.progression import Progression


def hand_alignment(viewer: ViewerModel, study: str, ordinal: int) -> HandAlignment | None:
    """The alignment of a visit to the first one that a person made; None if there is none."""
    for layer in _images(viewer, study, ordinal):
        record = facts_of(layer)["meta"].get(KEY)
        if isinstance(record, Mapping):
            return HandAlignment.from_dict(record)
    return None


def set_hand_alignment(viewer: ViewerModel, study: str, ordinal: int, hand: HandAlignment | None) -> None:
    """Set or (None) remove the alignment of a visit made by hand; it is used when lesions are followed again. One step
    of undo.

    Raises
    ------
    MedseqError
        If no image of that visit is open.
    """
    images = _images(viewer, study, ordinal)
    if not images:
        raise MedseqError(f"Visit {ordinal + 1} of {study} has no image that is open.")
    before = hand_alignment(viewer, study, ordinal)

    editing = editing_of(viewer)
    put_alignment(viewer, study, ordinal, hand)
    editing.act(
        lambda: put_alignment(viewer, study, ordinal, before),
        lambda: put_alignment(viewer, study, ordinal, hand),
        f"aligning visit {ordinal + 1}",
        of=study,
    )
    # closing the window asks about it then
    editing.unsaved.update(
        layer for layer in viewer.layers if layer_kind(layer) == "labels" and _is_of(layer, study, ordinal)
    )
    editing.events.changed()


def put_alignment(viewer: ViewerModel, study: str, ordinal: int, hand: HandAlignment | None) -> None:
    """Write (None: remove) the alignment of a visit made by hand, which is no step of undo."""
    for layer in _images(viewer, study, ordinal):
        meta = facts_of(layer)["meta"]
        meta.pop(KEY, None)
        if hand is not None:
            meta[KEY] = hand.as_dict()


def keep_alignments(viewer: ViewerModel, progression: Progression, study: Study) -> None:
    """Write the alignments made by hand into the record of a result, and those of a record into the layers of its
    images."""
    records = {
        str(ordinal): hand.as_dict()
        for ordinal, visit in enumerate(study.visits)
        for hand in [next((h for h in map(HandAlignment.of, visit.images) if h is not None), None)]
        if hand is not None
    }
    recorded = progression.provenance.get(KEY)
    if isinstance(recorded, Mapping):
        for ordinal, record in recorded.items():
            if (
                str(ordinal) not in records
                and isinstance(record, Mapping)
                and HandAlignment.from_dict(record) is not None
            ):
                records[str(ordinal)] = dict(record)
                for layer in _images(viewer, study.name, int(ordinal)):
                    facts_of(layer)["meta"].setdefault(KEY, dict(record))
    if records:
        progression.provenance[KEY] = records


def _images(viewer: ViewerModel, study: str, ordinal: int) -> list[Layer]:
    return [layer for layer in viewer.layers if layer_kind(layer) == "image" and _is_of(layer, study, ordinal)]


def _is_of(layer: Layer, study: str, ordinal: int) -> bool:
    facts = facts_of(layer)
    return facts.get("study") == study and facts.get("ordinal") == ordinal
