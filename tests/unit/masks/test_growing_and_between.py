"""Growing against SimpleITK's flood and known objects; slices between painted ones against analytic shapes and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage

from napari_medseq import masks
from napari_medseq.errors import MedseqError, MedseqWarning
from napari_medseq.masks import interpolation
from tests.unit.masks.balls import ball

SHAPE, SPACING = (16, 48, 48), (3.0, 1.0, 1.0)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A bright ball in noise, and where it is."""
    true = ball(SHAPE, (8, 24, 24), 15, SPACING)
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    return 100.0 * true + noise, true


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_object_and_surroundings_grow_up_to_the_edge_between_them() -> None:
    image, true = scene()
    seeds = np.zeros(SHAPE, np.uint8)
    seeds[8, 22:26, 20:28] = 1
    seeds[8, 2:46, 3:5] = seeds[2, 4:44, 20:28] = seeds[14, 4:44, 20:28] = seeds[8, 2:46, 43:45] = 7
    made = masks.grow(image, seeds, SPACING, reach_mm=60, surroundings=7)
    assert dice(made == 1, true) > 0.95
    assert set(np.unique(made)) == {0, 1}


def test_with_a_range_it_is_the_flood_of_simpleitk() -> None:
    image, _ = scene()
    seeds = np.zeros(SHAPE, np.uint8)
    seeds[8, 24, 24] = 3
    made = masks.grow(image, seeds, SPACING, within=(70, 130), reach_mm=1000)
    flood = sitk.ConnectedThreshold(sitk.GetImageFromArray(image), [(24, 24, 8)], 70, 130)
    inside = np.asarray(image >= 70) & (image <= 130)
    inside[8, 24, 24] = True
    expected = sitk.GetArrayFromImage(flood) > 0
    assert np.array_equal(made == 3, expected | (seeds == 3))


def test_it_stays_within_reach() -> None:
    seeds = np.zeros(SHAPE, np.uint8)
    seeds[8, 24, 24] = 1
    made = masks.grow(np.zeros(SHAPE), seeds, SPACING, within=(-1, 1), reach_mm=7)
    assert np.array_equal(made > 0, ball(SHAPE, (8, 24, 24), 7, SPACING))


def test_growing_without_seeds_or_limits_is_refused() -> None:
    seeds = np.zeros(SHAPE, np.uint8)
    with pytest.raises(MedseqError, match="no seeds"):
        masks.grow(np.zeros(SHAPE), seeds, SPACING)
    seeds[8, 24, 24] = 1
    with pytest.raises(MedseqError, match="Nothing would stop it"):
        masks.grow(np.zeros(SHAPE), seeds, SPACING)


def cone(shape: tuple[int, int, int], first: float, last: float, pixel: tuple[float, float]) -> np.ndarray:
    """Discs whose radius in mm goes evenly from the first slice to the last."""
    n, height, width = shape
    middle = (height / 2, width / 2)
    radii = np.linspace(first, last, n)
    return np.stack([ball((height, width), middle, r, pixel) for r in radii])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_between_two_discs_lies_a_cone(axis: int) -> None:
    pixel = (1.0, 0.7)
    true = cone((9, 60, 80), 8, 22, pixel)
    painted = np.zeros_like(true)
    painted[[0, 8]] = true[[0, 8]]
    labels = np.moveaxis(painted, 0, axis).astype(np.uint8)
    made = np.moveaxis(masks.interpolate_slices(labels, [1], axis, pixel), axis, 0)
    for k in range(9):
        assert made[k].sum() == pytest.approx(true[k].sum(), rel=0.06)
        assert dice(made[k] == 1, true[k]) > 0.97
    assert np.array_equal(made[[0, 8]] == 1, painted[[0, 8]])


