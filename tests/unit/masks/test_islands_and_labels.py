"""Islands against scikit-image; labels combined; slices copied."""

from __future__ import annotations

from inspect import signature

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray
from skimage.measure import label as skimage_label
from skimage.morphology import remove_small_objects

from napari_medseq import masks
from napari_medseq.errors import MedseqError, SettingsError
from tests.unit.masks.balls import ball, label_arrays

Array = NDArray[np.uint8]
#: objects of three voxels or fewer, as scikit-image from 0.26 on and before says it
THREE = {"max_size": 3} if "max_size" in signature(remove_small_objects).parameters else {"min_size": 4}


@settings(max_examples=50, deadline=None)
@given(labels=label_arrays)
def test_islands_are_the_connected_components_largest_first(labels: Array) -> None:
    mask = labels > 1
    pieces, sizes = masks.number_islands(mask)
    expected = skimage_label(mask, connectivity=3)
    assert len(sizes) == expected.max()
    assert list(sizes) == sorted(sizes, reverse=True)
    pairs = set(zip(pieces[mask].tolist(), expected[mask].tolist(), strict=True))
    assert len(pairs) == len(sizes)  # the same pieces, numbered otherwise
    assert [int((pieces == k).sum()) for k in range(1, len(sizes) + 1)] == list(sizes)


@settings(max_examples=50, deadline=None)
@given(labels=label_arrays)
def test_small_islands_go_as_with_scikit_image(labels: Array) -> None:
    mask = labels > 1
    made = masks.remove_small(mask, (2, 1, 1), 0.008)  # four voxels of 2 mm³
    assert np.array_equal(made, remove_small_objects(mask, connectivity=3, **THREE))


def test_an_island_that_is_pointed_at() -> None:
    two = ball((9, 30, 30), (4, 8, 8), 4) | ball((9, 30, 30), (4, 22, 22), 3)
    assert np.array_equal(masks.keep_at(two, (4, 22, 22)), ball((9, 30, 30), (4, 22, 22), 3))
    assert np.array_equal(masks.keep_at(two, (4, 22, 22), keep=False), ball((9, 30, 30), (4, 8, 8), 4))
    with pytest.raises(MedseqError, match="nothing of this label"):
        masks.keep_at(two, (0, 0, 0))


def test_split_gives_free_numbers_and_widens_the_type() -> None:
    labels = np.zeros((1, 5, 40), np.uint8)
    for k in range(8):
        labels[0, 1:4, 5 * k : 5 * k + 3 + (k == 3)] = 250
    made, numbers = masks.split(labels, 250, used=(252,))
    assert numbers == [250, *range(253, 260)]
    assert made.dtype == np.uint16
    assert made[0, 2, 16] == 250
    assert np.array_equal(made > 0, labels > 0)


@pytest.mark.parametrize("operation", ["add", "subtract", "intersect", "exclusive or", "replace"])
def test_labels_are_combined_as_sets(operation: masks.labels.Operation) -> None:
    rng = np.random.default_rng(0)
    labels, other = rng.integers(0, 3, (4, 6, 6), np.uint8), rng.random((4, 6, 6)) < 0.5
    made = masks.combine(labels, 1, other, operation)
    own, free = labels == 1, labels != 2
    one, two = set(np.flatnonzero(own)), set(np.flatnonzero(other))
    expected = {
        "add": one | two,
        "subtract": one - two,
        "intersect": one & two,
        "exclusive or": one ^ two,
        "replace": two,
    }[operation]
    assert set(np.flatnonzero(made == 1)) == expected & set(np.flatnonzero(free))
    assert np.array_equal(made == 2, labels == 2)


def test_masks_of_different_grids_are_not_combined() -> None:
    with pytest.raises(MedseqError, match="different grids"):
        masks.combine(np.zeros((2, 3, 4), np.uint8), 1, np.zeros((2, 3, 5), bool), "add")


def test_background_is_no_label() -> None:
    with pytest.raises(SettingsError, match="background"):
        masks.put(np.zeros((2, 2, 2), np.uint8), 0, np.ones((2, 2, 2), bool))


def test_a_slice_is_copied_where_there_is_room() -> None:
    labels = np.zeros((3, 5, 5), np.uint8)
    labels[1, 1:4, 1:4] = 1
    labels[2, 2, 2] = 2
    made = masks.copy_slice(labels, 1, 0, 1, 2)
    assert made[2, 2, 2] == 2
    assert (made[2] == 1).sum() == 8
    with pytest.raises(MedseqError, match="no slice 4"):
        masks.copy_slice(labels, 1, 0, 1, 3)
    with pytest.raises(MedseqError, match="not on slice 1"):
        masks.copy_slice(labels, 1, 0, 0, 1)


def test_values_below_zero_survive_a_wider_type() -> None:
    labels = np.zeros((3, 6, 6), np.int8)
    labels[0, 0, 0], labels[1, 1, 1], labels[1, 4, 4] = -1, 127, 127  # -1: to be ignored
    apart, numbers = masks.split(labels, 127)
    assert numbers == [127, 128]
    assert apart[0, 0, 0] == -1
    put = masks.put(labels, 200, labels == 0)
    assert put[0, 0, 0] == -1
    assert (put == 200).sum() == 108 - 3


def test_masks_of_true_and_false_take_further_labels() -> None:
    painted = np.zeros((3, 6, 6), bool)
    painted[1, 1:3, 1:3] = True
    both = masks.put(painted, 2, ~painted)
    assert sorted(np.unique(both).tolist()) == [1, 2]
