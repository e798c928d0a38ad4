"""Following lesions through label layers: what is copied from them in the GUI thread, the job, and how painting is
kept in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

import napari_medseq as ms
from napari_medseq import record
from napari_medseq.errors import MedseqError, warn
from napari_medseq.progress import Cancelled, Progress, part
from napari_medseq.registration.byhand import KEY as BY_HAND
from napari_medseq.sequence import ImageSequence, Study, Visit
from napari_medseq.viewer.editing.marks import Mask, Values
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.layers import conversion as _layers
from napari_medseq.viewer.layers import studies as _studies
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.results.followed import Followed, Taken, result_of, results_of, show_progression
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

    from napari_medseq.progression import Progression, TrackSettings
    from napari_medseq.progression.earlier import Earlier


def track_layers(
    viewer: ViewerModel,
    labels: Sequence[Labels] | None = None,
    *,
    study: str | None = None,
    register: str = "auto",
    settings: TrackSettings | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Progression:
    """Follow lesions through label layers, one per visit, as they are painted now, and show the result.

    Parameters
    ----------
    viewer : ViewerModel
    labels : sequence of Labels, optional
        One per visit, in any order; by default the study's tracked labels, else its masks.
    study : str, optional
        The study, if several are open.
    register : str
        As for `ms.run`; used if every visit has an image.
    settings : TrackSettings, optional

    Raises
    ------
    MedseqError
        If there are no label layers, two for one visit, or masks of several patients.
    """
    chosen = label_layers(viewer, study) if labels is None else by_visit(labels)
    snapshot = masks_now(chosen)
    source, arguments = tracking_job(viewer, chosen)
    progression = track_job(
        source, arguments, register=register, settings=settings, progress=progress, cancelled=cancelled
    )
    show_followed(viewer, progression, source, chosen, snapshot)
    return progression


def show_followed(
    viewer: ViewerModel, progression: Progression, source: Study, labels: Sequence[Labels], snapshot: Taken
) -> list[str]:
    """Show the result of following label layers, with the corrections of the result that these layers show.

    Returns
    -------
    list of str
        Messages for the user: how many corrections are kept, and which could not be made again.
    """
    before = results_of(viewer).get(source.name)
    source, places = _arranged_now(progression, source, labels)
    same_masks = before is not None and {real(layer) for layer in labels} == set(before.layers)
    earlier = None if before is None else _in_order_of(before, places)
    # excluded lesions are not in the layers, so that painting there since then is intended
    notes: list[str] = []
    masks = [progression.mask_at(visit) for visit in range(len(progression.dates))] if same_masks else []
    if earlier is not None:
        progression.keep_identities(earlier, masks)
    if earlier is not None and same_masks:
        notes = corrected_again(progression, earlier, exclusions=False)
        progression.keep_identities(earlier, masks)  # what was split or merged again may have another number
    _record_inputs(progression, _inputs(progression, source, places))
    card = before.card if same_masks and before else ""
    editing = editing_of(viewer)
    with editing.step(f"following the lesions of {source.name}"):
        show_progression(viewer, progression, source, card=card, taken=snapshot, places=places)
        editing.followed([layer for layer in labels if not _studies.is_tracked(layer)], undoable=before is not None)
    return notes


def _arranged_now(progression: Progression, source: Study, labels: Sequence[Labels]) -> tuple[Study, list[int]]:
    """The study as its visits are arranged now, and the ordinal there of each visit that was followed.

    `labels` are the masks in the order of visits when the job began; the visits may have been put in another order since.
    """
    then = _studies.ordinals(source, progression)
    now = [_studies.facts_of(layer).get("ordinal", -1) for layer in labels]
    if len(now) != len(then) or min(now) < 0 or len(set(now)) < len(now):
        return source, then
    if now == sorted(now):
        return source, (now if now[-1] < len(source.visits) else then)
    return _studies.rearranged(source, dict(zip(sorted(now), now, strict=True))), now


def _in_order_of(before: Followed, places: Sequence[int]) -> Earlier:
    """An earlier result with its visits in the order of a new one, whose visits have these ordinals."""
    if sorted(before.places) != sorted(places):
        return before.earlier
    return before.progression.earlier.in_order([before.places.index(place) for place in places])


def _record_inputs(progression: Progression, inputs: list[dict[str, object]]) -> None:
    """Keep in the record what an earlier result was made from, with the present names and dates of its visits."""
    known = progression.provenance.get("inputs")
    if not isinstance(known, Sequence) or len(known) != len(inputs) or not all(isinstance(k, Mapping) for k in known):
        progression.provenance.setdefault("inputs", inputs)
        return
    progression.provenance["inputs"] = [
        {**old, "name": new["name"], "date": new["date"]} for old, new in zip(known, inputs, strict=True)
    ]


def _inputs(progression: Progression, source: Study, places: Sequence[int]) -> list[dict[str, object]]:
    """Visits and images as ``run.json`` names them, by which a saved result finds its visits and images again."""
    return [
        {
            "name": source.visits[ordinal].name,
            "date": day and day.isoformat(),
            "images": {i.name: {"name": i.name, "source": record.source_of(i)} for i in source.visits[ordinal].images},
        }
        for ordinal, day in zip(places, progression.dates, strict=True)
    ]


def corrected_again(progression: Progression, before: Earlier | None, *, exclusions: bool = True) -> list[str]:
    """Apply the corrections that people made to the previous result to a new one, and report in words which are
    kept."""
    if before is None:
        return []
    count = len(before.made)
    own = BY_HAND in progression.provenance
    # its provenance is taken over, too
    missed = progression.reapply_corrections(before, exclusions=exclusions)
    if not own:  # alignments are those that the images have now: one that was removed since was not used
        progression.provenance.pop(BY_HAND, None)
    kept_count = count - len(missed)
    notes = (
        [f"{how_many(kept_count, 'correction made by hand is', 'corrections made by hand are')} kept."]
        if kept_count
        else []
    )
    return notes + ([f"These corrections could not be made again: {'; '.join(missed)}."] if missed else [])


def follow_again(
    viewer: ViewerModel,
    study: str | None = None,
    *,
    register: str = "auto",
    settings: TrackSettings | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Progression:
    """Follow the masks of a result again, as they are painted now; corrections that still make sense are made again.

    Raises
    ------
    MedseqError
        If there is no result of that study, or its layers were removed.
    """
    followed = result_of(viewer, study)
    still_open = [layer for layer in followed.layers if layer in viewer.layers]
    return track_layers(
        viewer,
        still_open,
        register=register,
        settings=settings or followed.progression.settings,
        progress=progress,
        cancelled=cancelled,
    )


def masks_now(labels: Sequence[Labels]) -> dict[Labels, Values]:
    """Copies of the present data of label layers, which show later what was painted since."""
    return {real(layer): np.array(layer.data) for layer in labels}


def label_layers(viewer: ViewerModel, study: str | None = None) -> list[Labels]:
    """The label layers of a study that are to be followed, by visit: those that tracking made, else its masks.

    Raises
    ------
    MedseqError
        If there are none, or several patients are open and `study` does not say which is meant.
    """
    names = _studies.studies_in(viewer.layers)
    study = study or (names[0] if len(names) == 1 else None)
    study_layers = [
        layer
        for layer in viewer.layers
        if _layers.layer_kind(layer) == "labels"
        and _studies.facts_of(layer).get("study") == study
        and _studies.facts_of(layer).get("role")
        in (None, _studies.TRACKED)  # without layers that were made from others
    ]
    chosen = [layer for layer in study_layers if _studies.is_tracked(layer)] or study_layers
    if not chosen and study is None and names:
        raise MedseqError(
            f"{len(names)} patients are open ({', '.join(names)}). Say whose label layers are meant: study=."
        )
    if not chosen:
        raise MedseqError("There are no label layers to follow. Segment the visits first, or choose label layers.")
    return by_visit(chosen)


def by_visit(labels: Sequence[Labels]) -> list[Labels]:
    """Label layers in the present order of their visits, as `tracking_job` and `show_followed` take them."""
    return sorted(labels, key=_ordinal)


def _ordinal(layer: Layer) -> int:
    return int(_studies.facts_of(layer).get("ordinal", 0))


def tracking_job(viewer: ViewerModel, labels: Sequence[Labels]) -> tuple[Study, dict[str, Any]]:
    """What is to be tracked, copied from layers in the GUI thread: the study, and labels, dates and images for
    `ms.track`.

    Parameters
    ----------
    viewer : ViewerModel
    labels : sequence of Labels
        In the order of their visits, as `by_visit` gives them.

    Raises
    ------
    MedseqError
        If no label layer is given, two for one visit, or layers of several patients.
    """
    if not labels:
        raise MedseqError("There are no label layers to follow. Segment the visits first, or choose label layers.")
    check_one_patient(labels)
    facts = [_studies.facts_of(layer) for layer in labels]
    places = [f.get("ordinal") for f in facts]
    twice = {p for p in places if p is not None and places.count(p) > 1}
    if twice:
        names = ", ".join(layer.name for layer, p in zip(labels, places, strict=True) if p in twice)
        raise MedseqError(f"Two label layers are of the same visit: {names}. Choose one per visit.")
    seqs = [_layers.from_layer(layer) for layer in labels]
    seqs = [s.replace(data=np.array(s.data)) for s in seqs]  # painting may go on meanwhile
    studies = {f.get("study") for f in facts}
    of_one = None not in studies and len(studies) == 1
    source = study_of_or_labels(viewer, seqs, facts) if of_one else _studies.study_of_labels(seqs, facts)
    images = [_image_for(source, seq, place) for seq, place in zip(seqs, places, strict=True)]
    days = [_layers.visit_date(f) or (s.acquired and s.acquired.date()) for s, f in zip(seqs, facts, strict=True)]
    return source, {"labels": seqs, "dates": days, "images": images}


#: the patient in a name or path, as BIDS writes it
_SUBJECT = re.compile(r"(?:^|[^A-Za-z0-9])sub-([A-Za-z0-9]+)")


def check_one_patient(layers: Sequence[Layer]) -> None:
    """Refuse layers of several patients, because lesions are followed within one.

    Raises
    ------
    MedseqError
        If two layers belong to different patients by their study, their file's header or their BIDS name.
    """
    patients_of = [(layer, names) for layer in layers if (names := _patients(layer))]
    for layer, names in patients_of[1:]:
        first, firsts = patients_of[0]
        if not names & firsts:
            raise MedseqError(
                f"These masks are of different patients: {first.name} of {_either(firsts)}, {layer.name} of {_either(names)}. Lesions "
                "are followed within one patient; choose the masks of one."
            )


def _patients(layer: Layer) -> set[str]:
    """The names by which the patient of a layer is known; empty if nothing tells."""
    facts = _studies.facts_of(layer)
    meta: Mapping[str, object] = facts.get("meta", {})
    names = {str(meta[key]) for key in ("patient", "subject") if meta.get(key)}
    if facts.get("study"):
        names.add(str(facts["study"]))
    for text in (facts.get("name"), meta.get("source"), layer.name):
        names |= {f"sub-{subject}" for subject in _SUBJECT.findall(str(text or ""))}
    return names


def _either(names: set[str]) -> str:
    return min(names, key=len)


def study_of_or_labels(viewer: ViewerModel, seqs: Sequence[ImageSequence], facts: Sequence[dict[str, Any]]) -> Study:
    """The open study that the labels belong to, or one made from the labels alone if its images were removed."""
    try:
        return _studies.study_from_layers(viewer.layers, facts[0]["study"])
    except MedseqError:
        return _studies.study_of_labels(seqs, facts)


def _image_for(source: Study, seq: ImageSequence, ordinal: int | None) -> ImageSequence | None:
    """The image of a visit that labels were drawn on: the one on the same grid, else the first."""
    if ordinal is None or ordinal >= len(source.visits):
        return None
    images = source.visits[ordinal].images
    return next((i for i in images if i.same_grid(seq)), images[0] if images else None)


def track_job(
    source: Study,
    arguments: dict[str, Any],
    *,
    register: str = "auto",
    settings: TrackSettings | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Progression:
    """Run `ms.track` on what `tracking_job` copied, with the visits aligned as `ms.run` aligns them; touches no
    layer."""
    from napari_medseq import pipeline

    images = arguments["images"]
    keywords: dict[str, Any] = {}
    if all(i is not None for i in images) and len(images) > 1:
        chosen = [pipeline.Chosen(v, {"image": i}) for v, i in zip(source.visits, images, strict=False)]
        aligned = pipeline.align_visits(chosen, mode=register, progress=part(progress, 0.0, 0.5), cancelled=cancelled)
        keywords["transforms"] = [a.to_baseline for a in aligned]
        if (
            any(a.transform is not None for a in aligned)
            and (settings or ms.TrackSettings()).registration_error_mm is None
        ):
            keywords["registration_error_mm"] = max(a.error_mm for a in aligned)
    result: Progression = ms.track(
        **arguments, **keywords, settings=pipeline.track_settings(settings),
        progress=part(progress, 0.5, 1.0), cancelled=cancelled,
    )  # fmt: skip
    return result


# -- what people painted, in a new run ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Painting:
    """A person's painting in the tracked labels of a visit, as its sequence holds it."""

    where: Mask
    values: Values
    grid: ImageSequence
    classes: Mapping[int, str]


