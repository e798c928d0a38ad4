"""Metrics against oracles that others wrote (SimpleITK, MONAI) and against shapes whose measures are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.evaluation.metrics import SurfaceDistances, compare, detect, volume_ml
from napari_medseq.masks.overlap import Overlap
from napari_medseq.sequence import affine_from

SPACING = (0.9, 1.1, 3.0)
AFFINE = affine_from(SPACING)


def blobs(seed: int, shape: tuple[int, int, int] = (8, 14, 12)) -> np.ndarray:
    from scipy import ndimage

    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.2)
    return np.asarray(field > np.quantile(field, 0.8))


@pytest.mark.parametrize("seed", range(5))
def test_overlap_agrees_with_simpleitk(seed: int) -> None:
    import SimpleITK as sitk

    a, b = blobs(seed), blobs(seed) ^ (blobs(seed + 100) & blobs(seed + 200))
    oracle = sitk.LabelOverlapMeasuresImageFilter()
    oracle.Execute(*(sitk.GetImageFromArray(m.astype(np.uint8)) for m in (a, b)))
    ours = Overlap.of(a, b)
    assert ours.dice == pytest.approx(oracle.GetDiceCoefficient(1), abs=1e-12)
    assert ours.iou == pytest.approx(oracle.GetJaccardCoefficient(1), abs=1e-12)
    # SimpleITK's first image is the source: false negatives are counted in the target
    assert 1 - ours.sensitivity == pytest.approx(oracle.GetFalseNegativeError(1), abs=1e-12)
    assert 1 - ours.precision == pytest.approx(oracle.GetFalseDiscoveryRate(1), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_hausdorff_agrees_with_simpleitk(seed: int) -> None:
    import SimpleITK as sitk

    a, b = blobs(seed), blobs(seed + 50)
    images = []
    for mask in (a, b):
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing(SPACING)
        images.append(image)
    oracle = sitk.HausdorffDistanceImageFilter()
    oracle.Execute(*images)
    # theirs runs over whole masks, ours over surfaces; the farthest point of either is on its surface, its nearest too
    assert SurfaceDistances.of(a, b, AFFINE).hausdorff == pytest.approx(oracle.GetHausdorffDistance(), rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_surface_distances_agree_with_monai(seed: int) -> None:
    monai = pytest.importorskip("monai.metrics")
    a, b = blobs(seed), blobs(seed + 70)
    ours = SurfaceDistances.of(a, b, AFFINE)

    def batch(mask: np.ndarray) -> object:
        import torch

        return torch.from_numpy(mask[None, None].astype(np.uint8))

    spacing = SPACING[::-1]  # MONAI's axes are ours: (z, y, x)
    hd95 = monai.compute_hausdorff_distance(batch(a), batch(b), include_background=True, percentile=95, spacing=spacing)
    assd = monai.compute_average_surface_distance(
        batch(a), batch(b), include_background=True, symmetric=True, spacing=spacing
    )
    assert ours.percentile(95) == pytest.approx(float(hd95), rel=1e-4)
    assert ours.assd == pytest.approx(float(assd), rel=1e-4)


def test_a_shifted_box_has_the_distance_of_its_shift() -> None:
    a = np.zeros((10, 20, 20), bool)
    a[3:6, 5:12, 5:12] = True
    found = SurfaceDistances.of(np.roll(a, 2, axis=0), a, AFFINE)
    assert found.hausdorff == pytest.approx(2 * SPACING[2])
    assert SurfaceDistances.of(np.roll(a, 2, axis=2), a, AFFINE).hausdorff == pytest.approx(2 * SPACING[0])
    assert SurfaceDistances.of(a, a, AFFINE).assd == 0
    assert found.within(100) == 1
    assert SurfaceDistances.of(a, a, AFFINE).within(0) == 1


def test_a_rotated_or_sheared_grid_measures_in_millimetres() -> None:
    sheared = np.array(AFFINE)
    sheared[1, 2] = 1.0  # gantry tilt: each slice is shifted by 1 mm along A
    a = np.zeros((6, 9, 9), bool)
    a[1, 4, 4] = True
    b = np.zeros_like(a)
    b[3, 4, 4] = True
    assert SurfaceDistances.of(a, b, sheared).hausdorff == pytest.approx(np.hypot(2 * 3.0, 2 * 1.0))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_has_its_surface_in_the_plane(axis: int) -> None:
    a = np.zeros((20, 20), bool)
    a[5:15, 5:15] = True
    inner = np.zeros_like(a)
    inner[7:13, 7:13] = True
    spacing = [1.0, 1.0, 1.0]
    spacing[2 - axis] = 5.0  # x, y, z
    found = SurfaceDistances.of(np.expand_dims(inner, axis), np.expand_dims(a, axis), affine_from(tuple(spacing)))
    assert found.assd == pytest.approx(2.0, abs=0.3)


def test_empty_masks_have_defined_measures() -> None:
    none, some = np.zeros((3, 8, 8), bool), np.zeros((3, 8, 8), bool)
    some[1, 2:5, 2:5] = True
    both = compare(none, none, AFFINE)
    assert (both["dice"], both["iou"], both["hd95_mm"], both["assd_mm"], both["lesion_f1"]) == (1, 1, 0, 0, 1)
    assert np.isnan(both["sensitivity"])
    assert np.isnan(both["precision"])
    assert both["volume_difference_percent"] == 0
    missed, invented = compare(none, some, AFFINE), compare(some, none, AFFINE)
    for found in (missed, invented):
        assert found["dice"] == found["lesion_f1"] == 0
        assert found["hd95_mm"] == found["assd_mm"] == np.inf
    assert missed["sensitivity"] == 0
    assert missed["volume_difference_percent"] == -100
    assert invented["precision"] == 0
    assert invented["volume_difference_percent"] == np.inf


def test_lesions_are_counted_one_by_one() -> None:
    truth = np.zeros((5, 30, 30), bool)
    truth[1:3, 2:6, 2:6] = True  # found
    truth[1:3, 20:24, 20:24] = True  # missed
    truth[1:3, 2:12, 20:26] = True  # touched by a corner only: under a tenth
    prediction = np.zeros_like(truth)
    prediction[1:3, 3:7, 3:7] = True
    prediction[2, 11, 25] = True
    prediction[4, 28, 2] = True  # false
    found = detect(prediction, truth, AFFINE)
    assert (found.lesions, found.found, found.predicted, found.real) == (3, 1, 3, 2)
    assert found.sensitivity == pytest.approx(1 / 3)
    assert found.precision == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(2 * (1 / 3) * (2 / 3) / (1 / 3 + 2 / 3))
    smallest = 2 * volume_ml(np.ones((1, 1, 1)), AFFINE)
    assert detect(prediction, truth, AFFINE, min_volume_ml=smallest).predicted == 1


def test_masks_of_different_shape_are_refused() -> None:
    with pytest.raises(MedseqError, match="shapes"):
        Overlap.of(np.zeros((2, 3, 3)), np.zeros((2, 3, 4)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_measures_are_symmetric_where_they_should_be(one: int, other: int) -> None:
    a, b = blobs(one, (4, 7, 6)), blobs(other, (4, 7, 6))
    forth, back = compare(a, b, AFFINE), compare(b, a, AFFINE)
    for name in ("dice", "iou", "hd95_mm", "assd_mm", "lesion_f1"):
        assert forth[name] == pytest.approx(back[name])
    assert forth["sensitivity"] == pytest.approx(back["precision"])
    assert forth["iou"] <= forth["dice"] <= 1
    assert forth["dice"] == pytest.approx(2 * forth["iou"] / (1 + forth["iou"]))
    assert forth["volume_difference_ml"] == pytest.approx(-back["volume_difference_ml"])


@given(hnp.arrays(bool, (3, 5, 6)), hnp.arrays(bool, (3, 5, 6)), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_lesions_that_are_found_are_those_that_scikit_image_labels(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_], share: float
) -> None:
    from skimage.measure import label

    def hit(mask: NDArray[np.bool_], by: NDArray[np.bool_]) -> tuple[int, int]:
        parts, count = label(mask, connectivity=3, return_num=True)
        covered = [by[parts == k].mean() for k in range(1, count + 1)]
        return count, sum(c > 0 and c >= share for c in covered)

    found = detect(prediction, truth, AFFINE, min_overlap=share)
    assert (found.lesions, found.found) == hit(truth, prediction)
    assert (found.predicted, found.real) == hit(prediction, truth)
