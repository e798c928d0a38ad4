"""The patients of a cohort: from a folder of studies, a BIDS tree, a table of paths, or a heap of DICOM of many
patients."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from napari_medseq import files
from napari_medseq.errors import MedseqError, ReadError, SettingsError, WriteError
from napari_medseq.io import naming
from napari_medseq.io.spreadsheets import path_in, read_rows
from napari_medseq.io.visit_folders import NO_PATIENT, subjects_in
from napari_medseq.wording import some

Studies = str | PathLike[str] | Sequence[str | PathLike[str]]

#: names in the cohort's folder that are not patients
RESERVED = frozenset(
    ["cohort.csv", "cohort.html", "lesions.csv", "lesions.parquet", "visits.csv", "visits.parquet",
     "dataset_description.json", "failed.json", "previous", "run.json"]
)  # fmt: skip
_PATH_COLUMNS, _NAME_COLUMNS = (
    ("study", "path", "folder", "file"),
    ("name", "patient", "subject", "participant_id", "id"),
)


@dataclass(frozen=True)
class Patient:
    """One patient of a cohort.

    Attributes
    ----------
    name : str
        Name under which the result is kept: that of the study's folder as it was given, and never that of a link's
        target.
    study : Path
        The study's folder or archive, with links resolved.
    """

    name: str
    study: Path


def find_patients(studies: Studies, *, heap: Path | None = None, apart: Path | None = None) -> list[Patient]:
    """The patients of a cohort, in the given order or by name.

    Parameters
    ----------
    studies : path or sequence of paths
        A folder that holds a study per patient; a BIDS tree; a folder with DICOM files of many patients in any
        subfolders; a ``.csv`` or ``.tsv`` with a column ``study`` (or ``path``) and optionally ``name``, with paths
        relative to the table's folder; or the studies themselves.
    apart : Path, optional
        A folder that is no patient and holds none, even if it lies among the studies: that of the results.
    heap : Path, optional
        Folder for links to the files of each patient of a DICOM heap. None: a heap is refused.

    Raises
    ------
    ReadError
        If there are no patients, or a study does not exist.
    SettingsError
        If two patients have the same name, or a name is reserved for the cohort's own files or by Windows, because results
        are kept by name.
    """
    try:
        patients = [Patient(_checked_name(name), path) for name, path in _named_paths(studies, heap, apart)]
        missing = [str(p.study) for p in patients if not p.study.exists()]
    except MedseqError:
        raise
    # too long for a path, a NUL in it, ~ of nobody, a loop of links
    except (OSError, ValueError, RuntimeError) as error:
        raise ReadError(f"A path of a study cannot be used: {' '.join(str(error).split())[:200]}.") from None
    if not patients:
        raise ReadError(f"There is no study in {studies}; name a folder with one study folder per patient.")
    if missing:
        raise ReadError(f"There is no study folder {some(missing)}; name folders, one per patient.")
    name_counts = Counter(_comparable(p.name) for p in patients)
    twice = sorted({p.name for p in patients if name_counts[_comparable(p.name)] > 1})
    if twice:
        raise SettingsError(f"Several studies are called {', '.join(twice)}; results are kept by name, so rename one.")
    return [Patient(p.name, p.study.resolve()) for p in patients]


def _comparable(name: str) -> str:
    """A name as a file system sees it that ignores case and the composition of letters."""
    return unicodedata.normalize("NFC", name).casefold()


def _checked_name(name: str) -> str:
    if not name or name in (".", "..") or "/" in name or "\\" in name or name.startswith(".") or "\0" in name:
        raise SettingsError(f"{name!r} cannot name a patient's result folder; use letters, digits, - and _.")
    if not naming.is_portable(name):
        raise SettingsError(f"A study cannot be called {name!r}: Windows cannot have a folder of that name. Rename it.")
    if _comparable(name) in RESERVED:
        raise SettingsError(f"A study cannot be called {name!r}: the cohort's own file has that name. Rename it.")
    return name


def _named_paths(studies: Studies, heap: Path | None, apart: Path | None) -> list[tuple[str, Path]]:
    if not isinstance(studies, (str, PathLike)):
        return [(_name_of(path), path) for path in map(files.path_of, studies)]
    root = files.path_of(studies)
    if root.is_file() and root.suffix.lower() in (".csv", ".tsv"):
        return list(_from_table(root))
    if not root.is_dir():
        raise ReadError(f"{root} is not a folder; name a folder with one study folder per patient, or a .csv of paths.")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".") and p.resolve() != apart)
    subjects = subjects_in(root, folders)
    if subjects:  # a BIDS tree, or some are called as there
        return [(p.name, p) for p in subjects]
    if any(_is_dicom(p) for p in root.iterdir() if p.is_file()):
        return _from_heap(root, heap, apart)
    return [(p.name, p) for p in folders if p.name.lower() not in NO_PATIENT]


def _name_of(path: Path) -> str:
    """The last part of a path as it was written; if that is not a name ("." or ".."), that of the resolved path."""
    name = path.name if path.name not in ("", "..") else path.resolve().name
    return re.sub(r"\.(zip|tar|tgz|tar\.gz)$", "", name, flags=re.IGNORECASE) if path.is_file() else name


def _from_table(table: Path) -> Iterator[tuple[str, Path]]:
    """Names and paths from a table.

    Raises
    ------
    ReadError
        If the table cannot be read, or has no column of paths.
    """
    rows = read_rows(table, error=ReadError)
    columns = {c.lower(): c for c in (rows[0] if rows else {})}
    path_column = next((columns[c] for c in _PATH_COLUMNS if c in columns), None)
    if path_column is None:
        raise ReadError(f"{table} has no column of paths; call it 'study', with a row per patient.")
    name_column = next((columns[c] for c in _NAME_COLUMNS if c in columns), None)
    for number, row in enumerate(rows, 1):
        if not row[path_column]:
            told = ", ".join(cell for cell in row.values() if cell)
            raise ReadError(
                f"{table}: row {number} ({told}) has no path in the column {path_column!r}; add it, or remove the row."
            )
        path = path_in(table, row[path_column])
        name = row[name_column] if name_column else ""
        yield name or _name_of(path), path


def _is_dicom(file: Path) -> bool:
    from napari_medseq.io.detection import detect

    return detect(file) == "dicom"


def _from_heap(root: Path, heap: Path | None, apart: Path | None) -> list[tuple[str, Path]]:
    """A folder of links for each patient of a heap, named by the patient's pseudonym.

    Raises
    ------
    SettingsError
        If there is no folder for the links.
    """
    from napari_medseq.io.files import walk

    if heap is None:
        raise SettingsError(
            f"{root} is a heap of DICOM; give the folder for the results, in which it is sorted by patient."
        )
    by_patient: dict[str, list[Path]] = {}
    for file in walk(root):
        if (apart is None or apart not in file.resolve().parents) and _is_dicom(file):
            by_patient.setdefault(_patient_of(file), []).append(file)
    named = []
    for patient, own in sorted(by_patient.items()):
        folder = heap / f"patient-{patient}"
        _link(own, root, folder)
        named.append((folder.name, folder))
    return named


def _patient_of(file: Path) -> str:
    """The pseudonym of a file's patient; "unknown" if it names none."""
    from napari_medseq.io.dicom.headers import parse
    from napari_medseq.io.dicom.privacy import pseudonym

    try:
        header = parse(file)  # which reads what `read` does: files without a preamble and gzipped ones too
    except ReadError:
        return "unknown"
    return re.sub(r"[^\w-]", "_", pseudonym(header.ds)) or "unknown"


def _link(files: Sequence[Path], root: Path, folder: Path) -> None:
    """Make links to files under `folder`, at the places that they have under `root`; links to files that are gone are
    removed."""
    links = {folder / file.relative_to(root): file.resolve() for file in files}
    try:
        for old in folder.rglob("*") if folder.is_dir() else ():
            if old.is_symlink() and old not in links:
                old.unlink()
        for link, target in links.items():
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink() or Path(os.readlink(link)) != target:
                link.unlink(missing_ok=True)
                link.symlink_to(target)
    except OSError as error:
        raise WriteError(f"{folder}: the files of a patient could not be linked there ({error}).") from None
