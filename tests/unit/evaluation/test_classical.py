"""Classical classifiers: each learns what can be learned and nothing else; no patient is on both sides; folds choose for themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.evaluation import auc
from napari_medseq.evaluation.classical import (
    CLASSICAL,
    GRIDS,
    Classical,
    ClassicalSettings,
    classical_pipeline,
    judge_classical,
    patient_folds,
)

pytest.importorskip("sklearn")
QUICK = ClassicalSettings(folds=3, inner_folds=0)


def cases(
    n: int = 120, patients: int = 15, apart: float = 3.0, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64], list[str]]:
    """Two clouds in five dimensions, and a constant sixth; patients hold cases of both."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = random.normal(size=(n, 5)) + apart * y[:, None] * np.array([1, 0, 0, 0, 0])
    return np.column_stack([x, np.ones(n)]), y, [f"p{k // (n // patients)}" for k in range(n)]


@pytest.mark.parametrize("name", CLASSICAL)
def test_every_classifier_tells_two_clouds_apart(name: Classical) -> None:
    x, y, patients = cases()
    found = judge_classical(x, y, patients, name, settings=QUICK)
    assert found.classes == (0, 1)
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-6)
    assert auc(found.probabilities[:, 1], y) > 0.9
    again = judge_classical(x, y, patients, name, settings=QUICK)
    np.testing.assert_array_equal(found.probabilities, again.probabilities)


@pytest.mark.parametrize("name", ["naive-bayes", "decision-tree"])
def test_labels_that_say_nothing_are_not_learned_though_parameters_are_chosen(name: Classical) -> None:
    x, y, patients = cases(400, 40, apart=0.0)
    found = judge_classical(x, y, patients, name, settings=ClassicalSettings(folds=4, inner_folds=3))
    assert 0.35 < auc(found.probabilities[:, 1], y) < 0.65
    assert all(set(c) == {k.rsplit("__", 1)[1] for k in GRIDS[name]} for c in found.chosen)


def test_a_case_is_judged_by_a_network_that_never_saw_its_patient() -> None:
    """A feature that names the patient, and labels by patient at random: a classifier that saw the patient would know its label."""
    random = np.random.default_rng(1)
    label = random.permutation(np.arange(20) % 2)
    patient = np.repeat(np.arange(20), 10)
    x = np.eye(20)[patient]
    found = judge_classical(
        x, label[patient], patient.tolist(), "decision-tree", settings=ClassicalSettings(folds=5, inner_folds=0)
    )
    assert auc(found.probabilities[:, 1], label[patient]) < 0.75


def test_probabilities_of_the_support_vector_machine_are_fitted_to_patients_that_it_had_not_seen() -> None:
    """What tells patients apart says nothing of their class: fitted to cases of patients that were learned from, it would seem sure."""
    random = np.random.default_rng(0)
    label, patient = random.permutation(np.arange(60) % 2), random.permutation(np.repeat(np.arange(60), 5))
    x = random.normal(size=(60, 4))[patient] + random.normal(0, 0.05, (300, 4))
    found = judge_classical(x, label[patient], patient.tolist(), "svm", settings=QUICK)
    likely = found.probabilities[np.arange(300), label[patient]]
    assert -np.log(likely).mean() < 0.85  # of knowing nothing: ln 2; fitted to cases: 1.12


def test_two_stages_use_groups_that_were_found_without_the_truth() -> None:
    """Four clouds at the corners of a square, opposite ones alike: no line parts them, but the groups do."""
    random = np.random.default_rng(0)
    corner = random.integers(0, 4, 300)
    x = np.array([[0, 0], [4, 4], [0, 4], [4, 0]])[corner] + random.normal(0, 0.5, (300, 2))
    y = (corner >= 2).astype(np.int64)
    found = judge_classical(x, y, np.arange(300).tolist(), "two-stage", settings=QUICK)
    assert auc(found.probabilities[:, 1], y) > 0.95


def test_parameters_chosen_for_every_classifier_are_its_own() -> None:
    for name in CLASSICAL:
        pipeline: Any = classical_pipeline(name)
        known = pipeline.get_params()
        assert set(GRIDS[name]) <= set(known)


@given(
    patients=st.lists(st.integers(0, 12), min_size=40, max_size=80).filter(lambda p: len(set(p)) >= 5),
    folds=st.integers(2, 5),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=25)
def test_a_patient_is_in_one_fold_and_no_fold_is_empty(patients: list[int], folds: int, seed: int) -> None:
    truth = np.arange(len(patients)) % 2
    found = patient_folds(truth, patients, folds=folds, seed=seed)
    assert set(found.tolist()) == set(range(folds))
    for p in set(patients):
        assert len(set(found[np.array(patients) == p].tolist())) == 1


def test_what_does_not_fit_is_refused() -> None:
    x, y, patients = cases()
    with pytest.raises(MedseqError, match="more than one fold"):
        judge_classical(x, y, patients, "svm", folds=np.arange(len(y)) % 3)
    with pytest.raises(MedseqError, match="not finite"):
        judge_classical(np.where(x > 2, np.nan, x), y, patients, "svm")
    with pytest.raises(MedseqError, match="one of each"):
        judge_classical(x[:-1], y, patients, "svm")
    with pytest.raises(MedseqError, match="use fewer folds"):
        patient_folds(y[:4], ["a", "a", "b", "b"], folds=3)
    with pytest.raises(MedseqError, match="choose from svm"):
        classical_pipeline("perceptor")
    alone = np.array([p == "p0" for p in patients])
    with pytest.raises(MedseqError, match="one class"):
        judge_classical(x, alone, patients, "svm", folds=(~alone).astype(int), settings=QUICK)


def test_what_cannot_be_trained_is_said_and_not_shown_as_scikit_learns_own_error() -> None:
    x = np.random.default_rng(0).normal(size=(12, 3))
    y, patients = np.array([0] * 10 + [1] * 2), [str(k) for k in range(12)]
    with pytest.raises(MedseqError, match="svm cannot be trained on the 6 cases outside fold"):
        judge_classical(x, y, patients, "svm", settings=ClassicalSettings(folds=2, inner_folds=0))
    with pytest.raises(MedseqError, match="2 folds for 12 cases"):
        judge_classical(x, y, patients, "naive-bayes", folds=[0, 1])


def test_parameters_that_a_small_inner_fold_does_not_allow_are_passed_over_without_a_word() -> None:
    x, y, patients = cases(12, 12)
    found = judge_classical(x, y, patients, "two-stage", settings=ClassicalSettings(folds=2, inner_folds=2))
    assert {c["n_clusters"] for c in found.chosen} == {2}
