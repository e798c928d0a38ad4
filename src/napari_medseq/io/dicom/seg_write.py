"""Labels to a DICOM segmentation that stands on its source series: same geometry, references kept, patient left blank.

Each label value is one segment. Its tracking UID is made from the patient, the value and the user's key of pseudonyms, so a lesion
that keeps its identity over visits keeps its tracking UID in all of their files, and nobody else can find the patient's ID by
trying. Written through highdicom.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import WriteError
from napari_medseq.geometry import apply_points, to_codes
from napari_medseq.io.dicom import series
from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.privacy import without_identifiers
from napari_medseq.io.dicom.stacks import Stack
from napari_medseq.io.dicom.values import text
from napari_medseq.io.files import collect
from napari_medseq.io.notes import silenced
from napari_medseq.io.placing import turned
from napari_medseq.io.pseudonyms import lesion_uid
from napari_medseq.sequence import ImageSequence
from napari_medseq.version import __version__

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
#: What of the patient and of the study is kept, blank or not, in a file without identifiers (the rest of group 0010 goes).
_BLANK = (*_IDENTIFYING, "StudyID")
_KEPT_OF_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
#: Who made the images, wherever it stands (the source's equipment is described in a sequence).
_MAKERS = frozenset(
    (
        "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "InstitutionCodeSequence", "StationName",
        "OperatorsName", "PerformingPhysicianName", "RequestingPhysician", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy",
        "IssuerOfAccessionNumberSequence", "ReferringPhysicianIdentificationSequence",
    )
)  # fmt: skip
#: Groups about requests, admissions and procedures, of which a segmentation needs nothing.
_ADMINISTRATIVE = (0x0032, 0x0038, 0x0040)
_WITHIN_MM = 0.02
#: The series that labels were drawn on: its folder or files, or the image that was read from them.
Reference: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | ImageSequence


class _Geometry(TypedDict, total=False):
    """Where the slices lie, for sources that highdicom cannot read it from (tiles, parts of an enhanced file)."""

    pixel_measures: hd.PixelMeasuresSequence
    plane_orientation: hd.PlaneOrientationSequence
    plane_positions: list[hd.PlanePositionSequence]


def write(seq: ImageSequence, path: Path, reference: Reference | None, identifiers: bool) -> None:
    """Write labels as a binary DICOM SEG.

    Parameters
    ----------
    seq : ImageSequence
        Labels on the grid of the reference.
    path : Path
    reference : path-like, sequence of path-like, ImageSequence or None
        The DICOM series; None takes the one that the labels' image was read from.
    identifiers : bool
        Keep the patient's name, ID and birth date.

    Raises
    ------
    WriteError
        If there is no reference, or the labels do not lie on its grid.
    """
    if "t" in seq.axes:
        raise WriteError(
            f"{seq.name}: a DICOM segmentation of frames in time cannot be written; write its frames one by one."
        )
    with silenced():
        _write(seq, path, _stack_for(seq, reference), identifiers)


def _write(seq: ImageSequence, path: Path, stack: Stack, identifiers: bool) -> None:
    labels = _on_stack(seq, stack)
    assert labels is not None
    values = [int(v) for v in np.unique(labels) if v != 0]
    if not values:
        raise WriteError(f"{seq.name}: there is no label in it, and a DICOM segmentation needs at least one segment.")
    if min(values) < 0:
        raise WriteError(f"{seq.name}: labels below zero cannot be segments; make them positive.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _made(seq, stack, labels, values, identifiers).save_as(path)
    except (AttributeError, ValueError, TypeError, KeyError) as error:
        raise WriteError(
            f"{seq.name}: the reference series lacks what a DICOM segmentation needs ({error}); write .seg.nrrd."
        ) from error


def _stack_for(seq: ImageSequence, reference: Reference | None) -> Stack:
    """The stack of the reference that the labels lie on."""
    if isinstance(reference, ImageSequence):
        reference = reference.meta.get("source")
    if reference is None:
        reference = seq.meta.get("source") if seq.meta.get("series_uid") else None
    if reference is None:
        raise WriteError(
            f"{seq.name}: a DICOM segmentation needs the series it was drawn on; give reference=its folder."
        )
    files, _ = collect([reference] if isinstance(reference, (str, os.PathLike)) else list(reference))
    found = series.scan(files.get("dicom", []))
    stacks = [s for s, _ in series.sort(found) if s.oriented]
    if not stacks:
        raise WriteError(
            f"{reference}: no DICOM image series with a position in the patient was found; give the labels' own series."
        )
    fitting = [s for s in stacks if _on_stack(seq, s) is not None]
    if not fitting:
        raise WriteError(
            f"{seq.name}: the labels do not lie on the grid of the reference series; resample them onto it first."
        )
    wanted = seq.meta.get("series_uid")
    return next((s for s in fitting if text(s.first.file.ds, "SeriesInstanceUID") == wanted), fitting[0])


def _on_stack(seq: ImageSequence, stack: Stack) -> NDArray[np.generic] | None:
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
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1).T
    apart = np.abs(apply_points(affine, corners) - apply_points(stack.affine, corners)).max()
    return np.asarray(back) if apart <= _WITHIN_MM else None


def _made(
    seq: ImageSequence, stack: Stack, labels: NDArray[np.generic], values: Sequence[int], identifiers: bool
) -> hd.seg.Segmentation:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    patient = str(
        seq.meta.get("lesion_space")
        or text(stack.first.file.ds, "PatientID")
        or text(stack.first.file.ds, "StudyInstanceUID")
    )
    known = seq.meta.get("tracking", {})
    model = seq.meta.get("model")
    algorithm = None
    if model:
        algorithm = hd.AlgorithmIdentificationSequence(
            name=str(model), version=__version__, family=codes.DCM.ArtificialIntelligence
        )
    described = []
    for number, value in enumerate(values, start=1):
        tracked = known.get(value) or known.get(str(value)) or {}
        name = seq.label_names.get(value, f"Lesion {value}")
        described.append(
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=name[:64],
                segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
                segmented_property_type=codes.SCT.Lesion,
                algorithm_type="AUTOMATIC" if model else "MANUAL",
                algorithm_identification=algorithm,
                tracking_uid=str(tracked.get("uid") or lesion_uid(patient, value)),
                tracking_id=f"Lesion {value}",
            )
        )
    sources, order, extra = _sources(stack, identifiers)
    masks = np.stack([labels[order] == v for v in values], axis=-1)
    made = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=masks,
        segmentation_type="BINARY",
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=int(seq.meta.get("series_number", 0) or 0) + 1000,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="napari-medseq",
        manufacturer_model_name="napari-medseq",
        software_versions=__version__,
        device_serial_number="0",
        series_description=seq.name[:64],
        **extra,
    )
    if not identifiers:
        _anonymise(made, stack.first.file.ds)
    return made


def _anonymise(made: Dataset, source: Attributes) -> None:
    """Take out who the patient is and where and by whom the images were made; the UIDs stay."""

    def drop(ds: Dataset, element: DataElement) -> None:
        if element.keyword in _MAKERS or (element.keyword == "DeviceSerialNumber" and ds is not made):
            del ds[element.tag]

    made.walk(drop)
    for element in list(made):
        of_patient = element.tag.group == 0x0010 and element.keyword not in _KEPT_OF_PATIENT
        if of_patient or element.tag.group in _ADMINISTRATIVE:
            del made[element.tag]
    for keyword in _BLANK:
        if keyword in made:
            setattr(made, keyword, "")
    for keyword in (
        "StudyDescription",
        "SeriesDescription",
        "AdmittingDiagnosesDescription",
        "ContentDescription",
        "ImageComments",
    ):
        if keyword in made:
            setattr(made, keyword, without_identifiers(str(made[keyword].value), source))


def _sources(stack: Stack, identifiers: bool) -> tuple[list[Dataset], list[int], _Geometry]:
    """Source data sets as highdicom wants them, the order of our slices in theirs, and explicit geometry where it is needed."""
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
    extra: _Geometry = {
        "pixel_measures": hd.PixelMeasuresSequence((down, along), first.thickness or step, step),
        "plane_orientation": hd.PlaneOrientationSequence("PATIENT", [float(v) for v in (*row, *column)]),
        "plane_positions": [hd.PlanePositionSequence("PATIENT", [float(v) for v in f.plane[0]]) for f in frames],
    }
    return out, list(range(len(frames))), extra
