"""Samples of voxels reach all of an image, whatever its shape."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_medseq.volumes.sampling import spread


@given(st.integers(1, 10**7), st.integers(1, 2000))
def test_a_sample_has_the_size_asked_for_and_leaves_no_stretch_out(count: int, most: int) -> None:
    at = spread(count, most)
    assert at.size == min(count, most)
    gaps = np.diff(np.concatenate([[-1], at, [count]]))
    assert gaps.min() >= 1
    assert gaps.max() <= 2 * -(-count // most)


def test_a_sample_does_not_stay_in_one_column_of_an_image() -> None:
    columns = spread(200 * 200 * 100, 20_000) % 200
    assert np.bincount(columns, minlength=200).min() > 50
