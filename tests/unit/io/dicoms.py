"""DICOM files built by code, for tests: one call per rarity."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0, 0, 0, 1, 0)


def picture(shape: tuple[int, int] = (6, 5), seed: int = 0, top: int = 1000) -> np.ndarray:
    """Random whole numbers that differ from seed to seed."""
    return np.random.default_rng(seed).integers(0, top, shape).astype(np.uint16)


def dataset(
    pixels: np.ndarray,
    position: Sequence[float] | None = (0.0, 0, 0),
    orientation: Sequence[float] | None = AXIAL,
    spacing: Sequence[float] | None = (0.5, 0.75),
    **more: Any,
) -> FileDataset:
    """One single-frame image; `more` sets or (None) leaves out attributes."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    ds = FileDataset(BytesIO(), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.5"
    ds.Modality, ds.SeriesDescription, ds.SeriesNumber = "CT", "Head", 2
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "Doe^Jane", "ID-4711", "19500101"
    ds.StudyDate, ds.StudyTime, ds.ImageType = "20200131", "101500", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Rows, ds.Columns = pixels.shape[-2:] if pixels.ndim == 2 else pixels.shape[1:3]
    if pixels.ndim == 3:
        ds.NumberOfFrames = pixels.shape[0]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.dtype.itemsize
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(pixels.dtype.kind == "i")
    ds.SliceThickness = 2.5
    if position is not None:
        ds.ImagePositionPatient = list(position)
    if orientation is not None:
        ds.ImageOrientationPatient = list(orientation)
    if spacing is not None:
        ds.PixelSpacing = list(spacing)
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    ds["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for key, value in more.items():
        if value is None:
            if key in ds:
                delattr(ds, key)
        else:
            setattr(ds, key, value)
    return ds


def save(ds: FileDataset, path: Path) -> Path:
    """Write with preamble and group 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def series(
    folder: Path,
    positions: Sequence[Sequence[float]] | NDArray[np.number],
    seed: int = 0,
    each: Any = None,
    **more: Any,
) -> list[np.ndarray]:
    """A slice per position (in a shuffled order of names); returns the pixels in the order given."""
    shuffled = np.random.default_rng(seed).permutation(len(positions))
    out = []
    for k, position in enumerate(positions):
        pixels = picture(seed=seed * 1000 + k)
        own = each(k) if each else {}
        save(
            dataset(pixels, position, **{"InstanceNumber": k + 1, **more, **own}),
            folder / f"{shuffled[k]:03d}_{seed}.dcm",
        )
        out.append(pixels)
    return out


def groups(**items: Dataset) -> Dataset:
    """A functional-group item: ``PlanePositionSequence=Dataset(…)`` and so on."""
    out = Dataset()
    for key, value in items.items():
        setattr(out, key, [value])
    return out


def item(**values: Any) -> Dataset:
    """A plain sequence item."""
    out = Dataset()
    for key, value in values.items():
        setattr(out, key, value)
    return out


def value_at(seq: Any, lps: Sequence[float]) -> float:
    """Voxel value of a 3D sequence at an LPS point that must be a voxel centre."""
    ras = np.array([-lps[0], -lps[1], lps[2], 1.0])
    ijk = np.linalg.solve(seq.affine, ras)[:3]
    index = np.rint(ijk).astype(int)
    assert np.abs(ijk - index).max() < 1e-3, f"{lps} is not a voxel centre: {ijk}"
    assert (index >= 0).all()
    return float(seq.volume_zyx()[index[2], index[1], index[0]])


__all__ = ["AXIAL", "dataset", "groups", "item", "picture", "pydicom", "save", "series", "value_at"]
