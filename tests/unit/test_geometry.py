"""Geometry against nibabel, for affines of any axis order, sign, spacing and tilt."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_medseq import geometry as g
from napari_medseq.errors import GeometryError

CODES = ["".join(p) for axes in itertools.permutations(("RL", "AP", "SI")) for p in itertools.product(*axes)]
ORDERS = list(itertools.permutations(range(3)))


@st.composite
def affines(draw: st.DrawFn, tilt_deg: float = 44.0) -> np.ndarray:
    """Any axis order, any signs, spacing 0.1 to 10 mm, a tilt about any axis, an origin within a metre."""
    order = draw(st.sampled_from(ORDERS))
    signs = draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    steps = draw(st.tuples(*[st.floats(0.1, 10)] * 3))
    vector = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 3)))
    angle = draw(st.floats(-tilt_deg, tilt_deg))
    norm = np.linalg.norm(vector)
    turn = Rotation.from_rotvec(np.deg2rad(angle) * vector / norm).as_matrix() if norm > 1e-3 else np.eye(3)
    affine = np.eye(4)
    affine[:3, :3] = turn @ (np.eye(3)[:, list(order)] * signs) * steps
    affine[:3, 3] = draw(st.tuples(*[st.floats(-1000, 1000)] * 3))
    return affine


shapes = st.tuples(*[st.integers(1, 5)] * 3)


@settings(max_examples=150, deadline=None)
@given(affines(), shapes, st.sampled_from(CODES))
def test_reorientation_keeps_every_voxel_at_its_place_and_round_trips(
    affine: np.ndarray, shape: tuple[int, int, int], codes: str
) -> None:
    volume = np.arange(np.prod(shape)).reshape(shape[::-1])  # (z, y, x)
    turn = g.to_codes(affine, (codes[0], codes[1], codes[2]))
    moved, moved_affine = turn.apply_zyx(volume), turn.apply_affine(affine, shape)

    # each value keeps its world position, to 1e-4 mm
    def positions(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        z, y, x = (i.ravel() for i in np.indices(values.shape))
        return g.apply_points(matrix, np.stack([x, y, z], 1))[np.argsort(values.ravel())]

    np.testing.assert_allclose(positions(moved, moved_affine), positions(volume, affine), atol=1e-4, rtol=0)
    assert "".join(g.axis_codes(moved_affine)) == codes
    # and the way back is exact for voxels, 1e-4 mm for positions
    back = turn.inverse
    np.testing.assert_array_equal(back.apply_zyx(moved), volume)
    new_shape = tuple(moved.shape[::-1])
    np.testing.assert_allclose(back.apply_affine(moved_affine, new_shape), affine, atol=1e-4, rtol=0)


@settings(max_examples=150, deadline=None)
@given(affines(tilt_deg=40), shapes, st.sampled_from(CODES))
def test_agrees_with_nibabel(affine: np.ndarray, shape: tuple[int, int, int], codes: str) -> None:
    cosines = affine[:3, :3] / g.spacing(affine)
    ours = g.closest_axes(affine)
    theirs = nib.orientations.io_orientation(affine)
    # nibabel decides greedily from the closest rotation; where one assignment clearly wins both must say the same
    scores = sorted((sum(abs(cosines[p[k], k]) for k in range(3)) for p in ORDERS), reverse=True)
    assume(scores[0] - scores[1] > 0.3)
    assert [w for w, _ in ours] == theirs[:, 0].astype(int).tolist()
    assert [s for _, s in ours] == theirs[:, 1].astype(int).tolist()
    assert g.axis_codes(affine) == nib.aff2axcodes(affine)

    target = nib.orientations.axcodes2ornt(tuple(codes))
    change = nib.orientations.ornt_transform(theirs, target)
    volume = np.random.default_rng(0).normal(size=shape)  # nibabel indexes (x, y, z)
    turn = g.to_codes(affine, (codes[0], codes[1], codes[2]))
    np.testing.assert_array_equal(turn.apply_zyx(volume.T).T, nib.orientations.apply_orientation(volume, change))
    np.testing.assert_allclose(
        turn.apply_affine(affine, shape), affine @ nib.orientations.inv_ornt_aff(change, shape), atol=1e-4, rtol=0
    )


@settings(max_examples=100, deadline=None)
@given(affines(tilt_deg=180), shapes)
def test_any_tilt_comes_into_house_order_and_back(affine: np.ndarray, shape: tuple[int, int, int]) -> None:
    turn = g.to_codes(affine)
    house = turn.apply_affine(affine, shape)
    assert g.axis_codes(house) == g.HOUSE_CODES
    assert g.to_codes(house) == g.Reorientation()  # already there: nothing to do, ties included
    new_shape = (shape[turn.order[0]], shape[turn.order[1]], shape[turn.order[2]])
    np.testing.assert_allclose(turn.inverse.apply_affine(house, new_shape), affine, atol=1e-4, rtol=0)
    assert g.voxel_volume_mm3(house) == pytest.approx(g.voxel_volume_mm3(affine))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=3)))
def test_inverse_undoes_all_48_reorientations(order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> None:
    turn = g.Reorientation(order, flips)
    volume = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)  # a leading time axis stays in front
    there = turn.apply_zyx(volume)
    assert there.shape[0] == 2
    np.testing.assert_array_equal(turn.inverse.apply_zyx(there), volume)
    assert turn.inverse.inverse == turn
    assert np.shares_memory(there, volume)  # a view: nothing was copied


def test_reorientation_is_lazy_for_dask() -> None:
    da = pytest.importorskip("dask.array")
    volume = np.arange(24).reshape(2, 3, 4)
    turn = g.Reorientation((2, 0, 1), (True, False, True))
    lazy = turn.apply_zyx(da.from_array(volume, chunks=1))
    assert hasattr(lazy, "dask")
    np.testing.assert_array_equal(np.asarray(lazy), turn.apply_zyx(volume))


def test_house_order_is_what_a_radiologist_expects() -> None:
    # RAS+ volume with a mark at the patient's right, anterior, superior corner
    volume = np.zeros((3, 4, 5), int)
    volume[-1, -1, -1] = 1  # (z, y, x) = (S, A, R)
    house = g.to_codes(np.eye(4)).apply_zyx(volume)
    # superior last in z; anterior up (y = 0); the patient's right on the screen's left (x = 0)
    assert house[-1, 0, 0] == 1


def test_a_sheared_grid_has_the_determinant_as_its_voxel_volume() -> None:
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    affine[1, 2] = 2.0  # gantry tilt: slices 5 mm apart, shifted by 2 mm
    assert g.voxel_volume_mm3(affine) == pytest.approx(5.0)
    assert g.spacing(affine)[2] == pytest.approx(np.hypot(2, 5))


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (np.eye(3), "4×4"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.diag([1.0, 1.0, np.inf, 1.0]), "infinite"),
        (np.diag([1.0, 0.0, 1.0, 1.0]), "singular"),
        (np.diag([1.0, 1.0, 1.0, 2.0]), "last row"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "singular"),
    ],
)
def test_unusable_affines_are_refused_with_a_reason(matrix: np.ndarray, says: str) -> None:
    with pytest.raises(GeometryError, match=says):
        g.as_affine(matrix)


def test_a_checked_affine_is_a_read_only_copy() -> None:
    source = np.eye(4)
    affine = g.as_affine(source)
    source[0, 0] = 7
    assert affine[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        affine[0, 0] = 2


@pytest.mark.parametrize("codes", ["LPX", "LRS", "LLL"])
def test_bad_codes_are_refused(codes: str) -> None:
    with pytest.raises(GeometryError, match=r"orientation|twice"):
        g.to_codes(np.eye(4), (codes[0], codes[1], codes[2]))


@pytest.mark.parametrize("grid", [(4, 5, 6), (1, 7, 2), (3,)])
def test_the_corners_of_a_box_are_where_its_voxels_end(grid: tuple[int, ...]) -> None:
    inside = np.argwhere(np.ones(grid))
    middles, faces = g.corners(grid), g.corners(grid, outer=True)
    assert len(np.unique(faces, axis=0)) == len(faces) == 2 ** len(grid)
    np.testing.assert_array_equal(middles.min(axis=0), inside.min(axis=0))
    np.testing.assert_array_equal(middles.max(axis=0), inside.max(axis=0))
    np.testing.assert_array_equal(np.ptp(faces, axis=0), grid)
    np.testing.assert_array_equal(faces.mean(axis=0), inside.mean(axis=0))
