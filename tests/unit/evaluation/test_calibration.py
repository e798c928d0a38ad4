"""Brier score and expected calibration error, and McNemar's test, against scikit-learn, SciPy and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from napari_medseq.errors import MedseqError
from napari_medseq.evaluation import brier_score, calibration_error, mcnemar


def test_the_brier_score_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    p, t = rng.random(50), rng.random(50) < 0.4
    assert brier_score(p, t) == pytest.approx(metrics.brier_score_loss(t, p))
    assert brier_score([0.5] * 4, [0, 1, 0, 1]) == 0.25


def test_the_calibration_error_of_two_bins_by_hand() -> None:
    # below: mean 0.2, none of 2; above: mean 0.8, 1 of 2
    assert calibration_error([0.1, 0.3, 0.7, 0.9], [0, 0, 0, 1], bins=2) == pytest.approx((0.2 + 0.3) / 2)
    assert calibration_error([0.0, 1.0], [0, 1]) == 0
    assert calibration_error([1.0, 1.0], [0, 0]) == 1


def test_probabilities_that_are_the_shares_are_calibrated_and_sharper_ones_are_not() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(20_000)
    t = rng.random(20_000) < p
    assert calibration_error(p, t) < 0.02
    assert calibration_error(np.where(p > 0.5, 0.99, 0.01), t) > 0.2
    assert brier_score(p, t) < brier_score(np.where(p > 0.5, 0.99, 0.01), t)


@pytest.mark.parametrize(
    ("p", "t", "words"),
    [
        ([0.5], [1, 0], "1 probabilities for 2 truths"),
        ([1.5], [1], "from 0 to 1"),
        ([float("nan")], [1], "from 0 to 1"),
        ([0.5], [2], "0 or 1"),
    ],
)
def test_what_is_no_probability_is_refused(p: list[float], t: list[int], words: str) -> None:
    for score in (brier_score, calibration_error):
        with pytest.raises(MedseqError, match=words):
            score(p, t)


def test_the_calibration_error_needs_a_bin() -> None:
    with pytest.raises(MedseqError, match="1 bin or more"):
        calibration_error([0.5], [1], bins=0)


def test_mcnemar_is_a_binomial_test_of_the_cases_in_which_one_alone_is_right() -> None:
    first, second = [1] * 10 + [1] * 8 + [0] * 2 + [0] * 5, [1] * 10 + [0] * 8 + [1] * 2 + [0] * 5
    found = mcnemar(first, second)
    assert (found.first_only, found.second_only, found.n) == (8, 2, 25)
    # both tails of ten throws of a coin: 2 (1 + 10 + 45) / 1024
    assert found.p == pytest.approx(2 * 56 / 1024)
    assert found.difference == pytest.approx(np.mean(first) - np.mean(second))
    assert str(found) == "accuracy +0.240, right alone in 8 and 2 of 25, McNemar p = 0.109"
    assert mcnemar(second, first).p == found.p
    assert mcnemar([1, 0], [1, 0]).p == 1


def test_mcnemar_rejects_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    ps = [mcnemar(rng.random(60) < 0.7, rng.random(60) < 0.7).p for _ in range(400)]
    assert (
        np.mean(np.array(ps) < 0.05) <= stats.binom.ppf(0.999, 400, 0.05) / 400
    )  # an exact test errs on the safe side


def test_mcnemar_needs_the_same_cases() -> None:
    with pytest.raises(MedseqError, match="the same cases"):
        mcnemar([1, 0], [1])
    with pytest.raises(MedseqError, match="whether the classifier is right"):
        mcnemar([1, 3], [1, 0])


def test_a_probability_on_the_border_of_a_bin_belongs_to_the_upper_one() -> None:
    # 0.29 · 100 is 28.999…: the two cases would be in one bin, where one's error hides the other's
    assert calibration_error([0.28, 0.29], [0, 1], bins=100) == pytest.approx((0.28 + 0.71) / 2)