def test_distances_in_pieces_are_those_of_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpolation, "_AT_ONCE", 3 * 17 * 13)  # three rows of one image at once
    inside = np.random.default_rng(0).random((4, 17, 13)) > 0.97
    expected = [ndimage.distance_transform_edt(~plane, (1.3, 0.9)) ** 2 for plane in inside]
    found = interpolation.squared_distance(torch.from_numpy(inside), (1.3, 0.9)).numpy()
    for k in np.flatnonzero(inside.any((1, 2))):
        np.testing.assert_allclose(found[k], expected[k], rtol=1e-5, atol=1e-5)


def test_it_is_the_sign_of_the_blended_distances_of_scipy() -> None:
    rng = np.random.default_rng(3)
    ends = [ndimage.gaussian_filter(rng.random((30, 34)), 3) > 0.5 for _ in range(2)]
    labels = np.zeros((4, 30, 34), np.uint8)
    labels[0], labels[3] = ends
    pixel = (1.3, 0.9)
    first, last = (ndimage.distance_transform_edt(e, pixel) - ndimage.distance_transform_edt(~e, pixel) for e in ends)
    # zero halfway between the two sides
    first, last = (d - np.sign(d) * 0.45 for d in (first, last))
    middles = [np.array(ndimage.center_of_mass(e)) for e in ends]
    made = masks.interpolate_slices(labels, [1], 0, pixel)
    for k, share in ((1, 1 / 3), (2, 2 / 3)):
        middle = (1 - share) * middles[0] + share * middles[1]
        over = [
            ndimage.shift(d, middle - m, order=1, mode="nearest") for d, m in zip((first, last), middles, strict=True)
        ]
        blended = (1 - share) * over[0] + share * over[1]
        clear = np.abs(blended) > 1e-3
        assert np.array_equal((made[k] == 1)[clear], (blended > 0)[clear])


def test_a_shape_that_moves_keeps_its_size() -> None:
    labels = np.zeros((5, 30, 30), np.uint8)
    labels[0, 2:8, 4:10], labels[4, 18:24, 16:22] = 1, 1
    made = masks.interpolate_slices(labels, [1], 0)
    for k in range(5):
        expected = np.zeros((30, 30), bool)
        expected[2 + 4 * k : 8 + 4 * k, 4 + 3 * k : 10 + 3 * k] = True
        assert np.array_equal(made[k] == 1, expected)


def test_it_never_lies_over_another_label_and_the_deeper_label_wins() -> None:
    labels = np.zeros((5, 40, 40), np.uint8)
    labels[0, 5:35, 5:20] = labels[4, 5:35, 5:20] = 1
    labels[0, 5:35, 20:35] = labels[4, 5:35, 20:35] = 2
    labels[2, 10:12, 10:12] = 3
    made = masks.interpolate_slices(labels, [1, 2], 0)
    assert np.array_equal(made == 3, labels == 3)
    assert np.array_equal(made[1], labels[0])


def test_no_gap_and_shapes_with_nothing_between_them_are_said() -> None:
    labels = np.zeros((5, 30, 30), np.uint8)
    labels[1:3, 2:6, 2:6] = 1
    with pytest.raises(MedseqError, match="no gap to fill"):
        masks.interpolate_slices(labels, [1], 0)
    labels[:] = 0
    labels[0, 13:17, 2:6] = labels[0, 13:17, 24:28] = 1  # two pieces, and one in the middle between them
    labels[4, 13:17, 13:17] = 1
    with pytest.warns(MedseqWarning, match="Slices [0-9, –]+ stay empty"):
        masks.interpolate_slices(labels, [1], 0)


def test_a_voxel_that_is_no_number_is_in_no_range_and_infinities_are_edges_like_others() -> None:
    image, seeds = np.full((1, 9, 9), 50.0), np.zeros((1, 9, 9), np.uint8)
    image[0, 4, 6], image[0, 2, 4] = np.nan, np.inf
    seeds[0, 4, 4] = 1
    made = masks.grow(image, seeds, (1, 1, 1), within=(-10, 60), reach_mm=20)
    assert np.array_equal(made > 0, image == 50)
