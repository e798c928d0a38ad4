"""Conversion between a study and layers: each visit's images and labels on one slider `visit`, with the facts in their
metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from napari_medseq.errors import MedseqError
from napari_medseq.sequence import ImageSequence, Study, Visit
from napari_medseq.viewer.layers.appearance import arranged
from napari_medseq.viewer.layers.conversion import KEY, LayerData, from_layer, layer_kind, to_layer_data, visit_date

if TYPE_CHECKING:
    from datetime import date

    from napari.layers import Layer

    from napari_medseq.progression import Progression

#: `role` in the metadata of the label layers that tracking made
TRACKED = "tracked"
#: `role` of images made from others, which are not the study's own
DERIVED = "derived"
#: `role` of layers of diameters and numbers of lesions
DIAMETERS, NUMBERS = "diameters", "lesion numbers"
#: `role` of tracked labels that another result has replaced
SET_ASIDE = "set aside"
#: facts of study and visit that a layer hands on to those made from it
ABOUT = ("study", "ordinal", "visit_name", "date", "study_warnings")


def study_layer_data(study: Study) -> list[LayerData]:
    """Layer data of a study: one layer per image and mask; a study of one visit needs no slider."""
    layers = []
    alone = len(study.visits) == 1
    for ordinal, visit in enumerate(study.visits):
        for seq in (*visit.images, *visit.labels):
            still = None if alone or "t" in seq.axes else ordinal
            layers.append(visit_layer_data(study, ordinal, seq, visit=still))
    if not layers:
        raise MedseqError(f"{study.name}: no visit has an image that can be shown. Choose another folder.")
    return arranged(layers)


def visit_layer_data(study: Study, ordinal: int, seq: ImageSequence, *, visit: int | None, **kwargs: Any) -> LayerData:
    """Layer data of one sequence of a visit, with the facts of study and visit."""
    at_ordinal = study.visits[ordinal]
    facts = {
        "study": study.name,
        "ordinal": ordinal,
        "visit_name": at_ordinal.name or f"visit {ordinal + 1}",
        "date": at_ordinal.date and at_ordinal.date.isoformat(),
        "study_warnings": list(study.warnings),
    }
    name = f"{visit_title(study, ordinal)} {series_name({**facts, 'name': seq.name})}"
    if seq.kind == "labels" and seq.modality and len({i.modality for i in at_ordinal.images}) > 1:
        name += f" on {seq.modality}"
    return to_layer_data(seq, visit=visit, facts=facts, **({"name": name} | kwargs))


def visit_title(study: Study, ordinal: int) -> str:
    """Patient, visit and date, as each layer's name begins; the date only if the visit's name does not hold it."""
    visit = study.visits[ordinal]
    return title(study.name, visit.name or f"visit {ordinal + 1}", visit.date)


def title(patient: str, visit: str, day: date | None) -> str:
    """Patient, visit and date, the latter only if the visit's name does not hold it."""
    dated = day is None or f"{day:%Y%m%d}" in visit or day.isoformat() in visit
    return " ".join(part for part in (patient_and_visit(patient, visit), "" if dated else str(day)) if part)


def patient_and_visit(patient: str, visit: str) -> str:
    """The names of patient and visit; only once if they are equal, as in a patient's folder that holds the series
    itself."""
    return " ".join(dict.fromkeys(name for name in (patient, visit) if name))


def by_patient(study: Study) -> list[Study]:
    """The study, or one study for each patient that its images name, because visits must not mix patients.

    Images that name no patient stay together under the folder's name.
    """
    owners = [s.meta.get("patient") for v in study.visits for s in (*v.images, *v.labels)]
    patients = list(dict.fromkeys(str(p) for p in owners if p))
    if len(patients) < 2:
        return [study]
    out = []
    for patient in [*patients, *([None] if None in owners else [])]:
        visits = []
        for v in study.visits:
            images, labels = (
                tuple(s for s in part if s.meta.get("patient") == patient) for part in (v.images, v.labels)
            )
            if images or labels:
                visits.append(Visit(v.date, images, labels, v.name))
        notes = () if patient else study.warnings
        out.append(Study(f"{study.name} {patient}" if patient else study.name, tuple(visits), tuple(notes)))
    return out


def facts_of(layer: Layer) -> dict[str, Any]:
    """The facts that this package keeps about a layer; empty for other layers."""
    facts: dict[str, Any] = layer.metadata.get(KEY) or {}
    return facts


def days_of(study_layers: Iterable[Layer]) -> dict[int, str | None]:
    """The date of each visit that these layers of a study belong to, by its ordinal: the first that a layer knows."""
    days: dict[int, str | None] = {}
    for facts in map(facts_of, study_layers):
        ordinal = int(facts["ordinal"])
        days[ordinal] = days.get(ordinal) or facts.get("date")
    return days


def series_name(facts: Mapping[str, Any]) -> str:
    """The name of a series without that of its patient and visit, which is the same at every visit."""
    study = re.sub(r" \(\d+\)$", "", str(facts.get("study")))  # a second study of the same name has a number
    name = str(facts.get("name", "")).removeprefix(f"{study}_")
    return name.removeprefix(f"{facts.get('visit_name')}_")


def visits_of(layers: Iterable[Layer]) -> int:
    """Number of visits on the slider: one more than the last ordinal."""
    return 1 + max((int(v) for layer in layers if (v := facts_of(layer).get("visit")) is not None), default=0)


