"""Margins, walls, smoothing, holes: against scikit-image, SimpleITK and analytic shapes."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.morphology import closing, dilation, erosion, opening

from napari_medseq.masks import shapes
from tests.unit.masks.balls import ball, label_arrays, spacings

Mask = NDArray[np.bool_]


def footprint(spacing: tuple[float, ...], mm: float, shape: tuple[int, ...]) -> Mask:
    """A ball of voxels, flat along an axis of length 1."""
    reach = [0 if n == 1 else int(mm / s) for s, n in zip(spacing, shape, strict=True)]
    return ball([2 * r + 1 for r in reach], reach, mm, spacing)


@settings(max_examples=60, deadline=None)
@given(labels=label_arrays, spacing=spacings, mm=st.sampled_from([0.5, 1.0, 1.7, 3.0]))
def test_margins_are_dilation_and_erosion_by_a_ball_of_millimetres(
    labels: NDArray[np.uint8], spacing: tuple[float, ...], mm: float
) -> None:
    mask = labels > 1
    around = footprint(spacing, mm, mask.shape)
    assert np.array_equal(shapes.margin(mask, spacing, mm), dilation(mask, around, mode="ignore"))
    if not mask.all():
        assert np.array_equal(shapes.margin(mask, spacing, -mm), erosion(mask, around, mode="ignore"))


@settings(max_examples=40, deadline=None)
@given(labels=label_arrays, spacing=spacings, mm=st.sampled_from([1.0, 1.7, 3.0]))
def test_opening_and_closing_are_those_of_scikit_image(
    labels: NDArray[np.uint8], spacing: tuple[float, ...], mm: float
) -> None:
    mask = np.pad(labels > 1, [(0, 0) if n == 1 else (7, 7) for n in labels.shape])
    around = footprint(spacing, mm, mask.shape)
    assert np.array_equal(shapes.opening(mask, spacing, mm), opening(mask, around, mode="ignore"))
    assert np.array_equal(shapes.closing(mask, spacing, mm), closing(mask, around, mode="ignore"))


@pytest.mark.parametrize("mm", [-4.0, 3.0])
def test_a_ball_stays_a_ball_of_another_radius(mm: float) -> None:
    spacing = (3.0, 0.8, 0.8)
    mask = ball((21, 71, 71), (10, 35, 35), 18, spacing)
    voxel = float(np.prod(spacing))
    made = shapes.margin(mask, spacing, mm).sum() * voxel
    assert made == pytest.approx(4 / 3 * np.pi * (18 + mm) ** 3, rel=0.1)


def test_a_wall_is_as_thick_as_asked_and_lies_where_asked() -> None:
    spacing = (2.0, 1.0, 1.0)
    mask = ball((25, 61, 61), (12, 30, 30), 18, spacing)
    middle = (12, 30)
    expected: dict[shapes.Side, tuple[int, int]] = {"inside": (14, 18), "outside": (18, 22), "both": (16, 20)}
    for side, ends in expected.items():
        wall = shapes.hollow(mask, spacing, 4, side)
        filled = np.flatnonzero(wall[middle][30:])  # from the ball's middle outwards, 1 mm per voxel
        assert filled.tolist() == list(range(ends[0] + 1, ends[1] + 1)), side
        assert (wall & ~mask).any() == (side != "inside")


def test_holes_are_filled_in_slices_or_in_the_whole() -> None:
    ring = ball((5, 21, 21), (2, 10, 10), 8) & ~ball((5, 21, 21), (2, 10, 10), 4)
    tube = np.repeat(ring[2:3], 5, axis=0)  # open at both ends: a hole in slices only
    for axis, mask in ((0, tube), (None, tube), (None, tube[:1])):
        expected = mask.copy()
        if axis == 0 or mask.shape[0] == 1:
            for k in range(mask.shape[0]):
                expected[k] = sitk.GetArrayFromImage(
                    sitk.BinaryFillhole(sitk.GetImageFromArray(mask[k].astype(np.uint8)))
                )
        assert np.array_equal(shapes.fill_holes(mask, axis), expected)
    filled = sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(ring.astype(np.uint8)))) > 0
    assert np.array_equal(shapes.fill_holes(ring), filled)


def test_the_median_is_that_of_simpleitk() -> None:
    mask = np.random.default_rng(1).random((9, 20, 20)) < 0.5
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    # ITK's median is over a box: with this radius the ball is the same in a plane of its own, so plane by plane
    made = shapes.smooth(mask[:1], (1, 1, 1), 1.45, "median")
    plane = sitk.GetArrayFromImage(sitk.Median(image[:, :, 0], [1, 1])) > 0
    assert np.array_equal(made[0, 1:-1, 1:-1], plane[1:-1, 1:-1])


@pytest.mark.parametrize("method", ["gaussian", "median", "opening", "closing"])
def test_smoothing_takes_noise_off_a_ball(method: shapes.Smoothing) -> None:
    true = ball((15, 41, 41), (7, 20, 20), 14, (2, 1, 1))
    noise = np.random.default_rng(0).random(true.shape) < 0.03
    noisy = true & ~noise if method == "closing" else true | noise if method == "opening" else true ^ noise
    made = shapes.smooth(noisy, (2, 1, 1), 1.5, method)
    assert (made ^ true).sum() < 0.35 * (noisy ^ true).sum()


def test_one_slice_is_a_plane() -> None:
    square = np.zeros((1, 11, 11), bool)
    square[0, 3:8, 3:8] = True
    for work in (shapes.opening, shapes.closing):
        deep = np.repeat(work(square, (5, 1, 1), 1), 1, axis=0)
        flat = opening if work is shapes.opening else closing
        assert np.array_equal(deep[0], flat(square[0], footprint((1, 1), 1, (11, 11)), mode="ignore"))
