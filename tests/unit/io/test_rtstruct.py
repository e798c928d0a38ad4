"""Contours to voxels: exact against an independent point-in-polygon test; holes, layers, planes between slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

import napari_medseq as ms
from napari_medseq.errors import ReadError, ReadWarning
from napari_medseq.io.dicom.rtstruct import filled
from tests.unit.io import dicoms
from tests.unit.io.dicoms import item

SQUARE = np.array([(0.6, 0.6), (3.4, 0.6), (3.4, 4.4), (0.6, 4.4)])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.integers(3, 12))
def test_filling_equals_point_in_polygon(seed: int, corners: int) -> None:
    polygon = np.random.default_rng(seed).uniform(-3, 15, (corners, 2))
    rows, columns = np.mgrid[0:11, 0:13]
    inside = Outline(polygon).contains_points(np.c_[columns.ravel(), rows.ravel()]).reshape(11, 13)
    # matplotlib fills self-crossing outlines by even-odd as well when contour by contour
    assert np.array_equal(filled([polygon], (11, 13)), inside)


def test_a_contour_inside_another_is_a_hole() -> None:
    outer = np.array([(-0.5, -0.5), (6.5, -0.5), (6.5, 6.5), (-0.5, 6.5)])
    inner = outer * 0.3 + 2
    mask = filled([outer, inner], (7, 7))
    assert mask.sum() == 49 - filled([inner], (7, 7)).sum()
    assert not mask[3, 3]


def _structures(
    folder: Path, rois: dict[str, list[tuple[float, np.ndarray]]], kind: str = "CLOSED_PLANAR", uid: str = "1.2.3.4"
) -> Path:
    ds = dicoms.dataset(
        dicoms.picture(), SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3", Modality="RTSTRUCT", SeriesInstanceUID="7.7"
    )
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        delattr(ds, keyword)
    ds.StructureSetLabel = "plan"
    reference = item(RTReferencedSeriesSequence=[item(SeriesInstanceUID=uid)])
    ds.ReferencedFrameOfReferenceSequence = [item(FrameOfReferenceUID="1.2.3.5", RTReferencedStudySequence=[reference])]
    ds.StructureSetROISequence = [item(ROINumber=k + 1, ROIName=name) for k, name in enumerate(rois)]
    contours: list[Any] = []
    for k, members in enumerate(rois.values()):
        points = [
            item(
                ContourGeometricType=kind, NumberOfContourPoints=len(c),
                ContourData=[float(v) for x, y in c for v in (x * 0.75, y * 0.5, depth)],
            )
            for depth, c in members
        ]  # fmt: skip
        contours.append(item(ReferencedROINumber=k + 1, ROIDisplayColor=[255, 0, 0], ContourSequence=points))
    ds.ROIContourSequence = contours
    return dicoms.save(ds, folder / "rs.dcm")


def _labels(folder: Path) -> list[ms.ImageSequence]:
    return [s for s in ms.read(folder) if s.kind == "labels"]


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    dicoms.series(tmp_path / "ct", [(0, 0, 2.5 * k) for k in range(4)])
    return tmp_path


def test_structures_lie_on_their_series(ct: Path) -> None:
    _structures(ct, {"GTV": [(2.5, SQUARE), (5.0, SQUARE)]})
    (labels,) = _labels(ct)
    expected = np.zeros((4, 6, 5), np.uint8)
    expected[1:3] = filled([SQUARE], (6, 5))
    assert np.array_equal(labels.data, expected)
    assert (labels.label_names, labels.name, labels.meta["colors"]) == ({1: "GTV"}, "plan", {1: [1.0, 0.0, 0.0]})
    image = next(s for s in ms.read(ct) if s.kind == "image")
    assert labels.same_grid(image)


def test_opened_alone_it_finds_its_series_nearby(ct: Path) -> None:
    path = _structures(ct / "plan", {"GTV": [(2.5, SQUARE)]})
    (labels,) = ms.read(path)
    assert labels.data.any()


def test_overlapping_structures_become_two_sequences(ct: Path) -> None:
    _structures(ct, {"GTV": [(2.5, SQUARE)], "PTV": [(2.5, SQUARE + 0.5)], "far": [(7.5, SQUARE)]})
    assert [s.label_names for s in _labels(ct)] == [{1: "GTV", 3: "far"}, {2: "PTV"}]


def test_a_contour_that_is_there_twice_does_not_cancel_itself_out(ct: Path) -> None:
    _structures(ct, {"GTV": [(2.5, SQUARE), (2.5, SQUARE), (5.0, SQUARE)]})
    with pytest.warns(ReadWarning, match="GTV: 1 contour"):
        (labels,) = _labels(ct)
    assert np.array_equal(labels.data[1], labels.data[2])
    assert labels.data[1].any()


def test_planes_between_slices_go_to_the_nearest(ct: Path) -> None:
    _structures(ct, {"GTV": [(3.4, SQUARE), (6.5, SQUARE)]})
    with pytest.warns(ReadWarning, match="between are empty"):
        (labels,) = _labels(ct)
    assert np.flatnonzero(labels.data.any((1, 2))).tolist() == [1, 3]


def test_what_cannot_be_drawn_is_said(ct: Path) -> None:
    _structures(ct, {"GTV": [(2.5, SQUARE), (99.0, SQUARE)]})
    with pytest.warns(ReadWarning, match="outside the image"):
        ms.read(ct)
    _structures(ct, {"marker": [(2.5, SQUARE[:1])]}, kind="POINT")
    with pytest.warns(ReadWarning, match="no structure in it has a closed contour"):
        assert _labels(ct) == []


def test_without_its_series_it_is_refused(tmp_path: Path) -> None:
    path = _structures(tmp_path / "a" / "b", {"GTV": [(2.5, SQUARE)]}, uid="9.9.9")
    with pytest.raises(ReadError, match="image series"):
        ms.read(path)


@pytest.mark.parametrize("noise", [0.0, 0.004, -0.004])
@pytest.mark.parametrize("first", [-0.5, 0.5])
def test_contours_half_way_between_slices_fill_one_slice_each(ct: Path, first: float, noise: float) -> None:
    depths = [2.5 * (first + k + noise * (-1) ** k) for k in range(4)]
    sizes = [SQUARE * (0.6 + 0.1 * k) for k in range(4)]
    _structures(ct, {"GTV": list(zip(depths, sizes, strict=True))})
    (labels,) = _labels(ct)
    for k, square in enumerate(sizes):
        np.testing.assert_array_equal(labels.data[k], filled([square], (6, 5)))
    assert not any("not used" in w or "between are empty" in w for w in labels.warnings)


def test_structures_half_way_move_alike(ct: Path) -> None:
    _structures(ct, {"GTV": [(1.25, SQUARE), (3.75, SQUARE)], "PTV": [(6.25, SQUARE + 0.3), (8.75, SQUARE + 0.3)]})
    labels = _labels(ct)
    filled_slices = {
        n: np.flatnonzero((np.asarray(s.data) == v).any((1, 2))).tolist()
        for s in labels
        for v, n in s.label_names.items()
    }
    assert filled_slices == {"GTV": [0, 1], "PTV": [2, 3]}


def _without_references(path: Path, **more: Any) -> None:
    ds = dicoms.pydicom.dcmread(path)
    del ds.ReferencedFrameOfReferenceSequence
    if "FrameOfReferenceUID" in ds:
        del ds.FrameOfReferenceUID
    for key, value in more.items():
        setattr(ds, key, value)
    ds.save_as(path)


def test_structures_without_references_lie_on_the_only_ct(ct: Path) -> None:
    path = _structures(ct, {"GTV": [(2.5, SQUARE)]})
    _without_references(path)
    with pytest.warns(ReadWarning, match="the only one beside them is used"):
        (labels,) = _labels(ct)
    assert labels.data.any()
    (alone,) = ms.read(path)
    np.testing.assert_array_equal(alone.data, labels.data)
    dicoms.series(
        ct / "other",
        [(0, 0, 2.5 * k) for k in range(4)],
        seed=9,
        SeriesInstanceUID="8.8",
        FrameOfReferenceUID="9.9",
        Modality="MR",
    )
    (labels,) = _labels(ct)
    assert labels.meta["referenced_series_uid"] == "1.2.3.4"
    dicoms.series(
        ct / "third", [(0, 0, 2.5 * k) for k in range(4)], seed=8, SeriesInstanceUID="8.7", FrameOfReferenceUID="9.8"
    )
    with pytest.warns(ReadWarning, match="one of several"):
        assert _labels(ct) == []


def test_structures_that_name_images_lie_on_those(ct: Path) -> None:
    dicoms.series(
        ct / "third", [(0, 0, 2.5 * k) for k in range(4)], seed=8, SeriesInstanceUID="8.7", FrameOfReferenceUID="9.8"
    )
    image = dicoms.pydicom.dcmread(next((ct / "third").iterdir()))
    path = _structures(ct, {"GTV": [(2.5, SQUARE)]})
    _without_references(path)
    ds = dicoms.pydicom.dcmread(path)
    ds.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = [
        item(ReferencedSOPInstanceUID=image.SOPInstanceUID)
    ]
    ds.save_as(path)
    (labels,) = _labels(ct)
    assert labels.meta["referenced_series_uid"] == "8.7"
