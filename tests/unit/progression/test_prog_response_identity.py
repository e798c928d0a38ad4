"""Response rules where lesions merge, fall apart, leave the field of view and come back, or are too small to be measured."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import napari_medseq as ms
from napari_medseq.progression.response import assess
from napari_medseq.sequence import ImageSequence, affine_from
from tests.unit.progression.masks import Box

DAYS = ["2020-01-01", "2020-03-01", "2020-05-01", "2020-07-01"]
#: two targets, the second in the half that a small field of view leaves out
LEFT, RIGHT = (10, 30, 20, 40, 10, 30), (10, 30, 20, 40, 60, 80)
SPECK = (10, 16, 20, 26, 60, 66)
TARGET_RULES = ["recist-1.1", "rano-2010", "rano-2.0", "rano-2.0-volumetric"]


def drawn(*boxes: Box, shape: tuple[int, int, int] = (60, 90, 120)) -> NDArray[np.uint8]:
    data = np.zeros(shape, np.uint8)
    for z0, z1, y0, y1, x0, x1 in boxes:
        data[z0:z1, y0:y1, x0:x1] = 1
    return data


def tracked(*volumes: NDArray[np.uint8], spacing: tuple[float, float, float] = (1, 1, 1)) -> ms.Progression:
    masks = [ImageSequence(v.copy(), ("z", "y", "x"), affine_from(spacing), kind="labels") for v in volumes]
    return ms.track(masks, dates=DAYS[: len(volumes)])


def categories(p: ms.Progression, rule: str, **options: object) -> list[str]:
    return [v.category.removesuffix(" (unconfirmed)") for v in assess(p, rule, **options).verdicts]


@pytest.mark.parametrize("rule", [*TARGET_RULES, "volumetric"])
def test_a_visit_that_could_not_see_a_target_is_no_nadir(rule: str) -> None:
    whole = drawn(LEFT, RIGHT)
    expected = "stable" if rule == "volumetric" else "SD"
    assert categories(tracked(whole, whole[:, :, :50], whole), rule) == ["not evaluable", expected]


@pytest.mark.parametrize("rule", TARGET_RULES)
def test_a_non_target_out_of_view_leaves_no_complete_response(rule: str) -> None:
    p = tracked(drawn(LEFT, SPECK), drawn()[:, :, :50])
    assert categories(p, rule) == ["PR"]
    assert any("lesion 2 was out of view" in reason for reason in assess(p, rule).verdicts[0].reasons)


def test_non_targets_out_of_view_alone_are_not_evaluable() -> None:
    assert categories(tracked(drawn(SPECK), drawn()[:, :, :50]), "recist-1.1") == ["not evaluable"]


def test_a_target_that_merges_into_a_non_target_is_not_gone() -> None:
    # the rod of 40 mm is the target; the cube has more volume, so that their union is the cube's
    rod, cube, bridge = (30, 32, 60, 62, 5, 45), (20, 44, 50, 74, 48, 72), (30, 32, 60, 62, 44, 50)
    p = tracked(drawn(rod, cube), drawn(rod, cube, bridge))
    found = assess(p, "recist-1.1", max_targets=1)
    assert found.targets == (2,)
    assert p.lesions["event"].tolist()[2:] == ["merged", "merged"]
    union = p.lesions["longest_mm"][2]
    assert found.verdicts[0].category == "PD"  # coalesced lesions are measured as one
    assert found.verdicts[0].value == union
    assert not any("non-targets grew" in reason for reason in found.verdicts[0].reasons)


def test_a_non_target_that_falls_apart_and_heals_has_not_grown() -> None:
    whole = drawn((30, 50, 20, 40, 5, 35), (10, 19, 70, 79, 60, 90))
    apart = whole.copy()
    apart[:, :, 74:77] = 0
    assert categories(tracked(whole, apart, whole), "recist-1.1", max_targets=1) == ["SD", "SD"]


def test_specks_that_a_target_leaves_count_as_one() -> None:
    specks = [(20, 22, 30, 32, x, x + 2) for x in range(12, 42, 5)]
    p = tracked(drawn((20, 22, 30, 32, 12, 42)), drawn(*specks))
    assert p.lesions["visit"].value_counts()[1] == len(specks)
    verdict = assess(p, "recist-1.1").verdicts[0]
    assert (verdict.category, verdict.value) == ("PR", 5.0)


def test_what_comes_back_after_a_complete_response_with_nodes() -> None:
    node, small, lesion = (20, 40, 20, 40, 10, 30), (26, 32, 26, 32, 16, 22), (10, 24, 60, 72, 60, 72)
    again = (12, 16, 64, 68, 64, 68)
    p = tracked(drawn(node, lesion), drawn(small), drawn(small, again))
    found = assess(p, "recist-1.1", nodes=[1], max_per_organ=5)
    assert [v.category for v in found.verdicts] == ["CR", "PD"]
    assert "lesion 2 came back after complete response" in found.verdicts[1].reasons


# -- RANO ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rule", TARGET_RULES[1:])
def test_rano_after_a_total_resection(rule: str) -> None:
    p = tracked(drawn(), drawn(), drawn(LEFT))
    assert categories(p, rule) == ["SD", "PD"]


@pytest.mark.parametrize("rule", TARGET_RULES[1:])
def test_rano_sees_a_lesion_that_was_too_small_become_large(rule: str) -> None:
    p = tracked(
        drawn(LEFT, (20, 24, 60, 64, 80, 84)),
        drawn(LEFT, (20, 25, 60, 65, 80, 85)),
        drawn(LEFT, (16, 28, 56, 68, 76, 88)),
    )
    assert categories(p, rule) == ["SD", "PD"]
    assert "lesion 2, no target, grew from" in assess(p, rule).verdicts[1].reasons[0]


def test_rano_measures_in_two_slices_of_which_thick_ones_ask_for_more() -> None:
    flat, deep = drawn((3, 4, 20, 40, 10, 30), shape=(8, 60, 60)), drawn((3, 6, 20, 30, 10, 20), shape=(8, 60, 60))
    assert assess(tracked(flat, flat, spacing=(1, 1, 4)), "rano-2.0").targets == ()
    assert assess(tracked(deep, deep, spacing=(1, 1, 4)), "rano-2.0").targets == (1,)
    # 14 mm, where slices of 8 mm ask for 16
    assert assess(tracked(deep, deep, spacing=(1, 1, 8)), "rano-2.0").targets == ()
    assert assess(tracked(flat[3:4], flat[3:4]), "rano-2.0").targets == (1,)  # an image of one slice


def test_flair_that_falls_apart_is_counted_once() -> None:
    enhancing = tracked(drawn(LEFT), drawn(LEFT))
    whole = drawn((10, 30, 20, 40, 10, 60))
    apart = whole.copy()
    apart[:, :, 34:36] = 0
    found = assess(enhancing, "rano-2.0-volumetric", flair=tracked(whole, apart))
    assert [v.category for v in found.verdicts] == ["SD"]


# -- nodules ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rule", ["lung-rads-2022", "nodule-growth", "fleischner-2017"])
def test_a_nodule_that_was_too_small_to_be_measured_did_not_grow_from_nothing(rule: str) -> None:
    small, larger = drawn((10, 12, 20, 22, 20, 23)), drawn((10, 12, 20, 22, 20, 24))
    verdict = assess(tracked(small, larger), rule).verdicts[-1]  # 12 and 16 mm³, of which 14 are the smallest measured
    assert verdict.category in ("2", "no growth", "solid, under 6 mm")
    assert not any(word in verdict.reasons[0] for word in ("grew", ", growing"))


# -- the table of growth ---------------------------------------------------------------------------------------------
def test_a_lesion_that_merged_is_not_resolved() -> None:
    one, other, bridge = (10, 20, 10, 20, 10, 20), (10, 18, 10, 18, 24, 32), (12, 16, 12, 16, 19, 25)
    growth = tracked(drawn(one, other), drawn(one, other, bridge)).growth.set_index("lesion")
    assert growth["resolved"].tolist() == [False, False]
    assert np.isnan(growth["change_percent"][2])
    gone = tracked(drawn(one, other), drawn(one)).growth.set_index("lesion")
    assert gone["resolved"].tolist() == [False, True]
    assert gone["change_percent"][2] == -100
