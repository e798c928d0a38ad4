"""AUC by counting pairs, DeLong against a published worked example's formula, bootstrap coverage, Bland–Altman, paired tests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseq.errors import MedseqError
from napari_medseq.evaluation import (
    auc,
    auc_by_patient,
    average_precision,
    bland_altman,
    bootstrap,
    delong,
    froc,
    paired,
    precision_recall,
    roc,
)


def counted(scores: np.ndarray, truths: np.ndarray) -> float:
    positive, negative = scores[truths == 1], scores[truths == 0]
    wins = (positive[:, None] > negative).sum() + 0.5 * (positive[:, None] == negative).sum()
    return float(wins / (positive.size * negative.size))


cases = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30).filter(
    lambda rows: len({t for _, t in rows}) == 2
)


@settings(max_examples=100, deadline=None)
@given(cases)
def test_auc_equals_the_share_of_pairs_in_order(rows: list[tuple[int, bool]]) -> None:
    scores, truths = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    expected = counted(scores, truths)
    assert auc(scores, truths) == pytest.approx(expected)
    curve = roc(scores, truths)
    assert np.trapezoid(curve.true_positive_rate, curve.false_positive_rate) == pytest.approx(expected)
    found = delong(scores, truths)
    assert found.low - 1e-12 <= found.value <= found.high + 1e-12
    assert found.low >= 0
    assert found.high <= 1


def test_delong_variance_is_that_of_its_defining_sums() -> None:
    from scipy import stats

    rng = np.random.default_rng(3)
    truths = rng.random(60) < 0.4
    scores = np.round(rng.normal(size=60) + truths, 1)
    x, y = scores[truths], scores[~truths]
    wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    variance = wins.mean(axis=1).var(ddof=1) / x.size + wins.mean(axis=0).var(ddof=1) / y.size
    found = delong(scores, truths)

    def logit(p: float) -> float:
        return float(np.log(p / (1 - p)))

    half = stats.norm.ppf(0.975) * np.sqrt(variance) / (found.value * (1 - found.value))
    assert logit(found.high) - logit(found.value) == pytest.approx(half)
    assert logit(found.value) - logit(found.low) == pytest.approx(half)


def test_delong_covers_the_truth_about_as_often_as_it_says() -> None:
    from scipy import stats

    rng = np.random.default_rng(0)
    real = stats.norm.cdf(1 / np.sqrt(2))  # AUC of two unit normals 1 apart
    inside = 0
    for _ in range(300):
        found = delong(np.concatenate([rng.normal(1, 1, 40), rng.normal(0, 1, 40)]), np.repeat([1, 0], 40))
        inside += found.low <= real <= found.high
    assert 0.90 <= inside / 300 <= 0.99


def test_slices_of_one_patient_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(12), 20)
    truths = np.tile(np.repeat([0, 1], 10), 12)
    scores = truths * np.repeat(rng.normal(1, 1.5, 12), 20) + rng.normal(0, 1, 240)
    alone, clustered = delong(scores, truths), auc_by_patient(scores, truths, patients, resamples=400)
    assert clustered.value == pytest.approx(alone.value)
    assert clustered.high - clustered.low > 1.5 * (alone.high - alone.low)
    assert clustered.n == 12
    again = auc_by_patient(scores, truths, patients, resamples=400)
    assert (again.low, again.high) == (clustered.low, clustered.high)


def test_one_class_nan_and_odd_truths_are_refused() -> None:
    with pytest.raises(MedseqError, match="both classes"):
        auc([1, 2], [1, 1])
    with pytest.raises(MedseqError, match="NaN"):
        auc([1, np.nan], [1, 0])
    with pytest.raises(MedseqError, match="0 or 1"):
        auc([1, 2], [2, 0])
    with pytest.raises(MedseqError, match="one of each"):
        auc([1, 2, 3], [1, 0])
    with pytest.raises(MedseqError, match="must be numbers"):
        auc(["a", "b"], [1, 0])


def test_precision_and_recall_of_a_list_done_by_hand() -> None:
    scores, truths = [0.9, 0.8, 0.7, 0.7, 0.1], [1, 0, 1, 0, 1]
    precision, recall, levels = precision_recall(scores, truths)
    assert precision == pytest.approx([1, 1 / 2, 2 / 4, 3 / 5])
    assert recall == pytest.approx([1 / 3, 1 / 3, 2 / 3, 1])
    assert levels == pytest.approx([0.9, 0.8, 0.7, 0.1])
    assert average_precision(scores, truths) == pytest.approx(1 / 3 + 0 + (1 / 3) * 0.5 + (1 / 3) * 0.6)


def test_froc_of_a_list_done_by_hand() -> None:
    found = froc([0.9, 0.8, 0.7, 0.6], ["a", None, "a", "b"], total_lesions=4, images=2)
    assert found.false_per_image == pytest.approx([0, 0, 0.5, 0.5, 0.5])
    assert found.sensitivity == pytest.approx([0, 0.25, 0.25, 0.25, 0.5])
    assert (found.at(0.25), found.at(1)) == (0.25, 0.5)
    assert found.score == pytest.approx((2 * 0.25 + 5 * 0.5) / 7)
    with pytest.raises(MedseqError, match="lesion"):
        froc([0.5], [None, None], total_lesions=1, images=1)


def test_bootstrap_of_a_mean_is_near_its_theory_and_repeats() -> None:
    values = np.random.default_rng(2).normal(10, 2, 80)
    found = bootstrap(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(80)
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)
    assert bootstrap(values) == found
    assert bootstrap(values, seed=1) != found
    assert bootstrap([3.0, np.nan, 3.0]).n == 2
    assert "CI" in str(found)
    assert bootstrap(values, lambda v: float(np.median(v)), resamples=200).value == pytest.approx(np.median(values))
    assert bootstrap([1.0, 2.0, np.inf]).high == np.inf
    with pytest.raises(MedseqError, match="defined"):
        bootstrap([np.nan])
    with pytest.raises(MedseqError, match="level"):
        bootstrap([1.0, 2.0], level=95)


def test_bland_altman_of_numbers_done_by_hand() -> None:
    found = bland_altman([10, 12, 15], [9, 12, 12])
    assert found.bias == pytest.approx(4 / 3)
    assert found.sd == pytest.approx(np.std([1, 0, 3], ddof=1))
    assert found.upper - found.lower == pytest.approx(2 * 1.96 * found.sd)
    assert found.bias_interval[0] < found.bias < found.bias_interval[1]
    with pytest.raises(MedseqError, match="paired"):
        bland_altman([1, 2], [1, 2, 3])
    with pytest.raises(MedseqError, match="finite"):
        bland_altman([1, np.inf], [1, 2])


def test_paired_comparison_agrees_with_scipy_and_knows_ties() -> None:
    from scipy import stats

    rng = np.random.default_rng(4)
    a = rng.random(20)
    b = a - 0.05 + rng.normal(0, 0.02, 20)
    found = paired(a, b)
    assert found.p == pytest.approx(stats.wilcoxon(a, b).pvalue)
    assert found.difference.low > 0
    assert found.better > found.worse
    same = paired(a, a)
    assert (same.p, same.equal, same.difference.value) == (1.0, 20, 0.0)
    assert paired([1, np.nan, np.inf], [2, 3, np.inf]).equal == 1
    with pytest.raises(MedseqError, match="paired"):
        paired([1, 2], [1])
    assert "Wilcoxon" in str(found)


def test_infinite_scores_are_ties_of_each_other() -> None:
    scores, truths = [np.inf, np.inf, 0.0, 0.0, -np.inf], [1, 0, 1, 0, 0]
    curve = roc(scores, truths)
    assert curve.thresholds.tolist() == [np.inf, np.inf, 0.0, -np.inf]
    assert curve.true_positive_rate.tolist() == [0.0, 0.5, 1.0, 1.0]
    assert average_precision(scores, truths) == average_precision([2.0, 2.0, 1.0, 1.0, 0.0], truths)


def test_a_detection_whose_score_is_no_number_is_refused() -> None:
    with pytest.raises(MedseqError, match="NaN"):
        froc([np.nan, 1.0], ["a", None], total_lesions=1, images=1)


def test_two_methods_that_each_missed_an_object_have_no_mean_difference() -> None:
    found = paired([np.inf, 1.0, 2.0], [1.0, np.inf, 2.0])  # distances
    assert np.isnan([found.difference.value, found.difference.low, found.difference.high]).all()
    assert (found.better, found.worse, found.equal) == (1, 1, 1)


def test_methods_that_each_missed_another_object_are_compared_without_a_warning() -> None:
    found = paired([np.inf, 1.0], [1.0, np.inf])  # such as the distances of two methods
    assert (found.better, found.worse, found.p) == (1, 1, 1.0)
    assert np.isnan(found.median)
    assert np.isnan(found.difference.value)


@settings(max_examples=40)
@given(cases)
def test_curves_and_their_areas_are_those_of_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    scores, truths = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    false, true, thresholds = metrics.roc_curve(truths, scores, drop_intermediate=False)
    curve = roc(scores, truths)
    np.testing.assert_allclose(curve.false_positive_rate, false)
    np.testing.assert_allclose(curve.true_positive_rate, true)
    np.testing.assert_allclose(curve.thresholds, thresholds)
    assert auc(scores, truths) == pytest.approx(metrics.roc_auc_score(truths, scores))
    precision, recall, _ = metrics.precision_recall_curve(truths, scores)
    own = precision_recall(scores, truths)
    np.testing.assert_allclose(
        own[0], precision[-2::-1]
    )  # there from the lowest threshold on, with a last point that no case has
    np.testing.assert_allclose(own[1], recall[-2::-1])
    assert average_precision(scores, truths) == pytest.approx(metrics.average_precision_score(truths, scores))
