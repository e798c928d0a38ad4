"""Which files with one SeriesInstanceUID are one series, because some anonymisers give all visits the same UIDs.

Patient, study and date take precedence over the UID, and folders that repeat each other's slices are separate images.
Files that are separated here never become frames in time.
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from napari_medseq.io.dicom.elements import Elements
from napari_medseq.io.dicom.frame import Frame
from napari_medseq.io.dicom.headers import FileHeader
from napari_medseq.io.dicom.tags import TAGS
from napari_medseq.io.dicom.values import moment, numbers, stamp, text
from napari_medseq.io.visit_order import is_visit_name

_OWNERS = ("PatientID", "StudyInstanceUID", "StudyDate")
#: Attributes that distinguish the files of one series; two folders that share many of their values hold the same slices twice.
_NUMBERS = ("InstanceNumber", "TemporalPositionIdentifier", "TriggerTime", "AcquisitionNumber", "EchoNumbers", "ImageType", "SeriesNumber",
            "FrameReferenceTime", "NominalPercentageOfCardiacPhase", "EchoTime", "DiffusionBValue")  # fmt: skip
#: Share of the smaller folder's slices that the other folder must repeat.
_REPEATED = 0.5
#: Largest number of days between the acquisitions of one series.
_LONGEST_GAP = 1
_COMPARED = 3
#: Largest time between the beginnings of two phases of one scan.
_NEXT_PHASE = timedelta(minutes=10)


def separated(frames: Sequence[Frame]) -> list[tuple[list[Frame], str]]:
    """Split the frames under one UID into those that were acquired together.

    Returns
    -------
    list of (frames, reason)
        The reason is "" if nothing was split, else "owner", "date" or "folder".
    """
    files = list({id(f.file): f.file for f in frames}.values())
    if len(files) == 1:
        return [(list(frames), "")]
    out: list[tuple[list[FileHeader], str]] = []
    for group, reason in _by_owner(files):
        for days in _by_days(group):
            for folder in _by_folder(days):
                why = "folder" if len(folder) < len(days) else "date" if len(days) < len(group) else reason
                out.append((folder, why))
    if len(out) == 1:
        return [(list(frames), "")]
    place = {id(file): k for k, (group, _) in enumerate(out) for file in group}
    parts: list[list[Frame]] = [[] for _ in out]
    for frame in frames:
        parts[place[id(frame.file)]].append(frame)
    return [(part, reason) for part, (_, reason) in zip(parts, out, strict=True)]


def _stored(file: FileHeader, keyword: str) -> object:
    """An attribute as stored, for comparisons only."""
    if isinstance(file.ds, Elements):
        element = file.ds.values.get(TAGS[keyword][0])
        return element[1].strip(b" \0") if element is not None else b""
    return text(file.ds, keyword).encode()


def _by_owner(files: list[FileHeader]) -> list[tuple[list[FileHeader], str]]:
    """Split files by patient, study and date; files that lack one of these belong to those that have it."""
    used = []
    for keyword in _OWNERS:
        values = {_stored(file, keyword) for file in files} - {b""}
        # some de-identifiers leave UIDs like that
        of_each_file = 2 < len(values) == len(files) and keyword != "StudyDate"
        if len(values) > 1 and not of_each_file:
            used.append(keyword)
    if not used:
        return [(files, "")]
    groups: dict[tuple[object, ...], list[FileHeader]] = defaultdict(list)
    for file in files:
        groups[tuple(_stored(file, keyword) for keyword in used)].append(file)
    return [(group, "date" if used == ["StudyDate"] else "owner") for group in groups.values()]


def _by_days(files: list[FileHeader]) -> list[list[FileHeader]]:
    """Split files where days without any acquisition lie between them."""
    stored = {(_stored(file, "AcquisitionDate"), _stored(file, "SeriesDate")) for file in files}
    if len(stored) == 1:
        return [files]
    days: dict[int, list[FileHeader]] = defaultdict(list)
    for file in files:
        day = moment(file.ds, "AcquisitionDate", "") or moment(file.ds, "SeriesDate", "")
        days[day.toordinal() if day is not None else -1].append(file)
    unknown = days.pop(-1, [])
    out: list[list[FileHeader]] = []
    last = -_LONGEST_GAP
    for number in sorted(days):
        if not out or number - last > _LONGEST_GAP:
            out.append([])
        out[-1].extend(days[number])
        last = number
    if not out:
        return [files]
    out[0].extend(unknown)
    return out


def _by_folder(files: list[FileHeader]) -> list[list[FileHeader]]:
    """Split files by folder if folders hold the same slices, using as few levels of the path as distinguish them."""
    folders: dict[str, list[FileHeader]] = defaultdict(list)
    for file in files:
        folders[os.path.dirname(file.path)].append(file)
    if len(folders) == 1:
        return [files]
    keys = {name: {_number(file): file for file in group} for name, group in folders.items()}
    clashes = [(a, b) for a in keys for b in keys if a < b and _repeat(keys[a], keys[b])]
    if not clashes or _are_phases(folders):
        return [files]
    common = os.path.commonpath(list(folders))
    parts = {name: os.path.relpath(name, common).split(os.sep) for name in folders}
    for depth in range(1, max(len(p) for p in parts.values()) + 1):
        branch = {name: tuple(p[:depth]) for name, p in parts.items()}
        if all(branch[a] != branch[b] for a, b in clashes):
            break
    groups: dict[tuple[str, ...], list[FileHeader]] = defaultdict(list)
    for name, group in folders.items():
        groups[branch[name]].extend(group)
    return list(groups.values())


def _are_phases(folders: dict[str, list[FileHeader]]) -> bool:
    """Whether folders hold the phases of one dynamic scan: all dated, minutes apart, and none named as a visit."""
    common = os.path.commonpath(list(folders))
    if any(is_visit_name(part) for name in folders for part in os.path.relpath(name, common).split(os.sep)):
        return False
    starts: list[datetime] = []
    for group in folders.values():
        moments = [_moment(file) for file in group]
        if None in moments or any(not _stored(file, "StudyDate") for file in group):
            return False
        starts.append(min(at for at in moments if at is not None))
    gaps = [b - a for a, b in itertools.pairwise(sorted(starts))]
    return all(timedelta(0) < gap <= _NEXT_PHASE for gap in gaps)


def _moment(file: FileHeader) -> datetime | None:
    """The time of acquisition of a slice, if its time and not only its date is known."""
    ds = file.ds
    acquired = stamp(ds, "AcquisitionDateTime")
    for day, clock in (
        ("AcquisitionDate", "AcquisitionTime"),
        ("StudyDate", "AcquisitionTime"),
        ("ContentDate", "ContentTime"),
    ):
        acquired = acquired or (moment(ds, day, clock) if text(ds, clock) else None)
    return acquired


def _number(file: FileHeader) -> tuple[object, ...]:
    """The identity of a slice; slices of different planes always differ, while a slightly different patient position
    does not matter."""
    numbers = (*(_stored(file, keyword) for keyword in _NUMBERS), _plane(file))
    return numbers if numbers[0] else (*numbers, _stored(file, "ImagePositionPatient"), _stored(file, "SliceLocation"))


def _plane(file: FileHeader) -> int | None:
    """The patient axis (0: left to right) that is most nearly perpendicular to a slice, if its directions are
    known."""
    directions = numbers(file.ds, "ImageOrientationPatient", 6)
    return None if directions is None else int(np.argmax(np.abs(np.cross(directions[:3], directions[3:]))))


def _repeat(one: dict[tuple[object, ...], FileHeader], other: dict[tuple[object, ...], FileHeader]) -> bool:
    """Whether two folders hold the same slices, other than as copies of the same files."""
    shared = one.keys() & other.keys()
    if len(shared) < max(_REPEATED * min(len(one), len(other)), 1):
        return False
    pairs = [(one[key], other[key]) for key in sorted(shared, key=repr)[:_COMPARED]]
    return not all(
        _stored(a, "SOPInstanceUID") == _stored(b, "SOPInstanceUID") and _same_pixels(a, b) for a, b in pairs
    )


def _same_pixels(one: FileHeader, other: FileHeader) -> bool:
    sizes = one.size - one.pixel_at, other.size - other.pixel_at
    return sizes[0] == sizes[1] and one.source.read(one.pixel_at, sizes[0]) == other.source.read(
        other.pixel_at, sizes[1]
    )
