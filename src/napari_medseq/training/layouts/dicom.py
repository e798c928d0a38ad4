"""DICOM as it leaves a clinic: a folder of each patient or visit that holds series, and their segmentations or structure sets.

Structures are told apart by name, since their numbers differ from patient to patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from napari_medseq.errors import ReadError
from napari_medseq.io import detect
from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.headers import parse
from napari_medseq.io.dicom.privacy import without_identifiers
from napari_medseq.io.dicom.series import LABELMAP_SEG, RTSTRUCT, SEG
from napari_medseq.io.dicom.values import integer, text, value
from napari_medseq.io.handles import job
from napari_medseq.training.layouts.entries import Entry, Layout, some


@job()
def of_dicom(folder: Path) -> Layout:
    """A case for each folder that holds labels, or that holds the folders of labels and of their images; none without
    DICOM."""
    images: set[Path] = set()
    names: dict[Path, list[str]] = {}
    for path, structures in _headers(folder):
        if structures is None:
            images.update((path.parent, *path.parent.parents))
        else:
            names[path] = structures
    cases: dict[Path, list[str]] = {}
    for path, structures in names.items():
        place = next((p for p in (path.parent, *path.parent.parents) if p in images and p.is_relative_to(folder)), None)
        if place is not None:
            cases.setdefault(place, []).extend(structures)
    classes = {name: k for k, name in enumerate(sorted({n for own in cases.values() for n in own}), 1)}
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
    partly = [name for name in classes if any(name not in own for own in cases.values())]
    doubts = (
        [f"not every case has the structures {some(partly)}; where one is missing it counts as background"]
        if partly
        else []
    )
    kind = "DICOM with segmentations or structure sets"
    return Layout(kind, tuple(entries), ("image",), {k: name for name, k in classes.items()}, doubts=tuple(doubts))


def _headers(folder: Path) -> Iterator[tuple[Path, list[str] | None]]:
    """Each DICOM file below a folder, with the names of its structures; None for a file without labels."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith(".") or detect(path) != "dicom":
            continue
        try:
            ds = parse(path).ds
        except ReadError:  # said when it is read
            continue
        yield path, _structures(ds) if text(ds, "SOPClassUID") in (SEG, LABELMAP_SEG, RTSTRUCT) else None


def _structures(ds: Attributes) -> list[str]:
    """The names as the reader gives them, so without what could tell the patient."""
    segments = [
        (text(s, "SegmentLabel"), f"Segment {integer(s, 'SegmentNumber')}") for s in value(ds, "SegmentSequence") or []
    ]
    rois = [(text(r, "ROIName"), f"ROI_{integer(r, 'ROINumber')}") for r in value(ds, "StructureSetROISequence") or []]
    return [without_identifiers(name, ds) or default for name, default in (*segments, *rois)]
