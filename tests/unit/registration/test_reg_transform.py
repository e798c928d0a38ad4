"""The transform's directions, its files, and resampling against grids whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_medseq import geometry
from napari_medseq.errors import (
    GeometryError,
    MedseqError,
    OperationCancelled,
    ReadError,
    RegistrationError,
    SettingsError,
)
from napari_medseq.registration import Quality, Spline, Transform
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.volumes.grid import affine_of, resample, to_itk
from napari_medseq.volumes.iterate import map_volumes

AFFINE = affine_from((1, 2, 3), (10, -20, 30))


def ramp(shape: tuple[int, int, int] = (6, 8, 10), affine: np.ndarray = AFFINE) -> ImageSequence:
    """Each voxel holds R + 10·A + 100·S of its own place."""
    z, y, x = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    world = geometry.apply_points(affine, np.stack([x, y, z], axis=-1).reshape(-1, 3))
    return ImageSequence((world @ (1, 10, 100)).reshape(shape), ("z", "y", "x"), affine, name="ramp")


def turn(angles: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def spline() -> Spline:
    import SimpleITK as sitk

    domain = sitk.Image([10, 8, 6], sitk.sitkFloat32)
    domain.SetSpacing((20, 20, 20))
    domain.SetOrigin((-100, -80, -60))
    made = sitk.BSplineTransformInitializer(domain, [3, 3, 3])
    parameters = np.random.default_rng(0).normal(0, 2, len(made.GetParameters()))
    return Spline(geometry.RAS_LPS, tuple(made.GetFixedParameters()), parameters)


angles = st.tuples(*[st.floats(-170, 170)] * 3)
shifts = st.tuples(*[st.floats(-50, 50)] * 3)


@settings(max_examples=50, deadline=None)
@given(angles, shifts)
def test_to_fixed_undoes_to_moving(a: tuple[float, float, float], s: tuple[float, float, float]) -> None:
    transform = Transform("rigid", turn(a, s))
    points = np.array([[0.0, 0, 0], [10, 20, 30], [-5, 7, 90]])
    there = transform.to_moving(points)
    assert np.allclose(transform.to_fixed(there), points)
    assert np.allclose(geometry.apply_points(transform.to_fixed_matrix, there), points)
    assert np.allclose(transform.inverse().to_moving(there), points)
    # ITK's own view of the same mapping, in its own coordinates
    flip = np.array([-1, -1, 1])
    itk = np.array([transform.itk().TransformPoint(p) for p in (points * flip).tolist()]) * flip
    assert np.allclose(itk, there)


@settings(max_examples=25, deadline=None)
@given(angles, shifts)
def test_apply_puts_at_p_what_lies_at_matrix_p(a: tuple[float, float, float], s: tuple[float, float, float]) -> None:
    moving = ramp((20, 20, 20), affine_from((4, 4, 4), (40, 40, -40)))
    transform = Transform("rigid", turn(a, (s[0] / 10, s[1] / 10, s[2] / 10)))
    target = ramp((3, 4, 5), affine_from((2, 2, 2)))
    result = transform.apply(moving, reference=target, fill=np.nan)
    z, y, x = np.meshgrid(*[np.arange(n) for n in (3, 4, 5)], indexing="ij")
    places = transform.to_moving(geometry.apply_points(target.affine, np.stack([x, y, z], -1).reshape(-1, 3)))
    expected = (places @ (1, 10, 100)).reshape(3, 4, 5)
    assert np.allclose(result.data, expected, atol=0.05)


def test_a_resampled_image_keeps_its_world_values_on_any_grid() -> None:
    image = ramp()
    finer = resample(image, affine_from((0.5, 0.5, 0.5), (8, -22, 33)), (6, 7, 8), antialias=False)
    assert np.allclose(finer.data, ramp((8, 7, 6), affine_from((0.5, 0.5, 0.5), (8, -22, 33))).data, atol=1e-3)
    sheared = np.array(AFFINE)
    sheared[1, 2] = 0.7
    tilted = ramp(affine=sheared)
    back = resample(tilted, affine_from((1, 1, 1), (5, -22, 36)), (3, 3, 3), antialias=False)
    assert np.allclose(back.data, ramp((3, 3, 3), affine_from((1, 1, 1), (5, -22, 36))).data, atol=1e-3)


def test_labels_stay_labels_and_nothing_is_blended() -> None:
    data = np.zeros((6, 8, 10), np.uint16)
    data[2:4, 2:6, 3:7] = 300
    data[4:, 2:6, 3:7] = 7
    labels = ImageSequence(data, ("z", "y", "x"), AFFINE, kind="labels", name="mask")
    for how in (None, "nearest", "label"):
        moved = resample(labels, affine_from((0.7, 0.9, 1.1), (9, -21, 31)), (12, 14, 13), interpolation=how)
        assert moved.data.dtype == np.uint16
        assert set(np.unique(moved.data)) <= {0, 7, 300}
        assert (moved.data == 300).any()
    with pytest.raises(SettingsError, match="blend"):
        resample(labels, AFFINE, labels.grid, interpolation="linear")
    with pytest.raises(SettingsError, match="is for labels"):
        resample(ramp(), AFFINE, labels.grid, interpolation="label")


def test_frames_channels_and_slices_go_by_name() -> None:
    frames = ImageSequence(
        np.stack([ramp().data, ramp().data + 1]), ("t", "z", "y", "x"), AFFINE, times=np.array([0, 5.0])
    )
    moved = resample(frames, AFFINE, (4, 4, 3))
    assert moved.axes == ("t", "z", "y", "x")
    assert moved.data.shape == (2, 3, 4, 4)
    assert np.allclose(moved.data[1] - moved.data[0], 1)
    assert moved.times is not None
    assert moved.times[1] == 5
    colour = ImageSequence(np.random.default_rng(0).random((2, 8, 9, 3)), ("t", "y", "x", "c"), AFFINE)
    same = resample(colour, AFFINE, colour.grid)
    assert same.axes == ("t", "y", "x", "c")
    assert np.allclose(same.data, colour.data, atol=1e-6)
    flat = ImageSequence(np.eye(8), ("y", "x"), AFFINE)
    assert resample(flat, AFFINE, flat.grid, interpolation="bspline").axes == ("y", "x")
    assert resample(flat, AFFINE, (8, 8, 3)).data.shape == (3, 8, 8)


def test_volumes_are_counted_and_a_stop_is_seen() -> None:
    frames = ImageSequence(np.zeros((4, 2, 3, 3)), ("t", "z", "y", "x"), AFFINE)
    seen: list[int] = []
    map_volumes(frames, lambda v: v, progress=lambda d, _t, _m: seen.append(d))
    assert seen == [1, 2, 3, 4]
    with pytest.raises(OperationCancelled):
        map_volumes(frames, lambda v: v, cancelled=lambda: len(seen) > 0)


def test_odd_dtypes_reach_itk_and_the_grid_survives() -> None:
    for dtype in (bool, np.float16, ">i2", ">f8", np.int64, np.uint8):
        image = to_itk(np.ones((2, 3, 4)).astype(dtype), AFFINE)
        assert image.GetSize() == (4, 3, 2)
        assert np.allclose(affine_of(image), geometry.RAS_LPS @ AFFINE)


@pytest.mark.parametrize("ending", [".json", ".tfm", ".h5"])
def test_files_give_back_the_same_mapping(tmp_path: Path, ending: str) -> None:
    quality = Quality(mi_after=1.25, doubts=("none",))
    transform = Transform("rigid", turn((10, 20, 30), (1, 2, 3)), AFFINE, (4, 5, 6), quality=quality, fixed_name="a")
    back = Transform.load(transform.save(tmp_path / "sub" / f"found{ending}"))
    points = np.array([[0.0, 1, 2], [30, 40, 50]])
    assert np.allclose(back.to_moving(points), transform.to_moving(points))
    if ending == ".json":
        assert back.fixed_grid == (4, 5, 6)
        assert back.quality == quality
        assert np.array_equal(back.linear, transform.linear)
    assert [f.name for f in (tmp_path / "sub").iterdir()] == [f"found{ending}"]


def test_a_spline_is_saved_mapped_and_inverted(tmp_path: Path) -> None:
    transform = Transform("deformable", turn((5, 0, 0), (1, 2, 3)), AFFINE, (10, 8, 6), spline=spline())
    points = np.array([[0.0, 0, 0], [10, -20, 15], [-30, 20, 5]])
    there = transform.to_moving(points)
    assert np.abs(there - geometry.apply_points(transform.linear, points)).max() > 0.3
    assert np.allclose(transform.to_fixed(there), points, atol=2e-3)
    back = Transform.load(transform.save(tmp_path / "bent.json"))
    assert np.array_equal(back.to_moving(points), there)
    flip = np.array([-1, -1, 1])
    itk = np.array([transform.itk().TransformPoint(p) for p in (points * flip).tolist()]) * flip
    assert np.allclose(itk, there)
    assert transform.matrix is None
    for what in (lambda: transform.to_fixed_matrix, transform.inverse):
        with pytest.raises(RegistrationError, match="no matrix"):
            what()
    wild = Transform(
        "deformable", np.eye(4), spline=Spline(geometry.RAS_LPS, spline().fixed_parameters, spline().parameters * 40)
    )
    with pytest.raises(RegistrationError, match="inverted"):
        wild.to_fixed(points)
    assert transform.to_fixed(np.zeros((0, 3))).shape == (0, 3)


def test_broken_files_are_refused(tmp_path: Path) -> None:
    good = json.loads(Transform("rigid", np.eye(4)).save(tmp_path / "good.json").read_text())
    broken = {
        "text.json": "no json",
        "list.json": "[1]",
        "kind.json": json.dumps({**good, "kind": "magic"}),
        "later.json": json.dumps({**good, "version": 2}),
        "singular.json": json.dumps({**good, "linear": np.zeros((4, 4)).tolist()}),
        "short.json": json.dumps({k: v for k, v in good.items() if k != "linear"}),
        "quality.json": json.dumps({**good, "quality": {"mi_after": "much"}}),
        "spline.json": json.dumps(
            {**good, "spline": {"frame": np.eye(4).tolist(), "fixed_parameters": [1], "parameters": [2]}}
        ),
        "bad.tfm": "#Insight Transform File V1.0\nTransform: nonsense",
        "deep.json": "[" * 100_000,
    }
    for name, text in broken.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ReadError, match=name):
            Transform.load(tmp_path / name)
    with pytest.raises(ReadError, match="no such"):
        Transform.load(tmp_path / "none.json")
    with pytest.raises(MedseqError, match="saved as"):
        Transform("rigid", np.eye(4)).save(tmp_path / "found.txt")
    (tmp_path / "file").write_text("")
    with pytest.raises(MedseqError, match="could not be written"):
        Transform("rigid", np.eye(4)).save(tmp_path / "file" / "found.json")


def test_a_transform_needs_a_grid_and_a_matrix() -> None:
    with pytest.raises(RegistrationError, match="reference="):
        Transform("rigid", np.eye(4)).apply(ramp())
    with pytest.raises(GeometryError):
        Transform("rigid", np.zeros((4, 4)))
    assert "rigid" in repr(Transform("rigid", np.eye(4)))
