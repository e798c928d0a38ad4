"""`read_study`: open a patient's folder as visits in order.

The folder handed in may be the patient's, one visit's, or one that holds a single patient. Dates decide the order;
where they are missing, a table or the names of the visits do, with a warning.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from napari_medseq import files
from napari_medseq.errors import ReadError
from napari_medseq.io import archives, naming
from napari_medseq.io.files import collect
from napari_medseq.io.formats.raw import Laziness
from napari_medseq.io.handles import job
from napari_medseq.io.notes import emit_warnings
from napari_medseq.io.numbered_pictures import holds_sequences
from napari_medseq.io.reading import read_collected
from napari_medseq.io.sessions import Sessions, read_sessions
from napari_medseq.io.shifted_dates import shifted
from napari_medseq.io.visit_folders import SESSION, Place, is_visit, left_out, opened_folder, patient_folder, places_of
from napari_medseq.io.visit_groups import merged, visits_of
from napari_medseq.io.visit_order import merged_order, natural, order_of
from napari_medseq.progress import Cancelled, Progress, part
from napari_medseq.sequence import Study, Visit, kind_of


@job()
def read_study(
    folder: str | os.PathLike[str],
    *,
    order: Sequence[str] | None = None,
    lazy: Laziness = False,
    shift_dates: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Study:
    """Open a patient's folder as visits.

    Parameters
    ----------
    folder : path-like
        BIDS (``sub-*/ses-*``, dates in ``sessions.tsv``), a folder or archive per visit (a date in its name), a heap of
        DICOM (sorted by study and date), one visit's folder, or a ZIP or tar of any of these. A folder of numbered
        pictures only, labels beside them included, is one visit, whose pictures are the frames of a sequence.
    order : sequence of str, optional
        The names of all visits, the first one first, where dates do not give their order and names would mislead.
    lazy : bool
        Give dask-backed voxels.
    shift_dates : bool
        Move all dates of the patient back by days that only the key of pseudonyms tells (see `pseudonyms`); intervals stay.
    progress, cancelled : callables, optional
        See `napari_medseq.progress`.

    Returns
    -------
    Study
        Visits in order of date. A visit without a date stands where `order`, the rows of ``sessions.tsv`` or (a guess, which
        is said) the names put it.

    Raises
    ------
    ReadError
        If the folder is missing, holds no image, or holds several patients; if `order` is not that of the visits there are.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import napari_medseq as ms
    >>> image = ms.ImageSequence(np.zeros((3, 4, 5)), ("z", "y", "x"), np.diag([2.0, 2.0, 5.0, 1.0]))
    >>> folder = tempfile.mkdtemp()
    >>> for day in ("2020-01-31", "2020-05-04"):
    ...     path = ms.write(image, f"{folder}/sub-01/{day}/t1.nii.gz")
    >>> [str(visit.date) for visit in ms.read_study(folder).visits]
    ['2020-01-31', '2020-05-04']
    """
    if not isinstance(folder, (str, os.PathLike)):
        raise ReadError(f"{kind_of(folder)} is not a path; name the folder or archive of one patient.")
    root = archives.located(files.path_of(folder))
    if not root.exists():
        raise ReadError(f"{root}: there is no such folder; check the path.")
    notes: list[str] = []
    if root.is_file():
        root = root.parent if root.name.upper() == "DICOMDIR" else opened_folder(root, notes)
    patient, places = _places(root)
    notes.extend(left_out(patient, places))
    table = read_sessions(patient, of_session=bool(SESSION.match(patient.name)))
    notes.extend(table.notes)
    visits: list[Visit] = []
    dropped: list[str] = []
    for number, place in enumerate(places):
        sequences = read_collected(
            place.files,
            place.failures,
            lazy=lazy,
            distinct=False,
            progress=part(progress, number / len(places), (number + 1) / len(places)),
            cancelled=cancelled,
        )
        notes.extend(place.failures)
        if not sequences:
            dropped.append(f"{place.name}: {place.failures[0] if place.failures else 'nothing in it could be opened'}")
            notes.append(f"Visit {place.name}: nothing in it could be opened; the visit is missing from the study.")
        visits.extend(visits_of(place, sequences, table.date_of(place.name) or place.day, patient))
    if not visits:
        raise ReadError(_nothing(root, notes))
    patients = {str(s.meta["patient"]) for v in visits for s in (*v.images, *v.labels) if "patient" in s.meta}
    if len(patients) > 1:
        notes.append(f"The images name {len(patients)} different patients; check that this folder is one patient's.")
    visits = _ordered(merged(visits), order, table, notes)
    emit_warnings((s for v in visits for s in (*v.images, *v.labels)), notes)
    study = Study(_name_of(patient), tuple(visits), tuple(notes), tuple(dropped))
    return shifted(study) if shift_dates else study


def _places(root: Path) -> tuple[Path, list[Place]]:
    """The patient's folder, and the files of each visit."""
    patient = patient_folder(root) if root.is_dir() else root
    if _is_one_recording(root):
        files, failures = collect(root)
        return root, [Place(root.name, files, naming.date_in(root.name), failures)]
    return patient, places_of(patient, root)


