"""Segmentations that highdicom wrote, of every kind and on oblique slices, voxel by voxel; and ours as highdicom sees them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseq as ms
from tests.unit.io import dicoms

hd = pytest.importorskip("highdicom")

ORIENTATIONS = {
    "axial": (1.0, 0, 0, 0, 1, 0),
    "oblique": (0.8, 0.6, 0.0, -0.36, 0.48, 0.8),
}


def _source(folder: Path, orientation: tuple[float, ...]) -> tuple[list[Any], np.ndarray]:
    """CT slices in order, and the position of each."""
    normal = np.cross(orientation[:3], orientation[3:])
    positions = np.array([3.0, -4, 5]) + np.arange(6)[:, np.newaxis] * 2.5 * normal
    dicoms.series(
        folder, positions.tolist(), ImageOrientationPatient=list(orientation), AccessionNumber="", PatientSex="O",
        ReferringPhysicianName="", StudyID="1",
    )  # fmt: skip
    slices = [dicoms.pydicom.dcmread(p) for p in folder.iterdir()]
    return sorted(slices, key=lambda d: float(np.dot(d.ImagePositionPatient, normal))), positions


def _write(path: Path, slices: list[Any], masks: np.ndarray, kind: str, **more: Any) -> Path:
    count = int(masks.max()) if kind == "LABELMAP" else masks.shape[-1]
    code = hd.sr.CodedConcept("85756007", "SCT", "Tissue")
    described = [
        hd.seg.SegmentDescription(
            k + 1, f"s{k + 1}", code, code, "MANUAL", tracking_uid=hd.UID(), tracking_id=f"t{k + 1}"
        )
        for k in range(count)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hd.seg.Segmentation(
            slices, masks, kind, described, hd.UID(), 9, hd.UID(), 1, "maker", "model", "1", "0", **more
        ).save_as(path)
    return path


def _at(found: list[ms.ImageSequence], points: np.ndarray, name: str) -> np.ndarray:
    """Whether each LPS point lies in the segment called `name` in any of the sequences."""
    ras, inside = points * (-1, -1, 1), np.zeros(len(points), bool)
    for seq in found:
        wanted = [value for value, said in seq.label_names.items() if said == name]
        at = np.linalg.solve(seq.affine[:3, :3], (ras - seq.affine[:3, 3]).T).T
        index = np.rint(at).astype(int)
        assert np.abs(at - index).max() < 1e-3
        good = ((index >= 0) & (index < seq.grid)).all(1)
        inside[good] |= np.isin(seq.volume_zyx()[tuple(index[good].T[::-1])], wanted)
    return inside


def _points(positions: np.ndarray, orientation: tuple[float, ...]) -> np.ndarray:
    """LPS position of every voxel, (slice, row, column, 3), by the standard's formula."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    down, along = np.arange(6)[:, np.newaxis, np.newaxis] * 0.5, np.arange(5)[:, np.newaxis] * 0.75
    return np.asarray(positions[:, np.newaxis, np.newaxis] + down * column + along * row)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("together", [False, True])
def test_every_kind_is_exact(tmp_path: Path, kind: str, orientation: str, together: bool) -> None:
    cosines = ORIENTATIONS[orientation]
    slices, positions = _source(tmp_path / "ct", cosines)
    rng = np.random.default_rng(0)
    points = _points(positions, cosines).reshape(-1, 3)
    masks: np.ndarray
    if kind == "LABELMAP":
        masks = rng.integers(0, 4, (6, 6, 5)).astype(np.uint8)
        truth = [masks == k for k in (1, 2, 3)]
    else:
        part = rng.random((6, 6, 5, 3))  # the three overlap
        part[[0, 2, 5], ..., 1] = 0  # empty frames, also at the ends, are left out of the file
        masks = np.asarray(part if kind == "FRACTIONAL" else part > 0.5)
        truth = [np.rint(part[..., k] * 255) >= 127.5 if kind == "FRACTIONAL" else part[..., k] > 0.5 for k in range(3)]
    more = {"fractional_type": "PROBABILITY"} if kind == "FRACTIONAL" else {}
    path = _write(tmp_path / "seg.dcm", slices, masks, kind, **more)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [s for s in ms.read([path, tmp_path / "ct"] if together else path) if s.kind == "labels"]
    assert len(found) == (1 if kind == "LABELMAP" else 3)
    for k, expected in enumerate(truth):
        assert np.array_equal(_at(found, points, f"s{k + 1}"), expected.ravel()), f"segment {k + 1}"
    if together:
        image = next(s for s in ms.read(tmp_path / "ct"))
        assert all(s.same_grid(image) for s in found)


def test_a_compressed_segmentation(tmp_path: Path) -> None:
    cosines = ORIENTATIONS["axial"]
    slices, positions = _source(tmp_path / "ct", cosines)
    masks = np.random.default_rng(0).integers(0, 3, (6, 6, 5)).astype(np.uint8)
    path = _write(tmp_path / "seg.dcm", slices, masks, "LABELMAP", transfer_syntax_uid=dicoms.pydicom.uid.RLELossless)
    points = _points(positions, cosines).reshape(-1, 3)
    found = ms.read(path)
    for k in (1, 2):
        assert np.array_equal(_at(found, points, f"s{k}"), (masks == k).ravel())


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_what_we_write_of_an_oblique_series_is_exact(tmp_path: Path, orientation: str) -> None:
    cosines = ORIENTATIONS[orientation]
    _source(tmp_path / "ct", cosines)
    image = ms.read(tmp_path / "ct")[0]
    values = np.random.default_rng(1).choice([0, 2, 7], image.data.shape).astype(np.uint8)
    labels = image.labels_like(values, name="a", label_names={2: "two", 7: "seven"})
    volume = hd.seg.segread(ms.write(labels, tmp_path / "seg.dcm")).get_volume(combine_segments=True)
    at = np.argwhere(np.ones(values.shape, bool))
    lps = (at[:, ::-1] @ labels.affine[:3, :3].T + labels.affine[:3, 3]) * (-1, -1, 1)
    index = np.rint(volume.map_reference_to_indices(lps)).astype(int)
    good = ((index >= 0) & (index < volume.array.shape)).all(1)
    number = np.array([0, 2, 7])[volume.array[tuple(index[good].T)]]
    assert np.array_equal(number, values[tuple(at[good].T)])
    assert not values[tuple(at[~good].T)].any()
