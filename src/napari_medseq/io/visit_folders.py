"""The files of each visit: BIDS sessions, a folder or archive per visit, files named by session, or all files in one
folder."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from napari_medseq.errors import ReadError
from napari_medseq.io import archives, naming
from napari_medseq.io.detection import detect
from napari_medseq.io.files import PICTURES, collect, looks_like_image, walk
from napari_medseq.io.sessions import scans_date
from napari_medseq.io.visit_order import is_visit_name, natural
from napari_medseq.wording import some

#: A folder with this file holds results, whose masks are not part of the study that they were made from.
_RECORD = "run.json"
_RESULTS = (_RECORD, "cohort.csv")
#: A folder with this file is a BIDS data set, in which only folders called ``sub-…`` are patients.
_BIDS = "dataset_description.json"
#: folders of a BIDS or other tree that do not belong to a patient
NO_PATIENT = frozenset(["derivatives", "code", "sourcedata", "phenotype", "stimuli"])
_LOOKED_AT = 20  # folders of patients whose depth is looked at
SESSION = re.compile(r"^ses-[A-Za-z0-9+._-]+$", re.IGNORECASE)
_SUBJECT = re.compile(r"^sub-[A-Za-z0-9+._-]+$", re.IGNORECASE)
_IN_NAME = re.compile(r"(?:^|_)(ses-[A-Za-z0-9]+)(?:_|$)", re.IGNORECASE)
#: Folders that sort one visit's files by what they are, not by when.
# fmt: off
_SORTING = frozenset((
    "anat", "func", "dwi", "perf", "pet", "ct", "mr", "mri", "us", "fmap", "image", "images", "label", "labels", "labelstr", "mask",
    "masks", "seg", "segs", "segmentation", "segmentations", "dicom", "nifti", "nii", "raw", "derivatives",
))
# fmt: on


@dataclass
class Place:
    """Files of one visit before they are read."""

    name: str
    files: dict[str, list[Path]]
    day: date | None = None
    failures: list[str] = field(default_factory=list)


def patient_folder(root: Path) -> Path:
    """`root`, or the only subject's folder in it.

    Raises
    ------
    ReadError
        If it holds several subjects.
    """
    patients = patient_folders(root)
    if len(patients) > 1:
        examples = some([p.name for p in patients])
        raise ReadError(
            f"{archives.shown(str(root))}: this folder holds {len(patients)} patients ({examples}); "
            "choose one of them, or do all with cohort."
        )
    return patients[0]


def patient_folders(root: Path) -> list[Path]:
    """The folder of each patient in `root`; `root` itself where it is one patient's."""
    folders = _folders(root)
    subjects = subjects_in(root, folders) or _patients_in(folders)
    if subjects:
        return subjects
    only = folders[0] if len(folders) == 1 and not any(detect(p) for p in _loose(root)) else None
    if only is None or only.name.lower() in _SORTING or is_visit(only.name) or is_visit(root.name):
        return [root]
    inside = [p for p in _folders(only) if p.name.lower() not in _SORTING]
    return patient_folders(only) if inside else [root]


def subjects_in(root: Path, folders: list[Path]) -> list[Path]:
    """The folders called ``sub-…``, and outside of BIDS those called otherwise that hold images as deep as they do; empty if none is
    called so."""
    named = [p for p in folders if _SUBJECT.match(p.name)]
    others = [p for p in folders if p not in named and not _is_no_patient(p)]
    if not named or not others or (root / _BIDS).is_file():
        return named
    depths = {_depth(p) for p in named[:_LOOKED_AT]} - {None}
    return [p for p in folders if p in named or (p in others and _depth(p) in depths)]


def _is_no_patient(folder: Path) -> bool:
    """Whether a folder beside those of patients is called, or holds, something else: a part of BIDS, results."""
    name = folder.name.lower()
    return name in NO_PATIENT or name in _SORTING or any((folder / r).is_file() for r in _RESULTS)


def _depth(folder: Path) -> int | None:
    """How many folders lie between a folder and the first image in it; None if it holds none."""
    return next((len(f.relative_to(folder).parts) - 1 for f in walk(folder) if detect(f)), None)


def _patients_in(folders: list[Path]) -> list[Path]:
    """Folders that are patients, since several of them hold folders called like visits and none is called like one itself."""
    if any(is_visit(p.name) for p in folders):
        return []
    own = [p for p in folders if p.is_dir() and p.name.lower() not in _SORTING]
    holders = [p for p in own if sum(is_visit(v.name) for v in _folders(p)) > 1]
    return holders if len(holders) > 1 else []


def is_visit(name: str) -> bool:
    """Whether a folder's name is that of a visit: a BIDS session, a name with a date, or a visit's word."""
    return bool(SESSION.match(name)) or naming.date_in(name) is not None or is_visit_name(name)


def opened_folder(root: Path, notes: list[str]) -> Path:
    """The folder of an archive; the file itself if it is not an archive."""
    if not archives.is_archive(root):
        return root
    folder, problems = archives.unpacked(root)
    notes.extend(problems)
    return folder


def _folders(root: Path) -> list[Path]:
    """Folders in a folder, in natural order; an archive counts as the folder that it holds."""
    out: list[tuple[str, Path]] = []
    try:
        entries = list(root.iterdir())
    except OSError as error:
        raise ReadError(
            f"{archives.shown(str(root))}: this folder cannot be listed ({error.strerror or error})."
        ) from error
    for path in entries:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            out.append((path.name, path))
        elif path.is_file() and archives.is_archive(path):
            try:
                out.append((path.name, archives.unpacked(path)[0]))
            except ReadError:  # named when its files are collected
                out.append((path.name, path))
    return [path for _, path in sorted(out, key=lambda pair: natural(pair[0]))]


