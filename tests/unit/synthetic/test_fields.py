"""The generator's raw material."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseq.synthetic.fields import Field, Grid, inside, over

small = st.floats(-2, 2)


def test_field_is_standardised_smooth_and_seeded() -> None:
    def field() -> Field:
        return Field(np.random.default_rng(3), 10.0, 60.0)

    x = np.linspace(-50, 50, 400, dtype=np.float32)
    values = field()(x, np.zeros_like(x), np.zeros_like(x))
    assert abs(float(field().lattice.std()) - 1) < 1e-5
    assert np.abs(np.diff(values)).max() < 0.2  # 0.25 mm apart on a 10 mm field
    np.testing.assert_array_equal(values, field()(x, np.zeros_like(x), np.zeros_like(x)))
    assert np.std(values) > 0.2


@given(st.tuples(small, small, small), st.tuples(small, small, small))
@settings(max_examples=30, deadline=None)
def test_matrix_is_rigid(rotation: tuple[float, float, float], shift: tuple[float, float, float]) -> None:
    matrix = Grid((4, 8, 8), (6.0, 2.0, 2.0), rotation=rotation, shift=shift).matrix
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    # the head's origin lies at `shift` in the scanner
    np.testing.assert_allclose(matrix @ (*shift, 1.0), (0, 0, 0, 1), atol=1e-12)


def test_nodes_are_where_the_voxels_are() -> None:
    grid = Grid((3, 9, 7), (6.0, 2.0, 1.0), centre=(1.0, 2.0, 3.0), thin=1)
    x, y, z = grid.nodes(1)
    assert x.shape == (3, 9, 7)
    assert x[0, 0, 0] == pytest.approx(1.0 - 3.0)
    assert y[0, -1, 0] == pytest.approx(2.0 + 8.0)
    assert z[-1, 0, 0] == pytest.approx(3.0 + 6.0)


@given(st.tuples(small, small, small), st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_smooth_functions_survive_upsampling(rotation: tuple[float, float, float], step: int) -> None:
    grid = Grid((2, 33, 29), (6.0, 2.0, 2.0), rotation=rotation, thin=2, window=(3, 31, 2, 27))
    coarse, fine = grid.nodes(step), grid.nodes(1)

    def bowl(p: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.asarray((p[0] ** 2 + p[1] ** 2 - p[2] ** 2) / np.float32(100))

    np.testing.assert_allclose(grid.up(bowl(coarse)), bowl(fine), atol=2e-3)


def test_thick_slices_are_the_mean_of_thin_ones() -> None:
    grid = Grid((2, 4, 5), (6.0, 2.0, 2.0), thin=3, window=(1, 4, 0, 5))
    values = np.arange(6 * 3 * 5, dtype=np.float32).reshape(6, 3, 5)
    thick = grid.thicken(values)
    assert thick.shape == (2, 4, 5)
    np.testing.assert_allclose(thick[1, 1:], values[3:].mean(0))
    assert not thick[:, 0].any()


def test_box_holds_exactly_the_points_inside() -> None:
    grid = Grid((6, 20, 20), (3.0, 1.0, 1.0), thin=1)
    where, (x, y, z) = grid.box(np.array([-3.0, -2.0, -4.0]), np.array([3.0, 2.0, 4.0]))
    full = grid.nodes(1)
    np.testing.assert_array_equal(full[0][where], x)
    expected = (np.abs(full[0]) < 3) & (np.abs(full[1]) < 2) & (np.abs(full[2]) < 4)
    assert expected.sum() == x.size == y.size == z.size


def test_inside_and_over() -> None:
    share = inside(np.array([-5, -0.25, 0, 0.25, 5], np.float32), 1.0)
    np.testing.assert_allclose(share, [1, 0.75, 0.5, 0.25, 0])
    signal = np.full(5, 2, np.float32)
    over(signal, share, 4.0)
    np.testing.assert_allclose(signal, [4, 3.5, 3, 2.5, 2])