def studies_in(layers: Iterable[Layer]) -> list[str]:
    """Names of the studies that have layers here, in the order in which they were opened."""
    names = (facts_of(layer).get("study") for layer in layers)
    return [n for n in dict.fromkeys(names) if n is not None]


def is_tracked(layer: Layer) -> bool:
    """Whether tracking made this layer."""
    return facts_of(layer).get("role") == TRACKED


def masks_alike(layers: Iterable[Layer], study: str) -> list[Layer]:
    """The masks of a study that make up one series with a mask at every visit; none if there is no such series, or
    several."""
    study_layers = [
        layer
        for layer in layers
        if layer_kind(layer) == "labels" and facts_of(layer).get("study") == study and "role" not in facts_of(layer)
    ]
    visits = {facts_of(layer)["ordinal"] for layer in layers if facts_of(layer).get("study") == study}
    series: dict[str, list[Layer]] = {}
    for layer in study_layers:
        series.setdefault(series_name(facts_of(layer)), []).append(layer)
    whole = [
        group for group in series.values() if sorted(facts_of(layer)["ordinal"] for layer in group) == sorted(visits)
    ]
    return whole[0] if len(whole) == 1 else []


def study_from_layers(layers: Iterable[Layer], name: str | None = None) -> Study:
    """The study that layers show, with images and masks by visit; layers that tracking made are left out.

    The index of a visit is its ordinal: one of which nothing is open, before another, is there without images, masks and date.

    Raises
    ------
    MedseqError
        If there is none, or several and `name` is not given.
    """
    layers = list(layers)
    names = studies_in(layers)
    if name is None:
        if len(names) != 1:
            problem = "no study is open" if not names else f"{len(names)} studies are open ({', '.join(names)})"
            raise MedseqError(f"A study is needed, but {problem}. Open a study folder, or choose one by name.")
        name = names[0]
    study_layers = [layer for layer in layers if facts_of(layer).get("study") == name and "role" not in facts_of(layer)]
    if not study_layers:
        raise MedseqError(
            f"No layer belongs to the study {name!r}; the studies open are: {', '.join(names) or 'none'}."
        )
    last = max(facts_of(layer)["ordinal"] for layer in study_layers)
    visits = [_visit_from([o for o in study_layers if facts_of(o)["ordinal"] == k], k) for k in range(last + 1)]
    return Study(name, tuple(visits), tuple(facts_of(study_layers[0]).get("study_warnings", ())))


def _visit_from(at_visit: Sequence[Layer], ordinal: int) -> Visit:
    """A visit from its layers; without images and masks if nothing of it is open, so that later visits keep their ordinals."""
    if not at_visit:
        return Visit(None, name=f"visit {ordinal + 1}")
    facts, seqs = facts_of(at_visit[0]), [from_layer(layer) for layer in at_visit]
    return Visit(
        visit_date(facts),
        tuple(s for s in seqs if s.kind == "image"),
        tuple(s for s in seqs if s.kind == "labels"),
        str(facts["visit_name"]),
    )


def ordinals(study: Study, progression: Progression) -> list[int]:
    """For each visit of a progression made from `study`, the visit's ordinal in the study.

    A progression leaves out visits without an image or mask, or of which nothing is open. The names in its record tell which visits
    it has, in whatever order, else the dates.
    """
    dates = list(progression.dates)
    named = _by_name(study, progression)
    if len(named) == len(dates):
        return named
    if len(dates) == len(study.visits):
        return list(range(len(dates)))
    at, ordinals = 0, []
    for day in dates:
        while at < len(study.visits) - 1 and (study.visits[at].date != day or _is_closed(study.visits[at])):
            at += 1
        ordinals.append(at)
        at += 1
    return ordinals


def _by_name(study: Study, progression: Progression) -> list[int]:
    """The ordinals of the visits that a progression's record names; empty if these are not different visits of the study."""
    inputs = progression.provenance.get("inputs")
    names = [visit.name for visit in study.visits]
    recorded = [str(i.get("name")) for i in inputs if isinstance(i, Mapping)] if isinstance(inputs, list) else []
    if len(set(names)) < len(names) or not set(recorded) <= set(names):
        return []
    found = [names.index(name) for name in recorded]
    return found if len(found) == len(set(found)) else []


def rearranged(study: Study, to: Mapping[int, int]) -> Study:
    """A study whose visits have other ordinals (old → new, one to one); the others keep theirs."""
    count = 1 + max([len(study.visits) - 1, *to.values()])
    visits = [study.visits[k] if k < len(study.visits) else Visit(None, name=f"visit {k + 1}") for k in range(count)]
    moved = list(visits)
    for old, new in to.items():
        moved[new] = visits[old]
    return Study(study.name, tuple(moved), study.warnings)


def _is_closed(visit: Visit) -> bool:
    return not (visit.images or visit.labels)


def study_of_labels(seqs: Sequence[ImageSequence], facts: Sequence[dict[str, Any]]) -> Study:
    """A study made from label layers alone, with one visit each, dated by their facts or their acquisition."""
    visits = [
        Visit(visit_date(f) or (s.acquired and s.acquired.date()), (), (s,), str(f.get("visit_name", s.name)))
        for s, f in zip(seqs, facts, strict=True)
    ]
    name = next((f["study"] for f in facts if f.get("study")), "labels")
    return Study(name, tuple(visits))
