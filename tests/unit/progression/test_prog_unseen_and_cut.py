"""Visits without a mask, lesions that the field of view cuts, and what is not a mask at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import napari_medseq as ms
from napari_medseq.progression.response import RULES
from napari_medseq.sequence import ImageSequence, Visit, affine_from
from tests.unit.progression.masks import A, B, events, mask

DAYS = ["2020-01-01", "2020-03-01", "2020-06-01", "2020-09-01"]


def ball(
    centre: tuple[int, int, int], radius: float = 6.0, shape: tuple[int, int, int] = (24, 30, 30)
) -> ImageSequence:
    z, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    data = ((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius**2).astype(np.uint8)
    return ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 1)), kind="labels", name="m")


# -- no mask ---------------------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_a_visit_without_a_mask_resolves_nothing_and_makes_nothing_new() -> None:
    without = ms.track([mask(A, B), None, mask(A)], dates=DAYS[:3])
    assert events(without) == {
        (0, 1): ("baseline", ""), (0, 2): ("baseline", ""), (2, 1): ("stable", "1"), (2, 2): ("resolved", ""),
    }  # fmt: skip
    assert without.labels[1] is None
    assert pd.isna(without.summary["volume_ml"][1])
    # an empty mask is another thing
    empty = ms.track([mask(A, B), mask(), mask(A)], dates=DAYS[:3])
    assert events(empty)[1, 1][0] == "resolved"
    assert events(empty)[2, 1][0] == "reappeared"
    # the same numbers as without that visit, days counted over it
    pair = ms.track([mask(A, B), mask(A)], dates=[DAYS[0], DAYS[2]])
    columns = ["lesion", "event", "volume_ml", "interval_days", "change_ml"]
    pd.testing.assert_frame_equal(without.lesions[columns], pair.lesions[columns])
    assert without.summary["change_ml"].iloc[2] == pair.summary["change_ml"].iloc[1]


@pytest.mark.parametrize("first", [None, Visit(None, (), (), "v1")])
def test_the_first_visit_without_a_mask_makes_the_second_the_baseline(first: Visit | None) -> None:
    with pytest.warns(ms.MedseqWarning, match="Visit 1: it has no mask"):
        p = ms.track([first, mask(A), mask(A)], dates=DAYS[:3])
    assert events(p) == {(1, 1): ("baseline", ""), (2, 1): ("stable", "1")}


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_rule_says_not_evaluable_at_that_visit_and_the_same_at_the_others(rule: str) -> None:
    balls = [ball((12, 15, 15), r) for r in (6, 8, 9)]
    without = ms.track([balls[0], None, *balls[1:]], dates=DAYS).response(rule)
    pair = ms.track(balls, dates=[DAYS[0], *DAYS[2:]]).response(rule)
    assert [v.category for v in without.verdicts if v.visit == 1] == ["not evaluable"]
    assert [v.category for v in without.verdicts if v.visit != 1] == [v.category for v in pair.verdicts]


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_clinical_status_stays_with_its_visit_if_an_earlier_one_has_no_mask() -> None:
    p = ms.track([ball((12, 15, 15)), None, ball((12, 15, 15)), ball((12, 15, 15))], dates=DAYS)
    found = p.response("rano-2.0", clinical=["stable", "worse", "stable", "worse"])
    assert [v.category for v in found.verdicts] == ["not evaluable", "SD", "PD"]
    assert [v.category for v in p.response("recist-1.1", unequivocal=[3]).verdicts][-1] == "PD"


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_it_is_saved_and_read_back(tmp_path: Path) -> None:
    p = ms.track([mask(A, B), None, mask(A)], dates=DAYS[:3])
    p.save(tmp_path)
    back = ms.Progression.load(tmp_path)
    pd.testing.assert_frame_equal(back.lesions, p.lesions, check_dtype=False)
    pd.testing.assert_frame_equal(back.summary, p.summary, check_dtype=False)
    assert back.labels[1] is None
    assert "no mask" in p.report(tmp_path / "r.html").read_text().lower()


# -- the edge of the field of view -------------------------------------------------------------------------------------
def test_a_ball_that_moves_into_the_field_of_view_is_not_growing() -> None:
    p = ms.track([ball((12, 15, 3)), ball((12, 15, 5)), ball((12, 15, 15))], dates=DAYS[:3])
    q = ms.track([ball((12, 15, 15)), ball((12, 15, 13)), ball((12, 15, 3))], dates=DAYS[:3])
    assert [e for e, _ in events(p).values()] == ["baseline", "cut off", "cut off"]
    assert [e for e, _ in events(q).values()] == ["baseline", "stable", "cut off"]
    last = p.lesions.iloc[1]
    assert last["volume_ml"] == pytest.approx(float(np.asarray(ball((12, 15, 5)).data).sum()) / 1000)
    assert p.lesions["doubling_time_days"].isna().all()
    assert p.growth["doubling_time_days"].isna().all()
    assert p.lesions["cut_off"].tolist() == [True, True, False]
    for rule in ("recist-1.1", "rano-2.0", "rano-2.0-volumetric", "volumetric", "nodule-growth"):
        assert [v.category for v in p.response(rule).verdicts] == ["not evaluable"] * 2, rule
    assert "field of view" in p.response("recist-1.1").verdicts[0].reasons[0]


def test_progression_elsewhere_stands_although_a_lesion_is_cut_off() -> None:
    one, other = (ball((12, 15, 3)), ball((12, 15, 5)))
    new = np.asarray(other.data).copy()
    new[4:20, 4:26, 16:28] |= np.asarray(ball((12, 15, 22), 6).data)[4:20, 4:26, 16:28]
    found = ms.track([one, other.replace(data=new)], dates=DAYS[:2]).response("recist-1.1")
    assert [v.category for v in found.verdicts] == ["PD"]


def test_a_single_slice_has_no_edge_above_and_below() -> None:
    flat = np.zeros((1, 30, 30), np.uint8)
    flat[0, 10:20, 10:20] = 1
    seq = ImageSequence(flat, ("z", "y", "x"), affine_from((1, 1, 1)), kind="labels", name="m")
    assert events(ms.track([seq, seq], dates=DAYS[:2]))[1, 1] == ("stable", "1")


# -- what is not a mask ---------------------------------------------------------------------------------------------------
def test_values_below_zero_are_no_lesion() -> None:
    whole = mask(A)
    marked = whole.replace(data=np.where(np.asarray(whole.data) > 0, 1, -1).astype(np.int16))
    with pytest.warns(ms.MedseqWarning, match=r"values below 0 in m \(-1\)"):
        p = ms.track([marked, whole], dates=DAYS[:2])
    assert events(p) == {(0, 1): ("baseline", ""), (1, 1): ("stable", "1")}


def as_mask(data: np.ndarray) -> ImageSequence:
    return ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 1)), kind="labels", name="ct_seg")


NOISE = np.random.default_rng(0)
IMAGES: dict[str, NDArray[np.generic]] = {
    "CT": np.clip(NOISE.normal(0, 300, (20, 40, 40)), -1024, 3000).astype(np.int16),
    "MR of 16 bit": NOISE.integers(0, 4000, (20, 40, 40)).astype(np.uint16),
    "ultrasound of 8 bit": np.clip(NOISE.gamma(2, 40, (20, 40, 40)), 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("kind", sorted(IMAGES))
def test_an_image_under_the_name_of_a_mask_is_refused(kind: str) -> None:
    with pytest.raises(ms.MedseqError, match=r"ct_seg has .*it is an image, not a mask"):
        ms.track([mask(A, shape=(20, 40, 40)), as_mask(IMAGES[kind])])


def test_hundreds_of_instances_are_a_mask() -> None:
    data = np.zeros((20, 40, 40), np.uint16)
    for number, (z, y, x) in enumerate(np.ndindex(6, 9, 9), start=1):
        data[3 * z + 1 : 3 * z + 3, 4 * y + 1 : 4 * y + 4, 4 * x + 1 : 4 * x + 4] = number
    p = ms.track([as_mask(data)], settings=ms.TrackSettings(instances="values"))
    assert p.lesions["lesion"].nunique() == 486


@pytest.mark.parametrize("days", [["2020-01-01"] * 2, ["2020-01-01", "2020-01-01", None]])
def test_equal_dates_leave_rates_blank_with_a_word(days: list[str | None]) -> None:
    with pytest.warns(ms.MedseqWarning, match="the same date .*rates between them are blank"):
        p = ms.track([ball((12, 15, 15), r) for r in (5, 7, 9)[: len(days)]], dates=days)
    assert p.lesions["sgr_percent_per_day"].isna().all()
    assert any("same date" in w for w in p.warnings)
