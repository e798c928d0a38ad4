"""Counting, boxing and replacing label values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from napari_medseq.volumes.labelled import grown, replaced, value_boxes, value_counts

_VALUES = st.sampled_from([-2000, -1, 0, 0, 0, 1, 2, 7, 255, 300, 2035, 70_000, 2**31 - 1])
_LABELS = arrays(np.int64, array_shapes(min_dims=1, max_dims=4, max_side=5), elements=_VALUES)


@given(_LABELS)
def test_counts_are_those_of_numpy(labels: NDArray[np.int64]) -> None:
    values, counts = np.unique(labels, return_counts=True)
    assert list(value_counts(labels).items()) == list(zip(values.tolist(), counts.tolist(), strict=True))


@given(_LABELS)
def test_a_box_holds_its_value_and_no_smaller_box_does(labels: NDArray[np.int64]) -> None:
    boxes = value_boxes(labels)
    assert list(boxes) == [v for v in np.unique(labels).tolist() if v]
    for value, box in boxes.items():
        at = np.argwhere(labels == value)
        assert box == tuple(slice(a, b + 1) for a, b in zip(at.min(0).tolist(), at.max(0).tolist(), strict=True))


@given(_LABELS)
def test_values_that_are_not_named_become_zero(labels: NDArray[np.int64]) -> None:
    by = {-1: 255, 2: 1, 2035: 2, 70_000: 3}
    wanted = np.vectorize(lambda v: by.get(v, 0))(labels)
    found = replaced(labels, by, np.uint8)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint16, np.int32])
def test_every_type_of_labels_has_boxes(dtype: type) -> None:
    labels: NDArray[np.generic] = np.zeros((4, 5), dtype)
    labels[1:3, 2] = 1
    assert value_boxes(labels) == {1: (slice(1, 3), slice(2, 3))}
    assert value_counts(labels) == {0: 18, 1: 2}
    assert replaced(labels, {1: 9}, np.int16).sum() == 18


def test_nothing_has_no_boxes() -> None:
    empty = np.zeros((0, 3), np.uint8)
    assert value_boxes(empty) == {}
    assert value_counts(empty) == {}
    assert replaced(empty, {1: 2}, np.int32).shape == (0, 3)


def test_a_margin_stays_within_the_array() -> None:
    assert grown((slice(0, 2), slice(3, 4)), (3, 9), 2) == (slice(0, 3), slice(1, 6))
