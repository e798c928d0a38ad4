"""A patient's folder to visits in order of date: BIDS sessions, a folder per visit, or a heap of DICOM.

The folder handed in may be the patient's, one visit's, or one that holds a single patient.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

from napari_medseq.errors import ReadError
from napari_medseq.io import naming
from napari_medseq.io.formats.raw import Laziness
from napari_medseq.io.handles import job
from napari_medseq.io.notes import announce
from napari_medseq.io.reading import collect, read_collected
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.sequence import ImageSequence, Study, Visit

_SESSION = re.compile(r"^ses-[A-Za-z0-9+._-]+$", re.IGNORECASE)
_SUBJECT = re.compile(r"^sub-[A-Za-z0-9+._-]+$", re.IGNORECASE)
_IN_NAME = re.compile(r"(?:^|_)(ses-[A-Za-z0-9]+)(?:_|$)", re.IGNORECASE)
#: Folders that sort one visit's files by what they are, not by when.
_SORTING = frozenset(
    [
        "anat",
        "func",
        "dwi",
        "perf",
        "pet",
        "ct",
        "mr",
        "mri",
        "us",
        "fmap",
        "image",
        "images",
        "label",
        "labels",
        "labelstr",
        "mask",
        "masks",
        "seg",
        "segs",
        "segmentation",
        "segmentations",
        "dicom",
        "nifti",
        "nii",
        "raw",
        "derivatives",
    ]
)


@dataclass
class Place:
    """Files of one visit before they are read."""

    name: str
    files: dict[str, list[Path]]
    day: date | None = None
    failures: list[str] = field(default_factory=list)


@job()
def read_study(
    folder: str | os.PathLike[str],
    *,
    lazy: Laziness = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Study:
    """Open a patient's folder as visits.

    Parameters
    ----------
    folder : path-like
        BIDS (``sub-*/ses-*``, dates in ``sessions.tsv``), a folder per visit (a date in its name), a heap of DICOM (sorted
        by study and date), or one visit's folder.
    lazy : bool
        Give dask-backed voxels.
    progress, cancelled : callables, optional
        See `napari_medseq.progress`.

    Returns
    -------
    Study
        Visits in order of date; where a date is unknown, in order of name.

    Raises
    ------
    ReadError
        If the folder is missing, holds no image, or holds several patients.
    """
    root = Path(folder)
    if not root.exists():
        raise ReadError(f"{root}: there is no such folder; check the path.")
    if root.is_file():
        root = root.parent if root.name.upper() == "DICOMDIR" else root
    patient = _patient_folder(root) if root.is_dir() else root
    places = _places(patient, root)
    dates = _session_dates(patient)
    visits: list[Visit] = []
    notes: list[str] = []
    whom: set[str] = set()
    for number, place in enumerate(places):

        def watch(done: int, total: int, message: str, number: int = number) -> None:
            if progress is not None:
                progress(number * 1000 + (1000 * done) // max(total, 1), len(places) * 1000, message)

        sequences = read_collected(
            place.files, place.failures, lazy=lazy, distinct=False, progress=watch, cancelled=cancelled
        )
        notes.extend(place.failures)
        whom |= {str(s.meta["patient"]) for s in sequences if "patient" in s.meta}
        known = dates.get(place.name.lower()) or place.day
        visits.extend(_visits(place, sequences, known))
    if not visits:
        what = (
            notes[0]
            if notes
            else "no image file was found here; a study is a folder with NIfTI or DICOM files, or one folder per visit."
        )
        raise ReadError(what if notes else f"{root}: {what}")
    if len(whom) > 1:
        notes.append(f"The images name {len(whom)} different patients; check that this folder is one patient's.")
    visits = _merged(visits)
    if len(visits) > 1 and any(v.date is None for v in visits):
        notes.append("The date of a visit is unknown; visits stay in order of name and rates per day are left blank.")
    announce((s for v in visits for s in (*v.images, *v.labels)), notes)
    name = patient.name if patient.is_dir() else naming.stem(patient)
    if _SESSION.match(name) and patient.resolve().parent.name:
        name = patient.resolve().parent.name
    return Study(name, tuple(visits), tuple(notes))


def _patient_folder(root: Path) -> Path:
    """`root`, or the only subject's folder in it.

    Raises
    ------
    ReadError
        If it holds several subjects.
    """
    subjects = [p for p in _folders(root) if _SUBJECT.match(p.name)]
    if len(subjects) > 1:
        some = ", ".join(p.name for p in subjects[:5])
        raise ReadError(f"{root}: this folder holds {len(subjects)} patients ({some}, …); choose one of them.")
    return subjects[0] if subjects else root


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _place(name: str, paths: Path | list[Path], day: date | None = None) -> Place | None:
    files, failures = collect(paths)
    return Place(name, files, day, failures) if files or failures else None


def _places(patient: Path, root: Path) -> list[Place]:
    """Where each visit's files lie."""
    if not patient.is_dir():
        return [p for p in [_place(naming.stem(patient), patient)] if p]
    sessions = [p for p in _folders(patient) if _SESSION.match(p.name)]
    if sessions:
        out = [
            p
            for s in sessions
            if (p := _place(s.name, [s, *_derivatives(root, patient, s.name)], naming.date_in(s.name)))
        ]
        return out
    if _SESSION.match(patient.name):
        return [p for p in [_place(patient.name, patient, naming.date_in(patient.name))] if p]
    subfolders = [p for p in _folders(patient) if p.name.lower() not in _SORTING]
    loose = [p for p in sorted(patient.iterdir()) if p.is_file() and not p.name.startswith(".")]
    here, _ = collect(loose) if loose else ({}, [])
    if subfolders and not here:
        places = [p for f in subfolders if (p := _place(f.name, f, naming.date_in(f.name))) and p.files]
        dated = [p for p in places if p.day is not None]
        heap = all(set(p.files) == {"dicom"} for p in places)
        if places and (len(dated) == len(places) or not heap):
            return places
    by_session = _flat_sessions(patient)
    if by_session:
        return by_session
    whole = _place(patient.name, patient, naming.date_in(patient.name))
    return [whole] if whole else []


