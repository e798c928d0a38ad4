"""Writing labels as an RT structure set that refers to its source series: closed contours on its slices, with the
patient left blank.

Each label value is one structure and keeps its number and name. Contours follow the edges of voxels (see `outlines`),
so that any program that fills them gets the mask that was written. Source: DICOM PS3.3 A.19.3 and C.8.8.5, 6, 8
(2024d).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq.colours import lesion_colour
from napari_medseq.errors import WriteError
from napari_medseq.geometry import RAS_LPS, apply_points
from napari_medseq.io.dicom.frame import Frame
from napari_medseq.io.dicom.outlines import outlines
from napari_medseq.io.dicom.sources import Reference, anonymise, label_values, on_stack, sources, stack_for
from napari_medseq.io.dicom.stacks import Stack
from napari_medseq.io.notes import silenced
from napari_medseq.sequence import ImageSequence
from napari_medseq.version import __version__

if TYPE_CHECKING:
    from pydicom import Dataset

_RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
#: Study management SOP class (retired), by which a structure set refers to its study (PS3.3 C.8.8.5)
_STUDY = "1.2.840.10008.3.1.2.3.1"
#: largest number of characters of a short string (SH) and a long one (LO)
_SHORT, _LONG = 16, 64
#: Attributes of patient and study that are copied, blank if the source lacks them.
_COPIED = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
           "ReferringPhysicianName")  # fmt: skip


def write(seq: ImageSequence, path: Path, reference: Reference | None, identifiers: bool) -> None:
    """Write labels as a DICOM RT structure set.

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
        If there is no reference, the labels do not lie on its grid, or there is no label.
    """
    if "t" in seq.axes:
        raise WriteError(f"{seq.name}: structures of frames in time cannot be written; write its frames one by one.")
    with silenced():
        stack = stack_for(seq, reference)
        labels = on_stack(seq, stack)
        assert labels is not None
        _made(seq, stack, labels, label_values(seq, labels), identifiers).save_as(path, enforce_file_format=True)


def _made(
    seq: ImageSequence, stack: Stack, labels: NDArray[np.generic], values: Sequence[int], identifiers: bool
) -> Dataset:
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    source = sources(stack, identifiers)[0][0]
    now = datetime.now()
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = _RTSTRUCT, generate_uid()
    for keyword in _COPIED:
        setattr(ds, keyword, source.get(keyword, ""))
    ds.StudyInstanceUID, ds.SeriesInstanceUID = source.StudyInstanceUID, generate_uid()
    ds.Modality = "RTSTRUCT"
    ds.SeriesNumber, ds.InstanceNumber = int(str(seq.meta.get("series_number") or 0)) + 2000, 1
    ds.SeriesDescription = seq.name[:_LONG]
    ds.Manufacturer = ds.ManufacturerModelName = "napari-medseq"
    ds.SoftwareVersions = __version__[:_LONG]
    ds.StructureSetLabel, ds.StructureSetName = seq.name[:_SHORT], seq.name[:_LONG]
    ds.StructureSetDate, ds.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    ds.InstanceCreationDate, ds.InstanceCreationTime = ds.StructureSetDate, ds.StructureSetTime
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.FrameOfReferenceUID = source.FrameOfReferenceUID
    ds.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "")
    ds.ReferencedFrameOfReferenceSequence = [_frame_of_reference(ds, source, stack)]
    ds.StructureSetROISequence = [_structure(seq, ds, value) for value in values]
    ds.ROIContourSequence = [_contours(seq, stack, labels, value) for value in values]
    ds.RTROIObservationsSequence = [
        _item(ObservationNumber=value, ReferencedROINumber=value, RTROIInterpretedType="", ROIInterpreter="")
        for value in values
    ]
    ds.ApprovalStatus = "UNAPPROVED"
    if not identifiers:
        anonymise(ds, stack.first.file.ds)
    ds.OperatorsName = ""  # the attribute is required, and names nobody
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    return ds


def _frame_of_reference(ds: Dataset, source: Dataset, stack: Stack) -> Dataset:
    """The frame of reference, the study, the series and all of its images."""
    series = _item(SeriesInstanceUID=source.SeriesInstanceUID, ContourImageSequence=[_image(f) for f in stack.grid[0]])
    study = _item(
        ReferencedSOPClassUID=_STUDY,
        ReferencedSOPInstanceUID=source.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return _item(FrameOfReferenceUID=ds.FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _structure(seq: ImageSequence, ds: Dataset, value: int) -> Dataset:
    return _item(
        ROINumber=value,
        ReferencedFrameOfReferenceUID=ds.FrameOfReferenceUID,
        ROIName=seq.label_names.get(value, f"Lesion {value}")[:_LONG],
        ROIGenerationAlgorithm="AUTOMATIC" if seq.meta.get("model") else "MANUAL",
    )


def _contours(seq: ImageSequence, stack: Stack, labels: NDArray[np.generic], value: int) -> Dataset:
    """The contours of one structure, slice by slice, in patient (LPS) millimetres."""
    from pydicom.valuerep import format_number_as_ds

    colours = seq.meta.get("colors")
    colour = (colours.get(value) or colours.get(str(value))) if isinstance(colours, dict) else None
    shade = [round(255 * float(c)) for c in (colour or lesion_colour(value))[:3]]
    contours = []
    for k in np.flatnonzero((labels == value).any(axis=(1, 2))).tolist():
        for polygon in outlines(labels[k] == value):
            voxels = np.c_[polygon, np.full(len(polygon), float(k))]
            points = apply_points(RAS_LPS, apply_points(stack.affine, voxels))
            contours.append(
                _item(
                    ContourImageSequence=[_image(stack.grid[0][k])],
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(points),
                    ContourData=[format_number_as_ds(float(v)) for v in points.ravel()],
                )
            )
    return _item(ROIDisplayColor=shade, ReferencedROINumber=value, ContourSequence=contours)


def _image(frame: Frame) -> Dataset:
    """The reference to one image, or to one frame of an image of several."""
    ds = frame.file.complete
    item = _item(ReferencedSOPClassUID=ds.SOPClassUID, ReferencedSOPInstanceUID=ds.SOPInstanceUID)
    if int(ds.get("NumberOfFrames", 1) or 1) > 1:
        item.ReferencedFrameNumber = frame.index + 1
    return item


def _item(**elements: object) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item
