"""DICOM as it leaves a clinic: a folder of each patient or visit that holds series, and their segmentations or structure sets.

Structures are told apart by name, since their numbers differ from patient to patient.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_medseq.errors import ReadError, SettingsError
from napari_medseq.io import detect
from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.headers import parse
from napari_medseq.io.dicom.privacy import without_identifiers
from napari_medseq.io.dicom.series import LABELMAP_SEG, RTSTRUCT, SEG
from napari_medseq.io.dicom.values import integer, text, value
from napari_medseq.io.handles import job
from napari_medseq.training.layouts.entries import Entry, Layout
from napari_medseq.wording import some


@job()
def of_dicom(folder: Path) -> Layout:
    """A case for each folder that holds labels, or that holds the folders of labels and of their images; none without
    DICOM.

    Raises
    ------
    SettingsError
        If a folder holds the labels of several patients or studies.
    """
    images: set[Path] = set()
    labels: dict[Path, _Labels] = {}
    for path, found in _headers(folder):
        if found is None:
            images.update((path.parent, *path.parent.parents))
        else:
            labels[path] = found
    of_place: dict[Path, list[_Labels]] = {}
    for path, found in labels.items():
        place = next((p for p in (path.parent, *path.parent.parents) if p in images and p.is_relative_to(folder)), None)
        if place is not None:
            of_place.setdefault(place, []).append(found)
    for place, given in of_place.items():
        if (several := len({found.study for found in given})) > 1:
            raise SettingsError(
                f"{place} holds the labels of {several} studies together with their images; put each study into a folder of its own, in a "
                "folder of each patient."
            )
    cases = {place: [n for found in given for n in found.structures] for place, given in of_place.items()}
    classes, doubts = _classes([n for own in cases.values() for n in own])
    entries = []
    for place, own in sorted(cases.items()):
        inside = place.relative_to(folder)
        patient = inside.parts[0] if inside.parts else ""
        segment_numbers = {name: classes[name] for name in own}
        entries.append(
            Entry(
                patient,
                inside.as_posix() if patient else folder.name,
                {"image": (place,)},
                (place,),
                classes=segment_numbers,
            )
        )
    names: dict[int, str] = {}
    for name, k in classes.items():
        names.setdefault(k, name)
    present = [{classes[n] for n in own} for own in cases.values()]
    partly = [name for k, name in names.items() if any(k not in own for own in present)]
    if partly:
        doubts.append(f"not every case has the structures {some(partly)}; where one is missing it counts as background")
    kind = "DICOM with segmentations or structure sets"
    return Layout(kind, tuple(entries), ("image",), names, doubts=tuple(doubts))


def _classes(written: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """The class of each name, in alphabetical order, and a doubt for names that differ only in case, blanks and marks: they are one.

    Of these the most frequent comes first.
    """
    counts = Counter(written)
    alike: dict[str, list[str]] = {}
    for name in sorted(counts, key=lambda n: (-counts[n], n)):
        alike.setdefault(re.sub(r"[\s_\-]+", " ", name).strip().lower(), []).append(name)
    groups = sorted(alike.values())
    doubts = [f"{some(own)} are taken for one structure" for own in groups if len(own) > 1]
    return {name: k for k, own in enumerate(groups, 1) for name in own}, doubts


@dataclass(frozen=True)
class _Labels:
    """The study that a file of labels belongs to, and the names of its structures."""

    study: str
    structures: list[str]


def _headers(folder: Path) -> Iterator[tuple[Path, _Labels | None]]:
    """Each DICOM file below a folder, with what it labels; None for a file without labels."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith(".") or detect(path) != "dicom":
            continue
        try:
            ds = parse(path).ds
        except ReadError:  # said when it is read
            continue
        if text(ds, "SOPClassUID") not in (SEG, LABELMAP_SEG, RTSTRUCT):
            yield path, None
        else:
            yield path, _Labels(text(ds, "StudyInstanceUID"), _structures(ds))


def _structures(ds: Attributes) -> list[str]:
    """The names as the reader gives them, so without what could tell the patient."""
    segments = [
        (text(s, "SegmentLabel"), f"Segment {integer(s, 'SegmentNumber')}") for s in value(ds, "SegmentSequence") or []
    ]
    rois = [(text(r, "ROIName"), f"ROI_{integer(r, 'ROINumber')}") for r in value(ds, "StructureSetROISequence") or []]
    return [without_identifiers(name, ds) or default for name, default in (*segments, *rois)]
