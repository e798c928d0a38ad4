"""Agreement of raters from counts alone, against the raters' own masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardiac import ejection_fraction, overlap
from nodules import CONSENSUS, agreement


@given(seed=st.integers(0, 999), raters=st.integers(2, 4))
def test_counts_tell_the_agreement_pooled_over_raters(seed: int, raters: int) -> None:
    random = np.random.default_rng(seed)
    masks = random.random((raters, 5, 6, 7)) < 0.4
    masks[:, 0, 0, 0] = True  # a voxel of all, so that their number is known
    network = random.random((5, 6, 7)) < 0.4
    counts = masks.sum(0)
    consensus = counts >= CONSENSUS
    found = agreement(network, counts)

    def pooled(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
        return 2 * sum(int((a & b).sum()) for a, b in pairs) / sum(int(a.sum() + b.sum()) for a, b in pairs)

    assert found.consensus == pytest.approx(pooled([(network, consensus)]))
    assert found.network_and_rater == pytest.approx(pooled([(network, m) for m in masks]))
    assert found.rater_and_consensus == pytest.approx(pooled([(consensus, m) for m in masks]))
    others = [(masks[i], masks[j]) for i in range(raters) for j in range(i)]
    assert found.rater_and_rater == pytest.approx(pooled(others))


def test_ejection_fraction_is_the_share_that_leaves() -> None:
    truth, found = np.zeros((4, 10), bool), np.zeros((4, 10), bool)
    truth[:, :5] = True
    found[:, :4] = True
    assert overlap(found, truth) == pytest.approx((2 * 16 / 36, 16, 20))
    of = {"ED": {"left ventricle": (0.9, 16, 20)}, "ES": {"left ventricle": (0.9, 8, 5)}}
    assert ejection_fraction(of, true=True) == 75
    assert ejection_fraction(of, true=False) == 50