def _nothing(root: Path, notes: Sequence[str]) -> str:
    """Why no visit could be opened."""
    failures = [note for note in notes if not note.startswith("Visit ")]
    return (
        failures[0]
        if failures
        else f"{archives.shown(str(root))}: no image file was found here; "
        "a study is a folder with NIfTI or DICOM files, or one folder per visit."
    )


def _name_of(patient: Path) -> str:
    """The study's name: that of the patient's folder or file, even if only the folder of one session was given."""
    name = patient.name if patient.is_dir() else naming.stem(patient)
    if SESSION.match(name) and patient.resolve().parent.name:
        return patient.resolve().parent.name
    return name


def _is_one_recording(root: Path) -> bool:
    """Whether a folder holds numbered pictures only, so that its subfolders (frames, labels) are not visits."""
    return root.is_dir() and not any(p.is_dir() and is_visit(p.name) for p in root.iterdir()) and holds_sequences(root)


def _ordered(visits: list[Visit], order: Sequence[str] | None, table: Sessions, notes: list[str]) -> list[Visit]:
    """Visits in order, and in `notes` where that order is a guess."""
    if len(visits) < 2:
        return visits
    names = [v.name for v in visits]
    dates = [v.date for v in visits]
    undated = [v.name for v in visits if v.date is None]
    equal = sorted((v.name for v in visits if v.date is not None and dates.count(v.date) > 1), key=natural)
    if order is not None:
        out = [visits[k] for k in _stated(order, names, dates)]
        how = "the order is the one given"
    else:
        rows = [table.rank_of(name) for name in names]
        listed = [row for row in rows if row is not None]
        ranks = listed if len(listed) == len(names) else _ranks(order_of(names))
        out = [visits[k] for k in merged_order(ranks, dates)]
        of_table = len(listed) == len(names)
        how = "their order is that of the rows of sessions.tsv" if of_table else "their order is a guess from the names"
    listing = ", ".join(v.name for v in out[:12])
    way_out = "" if "guess" not in how else " Set it with order= (--order), or dates in a sessions.tsv, if it is wrong."
    if undated:
        named = ", ".join(undated[:6])
        notes.append(
            f"The date of a visit is unknown ({named}); {how}: {listing}. Rates per day are left blank.{way_out}"
        )
    if equal:
        named = ", ".join(equal[:6])
        notes.append(
            f"Visits have the same date ({named}); {how}: {listing}. Rates per day between them are left blank.{way_out}"
        )
    return out


def _ranks(order: Sequence[int]) -> list[int]:
    """Each visit's place in an order of indices."""
    ranks = [0] * len(order)
    for place, k in enumerate(order):
        ranks[k] = place
    return ranks


def _stated(order: Sequence[str], names: Sequence[str], dates: Sequence[date | None]) -> list[int]:
    """The indices of visits in the order that was asked for.

    Raises
    ------
    ReadError
        If it names other visits than there are, or contradicts their dates.
    """
    lower = [n.lower().removeprefix("ses-") for n in names]
    names_wanted = [n.strip().lower().removeprefix("ses-") for n in order]
    if sorted(lower) != sorted(names_wanted):
        raise ReadError(
            f"The order names {', '.join(order)}, but the visits are {', '.join(names)}; name each of them once."
        )
    out = [lower.index(n) for n in names_wanted]
    dated = [(day, names[k]) for k in out if (day := dates[k]) is not None]
    for (before, first), (after, second) in itertools.pairwise(dated):
        if after < before:
            raise ReadError(
                f"The order puts {first} ({before}) before {second} ({after}), but their dates say the opposite; mend one of them."
            )
    return out
