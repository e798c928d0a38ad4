"""The DICOM series that labels refer to: found by its grid, with what a new object copies from it, and what it must
not keep.

Segmentations, structure sets and reports share this module.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import WriteError
from napari_medseq.geometry import apply_points, corners, to_codes
from napari_medseq.io.dicom import series
from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.privacy import without_identifiers
from napari_medseq.io.dicom.stacks import Stack
from napari_medseq.io.dicom.values import text
from napari_medseq.io.files import collect
from napari_medseq.io.placing import turned
from napari_medseq.io.pseudonyms import lesion_uid
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.labelled import value_counts

if TYPE_CHECKING:
    import highdicom as hd
    from pydicom import DataElement, Dataset

#: Attributes that highdicom copies from the source and that files often lack.
_COPIED = ("AccessionNumber", "PatientBirthDate", "PatientID", "PatientName", "PatientSex", "ReferringPhysicianName", "StudyDate",
           "StudyID", "StudyTime")  # fmt: skip
_IDENTIFYING = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "ReferringPhysicianName",
    "AccessionNumber",
    "OtherPatientIDs",
)
#: Attributes of patient and study that are kept, blank or not, in a file without identifiers (the rest of group 0010 is removed).
_BLANK = (*_IDENTIFYING, "StudyID")
_KEPT_OF_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
#: Attributes that tell who made the images, anywhere in the file (a sequence describes the source's equipment).
_MAKERS = frozenset(
    (
        "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "InstitutionCodeSequence", "StationName",
        "OperatorsName", "PerformingPhysicianName", "RequestingPhysician", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy",
        "IssuerOfAccessionNumberSequence", "ReferringPhysicianIdentificationSequence",
    )
)  # fmt: skip
#: Groups about requests, admissions and procedures, which a segmentation does not need.
_ADMINISTRATIVE = (0x0032, 0x0038, 0x0040)
#: First tag in group 0040 of the content of a structured report, except for who requested it.
_CONTENT = 0xA000
_REQUESTS = ("ReferencedRequestSequence",)
_WITHIN_MM = 0.02
#: The series that labels were drawn on: its folder or files, or the image that was read from them.
Reference: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | ImageSequence


class Geometry(TypedDict, total=False):
    """The positions of slices, for sources from which highdicom cannot read them (tiles, parts of an enhanced
    file)."""

    pixel_measures: hd.PixelMeasuresSequence
    plane_orientation: hd.PlaneOrientationSequence
    plane_positions: list[hd.PlanePositionSequence]


def stack_for(seq: ImageSequence, reference: Reference | None) -> Stack:
    """The stack of the reference on which the labels were drawn."""
    if isinstance(reference, ImageSequence):
        reference = reference.meta.get("source")
    if reference is None:
        reference = seq.meta.get("source") if seq.meta.get("series_uid") else None
    if reference is None:
        raise WriteError(
            f"{seq.name}: labels in DICOM need the series that they were drawn on; give reference=its folder."
        )
    files, _ = collect([reference] if isinstance(reference, (str, os.PathLike)) else list(reference))
    scanned = series.scan(files.get("dicom", []))
    stacks = [s for s, _ in series.sort(scanned) if s.oriented]
    if not stacks:
        raise WriteError(
            f"{reference}: no DICOM image series with a position in the patient was found; give the labels' own series."
        )
    fitting = [s for s in stacks if on_stack(seq, s) is not None]
    if not fitting:
        raise WriteError(
            f"{seq.name}: the labels do not lie on the grid of the reference series; resample them onto it first."
        )
    own_series = seq.meta.get("series_uid")
    return next((s for s in fitting if text(s.first.file.ds, "SeriesInstanceUID") == own_series), fitting[0])


def on_stack(seq: ImageSequence, stack: Stack) -> NDArray[np.generic] | None:
    """The labels as (slice, row, column) of the stack, or None if the grids differ."""
    shape = (stack.first.shape[1], stack.first.shape[0], len(stack.grid[0]))
    turn = to_codes(stack.affine).inverse
    data, axes = np.asarray(seq.data), seq.axes
    if "z" not in axes:
        data, axes = data[np.newaxis], ("z", *axes)
    back = turned(data, axes, turn)
    if back.shape != shape[::-1]:
        return None
    affine = turn.apply_affine(seq.affine, seq.grid)
    at = corners(shape)
    apart = np.abs(apply_points(affine, at) - apply_points(stack.affine, at)).max()
    return np.asarray(back) if apart <= _WITHIN_MM else None


def label_values(seq: ImageSequence, labels: NDArray[np.generic]) -> list[int]:
    """The values of labels without the background, in ascending order.

    Raises
    ------
    WriteError
        If there is none, or one is negative.
    """
    values = [v for v in value_counts(labels) if v]
    if not values:
        raise WriteError(f"{seq.name}: there is no label in it, and a DICOM segmentation needs at least one segment.")
    if min(values) < 0:
        raise WriteError(f"{seq.name}: labels below zero cannot be segments; make them positive.")
    return values


def patient_key(seq: ImageSequence, stack: Stack) -> str:
    """The key that stands for the patient in the tracking UIDs of lesions."""
    return str(
        seq.meta.get("lesion_space")
        or text(stack.first.file.ds, "PatientID")
        or text(stack.first.file.ds, "StudyInstanceUID")
    )


def tracking_uid(tracking: object, patient: str, lesion: int) -> str:
    """The UID by which a lesion is recognised: the one that its file states, else the patient's own (`lesion_uid`)."""
    entry = (tracking.get(lesion) or tracking.get(str(lesion))) if isinstance(tracking, Mapping) else None
    uid = entry.get("uid") if isinstance(entry, Mapping) else None
    return str(uid or lesion_uid(patient, lesion))


