"""Scores of classes have intervals that keep a width for few patients, and agree with what others compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from napari_medseq.errors import MedseqError
from napari_medseq.evaluation import auc_interval, class_scores, delong


def sure(truths: list[int], classes: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.eye(classes)[truths]


def test_accuracy_has_wilsons_interval() -> None:
    found = class_scores(sure([0, 0, 1, 1], 2), [0, 0, 1, 0], list("abcd"), ["well", "ill"])
    wilson = stats.binomtest(3, 4).proportion_ci(method="wilson")
    assert (found["accuracy"].low, found["accuracy"].high) == pytest.approx((wilson.low, wilson.high))
    assert found["balanced accuracy"].value == pytest.approx((2 / 3 + 1) / 2)


def test_all_right_in_few_patients_proves_little() -> None:
    truths = [0, 0, 0, 1, 1, 1]
    found = class_scores(sure(truths, 2), truths, list("abcdef"), ["well", "ill"])
    assert {name: v.value for name, v in found.items()} == {"accuracy": 1.0, "balanced accuracy": 1.0, "AUC": 1.0}
    assert all(0.2 < v.low < 0.8 and v.high == 1.0 for v in found.values())


def test_exams_of_one_patient_count_as_one() -> None:
    truths = [0, 0, 1, 1] * 5
    each = class_scores(sure(truths, 2), truths, [str(k) for k in range(20)], ["a", "b"])
    few = class_scores(sure(truths, 2), truths, [str(k % 4) for k in range(20)], ["a", "b"])
    assert each["accuracy"].n == 20
    assert few["accuracy"].n == 4
    assert few["AUC"].low < each["AUC"].low


def test_several_classes_each_against_the_others() -> None:
    truths = [0, 1, 2, 0, 1, 2]
    found = class_scores(sure(truths, 3), truths, list("abcdef"), ["x", "y", "z"])
    assert {"AUC x", "AUC y", "AUC z"} < set(found)
    some = class_scores(sure([0, 0], 3), [0, 0], list("ab"), ["x", "y", "z"])
    assert set(some) == {"accuracy"}


def test_the_interval_of_an_auc_is_near_delongs_for_many_patients() -> None:
    random = np.random.default_rng(0)
    truths = np.repeat([0, 1], 150)
    scores = random.normal(truths * 1.2, 1.0)
    theirs = delong(scores, truths)
    ours = auc_interval(theirs.value, 150, 150)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    assert auc_interval(0.0, 5, 5).high == pytest.approx(1 - auc_interval(1.0, 5, 5).low)
    for wrong in ((1.2, 3, 3), (0.5, 0, 3)):
        with pytest.raises(MedseqError, match="has no interval"):
            auc_interval(*wrong)


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(MedseqError, match="do not fit"):
        class_scores(sure([0, 1], 2), [0], ["a"], ["x", "y"])
    one_class = [[np.nan, 0.5], [0.2, 0.8]]
    with pytest.raises(MedseqError, match="not finite"):
        class_scores(one_class, [0, 0], ["a", "b"], ["x", "y"])
    outsides: list[Any] = [[0, 2], [-1, 1], [0.4, 1], [np.nan, 1]]
    for outside in outsides:
        with pytest.raises(MedseqError, match="not indices of 2 classes"):
            class_scores(sure([0, 1], 2), outside, ["a", "b"], ["x", "y"])


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_the_interval_of_the_accuracy_is_that_of_scipy(right: list[bool], level: float) -> None:
    truths = [int(r) for r in right]  # whatever the case, class 1 is the answer
    found = class_scores(
        sure([1] * len(right), 2), truths, [str(k) for k in range(len(right))], ["a", "b"], level=level
    )
    wilson = stats.binomtest(sum(right), len(right)).proportion_ci(level, method="wilson")
    assert (found["accuracy"].low, found["accuracy"].high) == pytest.approx((wilson.low, wilson.high), abs=1e-12)