def _is_result(folder: Path) -> bool:
    return (folder / _RECORD).is_file() and not is_visit(folder.name)


def _loose(folder: Path) -> list[Path]:
    """Files that lie in a folder itself and are not archives that count as folders."""
    files = [p for p in folder.iterdir() if not p.is_dir() and not p.name.startswith(".")]
    return sorted((p for p in files if not (p.is_file() and archives.is_archive(p))), key=lambda p: natural(p.name))


def _place(name: str, paths: Path | list[Path], day: date | None = None) -> Place | None:
    """The files of one visit; None if there are none and the name is not that of a visit."""
    try:
        files, failures = collect(paths)
    except ReadError as error:  # a damaged archive
        return Place(name, {}, day, [str(error)])
    return Place(name, files, day, failures) if files or failures or is_visit(name) else None


def places_of(patient: Path, root: Path) -> list[Place]:
    """The files of each visit."""
    if not patient.is_dir():
        return [p for p in [_place(naming.stem(patient), patient)] if p]
    sessions = [p for p in _folders(patient) if SESSION.match(p.name)]
    if sessions:
        out = [
            p
            for s in sessions
            if (
                p := _place(
                    s.name,
                    [s, *_derivatives(root, patient, s.name)],
                    naming.date_in(s.name) or scans_date(s),
                )
            )
        ]
        return out
    if SESSION.match(patient.name):
        return [p for p in [_place(patient.name, patient, naming.date_in(patient.name) or scans_date(patient))] if p]
    subfolders = [p for p in _folders(patient) if p.name.lower() not in _SORTING and not _is_result(p)]
    loose = _loose(patient)
    loose_files, _ = collect(loose) if loose else ({}, [])
    if subfolders and not loose_files:
        places = [p for f in subfolders if (p := _place(f.name, f, naming.date_in(f.name)))]
        filled = [p for p in places if p.files]
        dated = [p for p in filled if p.day is not None]
        heap = all(set(p.files) == {"dicom"} for p in filled)
        visits = len(filled) > 1 and all(is_visit(p.name) for p in filled)
        if filled and (len(dated) == len(filled) or not heap or visits):
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


def _visit_in(name: str) -> str:
    """The part of a file's name that is the name of a visit, with the number after it: ``P1_month_6_T1`` → ``month_6``."""
    parts = name.split("_")
    for k, part in enumerate(parts):
        if is_visit_name(part):
            number = parts[k + 1] if k + 1 < len(parts) and parts[k + 1].isdecimal() else ""
            return "_".join(filter(None, (part, number)))
    return ""


def _flat_sessions(folder: Path) -> list[Place]:
    """Files lying together, or in folders by kind, whose names carry ``ses-XX``, or each a date or the name of a visit: a visit for each
    of these.

    DICOM files say themselves which visit they belong to, so the names of files are not taken for visits where all are DICOM.
    """
    files = [p for p in _loose(folder) if p.is_file()]
    files += [f for sorting in _folders(folder) if sorting.name.lower() in _SORTING for f in walk(sorting)]
    groups: dict[str, list[Path]] = {}
    for file in files:
        match = _IN_NAME.search(naming.stem(file))
        day = naming.date_in(naming.stem(file))
        name = match.group(1) if match else f"ses-{day:%Y%m%d}" if day else ""
        if name:
            known = next((other for other in groups if other.lower() == name.lower()), name)
            groups.setdefault(known, []).append(file)
    if not groups:
        named = [(_visit_in(naming.stem(file)), file) for file in files]
        if all(name for name, _ in named):  # a word is less than a date: every file has to have one
            for name, file in named:
                groups.setdefault(name, []).append(file)
    if len(groups) < 2:
        return []
    out = []
    for name, members in groups.items():
        kinds, failures = collect(members)
        if kinds or failures:
            out.append(Place(name, kinds, naming.date_in(name), failures))
    named_by_files = any(set(p.files) - {"dicom"} for p in out)
    return out if len(out) > 1 and named_by_files else []


def left_out(patient: Path, places: list[Place]) -> list[str]:
    """What lies in a patient's folder beside the visits and is in none of them, so that it is not read."""
    if not patient.is_dir():
        return []
    used = {file for place in places for files in place.files.values() for file in files}
    told = {line for place in places for line in place.failures}
    scans = any(kind not in PICTURES for place in places for kind in place.files)
    others: list[Path] = []
    notes: list[str] = []
    inside = {parent for file in used for parent in file.parents}
    for entry in (*_folders(patient), *(f for f in _loose(patient) if looks_like_image(f))):
        if entry in used or entry in inside or _is_result(entry) or entry.name.upper() == "DICOMDIR":
            continue
        try:
            kinds, failures = collect(entry)
        except ReadError as error:
            kinds, failures = {}, [str(error)]
        found = [f for kind, files in kinds.items() if not (scans and kind in PICTURES) for f in files if f not in used]
        others += [entry] if found else []
        notes += [line for line in failures if line not in told]
    if others:
        names = some([p.name for p in others])
        notes.append(
            f"{archives.shown(str(patient))}: left out, because it lies beside the visits and in none of them: {names}. Put it into "
            "the folder of its visit."
        )
    return notes
