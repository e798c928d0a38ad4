"""Response rules on bodies whose sizes are known."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import napari_medseq as ms
from napari_medseq.errors import MedseqError
from napari_medseq.progression.response import RULES, assess
from napari_medseq.progression.response.common import percent
from napari_medseq.progression.response.lung_rads import YEAR_DAYS, rise_within_year
from napari_medseq.sequence import ImageSequence, affine_from

DAYS = ["2020-01-01", "2020-03-01", "2020-05-01", "2020-07-01", "2020-09-01"]


def series(*visits: dict[int, int], spacing: float = 1.0) -> ms.Progression:
    """One mask per visit; each visit maps a place (0–3) to the edge of a cube in voxels."""
    masks = []
    for sizes in visits:
        data = np.zeros((44, 90, 90), np.uint8)
        for place, n in sizes.items():
            y, x = 22 + 45 * (place // 2), 22 + 45 * (place % 2)
            h = n // 2
            data[22 - h : 22 - h + n, y - h : y - h + n, x - h : x - h + n] = 1
        masks.append(ImageSequence(data, ("z", "y", "x"), affine_from((spacing,) * 3), kind="labels"))
    return ms.track(masks, dates=DAYS[: len(visits)])


def categories(p: ms.Progression, rule: str, **options: Any) -> list[str]:
    found: list[str] = assess(p, rule, **options).table["category"].tolist()
    return found


def test_recist_goes_by_nadir_and_five_millimetres() -> None:
    p = series({0: 20}, {0: 12}, {0: 16}, {0: 20})
    assert categories(p, "recist-1.1") == ["PR", "PD", "PD"]
    # +20 % of a small nadir, but under 5 mm
    small = series({0: 12}, {0: 8}, {0: 10})
    assert categories(small, "recist-1.1")[1] == "SD"


def test_recist_complete_response_and_new_lesions() -> None:
    p = series({0: 20}, {}, {0: 12}, {0: 12, 3: 12})
    assert categories(p, "recist-1.1") == ["CR", "PD", "PD"]
    new = assess(series({0: 20}, {0: 20, 1: 10}), "recist-1.1").verdicts[0]
    assert new.category == "PD"
    assert "lesion 2 is new" in new.reasons


def test_recist_targets_and_nodes() -> None:
    p = series({0: 20, 1: 16, 2: 10, 3: 5}, {0: 20, 1: 16, 2: 10, 3: 5})
    assert assess(p, "recist-1.1").targets == (1, 2)  # two per organ
    assert assess(p, "recist-1.1", organs={1: "liver", 2: "liver", 3: "lung"}).targets == (1, 2, 3)
    assert assess(p, "recist-1.1", nodes=[1, 2, 3], max_per_organ=5).targets == (1, 2)  # nodes from 15 mm
    healed = series({0: 20}, {0: 8})
    assert categories(healed, "recist-1.1", nodes=[1]) == ["PR"]  # the node is normal, but volume is left elsewhere
    assert categories(healed, "recist-1.1") == ["PR"]


def test_recist_without_targets_is_not_evaluable() -> None:
    assert categories(series({}, {}), "recist-1.1") == ["not evaluable"]


def test_recist_of_non_target_disease_alone() -> None:
    p = series({0: 6}, {0: 6}, {}, {0: 8})
    assert categories(p, "recist-1.1") == ["non-CR/non-PD", "CR", "PD"]
    assert categories(p, "recist-1.1", unequivocal=[1])[0] == "PD"
    assert "non-target disease only" in assess(p, "recist-1.1").verdicts[0].reasons[-1]


def test_recist_nodes_are_normal_under_ten_millimetres() -> None:
    p = series({0: 20, 3: 8}, {3: 8}, {3: 6})
    assert categories(p, "recist-1.1") == ["PR", "PR"]
    assert categories(p, "recist-1.1", nodes=[2]) == ["PR", "CR"]  # the non-target node of 11 mm shrank to 8.5
    p = series({0: 20, 3: 6}, {3: 6})
    assert categories(p, "recist-1.1", nodes=[2]) == ["CR"]  # it was normal from the start


def test_recist_nodes_are_new_lesions_when_they_are_abnormal() -> None:
    new = series({0: 20}, {0: 20, 3: 6}, {0: 20, 3: 9})  # 8.5 mm, then 12.7
    assert categories(new, "recist-1.1") == ["PD", "PD"]
    assert categories(new, "recist-1.1", nodes=[2]) == ["SD", "SD"]  # grew by 4.2 mm only
    grew = series({0: 20, 3: 6}, {0: 20, 3: 8}, {0: 20, 3: 10})  # 8.5, 11.3 and 14.1 mm
    assert categories(grew, "recist-1.1", nodes=[2]) == ["SD", "PD"]
    assert "node 2 was normal and is not any more" in assess(grew, "recist-1.1", nodes=[2]).verdicts[1].reasons
    assert categories(series({0: 20}, {0: 20, 3: 8}), "recist-1.1", nodes=[2]) == ["PD"]


@pytest.mark.parametrize("rule", ["recist-1.1", "rano-2010", "rano-2.0", "rano-2.0-volumetric"])
def test_a_new_lesion_is_progression_as_long_as_it_is_there(rule: str) -> None:
    p = series({0: 20}, {0: 14, 1: 12}, {0: 14, 1: 12}, {0: 14})
    assert [c[:2] for c in categories(p, rule)][:2] == ["PD", "PD"]
    assert "lesion 2 is new since visit 2" in assess(p, rule).verdicts[1].reasons
    assert categories(p, rule)[2] != "PD"


def test_a_response_is_not_confirmed_beyond_a_progression() -> None:
    p = series({0: 20}, {0: 12}, {0: 20}, {0: 12})
    p.dates[2] = date(2020, 3, 10)
    assert assess(p, "recist-1.1").verdicts[0].reasons[-1] == "not confirmed four weeks on or later"
    assert categories(p, "rano-2010")[:2] == ["PR (unconfirmed)", "PD"]


def test_recist_says_whether_a_response_was_confirmed() -> None:
    p = series({0: 20}, {0: 12}, {0: 12})
    reasons = [v.reasons[-1] for v in assess(p, "recist-1.1").verdicts]
    assert reasons == ["confirmed at visit 3", "not confirmed four weeks on or later"]


def test_recist_measures_thick_slices_with_care() -> None:
    data = np.zeros((8, 60, 60), np.uint8)
    data[2:5, 20:28, 20:28] = 1
    thick = ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 7)), kind="labels")
    p = ms.track([thick, thick])
    assert assess(p, "recist-1.1").targets == ()  # 11.3 mm, but slices of 7 mm ask for 14
    assert assess(p, "recist-1.1", min_diameter_mm=10).targets == (1,)


def test_recist_counts_the_pieces_of_a_split_target() -> None:
    masks = []
    for gap in (False, True):
        data = np.zeros((20, 30, 60), np.uint8)
        data[4:16, 6:18, 5:50] = 1
        if gap:
            data[:, :, 26:29] = 0
        masks.append(ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 1)), kind="labels"))
    verdict = assess(ms.track(masks), "recist-1.1").verdicts[0]
    assert verdict.category == "SD"
    assert verdict.change_from_baseline_percent == pytest.approx(0, abs=8)


@pytest.mark.parametrize("rule", ["rano-2010", "rano-2.0"])
def test_rano_bidimensional(rule: str) -> None:
    # squares of the edges: 400 → 169 (−58 %) → 196 (+16 %) → 256 (+51 % of the least)
    p = series({0: 20}, {0: 13}, {0: 13}, {0: 16})
    assert categories(p, rule) == ["PR", "PR (unconfirmed)", "PD"]
    assert categories(series({0: 20}, {}, {}), rule) == ["CR", "CR (unconfirmed)"]


def test_rano_2_goes_by_new_lesions_that_are_measurable() -> None:
    small, large = series({0: 20}, {0: 20, 1: 6}, {0: 20, 1: 12}), series({0: 20}, {0: 20, 1: 12})
    assert categories(small, "rano-2010") == ["PD", "PD"]
    for rule in ("rano-2.0", "rano-2.0-volumetric"):
        found = assess(small, rule)
        assert [v.category for v in found.verdicts] == ["SD", "PD"]
        assert "lesion 2 is new, but not measurable" in found.verdicts[0].reasons
        new, grew = found.verdicts[1].reasons[:2]
        assert new == "lesion 2 is new since visit 2"
        assert "lesion 2, no target, grew from" in grew
        assert categories(large, rule) == ["PD"]


def test_rano_2_asks_a_new_lesion_for_two_slices_too() -> None:
    def visit(slices: int) -> ImageSequence:
        data = np.zeros((12, 60, 60), np.uint8)
        data[2:6, 5:25, 5:25] = 1
        data[8 : 8 + slices, 35:50, 35:50] = 1
        return ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 5)), kind="labels")

    assert categories(ms.track([visit(0), visit(1)]), "rano-2.0") == ["SD"]
    assert categories(ms.track([visit(0), visit(2)]), "rano-2.0") == ["PD"]


def test_rano_volumetric_limits() -> None:
    assert categories(series({0: 20}, {0: 22}), "rano-2.0-volumetric") == ["SD"]  # +33 %
    assert categories(series({0: 20}, {0: 23}), "rano-2.0-volumetric") == ["PD"]  # +52 %
    assert categories(series({0: 20}, {0: 15}), "rano-2.0-volumetric") == ["SD"]  # −58 %
    assert categories(series({0: 20}, {0: 14}), "rano-2.0-volumetric") == ["PR (unconfirmed)"]  # −66 %


def test_pseudoprogression_is_not_evaluable() -> None:
    p = series({0: 20}, {0: 26})
    assert categories(p, "rano-2010", radiotherapy_end=date(2020, 1, 10)) == ["not evaluable"]
    assert categories(p, "rano-2010", radiotherapy_end=date(2019, 10, 1)) == ["PD"]


def test_growth_before_radiotherapy_is_no_pseudoprogression() -> None:
    p = series({0: 20}, {0: 26}, {0: 30})
    assert categories(p, "rano-2010", radiotherapy_end=date(2020, 4, 20)) == ["PD", "not evaluable"]


def test_visits_before_the_end_of_radiotherapy_are_said() -> None:
    p = series({0: 20}, {0: 20}, {0: 20})

    def said(end: date) -> list[bool]:
        verdicts = p.response("rano-2.0", radiotherapy_end=end).verdicts
        return [any("before the end of radiotherapy" in why for why in v.reasons) for v in verdicts]

    days = [day for day in p.dates if day is not None]
    assert said(days[0]) == [False, False]
    assert said(days[0] + timedelta(days=1)) == [True, True]
    second = p.response("rano-2.0", radiotherapy_end=days[2]).verdicts
    assert any("leave out visits during it" in why for why in second[0].reasons)
    assert any("should be the baseline" in why for why in second[1].reasons)


def test_the_end_of_radiotherapy_is_a_date_a_moment_or_text() -> None:
    p = series({0: 20}, {0: 26})
    for end in ("2020-01-10", datetime(2020, 1, 10, 23, 30)):
        assert categories(p, "rano-2010", radiotherapy_end=end) == ["not evaluable"]
    with pytest.raises(MedseqError, match="radiotherapy_end: 'in spring' is not a date"):
        categories(p, "rano-2010", radiotherapy_end="in spring")


def test_rano_steroids_clinical_state_and_flair() -> None:
    shrunk, grown, gone = series({0: 20}, {0: 12}, {0: 12}), series({0: 20}, {0: 26}), series({0: 20}, {}, {})
    assert categories(shrunk, "rano-2010", steroids=[2, 2, 1])[0] == "PR"
    assert categories(shrunk, "rano-2010", steroids=[2, 4, 4]) == ["SD", "SD"]
    assert categories(gone, "rano-2010", steroids=[4, 4, 0]) == ["PR", "CR (unconfirmed)"]
    assert categories(gone, "rano-2.0", steroids=[4, 0, 0]) == ["CR", "CR (unconfirmed)"]
    assert categories(grown, "rano-2010", steroids=[4, 2]) == ["not evaluable"]
    assert categories(grown, "rano-2010", steroids=[4, 6]) == ["PD"]
    assert categories(shrunk, "rano-2.0", clinical=["stable", "worse", "stable"])[0] == "PD"
    assert categories(shrunk, "rano-2010", flair=["stable", "stable", "worse"])[1] == "PD"
    flair = series({0: 30}, {0: 30}, {0: 36})
    found = assess(shrunk, "rano-2010", flair=flair)
    assert [v.category for v in found.verdicts] == ["PR (unconfirmed)", "PD"]
    assert "T2/FLAIR is worse" in found.verdicts[1].reasons
    assert "not given, not considered: steroid dose, clinical state" in found.verdicts[0].reasons
    assert not any("T2/FLAIR" in r for r in assess(shrunk, "rano-2.0").verdicts[0].reasons)
    for options in (
        {"steroids": [1]},
        {"steroids": [-1, 0, 0]},
        {"clinical": ["ill"] * 3},
        {"flair": "worse"},
        {"x": 1},
    ):
        with pytest.raises(ms.MedseqError):
            assess(shrunk, "rano-2010", **options)


def test_lung_rads() -> None:
    # cubes of 5, 6.5, 9 and 16 mm across, between midpoints of faces
    verdict = assess(series({0: 4, 1: 5, 2: 7, 3: 12}), "lung-rads-2022").verdicts[0]
    assert verdict.category == "4B"
    grades = {r.split(": ")[0]: r.split(": ")[1].split(" ")[0] for r in verdict.reasons}
    assert grades == {"nodule 1": "4B", "nodule 2": "4A", "nodule 3": "3", "nodule 4": "2"}
    # three after half a year; then it grows, and new ones of 5 and 6.5 mm are seen
    p = series({0: 5}, {0: 5}, {0: 5}, {0: 5}, {0: 7, 1: 4, 2: 5})
    grew = assess(p, "lung-rads-2022")
    assert [v.category for v in grew.verdicts] == ["3", "3", "3", "2", "4B"]
    reasons = grew.verdicts[-1].reasons
    assert "growing" in reasons[0]
    assert sorted(r.split(" ")[2] for r in reasons) == ["3", "4A", "4B"]
    slow = series({0: 5}, {0: 6}, {0: 7})  # 1.4 mm and 1.4 mm are 2.8 mm within a year
    assert categories(slow, "lung-rads-2022") == ["3", "3", "4B"]
    half_a_year = series({0: 5}, {0: 5})
    half_a_year.dates[1] = date(2020, 7, 5)
    assert categories(half_a_year, "lung-rads-2022") == ["3", "2"]
    assert categories(half_a_year, "lung-rads-2022", suspicious=[1])[0] == "4X"
    part = {"types": {1: "part-solid"}}
    assert categories(half_a_year, "lung-rads-2022", **part) == ["not evaluable"] * 2
    assert categories(half_a_year, "lung-rads-2022", **part, solid_mm={1: [3, 3]}) == ["3", "2"]
    assert categories(half_a_year, "lung-rads-2022", **part, solid_mm={1: [6.5, 8.5]}) == ["4A", "4B"]
    assert categories(half_a_year, "lung-rads-2022", types={1: "ground-glass"}) == ["2", "2"]
    with pytest.raises(ms.MedseqError, match="part-solid"):
        assess(p, "lung-rads-2022", types={1: "glass"})
    with pytest.raises(ms.MedseqError, match="one number per visit"):
        assess(p, "lung-rads-2022", solid_mm={1: [1, 2]})


def test_lung_rads_growth_over_more_than_a_year_counts_by_its_share() -> None:
    p = series({0: 5}, {0: 8})  # 6.5 → 10.6 mm
    p.dates[1] = date(2021, 1, 20)  # an annual round that came 20 days late
    assert categories(p, "lung-rads-2022") == ["3", "4B"]
    assert categories(p, "nodule-growth") == ["growth"]
    p.dates[1] = date(2024, 1, 1)  # 4 mm over four years
    assert "not growing" in assess(p, "lung-rads-2022").verdicts[1].reasons[0]
    stopped = series({0: 5}, {0: 10}, {0: 10})
    stopped.dates[1:3] = [date(2020, 12, 1), date(2022, 1, 1)]
    assert "not growing" in assess(stopped, "lung-rads-2022").verdicts[2].reasons[0]
    assert categories(stopped, "lung-rads-2022")[1:] == ["4B", "4B"]  # only a work-up lowers it


def test_lung_rads_slow_growth_over_several_examinations() -> None:
    def yearly(*edges: int) -> ms.Progression:
        p = series(*({0: n} for n in edges), spacing=0.7)  # each voxel is 1 mm of mean diameter
        p.dates[:] = [date(2020 + k, 3, 1) for k in range(len(edges))]
        return p

    p = yearly(8, 9, 10)
    assert np.allclose(np.diff([v.value for v in assess(p, "lung-rads-2022").verdicts]), 1, atol=0.11)
    assert categories(p, "lung-rads-2022")[2] == "4B"
    assert "slow growth" in assess(p, "lung-rads-2022").verdicts[2].reasons[0]
    assert categories(p, "lung-rads-2022", types={1: "ground-glass"}) == ["2"] * 3
    assert "slow growth" not in assess(yearly(8, 10, 9), "lung-rads-2022").verdicts[2].reasons[0]
    assert "slow growth" not in assess(yearly(8, 9, 9), "lung-rads-2022").verdicts[2].reasons[0]


@given(st.lists(st.tuples(st.floats(1, 900), st.floats(0, 40)), min_size=1, max_size=6), st.floats(0, 40))
def test_rise_within_a_year_is_that_of_the_line_through_the_sizes(
    earlier: list[tuple[float, float]], now: float
) -> None:
    gaps, sizes = [gap for gap, _ in earlier], [size for _, size in earlier]
    days = np.cumsum(gaps[::-1])[::-1]
    rise = rise_within_year(days.tolist(), sizes, now)
    at = np.append(days[days <= YEAR_DAYS], YEAR_DAYS if days[0] > YEAR_DAYS else days[-1])
    line = np.interp(-at, [*-days, 0.0], [*sizes, now])
    assert rise == pytest.approx(now - line.min(), abs=1e-5)
    assert rise_within_year([float("nan")] * len(sizes), sizes, now) == pytest.approx(now - sizes[-1], abs=1e-5)


def test_lung_rads_grades_a_nodule_that_reached_a_larger_size_category() -> None:
    p = series({0: 6}, {0: 7})  # 7.8 and 9.2 mm: no growth, but a nodule of 8 mm
    assert [v.value for v in assess(p, "lung-rads-2022").verdicts] == [7.8, 9.2]
    found = assess(p, "lung-rads-2022").verdicts[1]
    assert found.category == "4A"
    assert "not growing, reached a larger size category" in found.reasons[0]
    p.dates[1] = date(2020, 9, 1)  # half a year later it is not lowered either
    assert categories(p, "lung-rads-2022") == ["3", "4A"]
    part = {"types": {1: "part-solid"}, "solid_mm": {1: [5.5, 6.5]}}
    assert categories(p, "lung-rads-2022", **part) == ["3", "4A"]
    unknown = {"types": {1: "part-solid"}, "solid_mm": {1: [None, 5.5]}}
    assert categories(p, "lung-rads-2022", **unknown) == ["not evaluable", "3"]


def test_a_growth_of_exactly_the_limit_is_told_by_digits_and_not_by_the_last_bit() -> None:
    # 8.3 − 6.8 is more than 1.5 in floating point, and 9.2 − 7.2 less than 2
    p = series({0: 5}, {0: 6}, spacing=1.06)
    assert [v.value for v in assess(p, "lung-rads-2022").verdicts] == [6.8, 8.3]
    assert "not growing" in assess(p, "lung-rads-2022").verdicts[1].reasons[0]
    assert assess(p, "nodule-growth").verdicts[0].value == 1.5
    far = series({0: 4}, {0: 5}, spacing=1.43)
    assert "grew (+2.0 mm)" in assess(far, "fleischner-2017").verdicts[1].reasons[0]


def test_a_change_of_exactly_the_limit_reaches_it() -> None:
    assert all(percent(6 * k / 10, 5 * k / 10) >= 20 for k in range(1, 400))
    assert all(percent(5 * k / 10, 4 * k / 10) >= 25 for k in range(1, 400))
    assert all(percent(7 * k / 10, 10 * k / 10) <= -30 for k in range(1, 400))
    assert np.isnan(percent(1, 0))


def test_fleischner() -> None:
    one, several = series({0: 5}), series({0: 5, 1: 6})
    found = assess(one, "fleischner-2017").verdicts[0]
    assert found.category == "solid, 6 to 8 mm"
    assert "low risk: CT at 6 to 12 months, then consider" in found.reasons[-1]
    high = assess(one, "fleischner-2017", risk="high").verdicts[0].reasons[-1]
    assert high.endswith("CT at 6 to 12 months, then CT at 18 to 24 months")
    assert categories(several, "fleischner-2017") == ["several solid, 6 to 8 mm"]  # 7.1 and 8.5 → 8 mm
    mixed = assess(several, "fleischner-2017", types={1: "ground-glass", 2: "part-solid"}).verdicts[0]
    assert mixed.category == "several ground-glass, 6 mm or more"
    assert categories(series({0: 3}), "fleischner-2017", types={1: "ground-glass"}) == ["ground-glass, under 6 mm"]
    grew = assess(series({0: 5}, {0: 7}), "fleischner-2017", risk="low").verdicts[1]
    assert grew.category == "solid, over 8 mm"
    assert "grew (+2.8 mm)" in grew.reasons[0]
    with pytest.raises(ms.MedseqError, match="low, high"):
        assess(one, "fleischner-2017", risk="some")


def test_nodules() -> None:
    p = series({0: 10}, {0: 10}, {0: 13})
    found = assess(p, "nodule-growth")
    assert [v.category for v in found.verdicts] == ["no growth", "growth"]
    assert "under 400" in found.verdicts[1].reasons[0]
    assert "not measurable" in found.verdicts[0].reasons[0]


def test_ms_counts() -> None:
    p = series({0: 8}, {0: 8, 1: 6}, {0: 12, 1: 6}, {0: 12, 1: 6})
    found = assess(p, "ms-new-enlarged")
    assert [v.value for v in found.verdicts] == [1, 1, 0]
    assert [v.category for v in found.verdicts] == ["active", "active", "not active"]


def test_volumetric_thresholds() -> None:
    p = series({0: 20}, {0: 14}, {0: 18}, {0: 18, 1: 4})
    assert categories(p, "volumetric") == ["response", "progression", "progression"]
    assert categories(p, "volumetric", rise_percent=300, fall_percent=90) == ["stable"] * 3
    assert categories(p, "volumetric", rise_percent=300, new_is_progression=True)[2] == "progression"
    with pytest.raises(ms.MedseqError):
        assess(p, "volumetric", rise_percent=-1)


@pytest.mark.parametrize("rule", RULES)
def test_reasons_name_no_share_of_nothing(rule: str) -> None:
    for p in (series({0: 20}, {}, {0: 4}), series({}, {0: 20}, {})):
        reasons = [reason for verdict in assess(p, rule).verdicts for reason in verdict.reasons]
        assert not [reason for reason in reasons if "nan" in reason]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_survives_nothing_and_one_visit(rule: str) -> None:
    first = rule in ("lung-rads-2022", "fleischner-2017")  # categories of the first visit too
    assert len(assess(series({0: 20}), rule).verdicts) == first
    nothing = assess(series({}, {}), rule)
    assert len(nothing.verdicts) == 1 + first
    assert nothing.source
    assert nothing.verdicts[0].reasons
    assert "no clinical verdict" in nothing.note


@pytest.mark.parametrize("rule", ["recist-1.1", "rano-2010", "rano-2.0", "rano-2.0-volumetric"])
def test_a_target_out_of_view_is_not_evaluable(rule: str) -> None:
    whole = np.zeros((44, 60, 90), np.uint8)
    whole[10:30, 20:40, 10:30] = whole[10:30, 20:40, 60:80] = 1
    more = whole.copy()
    more[30:42, 44:58, 34:48] = 1

    def labels(data: NDArray[np.uint8]) -> ImageSequence:
        return ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 1)), kind="labels")

    # the second visit ends before the second lesion: it is not gone, nobody looked
    cut = assess(ms.track([labels(whole), labels(whole[:, :, :50].copy())]), rule).verdicts[0]
    assert cut.category == "not evaluable"
    assert "out of view" in cut.reasons[0]
    # but what is seen to be new is progression all the same
    assert categories(ms.track([labels(whole), labels(more[:, :, :50].copy())]), rule) == ["PD"]


def test_unknown_rules_and_options_are_clear_errors() -> None:
    p = series({0: 20}, {0: 20})
    with pytest.raises(ms.MedseqError, match=r"recist-1\.1"):
        assess(p, "cheson")
    with pytest.raises(ms.MedseqError, match="nonsense"):
        assess(p, "recist-1.1", nonsense=1)
