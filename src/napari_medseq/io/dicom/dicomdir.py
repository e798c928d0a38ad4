"""The list of files of a DICOMDIR, which is followed only inside its own folder.

Source: DICOM PS3.3 annex F (basic directory information object), PS3.10 (file IDs).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_medseq.io.dicom.headers import FileHeader
from napari_medseq.io.dicom.values import text, value
from napari_medseq.wording import how_many

_MOST_FILES = 200_000


def referenced(file: FileHeader) -> tuple[list[str], list[str]]:
    """Files that a DICOMDIR names, and the problems of others that it names.

    Parameters
    ----------
    file : FileHeader
        The parsed DICOMDIR.

    Returns
    -------
    files, problems : lists of str
    """
    root = Path(file.path).resolve().parent
    files: list[str] = []
    outside = missing = 0
    for record in (value(file.ds, "DirectoryRecordSequence") or [])[:_MOST_FILES]:
        file_id = value(record, "ReferencedFileID")
        if file_id is None or text(record, "DirectoryRecordType").upper() not in (
            "IMAGE",
            "SEG",
            "RT STRUCTURE SET",
            "PRIVATE",
            "",
        ):
            continue
        parts = (
            [str(p) for p in file_id]
            if isinstance(file_id, Sequence) and not isinstance(file_id, str)
            else str(file_id).split("\\")
        )
        target = root.joinpath(*parts).resolve()
        if not target.is_relative_to(root):
            outside += 1
            continue
        if not target.is_file():  # names on media are upper case, but those of copies often are not
            target = root.joinpath(*(p.lower() for p in parts))
        if target.is_file():
            files.append(str(target))
        else:
            missing += 1
    problems = []
    if outside:
        problems.append(
            f"{file.path}: {how_many(outside, 'file named in it lies', 'files named in it lie')} outside its folder; not followed."
        )
    if missing:
        problems.append(
            f"{file.path}: {how_many(missing, 'file named in it is', 'files named in it are')} missing; copy the whole medium."
        )
    return files, problems