def _derivatives(root: Path, patient: Path, session: str) -> list[Path]:
    """Folders of the same session under BIDS ``derivatives``, beside or above the subject."""
    out: list[Path] = []
    for base in {root, patient.parent}:
        top = base / "derivatives"
        if top.is_dir() and _SUBJECT.match(patient.name):
            out.extend(p for p in sorted(top.glob(f"*/{patient.name}/{session}")) if p.is_dir())
            direct = top / patient.name / session
            out.extend([direct] if direct.is_dir() else [])
    return list(dict.fromkeys(out))


def _flat_sessions(folder: Path) -> list[Place]:
    """Files lying together whose names carry ``ses-XX``, or each a date: a visit per session or date."""
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
    groups: dict[str, list[Path]] = {}
    for file in files:
        found = _IN_NAME.search(naming.stem(file))
        day = naming.date_in(naming.stem(file))
        name = found.group(1) if found else f"ses-{day:%Y%m%d}" if day else ""
        if name:
            groups.setdefault(name, []).append(file)
    if len(groups) < 2:
        return []
    out = []
    for name, members in groups.items():
        kinds, failures = collect(members)
        if kinds and "dicom" not in kinds:
            out.append(Place(name, kinds, naming.date_in(name), failures))
    return out if len(out) > 1 else []


def _session_dates(patient: Path) -> dict[str, date]:
    """Dates by session from ``sessions.tsv`` or ``sub-XX_sessions.tsv``; unreadable ones are left out."""
    out: dict[str, date] = {}
    if not patient.is_dir():
        return out
    tables = [
        *patient.glob("*sessions.tsv"),
        *(patient.parent.glob("*sessions.tsv") if _SESSION.match(patient.name) else []),
    ]
    for table in tables:
        try:
            with open(table, newline="", encoding="utf-8-sig") as file:
                for row in csv.DictReader(file, delimiter="\t"):
                    session = (row.get("session_id") or row.get("session") or "").strip().lower()
                    when = (
                        next((row[k] for k in ("acq_time", "date", "acq_date", "session_date") if row.get(k)), "") or ""
                    )
                    day = _day(when)
                    if session and day:
                        out[session if session.startswith("ses-") else f"ses-{session}"] = day
        except (OSError, UnicodeDecodeError, csv.Error):
            continue
    return out


def _day(when: str) -> date | None:
    try:
        return datetime.fromisoformat(when.strip().replace("Z", "+00:00")).date()
    except ValueError:
        return naming.date_in(when)


def _visits(place: Place, sequences: Iterable[ImageSequence], known: date | None) -> list[Visit]:
    """A place's sequences as one visit, or as one per DICOM study where the place says no date."""
    sequences = list(sequences)
    if not sequences:
        return []
    if known is not None:
        return [_visit(known, sequences, place.name)]
    groups: dict[str, list[ImageSequence]] = {}
    for seq in sequences:
        groups.setdefault(str(seq.meta.get("study_uid", "")), []).append(seq)
    if "" in groups and len(groups) > 1:  # files without a study beside a single study belong to it
        next(members for uid, members in groups.items() if uid).extend(groups.pop(""))
    out = []
    for members in groups.values():
        days = sorted(d for s in members if (d := _study_day(s)) is not None)
        day = days[0] if days else None
        name = place.name if len(groups) == 1 and day is None else f"ses-{day:%Y%m%d}" if day else ""
        out.append(_visit(day, members, name))
    return out


def _study_day(seq: ImageSequence) -> date | None:
    return naming.date_in(str(seq.meta.get("study_date", ""))) or (seq.acquired.date() if seq.acquired else None)


def _visit(day: date | None, sequences: list[ImageSequence], name: str) -> Visit:
    named = naming.unique(sequences)
    return Visit(day, tuple(s for s in named if s.kind == "image"), tuple(s for s in named if s.kind == "labels"), name)


def _merged(visits: list[Visit]) -> list[Visit]:
    """Studies of one day are one visit; visits without a name are numbered."""
    by_day: dict[date, Visit] = {}
    out: list[Visit] = []
    for visit in visits:
        if visit.date is not None and visit.date in by_day and visit.name == by_day[visit.date].name:
            first = by_day[visit.date]
            both = _visit(visit.date, [*first.images, *first.labels, *visit.images, *visit.labels], first.name)
            out[out.index(first)] = by_day[visit.date] = both
            continue
        if visit.date is not None:
            by_day[visit.date] = visit
        out.append(visit)
    return [v if v.name else Visit(v.date, v.images, v.labels, f"ses-{k + 1:02d}") for k, v in enumerate(out)]
