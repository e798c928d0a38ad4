"""From the sequences of one place to visits: DICOM studies and days apart, labels beside the images that they were drawn on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

from napari_medseq.io import archives, naming
from napari_medseq.io.sessions import day_of
from napari_medseq.io.visit_folders import Place, is_visit
from napari_medseq.sequence import ImageSequence, Visit

_NO_STUDY = (
    "The file names no study and no day, and the folder holds {number} studies: it is put with the first one. Put it into the "
    "folder of its visit, or a date into its name."
)


def visits_of(place: Place, sequences: Iterable[ImageSequence], visit_day: date | None, patient: Path) -> list[Visit]:
    """A place's sequences as one visit, or as one per DICOM study and day where the place says no date."""
    sequences = list(sequences)
    if not sequences:
        return []
    if visit_day is not None:
        return [_visit(visit_day, sequences, place.name)]
    groups = _by_study(sequences, patient)
    out = []
    for members in groups:
        days = sorted(d for s in members if (d := _study_day(s)) is not None)
        day = days[0] if days else None
        own = len(groups) == 1 and (day is None or is_visit(place.name))
        branch = _branch(members[0], patient) if len(groups) > 1 and _shares_folders(sequences) else ""
        out.append(_visit(day, members, place.name if own else branch or (f"ses-{day:%Y%m%d}" if day else "")))
    return out


def _by_study(sequences: Sequence[ImageSequence], patient: Path) -> list[list[ImageSequence]]:
    """Sequences by study and its day; by folder too where folders share UIDs, which then tell nothing.

    Labels go with the images that they were drawn on, files without a study with the only one there is.
    """
    by_folder = _shares_folders(sequences)
    groups: dict[tuple[str, str, str], list[ImageSequence]] = {}
    waiting: list[ImageSequence] = []
    for seq in sequences:
        study = str(seq.meta.get("study_uid", ""))
        if seq.kind == "labels" or not study:
            waiting.append(seq)
            continue
        key = study, str(seq.meta.get("study_date", "")), _branch(seq, patient) if by_folder else ""
        groups.setdefault(key, []).append(seq)
    for seq in waiting:
        fitting = [key for key in groups if _fits(seq, key, groups[key], _branch(seq, patient) if by_folder else "")]
        study = str(seq.meta.get("study_uid", ""))
        if not fitting and not study and groups:
            fitting = [next(iter(groups))]
            if len(groups) > 1:
                seq = seq.replace(warnings=(*seq.warnings, _NO_STUDY.format(number=len(groups))))
        key = fitting[0] if fitting else (study, str(seq.meta.get("study_date", "")), "")
        groups.setdefault(key, []).append(seq)
    return list(groups.values())


def _fits(seq: ImageSequence, key: tuple[str, str, str], members: Sequence[ImageSequence], branch: str) -> bool:
    """Whether labels or an undated file belong to a group: by the series referred to, else by study."""
    if key[2] != branch:
        return False
    drawn_on = seq.meta.get("referenced_series_uid")
    if drawn_on and any(m.meta.get("series_uid") == drawn_on for m in members):
        return True
    return bool(seq.meta.get("study_uid")) and key[0] == seq.meta.get("study_uid")


def _shares_folders(sequences: Sequence[ImageSequence]) -> bool:
    return any(s.meta.get("shares_uid_with") == "folder" for s in sequences)


def _branch(seq: ImageSequence, patient: Path) -> str:
    """The folder directly under the patient's in which a sequence lies."""
    source, root = str(seq.meta.get("source", "")), archives.shown(str(patient))
    inside = os.path.relpath(source, root) if source else ""
    return inside.split(os.sep)[0] if inside and not inside.startswith((os.pardir, os.curdir)) else ""


def _study_day(seq: ImageSequence) -> date | None:
    return day_of(str(seq.meta.get("study_date", ""))) or (seq.acquired.date() if seq.acquired else None)


def _visit(day: date | None, sequences: list[ImageSequence], name: str) -> Visit:
    named = naming.unique(sequences)
    return Visit(day, tuple(s for s in named if s.kind == "image"), tuple(s for s in named if s.kind == "labels"), name)


def merged(visits: list[Visit]) -> list[Visit]:
    """Studies of one true day are one visit; visits without a name are numbered."""
    by_day: dict[date, Visit] = {}
    out: list[Visit] = []
    hidden = len(visits) > 1 and len({v.date for v in visits}) == 1  # dates made equal by an anonymiser say nothing
    for visit in visits:
        first = by_day.get(visit.date) if visit.date is not None else None
        repeats = first is not None and _same_series(first, visit) and hidden
        if first is not None and visit.name == first.name and not repeats:
            both = _visit(visit.date, [*first.images, *first.labels, *visit.images, *visit.labels], first.name)
            out[out.index(first)] = by_day[first.date] = both  # type: ignore[index]
            continue
        if visit.date is not None:
            by_day[visit.date] = visit
        out.append(visit)
    names = {v.name for v in out}
    named: list[Visit] = []
    for k, visit in enumerate(out):
        name = visit.name or f"ses-{k + 1:02d}"
        while (not visit.name and name in names) or name in {v.name for v in named}:
            name = f"{name}_2"
        named.append(visit if name == visit.name else Visit(visit.date, visit.images, visit.labels, name))
    return named


def _same_series(one: Visit, other: Visit) -> bool:
    """Whether two visits hold series of the same names, as repeated examinations do."""
    names = {s.name for s in one.images} & {s.name for s in other.images}
    return bool(names)
