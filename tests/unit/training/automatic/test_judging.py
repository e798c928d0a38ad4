"""Who judges, and within which time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_medseq.errors import MedseqWarning, SettingsError
from napari_medseq.inference.inputs.working import Working
from napari_medseq.inference.slabs.answer import planes_of
from napari_medseq.inference.slabs.windows import SlabSettings
from napari_medseq.masks.overlap import Overlap
from napari_medseq.models.slab_unet import SlabUNet
from napari_medseq.training.automatic.judging import _overlaps, choose_judges, judged, seconds_to_judge
from napari_medseq.training.automatic.prepared import ClassIndices
from napari_medseq.training.loops.slab_windows import UNSEEN, SlabCase

CPU = torch.device("cpu")


def case(patient: str, steps: int = 4) -> SlabCase:
    labels = torch.zeros(steps, 8, 8, dtype=torch.uint8)
    labels[:, 2:6, 2:6] = 1
    return SlabCase(patient, patient, torch.zeros(1, steps, 8, 8).half(), labels)


def test_judging_ends_with_the_time_and_says_how_many_judged() -> None:
    network = SlabUNet(channels=1, classes=2, widths=(4, 8), strides=((1, 2, 2),))
    settings = SlabSettings(working=Working(), window=(4, 8, 8))
    cases = [case("a"), case("b"), case("c", steps=16)]
    with pytest.warns(MedseqWarning, match="1 of 3 cases"):
        found = judged(network, settings, cases, ["one"], CPU, lambda: True)
    assert list(found.scores) == ["a"]
    assert list(judged(network, settings, cases, ["one"], CPU, lambda: False).scores) == ["a", "b", "c"]
    assert seconds_to_judge(network, settings, [], CPU) == 0
    short, long = (seconds_to_judge(network, settings, c, CPU) for c in (cases[:1], cases * 50))
    assert 0 < short < long


def test_how_sure_answers_must_be_is_taken_from_those_that_judge() -> None:
    torch.manual_seed(0)
    network = SlabUNet(channels=1, classes=2, widths=(4, 8), strides=((1, 2, 2),)).eval()
    settings = SlabSettings(working=Working(), window=(4, 8, 8))
    cases, shares = [], []
    for k in range(5):
        image = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(k)).half()
        answer = planes_of(network, image.float().numpy(), settings, CPU)
        cases.append(SlabCase(f"{k}", f"{k}", image, torch.from_numpy(answer.labels)))
        shares.append(answer.wrong / np.count_nonzero(answer.labels))
    found = judged(network, settings, cases, ["one"], CPU, lambda: False)
    assert found.scores["0"] == {"one": 1.0}
    assert found.above == pytest.approx(1.25 * max(shares), abs=0.01)
    assert judged(network, settings, cases[:4], ["one"], CPU, lambda: False).above is None


def test_those_named_judge_then_those_kept_back_then_some_by_chance() -> None:
    few, many = [case(p) for p in "abc"], [case(f"{k}") for k in range(30)]

    def chosen(cases: list[SlabCase], *named: str, back: str = "", wanted: int | None = None) -> set[str]:
        return choose_judges(cases, named=named, kept_back=set(back), wanted=wanted, seed=0)

    assert chosen(few, "a", back="b") == {"a"}
    assert chosen(few, back="b") == {"b"}
    assert chosen(few) == set()
    assert len(chosen(few, wanted=2)) == 2
    assert len(chosen(many)) == 3
    with pytest.raises(SettingsError, match="no patient to learn from"):
        chosen(few, "a", "b", "c")


def test_a_label_met_for_the_first_time_is_a_new_class_unless_classes_are_named() -> None:
    values = np.array([[[0, 7, 300]]])
    open_ended = ClassIndices({7: "seven"}, fixed=False)
    assert open_ended.of("a", values).tolist() == [[[0, 1, 2]]]
    assert open_ended.classes == {7: "seven", 300: "class 300"}
    named = ClassIndices({7: "seven"}, fixed=True)
    assert named.of("a", values).tolist() == [[[0, 1, 0]]]
    with pytest.warns(MedseqWarning, match=r"label 300 of 1 case \(a\)"):
        named.warn()


def test_overlaps_of_all_classes_are_those_of_each() -> None:
    rng = np.random.default_rng(1)
    answer, truth = (rng.choice(np.array([0, 1, 2, 40], np.uint8), (3, 9, 9)) for _ in range(2))
    truth[0] = UNSEEN
    assert _overlaps(answer, truth, 41) == [Overlap.of(answer == k, truth == k) for k in range(1, 42)]