def anonymise(dataset: Dataset, source: Attributes) -> None:
    """Remove the identity of the patient, and where and by whom the images were made; the UIDs stay."""

    def drop(ds: Dataset, element: DataElement) -> None:
        if element.keyword in _MAKERS or (element.keyword == "DeviceSerialNumber" and ds is not dataset):
            del ds[element.tag]

    dataset.walk(drop)
    for element in list(dataset):
        of_patient = element.tag.group == 0x0010 and element.keyword not in _KEPT_OF_PATIENT
        content = element.tag.group == 0x0040 and element.tag.elem >= _CONTENT and element.keyword not in _REQUESTS
        if of_patient or (element.tag.group in _ADMINISTRATIVE and not content):
            del dataset[element.tag]
    for keyword in _BLANK:
        if keyword in dataset:
            setattr(dataset, keyword, "")
    for keyword in (
        "StudyDescription",
        "SeriesDescription",
        "AdmittingDiagnosesDescription",
        "ContentDescription",
        "ImageComments",
        "StructureSetLabel",
        "StructureSetName",
    ):
        if keyword in dataset:
            setattr(dataset, keyword, without_identifiers(str(dataset[keyword].value), source))


def sources(stack: Stack, identifiers: bool) -> tuple[list[Dataset], list[int], Geometry]:
    """Source data sets in the form that highdicom needs, the order of our slices in them, and explicit geometry if it
    is needed."""
    import highdicom as hd

    frames = stack.grid[0]
    files = {f.file.path: f.file for f in frames}
    out = []
    for file in files.values():
        ds = copy(file.complete)
        for keyword in _COPIED:
            if keyword not in ds:
                setattr(ds, keyword, "")
        for keyword in () if identifiers else _IDENTIFYING:
            if keyword in ds:
                setattr(ds, keyword, "")
        out.append(ds)
    if "FrameOfReferenceUID" not in out[0]:
        raise WriteError("The reference series has no frame of reference; write .seg.nrrd instead.")
    if len(files) == len(frames) and all(f.tile is None for f in frames):
        return out, list(range(len(frames))), {}
    first = frames[0]
    whole = len(files) == 1 and first.tile is None and int(out[0].get("NumberOfFrames", 1)) == len(frames)
    if whole:
        return out, [int(k) for k in np.argsort([f.index for f in frames])], {}
    _, row, column = first.plane
    down, along = first.spacing or (1.0, 1.0)
    step = float(np.linalg.norm(stack.affine[:3, 2]))
    extra: Geometry = {
        "pixel_measures": hd.PixelMeasuresSequence((down, along), first.thickness or step, step),
        "plane_orientation": hd.PlaneOrientationSequence("PATIENT", [float(v) for v in (*row, *column)]),
        "plane_positions": [hd.PlanePositionSequence("PATIENT", [float(v) for v in f.plane[0]]) for f in frames],
    }
    return out, list(range(len(frames))), extra
