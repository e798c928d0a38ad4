"""`read` and `info`: open a file, a folder or a list of files of any mix of formats.

The format of each file is detected by its magic bytes, and the module of that format reads it; DICOM files are read
together, because a series is many files. Files that cannot be opened are listed in a warning; an error is raised only
if nothing could be opened.
"""

from __future__ import annotations

import itertools
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from napari_medseq.errors import ReadError
from napari_medseq.io import archives, naming
from napari_medseq.io.detection import detect
from napari_medseq.io.files import Paths, collect, walk
from napari_medseq.io.formats.raw import Laziness
from napari_medseq.io.formats.reader import Facts, Reader
from napari_medseq.io.handles import job
from napari_medseq.io.notes import collect_failures, emit_warnings, silenced
from napari_medseq.io.numbered_pictures import as_sequences, facts_of_sequences
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.sequence import ImageSequence, Kind

if TYPE_CHECKING:
    from napari_medseq.io.dicom.headers import FileHeader
    from napari_medseq.io.dicom.series import Scan

#: Files looked at to find the images of a structure set that was opened alone.
_MOST_NEIGHBOURS = 1500


def read(
    path: Paths,
    *,
    lazy: Laziness = False,
    kind: Kind | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[ImageSequence]:
    """Open a file, a folder or a list of files.

    Parameters
    ----------
    path : path-like or sequence of path-like
        NIfTI, DICOM (any mixture of series), NRRD, MetaImage and others; folders are searched through. Pictures of one
        folder and size whose names differ only in a number are the frames of one sequence, with a warning.
    lazy : bool or "auto"
        Give dask-backed voxels that are read when looked at; "auto" (the viewer's choice) does so for images that are
        big or have many frames, never for labels.
    kind : {"image", "labels"}, optional
        Say what the file is, where its name and format do not.
    progress, cancelled : callables, optional
        See `napari_medseq.progress`.

    Returns
    -------
    list of ImageSequence
        One per series, each in house orientation; names are unique.

    Raises
    ------
    ReadError
        If nothing could be opened; the message says why.

    Warns
    -----
    ReadWarning
        For every doubt; it also stands in ``seq.warnings``.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_medseq as ms
    >>> image = ms.ImageSequence(np.arange(60.0).reshape(3, 4, 5), ("z", "y", "x"), np.diag([2.0, 2.0, 5.0, 1.0]), modality="MR")
    >>> import tempfile
    >>> path = ms.write(image, tempfile.mkdtemp() + "/t1.nii.gz")
    >>> (again,) = ms.read(path)  # a list: one image per series
    >>> again.axes, again.data.shape, again.spacing["z"]
    (('z', 'y', 'x'), (3, 4, 5), 5.0)
    """
    with job(), silenced():
        files, failures = collect(path)
        out = read_collected(files, failures, lazy=lazy, kind=kind, progress=progress, cancelled=cancelled)
    if not out:
        raise ReadError(_nothing(path, failures))
    emit_warnings(out)
    return out


def read_collected(
    by_format: dict[str, list[Path]],
    failures: list[str],
    *,
    lazy: Laziness = False,
    kind: Kind | None = None,
    distinct: bool = True,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[ImageSequence]:
    """Read files already sorted by kind; what fails is appended to `failures` and to the warnings of what opened.

    With `distinct`, namesakes are numbered.
    """
    out: list[ImageSequence] = []
    if "dicom" in by_format:
        out.extend(_read_dicom(by_format["dicom"], failures, lazy, progress, cancelled))
    singles = [(file, k) for k, files in by_format.items() if k != "dicom" for file in files]
    for done, (file, file_kind) in enumerate(singles):
        check(cancelled)
        with collect_failures(str(file), failures):
            out.extend(_reader(file_kind, file).read(file, lazy=lazy, kind=kind, cancelled=cancelled))
        if progress is not None:
            progress(done + 1, len(singles), f"Reading {file.name}")
    failures[:] = [archives.shown(line) for line in failures]
    out = as_sequences([_as_shown(seq) for seq in out])
    if distinct:
        out = naming.unique(out)
    if kind is not None and "dicom" in by_format:
        out = [_as_kind(seq, kind) for seq in out]
    if failures and out:
        extra = tuple(f for f in failures if f not in out[0].warnings)
        out[0] = out[0].replace(warnings=(*out[0].warnings, *extra))
    return out


def _as_shown(seq: ImageSequence) -> ImageSequence:
    """The same sequence; where it came from an archive, its source is a path inside the archive."""
    source = str(seq.meta.get("source", ""))
    source_shown = archives.shown(source)
    if source_shown == source:
        return seq
    return seq.replace(
        meta={**seq.meta, "source": source_shown}, warnings=tuple(archives.shown(line) for line in seq.warnings)
    )


def _as_kind(seq: ImageSequence, kind: Kind) -> ImageSequence:
    if seq.kind == kind:
        return seq
    if kind == "image":
        return seq.replace(kind="image", label_names={})
    from napari_medseq.io.label_values import labels_or_image

    notes = list(seq.warnings)
    values, axes, _ = labels_or_image(
        seq.data, seq.axes, where=seq.name, labels_asked=True, notes=notes, has_times=seq.times is not None
    )
    return seq.replace(data=values, axes=axes, kind="labels", warnings=tuple(notes))


def _nothing(path: Paths, failures: list[str]) -> str:
    where = str(path) if isinstance(path, (str, os.PathLike)) else f"{len(list(path))} files"
    if not failures:
        return f"{where}: no image file was found here; give a folder or file with NIfTI (.nii, .nii.gz), DICOM, NRRD or MetaImage."
    if len(failures) == 1:
        return failures[0]
    return f"{where}: none of the files could be opened. First: {failures[0]} ({len(failures)} problems in all)"


#: Kind of a file → the module of its format.
_MODULES = {
    "nifti": "nifti", "nrrd": "nrrd", "metaimage": "metaimage", "mgh": "mgh", "picture": "picture", "tiff": "tiff",
    "video": "picture",
}  # fmt: skip


def _reader(kind: str, file: Path) -> Reader:
    """The module of the format that `detect` found, loaded when needed."""
    if kind not in _MODULES:
        raise ReadError(f"{file}: files of kind {kind!r} are not read; convert it to NIfTI or NRRD.")
    return cast("Reader", import_module(f"napari_medseq.io.formats.{_MODULES[kind]}"))


def _read_dicom(
    files: list[Path], failures: list[str], lazy: Laziness, progress: Progress | None, cancelled: Cancelled | None
) -> list[ImageSequence]:
    from napari_medseq.io.dicom import series

    scanned = series.scan(files, progress, cancelled)
    out = series.read_scan(scanned, lazy=lazy, progress=progress, cancelled=cancelled)
    for file in scanned.labels:
        check(cancelled)
        with collect_failures(file.path, scanned.failures):
            out.extend(_read_labels(file, scanned, cancelled))
    failures.extend(scanned.failures)
    if not out and not scanned.failures and scanned.others:
        failures.append(
            f"{scanned.others[0].path}: this DICOM object holds no image (for example a report or a directory)."
        )
    return out


def _read_labels(file: FileHeader, scan: Scan, cancelled: Cancelled | None) -> list[ImageSequence]:
    """A DICOM SEG or RTSTRUCT on the grids found beside it; a structure set opened alone looks for its images nearby."""
    from napari_medseq.io.dicom import rtstruct, series
    from napari_medseq.io.dicom import seg as dicom_seg
    from napari_medseq.io.dicom.values import text

    if text(file.ds, "SOPClassUID") != series.RTSTRUCT:
        return dicom_seg.read(file, scan.stacks)
    stacks = scan.stacks
    series_uids = rtstruct.referenced_series(file.ds)
    missing = (
        not any(text(s.first.file.ds, "SeriesInstanceUID") in series_uids for s, _ in stacks)
        if series_uids
        else not stacks
    )
    if missing:
        for folder in rtstruct.neighbours(file):
            near = series.scan(
                itertools.islice((f for f in walk(folder) if detect(f) == "dicom"), _MOST_NEIGHBOURS), None, cancelled
            )
            near.series = {uid: frames for uid, frames in near.series.items() if uid in series_uids or not series_uids}
            if near.series:
                stacks = [*stacks, *series.sort(near)]
                break
    return rtstruct.read(file, stacks)


def info(
    path: Paths, *, identifiers: bool = False, progress: Progress | None = None, cancelled: Cancelled | None = None
) -> dict[str, Any]:
    """The contents of a file or folder, from headers only: nothing is decoded.

    Parameters
    ----------
    path : path-like or sequence of path-like
    identifiers : bool
        Give patients' names and IDs instead of pseudonyms.

    Returns
    -------
    dict
        ``{"path", "series": [{"name", "kind", "format", "shape", "spacing_mm", "frames", "warnings", …}], "warnings"}``;
        shapes in the file's (x, y, z, t) order.

    Raises
    ------
    ReadError
        If there is no image at all.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_medseq as ms
    >>> image = ms.ImageSequence(np.arange(60.0).reshape(3, 4, 5), ("z", "y", "x"), np.diag([2.0, 2.0, 5.0, 1.0]), modality="MR")
    >>> import tempfile
    >>> path = ms.write(image, tempfile.mkdtemp() + "/t1.nii.gz")
    >>> (series,) = ms.info(path)["series"]
    >>> series["shape"], series["format"]
    ([5, 4, 3], 'NIfTI-1')
    """
    series: list[dict[str, Any]] = []
    with job(), silenced():
        by_format, failures = collect(path)
        if "dicom" in by_format:
            from napari_medseq.io.dicom import listing

            series.extend(
                listing.facts(
                    by_format["dicom"], failures, identifiers=identifiers, progress=progress, cancelled=cancelled
                )
            )
    singles: list[Facts] = []
    for kind, files in by_format.items():
        for file in files if kind != "dicom" else []:
            check(cancelled)
            with collect_failures(str(file), failures):
                singles.extend(_reader(kind, file).facts(file))
    series.extend(facts.to_dict() for facts in facts_of_sequences(singles))
    if not series:
        raise ReadError(_nothing(path, failures))
    for facts in series:
        facts["source"] = archives.shown(str(facts["source"]))
    failures = [archives.shown(line) for line in failures]
    where = str(path) if isinstance(path, (str, os.PathLike)) else [str(p) for p in path]
    return {"path": where, "series": series, "warnings": failures}
