"""Patients stay on one side of a split; what cannot teach is refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.training import splits
from napari_medseq.training.config import TrainConfig, read_config
from napari_medseq.training.dataset import balanced_weights, check_cases, read_answers
from tests.unit.training.lessons import case


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 25), k=st.integers(2, 10), seed=st.integers(0, 99))
def test_folds_part_the_patients_evenly(n: int, k: int, seed: int) -> None:
    patients = [f"p{i}" for i in range(n)] * 2  # two visits each
    if k > n:
        with pytest.raises(SettingsError, match="an empty fold judges nothing"):
            splits.folds(patients, k, seed)
        return
    parts = splits.folds(patients, k, seed)
    assert sorted(p for part in parts for p in part) == sorted(set(patients))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts == splits.folds(patients[::-1], k, seed)


def test_validation_never_takes_all_and_knows_the_names() -> None:
    assert splits.validation(["a", "b", "c", "a"], (), 0.34) == splits.validation(["c", "b", "a"], (), 0.34)
    assert len(splits.validation(["a", "b", "c"], (), 0.01)) == 1
    assert splits.validation(["a", "b"], (), 0.0) == []
    assert splits.validation(["a", "b"], ["b"], 0.0) == ["b"]
    with pytest.raises(SettingsError, match="validation names x"):
        splits.validation(["a", "b"], ["x"], 0.0)
    with pytest.raises(SettingsError, match="none would be left"):
        splits.validation(["a"], (), 0.5)


def config(**changes: object) -> TrainConfig:
    return read_config({"name": "m", **changes})


def test_a_class_that_no_case_holds_is_named() -> None:
    check_cases(config(), [case()])
    with pytest.raises(MedseqError, match=r"No training case holds the class 2 \(oedema\)"):
        check_cases(config(classes={1: "core", 2: "oedema"}), [case()])
    with pytest.raises(MedseqError, match="no training case"):
        check_cases(config(), [])


def test_a_label_that_is_no_class_is_named() -> None:
    labels = case().labels * 4
    with pytest.raises(MedseqError, match=r"case0 \(a\) hold \[4\]"):
        check_cases(config(classes={1: "core", 2: "oedema"}), [case(labels=labels)])


def test_without_background_nothing_can_be_told_apart() -> None:
    labels = torch.where(case().labels > 0, 1, -1).to(torch.int8)
    with pytest.raises(MedseqError, match="label them whole"):
        check_cases(config(), [case(labels=labels)])


def test_answers_that_are_all_alike_teach_nothing() -> None:
    c = config(task="classification", classes={0: "tumour"}, targets="x.csv")
    yes, no = (case(target=torch.tensor([v])) for v in (1.0, 0.0))
    check_cases(c, [yes, no])
    with pytest.raises(MedseqError, match="same answer for class 0"):
        check_cases(c, [yes, yes])


def test_answers_from_a_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("patient,visit,class\na,,DCM\nb,ses-1,1\nb,ses-2,DCM; HCM\nc,,\n")
    answers = read_answers(path, {0: "DCM", 1: "HCM"})
    assert {k: v.tolist() for k, v in answers.items()} == {
        ("a", ""): [1, 0],
        ("b", "ses-1"): [0, 1],
        ("b", "ses-2"): [1, 1],
        ("c", ""): [0, 0],
    }
    path.write_text("patient,class\na,NOR\n")
    with pytest.raises(SettingsError, match="a is 'NOR'"):
        read_answers(path, {0: "DCM"})
    path.write_text("who,class\na,DCM\n")
    with pytest.raises(SettingsError, match="columns patient and class"):
        read_answers(path, {0: "DCM"})
    with pytest.raises(SettingsError, match="cannot be read"):
        read_answers(tmp_path / "none.csv", {0: "DCM"})


def test_balanced_weights_give_every_class_the_same_total() -> None:
    one = case()
    weights = balanced_weights([one, case(labels=torch.full_like(one.labels, -1))], 3)
    counts = torch.bincount(one.labels.flatten().long(), minlength=3)
    totals = weights * counts
    assert totals[0] == pytest.approx(float(totals[1]))
    assert float(totals.sum()) == pytest.approx(float(counts.sum()))
    assert weights[2] == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"folds": 1}, "one fold"),
        ({"validation": ["a"], "validation_share": 0.2}, "one of the two"),
        ({"classes": {0: "background", 1: "x"}}, "0 is the background"),
        ({"task": "classification", "classes": {1: "x"}}, "numbered 0, 1, 2"),
        ({"noise": [0.5, 0.1]}, "noise"),
        ({"loop": {"patience": 3}}, "validation"),
        ({"loss": {"region": "none", "voxel": "none"}}, "nothing to learn"),
        ({"loss": {"class_weights": [0, 0]}}, "class_weights"),
        ({"task": "sorcery"}, "task"),
    ],
)
def test_settings_that_do_not_fit_together(change: dict[str, object], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        config(**change)
