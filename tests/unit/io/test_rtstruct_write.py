"""Structure sets that we write: the mask is equal when read back, when others fill the contours, and by their area; the header is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from skimage.draw import polygon2mask
from skimage.measure import label as components

import napari_medseq as ms
from napari_medseq.errors import WriteError
from napari_medseq.io.dicom.outlines import outlines
from tests.unit.io import dicoms

OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
#: type 1 and 2 attributes of the modules of an RT structure set, PS3.3 A.19.3 (patient, study, series, equipment, structure set)
REQUIRED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber", "Modality", "SeriesInstanceUID", "SeriesNumber", "OperatorsName", "Manufacturer", "StructureSetLabel",
    "StructureSetDate", "StructureSetTime", "StructureSetROISequence", "ROIContourSequence", "RTROIObservationsSequence", "SOPClassUID",
    "SOPInstanceUID",
)  # fmt: skip


def _masks(seed: int, shape: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random(shape) < rng.uniform(0.05, 0.95)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12))
def test_others_fill_the_outlines_with_the_same_pixels(seed: int, rows: int, columns: int) -> None:
    mask = _masks(seed, (rows, columns))
    found = outlines(mask)
    y, x = np.mgrid[:rows, :columns]
    by_matplotlib, by_skimage, area = np.zeros(mask.shape, bool), np.zeros(mask.shape, bool), 0.0
    for polygon in found:
        inside = Outline(polygon, closed=False).contains_points(np.c_[x.ravel(), y.ravel()]).reshape(mask.shape)
        assert not (by_matplotlib & inside).any()  # programs that unite contours and those that take even-odd agree
        by_matplotlib |= inside
        by_skimage |= polygon2mask(mask.shape, polygon[:, ::-1])
        ahead = np.roll(polygon, -1, axis=0)
        area += 0.5 * float((polygon[:, 0] * ahead[:, 1] - polygon[:, 1] * ahead[:, 0]).sum())
    np.testing.assert_array_equal(by_matplotlib, mask)
    np.testing.assert_array_equal(by_skimage, mask)
    assert area == pytest.approx(mask.sum())
    assert len(found) == components(mask, connectivity=1).max()


def test_a_ring_within_a_ring_is_two_outlines() -> None:
    mask = np.zeros((9, 9), bool)
    mask[0:9, 0:9] = True
    mask[1:8, 1:8] = False
    mask[2:7, 2:7] = True
    mask[3:6, 3:6] = False
    assert len(outlines(mask)) == 2
    assert [len(p) for p in outlines(np.ones((3, 4), bool))] == [4]


def _source(folder: Path, orientation: tuple[float, ...], **more: Any) -> ms.ImageSequence:
    normal = np.cross(orientation[:3], orientation[3:])
    places = (np.array([3.0, -4, 5]) + np.arange(4)[:, np.newaxis] * 2.5 * normal).tolist()
    dicoms.series(folder, places, ImageOrientationPatient=list(orientation), **more)
    (image,) = ms.read(folder)
    return image


def _labels(image: ms.ImageSequence, seed: int = 0) -> ms.ImageSequence:
    data = np.random.default_rng(seed).integers(0, 4, image.data.shape).astype(np.uint8)
    return image.labels_like(data, name="T1 lesions", label_names={1: "liver", 3: "café"})


@pytest.mark.parametrize("orientation", [dicoms.AXIAL, OBLIQUE, (0.0, 1, 0, 0, 0, -1)])
@pytest.mark.parametrize("seed", range(3))
def test_read_back_the_mask_is_equal(tmp_path: Path, orientation: tuple[float, ...], seed: int) -> None:
    image = _source(tmp_path / "ct", orientation)
    labels = _labels(image, seed)
    path = ms.write(labels, tmp_path / "rs.dcm", reference=tmp_path / "ct", format="rtstruct")
    found = [s for s in ms.read([path, *(tmp_path / "ct").iterdir()]) if s.kind == "labels"]
    assert len(found) == 1
    np.testing.assert_array_equal(found[0].data, labels.data)
    np.testing.assert_allclose(found[0].affine, labels.affine, atol=1e-4)
    assert found[0].label_names == {1: "liver", 2: "Lesion 2", 3: "café"}


def test_each_contour_lies_in_the_image_that_it_names(tmp_path: Path) -> None:
    image = _source(tmp_path / "ct", OBLIQUE)
    path = ms.write(_labels(image), tmp_path / "rs.dcm", format="rtstruct", reference=image)
    slices = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, (tmp_path / "ct").iterdir())}
    contours = [c for roi in pydicom.dcmread(path).ROIContourSequence for c in roi.ContourSequence]
    assert contours
    for contour in contours:
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        assert len(points) == contour.NumberOfContourPoints
        ds = slices[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
        normal = np.cross(ds.ImageOrientationPatient[:3], ds.ImageOrientationPatient[3:])
        assert np.abs((points - np.array(ds.ImagePositionPatient)) @ normal).max() < 1e-6


def test_the_header_is_whole_and_says_nothing_of_the_patient(tmp_path: Path) -> None:
    image = _source(tmp_path / "ct", dicoms.AXIAL, InstitutionName="Somewhere", OperatorsName="Doe^John")
    labels = _labels(image).replace(name="Doe Jane T1")
    ds = pydicom.dcmread(ms.write(labels, tmp_path / "rs.dcm", format="rtstruct", reference=tmp_path / "ct"))
    assert [k for k in REQUIRED if k not in ds] == []
    text = str(ds)
    assert not [word for word in ("Doe", "Jane", "ID-4711", "19500101", "Somewhere") if word in text]
    assert ds.file_meta.MediaStorageSOPClassUID.name == "RT Structure Set Storage"
    frame = ds.ReferencedFrameOfReferenceSequence[0]
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert {i.ReferencedSOPInstanceUID for i in series.ContourImageSequence} == {
        pydicom.dcmread(p).SOPInstanceUID for p in (tmp_path / "ct").iterdir()
    }
    kept = ms.write(labels, tmp_path / "id.dcm", format="rtstruct", reference=tmp_path / "ct", identifiers=True)
    assert pydicom.dcmread(kept).PatientID == "ID-4711"


@pytest.mark.parametrize(
    ("name", "format", "says"),
    [
        ("x.nii.gz", "rtstruct", "ends in .dcm"),
        ("x.dcm", "rtdose", "seg or rtstruct"),
        ("x.dcm", "rtstruct", "no label"),
    ],
)
def test_what_cannot_be_written_says_why(tmp_path: Path, name: str, format: Any, says: str) -> None:
    image = _source(tmp_path / "ct", dicoms.AXIAL)
    with pytest.raises(WriteError, match=says):
        ms.write(
            image.labels_like(np.zeros(image.data.shape, np.uint8), name="m", label_names={}),
            tmp_path / name,
            reference=image,
            format=format,
        )
    assert not (tmp_path / name).exists()
