"""The synthetic patient as files: a BIDS-like NIfTI study, the same study as DICOM, and the truth.

The same seed gives the same bytes, because neither the clock nor random identifiers are used.
"""

from __future__ import annotations

import csv
import gzip
import os
from datetime import datetime
from importlib import import_module
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq import files, geometry
from napari_medseq.sequence import ImageSequence, Study
from napari_medseq.synthetic.study import COLUMNS, Truth, make_study

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SUBJECT = "sub-sample"


def sample_study(folder: str | os.PathLike[str], seed: int = 0) -> Path:
    """Write the synthetic patient's images as a study folder: ``sub-sample/ses-YYYYMMDD/sub-sample_T1post.nii.gz`` and its JSON.

    Parameters
    ----------
    folder : path
        The folder, which is created if it does not exist.
    seed : int

    Returns
    -------
    Path
        `folder`, which `read_study` opens. It holds no masks.

    Raises
    ------
    WriteError
        If the folder cannot be written.
    """
    root = Path(folder)
    study = make_study(seed)
    for visit in study.visits:
        for image in visit.images:
            where = root / SUBJECT / visit.name
            files.write_bytes(where / f"{SUBJECT}_T1post.nii.gz", nifti_bytes(image))
            # as in BIDS, because a NIfTI file cannot state how the image was acquired
            files.write_bytes(where / f"{SUBJECT}_T1post.json", b'{\n  "Modality": "MR"\n}\n')
    lines = ["session_id\tacq_time\n", *(f"{v.name}\t{v.date}T09:00:00\n" for v in study.visits)]
    files.write_bytes(root / SUBJECT / f"{SUBJECT}_sessions.tsv", "".join(lines).encode())
    return root


def write_truth(truth: Truth, folder: str | os.PathLike[str]) -> Path:
    """Write ``truth.csv``, per visit ``ses-*_lesions.nii.gz`` (value = identity), and ``to_first.csv`` (the true registration).

    Raises
    ------
    WriteError
        If the folder cannot be written.
    """
    root = Path(folder)
    text = StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(truth.rows)
    files.write_bytes(root / "truth.csv", text.getvalue().encode())
    for label in truth.labels:
        assert label.acquired is not None
        files.write_bytes(root / f"ses-{label.acquired:%Y%m%d}_lesions.nii.gz", nifti_bytes(label))
    rows = [",".join(["visit", *(f"m{r}{c}" for r in range(4) for c in range(4))])]
    rows += [",".join([str(v), *(f"{x:.6f}" for x in m.ravel())]) for v, m in enumerate(truth.to_first)]
    files.write_bytes(root / "to_first.csv", ("\n".join(rows) + "\n").encode())
    return root


def nifti_bytes(seq: ImageSequence) -> bytes:
    """A volume as gzipped NIfTI-1 in the array's own orientation, the same bytes each time."""
    nib: Any = import_module("nibabel")

    image = nib.Nifti1Image(np.ascontiguousarray(seq.volume_zyx().T), seq.affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"synthetic, napari-medseq"
    image.set_qform(seq.affine, code=1)
    image.set_sform(seq.affine, code=1)
    if seq.kind == "labels":
        image.header.set_intent("label")
    packed = BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=0, compresslevel=9) as stream:
        stream.write(image.to_bytes())
    return packed.getvalue()


def write_dicom(study: Study, folder: str | os.PathLike[str]) -> Path:
    """Write each visit's image as one MR series: ``ses-YYYYMMDD/IM0001.dcm`` and so on, RLE compressed.

    Each visit is a study of its own with its own frame of reference, as when a patient comes back. Names and numbers are
    fictive, and unique identifiers follow from the study's name and the dates.

    Raises
    ------
    WriteError
        If the folder cannot be written.
    """
    root = Path(folder)
    for number, visit in enumerate(study.visits, start=1):
        for image in visit.images:
            for index, blob in enumerate(_instances(study, image, number), start=1):
                files.write_bytes(root / visit.name / f"IM{index:04d}.dcm", blob)
    return root


def _instances(study: Study, image: ImageSequence, number: int) -> list[bytes]:
    """The slices of one visit as DICOM files, bottom to top."""
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    assert image.acquired is not None
    day = f"{image.acquired:%Y%m%d}"

    def uid(*words: object) -> str:
        return str(generate_uid(entropy_srcs=[study.name, day, *(str(w) for w in words)]))

    packed = []
    for z, plane in enumerate(image.volume_zyx().astype(np.int16)):
        ds = Dataset()
        ds.SOPInstanceUID = uid("instance", z)
        ds.StudyInstanceUID, ds.SeriesInstanceUID = uid("study"), uid("series")
        ds.FrameOfReferenceUID = uid("frame of reference")
        ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = str(number), 1, z + 1
        ds.StudyDescription, ds.SeriesDescription = f"Synthetic brain, visit {number}", "T1post"
        _describe(ds, image.acquired)
        _place_slice(ds, image, z)
        packed.append(_packed(ds, plane))
    return packed


def _describe(ds: Dataset, acquired: datetime) -> None:
    """Set the patient, the dates and the acquisition, which all slices share."""
    from pydicom.uid import MRImageStorage

    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = MRImageStorage
    ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = f"{acquired:%Y%m%d}"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = f"{acquired:%H%M%S}"
    ds.AccessionNumber = ds.ReferringPhysicianName = ""
    ds.Modality, ds.Manufacturer = "MR", "napari-medseq synthetic"
    ds.PatientName, ds.PatientID = "Sample^Synthetic", "SAMPLE-0001"
    ds.PatientBirthDate = ds.PatientSex = ""
    ds.PatientIdentityRemoved, ds.DeidentificationMethod = "YES", "Synthetic: there is no patient"
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "SE", "NONE", "", "2D"
    ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength = 550, 10, 1
    ds.ContrastBolusAgent = "synthetic"
    ds.WindowCenter, ds.WindowWidth = "800", "1600"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"


def _place_slice(ds: Dataset, image: ImageSequence, z: int) -> None:
    """Set the position, orientation and spacing of one slice."""
    spacing, lps = image.spacing, geometry.RAS_LPS @ image.affine
    ds.PatientPosition = "HFS"
    ds.PositionReferenceIndicator = ""
    ds.SliceThickness, ds.SpacingBetweenSlices = _number(spacing["z"]), _number(spacing["z"])
    ds.PixelSpacing = [_number(spacing["y"]), _number(spacing["x"])]
    ds.ImageOrientationPatient = [_number(v) for v in [*(lps[:3, 0] / spacing["x"]), *(lps[:3, 1] / spacing["y"])]]
    position = lps @ (0, 0, z, 1)
    ds.ImagePositionPatient = [_number(v) for v in position[:3]]
    ds.SliceLocation = _number(position[2])


def _packed(ds: Dataset, plane: NDArray[np.int16]) -> bytes:
    """The file of a slice with these pixels, RLE compressed."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ExplicitVRLittleEndian, RLELossless

    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = plane.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.PixelData = plane.astype("<i2").tobytes()
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    ds.compress(RLELossless, generate_instance_uid=False)
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _number(value: float) -> str:
    """A decimal string of at most 16 characters, without minus zero."""
    return f"{float(value) + 0.0:.8g}"


__all__ = ["SUBJECT", "nifti_bytes", "sample_study", "write_dicom", "write_truth"]