class Rerun:
    """What a new run of a study must preserve, copied from the layers in the GUI thread before the job.

    Parameters
    ----------
    viewer : ViewerModel
    source : Study
    overwrite : bool
        Let the run change painted voxels too.

    Attributes
    ----------
    taken : mapping of Labels to ndarray
        The masks of the result that is shown, as they are now.
    """

    def __init__(self, viewer: ViewerModel, source: Study, *, overwrite: bool = False) -> None:
        self.source, self.overwrite = source, overwrite
        self.before = results_of(viewer).get(source.name)
        self._then: WeakKeyDictionary[Layer, int] = WeakKeyDictionary()
        for layer in viewer.layers:
            if _studies.facts_of(layer).get("study") == source.name:
                self._then[layer] = _ordinal(layer)
        layers = [layer for layer in viewer.layers if _studies.is_tracked(layer)]
        layers = [layer for layer in layers if _studies.facts_of(layer).get("study") == source.name]
        self.taken = masks_now(layers)
        marks = editing_of(viewer).marks
        self._painted = {
            _ordinal(layer): _painting(layer, marks(layer).painted)
            for layer in layers
            if not overwrite and marks(layer).any
        }

    def revise(self, visit: Visit, mask: ImageSequence) -> ImageSequence:
        """The mask that was computed, with a person's painting at that visit put into it; touches no layer."""
        ordinal = next(k for k, own in enumerate(self.source.visits) if own is visit)
        painting = self._painted.get(ordinal)
        if painting is None:
            return mask
        if not painting.grid.same_grid(mask):
            text = (
                f"What was painted at visit {ordinal + 1} lies on another grid than the new mask: it stays in a layer of its own, and "
                "is not in the new result."
            )
            warn(text)
            return mask
        data = np.array(mask.data)
        named = {name: value for value, name in mask.label_names.items() if value}
        only = min(named.values(), default=1)
        for value in np.unique(painting.values[painting.where]).tolist():
            painted = painting.where & (painting.values == value)
            data[painted] = named.get(painting.classes.get(value, ""), only) if value else 0
        return mask.replace(data=data)

    def show(self, viewer: ViewerModel, progression: Progression, card: str = "") -> list[str]:
        """Show the new result with the corrections of the previous one, and report in words which are kept."""
        then = _studies.ordinals(self.source, progression)
        moved = self._moved(viewer)
        places = [moved.get(place, place) for place in then]
        source = _studies.rearranged(self.source, moved)
        earlier = None if self.before is None else _in_order_of(self.before, places)
        if earlier is not None:
            progression.keep_identities(earlier)
        notes = corrected_again(progression, earlier)
        if self._painted:  # a run from the record alone would not include the painting
            counts = {f"visit {ordinal + 1}": int(p.where.sum()) for ordinal, p in self._painted.items()}
            progression.provenance = {**progression.provenance, "painted_voxels": counts}
        show_progression(
            viewer, progression, source, card=card, taken=self.taken, overwrite=self.overwrite, places=places
        )
        return notes

    def _moved(self, viewer: ViewerModel) -> dict[int, int]:
        """Where the visits of the source are now if they were put elsewhere since the job began: their ordinals, old → new."""
        moved: dict[int, int] = {}
        for layer in viewer.layers:
            if layer in self._then:
                moved.setdefault(self._then[layer], _ordinal(layer))
        return moved if len(set(moved.values())) == len(moved) else {}


def _painting(layer: Labels, where: Mask) -> _Painting:
    seq = _layers.from_layer(layer)
    classes = {value: name.removesuffix(f" {value}") for value, name in seq.label_names.items()}
    return _Painting(_layers.own_array(layer, where).copy(), np.array(seq.data), seq, classes)
