"""DICOM: which frame lies where. Pixels are looked up at world points computed from the standard's formula alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import napari_medseq as ms
from napari_medseq.errors import ReadError, ReadWarning
from napari_medseq.geometry import axis_codes
from tests.unit.io import dicoms
from tests.unit.io.dicoms import value_at


def _check(seq: ms.ImageSequence, pixels: list[np.ndarray], positions: np.ndarray, orientation: np.ndarray) -> None:
    """PS3.3 C.7.6.2.1.1: P = S + column·Δcolumn·X + row·Δrow·Y; spacing (0.5, 0.75) as the factory writes it."""
    for picture, position in zip(pixels, positions, strict=True):
        for row, column in ((0, 0), (5, 4), (3, 1)):
            lps = position + orientation[:3] * column * 0.75 + orientation[3:] * row * 0.5
            assert value_at(seq, lps) == picture[row, column]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_any_orientation_lands_where_the_standard_says(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=seed).as_matrix()
    orientation = np.concatenate([turn[:, 0], turn[:, 1]])
    start, step = rng.uniform(-100, 100, 3), rng.uniform(0.5, 6)
    positions = start + np.arange(count)[:, np.newaxis] * step * turn[:, 2] * rng.choice([-1, 1])
    folder = tmp_path_factory.mktemp("series")
    pixels = dicoms.series(folder, positions, seed=seed, ImageOrientationPatient=[float(v) for v in orientation])
    (seq,) = ms.read(folder)
    assert axis_codes(seq.affine) == ("L", "P", "S")
    assert seq.warnings == ()
    # decimal strings hold 16 characters, so positions are exact to about 1e-10 mm
    _check(seq, pixels, positions, orientation)


def test_gantry_tilt_stays_a_shear(tmp_path: Path) -> None:
    positions = np.array([(0, 0.8 * k, 2.5 * k) for k in range(5)])
    pixels = dicoms.series(tmp_path, positions)
    (seq,) = ms.read(tmp_path)
    _check(seq, pixels, positions, np.array(dicoms.AXIAL))
    assert seq.meta["gantry_tilt_deg"] == pytest.approx(np.degrees(np.arctan(0.8 / 2.5)), abs=1e-3)
    with pytest.raises(ms.MedseqError, match="sheared"):
        ms.write(seq, tmp_path / "a.mha")


def test_a_missing_slice_makes_two_blocks_and_says_where(tmp_path: Path) -> None:
    positions = np.array([(0, 0, 2.5 * k) for k in (0, 1, 2, 4, 5, 6)])
    pixels = dicoms.series(tmp_path, positions)
    with pytest.warns(ReadWarning, match="5 mm after slice 3"):
        first, second = ms.read(tmp_path)
    _check(first, pixels[:3], positions[:3], np.array(dicoms.AXIAL))
    _check(second, pixels[3:], positions[3:], np.array(dicoms.AXIAL))
    assert first.warnings
    assert second.warnings


def test_two_steps_make_two_blocks(tmp_path: Path) -> None:
    positions = np.array([(0, 0, z) for z in (0, 2, 4, 6, 11, 16, 21)], float)
    pixels = dicoms.series(tmp_path, positions)
    with pytest.warns(ReadWarning, match="unevenly"):
        blocks = ms.read(tmp_path)
    assert sum(b.size("z") for b in blocks) == 7
    for picture, position in zip(pixels, positions, strict=True):
        found = [
            b
            for b in blocks
            if b.affine[2, 3] - 1e-6 <= position[2] <= b.affine[2, 3] + (b.size("z") - 1) * b.spacing["z"] + 1e-6
        ]
        assert value_at(found[0], position) == picture[0, 0]


def test_ragged_positions_stay_one_volume_with_their_places(tmp_path: Path) -> None:
    depths = [0, 1, 3, 3.6, 7, 8.1, 12, 15, 15.7, 20]
    dicoms.series(tmp_path, [(0, 0, z) for z in depths])
    with pytest.warns(ReadWarning, match="no even grid"):
        (seq,) = ms.read(tmp_path)
    assert seq.meta["slice_positions_mm"] == depths


def test_three_planes_are_three_images(tmp_path: Path) -> None:
    planes = {"axial": (1, 0, 0, 0, 1, 0), "sagittal": (0, 1, 0, 0, 0, -1), "coronal": (1, 0, 0, 0, 0, -1)}
    for k, (name, orientation) in enumerate(planes.items()):
        normal = np.cross(orientation[:3], orientation[3:])
        dicoms.series(
            tmp_path / name,
            [tuple(normal * 10.0 * j) for j in range(3)],
            seed=k,
            ImageOrientationPatient=list(orientation),
        )
    found = ms.read(tmp_path)
    assert sorted(s.name for s in found) == ["Head_axial", "Head_coronal", "Head_sagittal"]
    assert {s.name: s.slice_axis for s in found} == {"Head_axial": "z", "Head_coronal": "y", "Head_sagittal": "x"}


def test_stations_beside_one_another_are_two_volumes(tmp_path: Path) -> None:
    positions = np.array([(0, y, 2.5 * k) for y in (0, 40) for k in range(3)], float)
    pixels = dicoms.series(tmp_path, positions)
    found = sorted(ms.read(tmp_path), key=lambda s: -s.affine[1, 3])
    for k, seq in enumerate(found):
        assert seq.sizes == {"z": 3, "y": 6, "x": 5}
        _check(seq, pixels[3 * k : 3 * k + 3], positions[3 * k : 3 * k + 3], np.array(dicoms.AXIAL))


def test_what_differs_in_kind_is_another_image(tmp_path: Path) -> None:
    positions = [(0, 0, 2.5 * k) for k in range(3)]
    kinds: tuple[dict[str, Any], ...] = (
        {"EchoTime": 4.9, "EchoNumbers": 1}, {"EchoTime": 7.4, "EchoNumbers": 2}, {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]},
        {"SeriesInstanceUID": "1.2.3.9", "SeriesDescription": "Other"},
    )  # fmt: skip
    for k, more in enumerate(kinds):
        dicoms.series(tmp_path / str(k), positions, seed=k, **more)
    assert sorted(s.name for s in ms.read(tmp_path)) == ["Head_e1", "Head_e2", "Head_phase", "Other"]


def test_image_types_that_interleave_are_one_volume(tmp_path: Path) -> None:
    positions = [(0, 0, 2.5 * k) for k in range(6)]
    dicoms.series(
        tmp_path, positions, each=lambda k: {"ImageType": ["ORIGINAL" if k % 2 else "DERIVED", "PRIMARY", "AXIAL"]}
    )
    (seq,) = ms.read(tmp_path)
    assert seq.size("z") == 6


def test_same_instance_twice_is_left_out_and_said(tmp_path: Path) -> None:
    dicoms.series(tmp_path, [(0, 0, 2.5 * k) for k in range(4)])
    some = sorted(tmp_path.iterdir())[0]
    (tmp_path / "copy").write_bytes(some.read_bytes())
    with pytest.warns(ReadWarning, match="twice"):
        (seq,) = ms.read(tmp_path)
    assert seq.size("z") == 4


def test_another_slice_at_a_position_is_said(tmp_path: Path) -> None:
    dicoms.series(tmp_path, [(0, 0, 2.5 * k) for k in (0, 1, 2, 3, 2)])
    with pytest.warns(ReadWarning, match="same position"):
        (seq,) = ms.read(tmp_path)
    assert seq.sizes == {"z": 4, "y": 6, "x": 5}


@pytest.mark.parametrize("missing", ["ImagePositionPatient", "ImageOrientationPatient"])
def test_without_place_slices_follow_instance_numbers(tmp_path: Path, missing: str) -> None:
    gone: dict[str, Any] = {missing: None}
    pixels = dicoms.series(tmp_path, [(0, 0, 2.5 * k) for k in range(4)], **gone)
    with pytest.warns(ReadWarning, match="orientation unknown"):
        (seq,) = ms.read(tmp_path)
    assert not seq.oriented
    assert np.array_equal(seq.data, np.stack(pixels))
    assert seq.spacing == {"z": 2.5, "y": 0.5, "x": 0.75}


@pytest.mark.parametrize("spacing", [None, [0, 0], [-1, 1]])
def test_without_spacing_a_voxel_is_a_millimetre_and_said(tmp_path: Path, spacing: list[float] | None) -> None:
    dicoms.series(tmp_path, [(0, 0, 2.5 * k) for k in range(3)], PixelSpacing=spacing)
    with pytest.warns(ReadWarning, match="PixelSpacing"):
        (seq,) = ms.read(tmp_path)
    assert (seq.spacing["x"], seq.spacing["y"]) == (1, 1)


def test_a_single_slice_uses_its_thickness(tmp_path: Path) -> None:
    (picture,) = dicoms.series(tmp_path, [(1.0, 2, 3)])
    (seq,) = ms.read(tmp_path)
    assert seq.spacing["z"] == 2.5
    assert value_at(seq, (1, 2, 3)) == picture[0, 0]


def test_an_x_ray_has_no_orientation(tmp_path: Path) -> None:
    ds = dicoms.dataset(
        dicoms.picture(), None, None, None, Modality="DX", ImagerPixelSpacing=[0.1, 0.2], SliceThickness=None
    )
    with pytest.warns(ReadWarning, match="detector"):
        (seq,) = ms.read(dicoms.save(ds, tmp_path / "a"))
    assert (seq.axes, seq.oriented, seq.spacing["x"]) == (("y", "x"), False, 0.2)


def test_junk_beside_slices_is_named(tmp_path: Path) -> None:
    dicoms.series(tmp_path, [(0, 0, 2.5 * k) for k in range(3)])
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.warns(ReadWarning, match="empty"):
        (seq,) = ms.read(tmp_path)
    assert seq.size("z") == 3


def test_nothing_to_open_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no image file"):
        ms.read(tmp_path)
    with pytest.raises(ReadError, match="no such file"):
        ms.read(tmp_path / "nowhere")
    with pytest.raises(ReadError, match="No file"):
        ms.read([])
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ReadError, match="not an image"):
        ms.read(tmp_path / "a.txt")
