"""The slice view: nearest transform without out-of-plane rotation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_medseq.geometry import RAS_LPS, apply_points, to_codes, voxel_volume_mm3
from napari_medseq.sequence import SPACE
from napari_medseq.viewer.layers.sliceview import ras_affine, slice_view, world_matrix

angles = st.floats(-40, 40)
sizes = st.floats(0.3, 8)


def house_affine(euler: tuple[float, float, float], spacing: tuple[float, float, float]) -> np.ndarray:
    """An affine of axis codes LPS (the nearest, after reorientation), rotated by `euler` degrees about x, y, z."""
    lps = np.eye(4)
    lps[:3, :3] = Rotation.from_euler("xyz", euler, degrees=True).as_matrix() @ np.diag(spacing)
    lps[:3, 3] = (12.5, -30.25, 7.0)
    affine = RAS_LPS @ lps
    return to_codes(affine).apply_affine(affine, (8, 9, 5))


def test_world_matrix_is_lps_read_as_z_y_x() -> None:
    affine = RAS_LPS @ np.array([[2.0, 0, 0, 10], [0, 3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]])
    index_zyx = np.array([[1, 1, 1]])
    assert apply_points(world_matrix(affine), index_zyx).tolist() == [[34, 23, 12]]
    np.testing.assert_allclose(ras_affine(world_matrix(affine)), affine)


@pytest.mark.parametrize("axis", SPACE)
def test_an_untilted_grid_keeps_its_true_transform(axis: str) -> None:
    euler = {"z": (0, 0, 25), "y": (0, 25, 0), "x": (25, 0, 0)}[axis]
    affine = house_affine(euler, (1.5, 2.0, 5.0))
    view = slice_view(affine, (8, 9, 5), axis)
    np.testing.assert_allclose(view.matrix, world_matrix(affine), atol=1e-9)
    assert not view.is_tilted
    assert view.moved_voxels < 1e-9


@given(st.tuples(angles, angles, angles), st.tuples(sizes, sizes, sizes), st.sampled_from(SPACE))
@settings(max_examples=60, deadline=None)
def test_the_view_keeps_centre_volume_and_spacing_and_never_mixes_the_slice_axis(
    euler: tuple[float, float, float], spacing: tuple[float, float, float], axis: str
) -> None:
    affine, grid = house_affine(euler, spacing), (8, 9, 5)
    view = slice_view(affine, grid, axis)
    s = SPACE.index(axis)
    linear = view.matrix[:3, :3]
    assert linear[s, [k for k in range(3) if k != s]].tolist() == [0, 0]
    assert linear[[k for k in range(3) if k != s], s].tolist() == [0, 0]
    centre = (np.array([grid[::-1]]) - 1) / 2
    np.testing.assert_allclose(apply_points(view.matrix, centre), apply_points(world_matrix(affine), centre), atol=1e-9)
    assert np.linalg.det(linear) == pytest.approx(voxel_volume_mm3(affine))
    lengths = np.linalg.norm(world_matrix(affine)[:3, :3], axis=0)
    np.testing.assert_allclose(np.linalg.norm(linear, axis=0), lengths, rtol=1e-9)


@given(st.tuples(angles, angles, angles))
@settings(max_examples=30, deadline=None)
def test_no_in_plane_turn_is_nearer_to_the_truth(euler: tuple[float, float, float]) -> None:
    affine, grid = house_affine(euler, (1.0, 1.0, 3.0)), (8, 9, 5)
    true, view = world_matrix(affine), slice_view(affine, grid)
    turned = [Rotation.from_euler("x", a, degrees=True).as_matrix() for a in (-2, 2)]
    best = np.linalg.norm(view.matrix[:3, :3] - true[:3, :3])
    for turn in turned:
        assert np.linalg.norm(turn @ view.matrix[:3, :3] - true[:3, :3]) >= best - 1e-9


def test_half_a_voxel_is_the_border_of_tilted() -> None:
    grid = (101, 3, 3)
    edge = 50.0  # voxels from the centre along x; a turn about y moves them by 50·sin(angle)
    for degrees, tilted in ((np.degrees(np.arcsin(0.45 / edge)), False), (np.degrees(np.arcsin(0.6 / edge)), True)):
        lps = np.eye(4)
        lps[:3, :3] = Rotation.from_euler("y", degrees, degrees=True).as_matrix()
        assert slice_view(RAS_LPS @ lps, grid).is_tilted is tilted


def test_gantry_tilt_keeps_the_distance_between_slices() -> None:
    lps = np.diag([0.5, 0.5, 4.0, 1.0])
    lps[1, 2] = 1.5  # each slice is shifted: a sheared grid
    view = slice_view(RAS_LPS @ lps, (64, 64, 20))
    np.testing.assert_allclose(view.scale, [4.0, 0.5, 0.5])
    assert view.is_tilted
