"""Connected components against scipy.ndimage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from napari_medseq.progression.components import groups, label_components

STRUCTURE = {n: ndimage.generate_binary_structure(3, k) for n, k in ((6, 1), (18, 2), (26, 3))}


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@settings(max_examples=60, deadline=None)
@given(volume=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7), elements=st.integers(0, 1)))
def test_equals_scipy_on_any_mask(connectivity: int, volume: NDArray[np.generic]) -> None:
    wanted, count = ndimage.label(volume, STRUCTURE[connectivity])
    index, member, n = label_components(volume, connectivity)
    mine = np.zeros_like(wanted)
    mine[tuple(index.T)] = member + 1
    assert n == count
    np.testing.assert_array_equal(mine, wanted)


@settings(max_examples=40, deadline=None)
@given(volume=hnp.arrays(np.int16, (4, 5, 6), elements=st.integers(0, 3)))
def test_values_never_connect(volume: NDArray[np.generic]) -> None:
    index, member, n = label_components(volume)
    assert n == sum(ndimage.label(volume == v, STRUCTURE[26])[1] for v in (1, 2, 3))
    for part in groups(index, member, n):
        assert len(np.unique(volume[tuple(part.T)])) == 1
    assert sum(len(p) for p in groups(index, member, n)) == np.count_nonzero(volume)
