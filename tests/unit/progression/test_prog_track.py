"""Identities, events, rows and bad input of `track`, on masks small enough to reason about."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest

import napari_medseq as ms
from napari_medseq import geometry
from napari_medseq.geometry import Reorientation
from napari_medseq.registration.transform import Spline, Transform
from napari_medseq.sequence import ImageSequence, Visit, affine_from
from tests.narrowing import some
from tests.unit.progression.masks import BRIDGE, A, B, C, events, mask

DESIGN_COLUMNS = [
    "visit", "date", "lesion", "label", "volume_ml", "longest_mm", "perpendicular_mm", "centroid_r_mm",
    "centroid_a_mm", "centroid_s_mm", "event", "parents", "certainty",
]  # fmt: skip


DAYS = ["2020-01-01", "2020-03-01", "2020-06-01", "2020-09-01"]


def test_columns_and_dates() -> None:
    p = ms.track([mask(A), mask(A)], dates=DAYS[:2])
    assert list(p.lesions.columns[:13]) == DESIGN_COLUMNS
    assert list(p.lesions["date"]) == [pd.Timestamp(d) for d in DAYS[:2]]
    assert p.lesions["volume_ml"].tolist() == pytest.approx([6 * 6 * 8 / 1000] * 2)
    assert p.summary["volume_ml"].tolist() == pytest.approx([0.288, 0.288])
    assert events(p) == {(0, 1): ("baseline", ""), (1, 1): ("stable", "1")}


def test_merge_keeps_the_id_of_the_largest_and_split_keeps_it_on_the_largest() -> None:
    p = ms.track([mask(A, B), mask(A, B, BRIDGE), mask(A, B)], dates=DAYS[:3])
    assert events(p) == {
        (0, 1): ("baseline", ""),
        (0, 2): ("baseline", ""),
        (1, 1): ("merged", "1;2"),
        (1, 2): ("merged", ""),  # taken up: the row of volume 0
        (2, 1): ("split", "1"),
        (2, 3): ("split", "1"),
    }
    gone = p.lesions.query("visit == 1 and lesion == 2").iloc[0]
    assert gone["volume_ml"] == 0
    assert np.isnan(gone["longest_mm"])
    assert set(np.unique(some(p.labels[2]).data)) == {0, 1, 3}


def test_new_resolved_and_reappeared() -> None:
    p = ms.track([mask(A, C), mask(A), mask(A, C), mask(A, B, C)], dates=DAYS)
    found = events(p)
    assert found[1, 2] == ("resolved", "")
    assert found[2, 2] == ("reappeared", "2")
    assert found[3, 2] == ("stable", "2")
    assert found[3, 3] == ("new", "")
    assert len(p.lesions) == 3 + 2 + 2 + 2


def test_only_one_row_of_volume_zero_per_absence() -> None:
    p = ms.track([mask(A, C), mask(A), mask(A), mask(A)], dates=DAYS)
    assert (p.lesions["volume_ml"] == 0).sum() == 1


def test_a_later_visit_never_renames() -> None:
    series = [mask(A, B, C), mask(A, B, BRIDGE), mask(A, C), mask(B, C)]
    whole = ms.track(series, dates=DAYS).lesions
    for n in (1, 2, 3):
        part = ms.track(series[:n], dates=DAYS[:n]).lesions
        pd.testing.assert_frame_equal(whole[whole["visit"] < n].reset_index(drop=True), part)


def test_native_grids_differ() -> None:
    fine = mask((4, 12, 4, 12, 4, 12), shape=(24, 24, 24))
    coarse = mask((2, 6, 2, 6, 2, 6), shape=(12, 12, 12), spacing=(2.0, 2.0, 2.0))
    coarse = coarse.replace(affine=affine_from((2, 2, 2), (-0.5, -0.5, 0.5)))
    p = ms.track([fine, coarse])
    assert events(p) == {(0, 1): ("baseline", ""), (1, 1): ("stable", "1")}
    assert [some(s).data.shape for s in p.labels] == [(24, 24, 24), (12, 12, 12)]
    assert p.lesions["volume_ml"].tolist() == pytest.approx([0.512, 0.512])
    assert p.lesions["date"].isna().all()


def test_transforms_bring_visits_together() -> None:
    moved = mask(A, B).replace(affine=affine_from((1, 1, 1), (100.0, 0, 0)))
    back = np.eye(4)
    back[0, 3] = -100
    p = ms.track([mask(A, B), moved], transforms=[None, back])
    assert set(events(p).values()) == {("baseline", ""), ("stable", "1"), ("stable", "2")}
    with pytest.raises(ms.MedseqError, match="do not overlap"):
        ms.track([mask(A, B), moved])


def test_a_registration_of_the_visit_to_the_first_brings_it_there() -> None:
    moved = mask(A, B).replace(affine=affine_from((1, 1, 1), (100.0, 0, 0)))
    there = np.eye(4)
    there[0, 3] = 100
    # as register(moving=visit, fixed=first) gives it: first → visit
    found = Transform("rigid", geometry.as_affine(there))
    p = ms.track([mask(A, B), moved], transforms=[None, found])
    assert set(events(p).values()) == {("baseline", ""), ("stable", "1"), ("stable", "2")}
    assert p.to_common(1)[0, 3] == -100
    spline = Spline(np.eye(4), (), np.zeros(0))
    with pytest.raises(ms.MedseqError, match="deformable"):
        ms.track([mask(A, B), moved], transforms=[None, Transform("deformable", np.eye(4), spline=spline)])


def test_touching_lesions_survive_as_values() -> None:
    touching = [(2, 8, 2, 8, 2, 10), (2, 8, 2, 8, 10, 16)]
    pair = [mask(*touching, values=(1, 2)), mask(*touching, values=(1, 2))]
    assert ms.track(pair).lesions["lesion"].nunique() == 1
    apart = ms.track(pair, settings=ms.TrackSettings(instances="values"))
    assert events(apart) == {
        (0, 1): ("baseline", ""), (0, 2): ("baseline", ""), (1, 1): ("stable", "1"), (1, 2): ("stable", "2"),
    }  # fmt: skip


def test_classes_are_followed_apart() -> None:
    named = {1: "core", 2: "oedema"}
    p = ms.track([mask(A, B, values=(1, 2), label_names=named), mask(A, B, values=(1, 2), label_names=named)])
    assert set(p.lesions["label"]) == {"core", "oedema"}
    union = ms.track([mask(A, values=(1,), label_names=named)] * 2, settings=ms.TrackSettings(classes="union"))
    assert set(union.lesions["label"]) == {"lesion"}


def test_tracked_labels_can_be_tracked_again() -> None:
    p = ms.track([mask(A, B), mask(A, B, BRIDGE)])
    again = ms.track(p.labels)
    assert events(again) == events(p)


def test_specks_are_kept_but_not_measured() -> None:
    speck = (18, 19, 38, 39, 38, 39)
    p = ms.track([mask(A, speck), mask(A)])
    assert p.lesions["measured"].tolist() == [True, False, True, False]
    assert p.summary["lesions"].tolist() == [1, 1]
    assert p.summary["unmeasured"].tolist() == [1, 0]
    assert p.summary["resolved"].tolist() == [0, 0]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(True, False, False), (False, True, False), (True, True, True)])
def test_stored_otherwise_lesions_keep_their_numbers(
    order: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    """Equally large lesions too, of which one resolves and one splits into equal halves."""
    first = mask(A, (12, 18, 2, 8, 2, 10), (2, 8, 20, 26, 20, 28), spacing=(1.0, 1.25, 3.0))
    second = mask((2, 8, 2, 8, 2, 10), (2, 8, 20, 26, 20, 23), (2, 8, 20, 26, 25, 28), spacing=(1.0, 1.25, 3.0))
    turn = Reorientation(order, flips)
    turned = [
        seq.replace(
            data=turn.apply_zyx(seq.data),
            affine=turn.apply_affine(seq.affine, seq.grid),
            slice_axis="xyz"[order.index(2)],
        )
        for seq in (first, second)
    ]
    one, other = ms.track([first, second]).lesions, ms.track(turned).lesions
    pd.testing.assert_frame_equal(one, other, rtol=1e-9)


def test_one_visit_and_no_lesion() -> None:
    assert events(ms.track([mask(A)])) == {(0, 1): ("baseline", "")}
    none = ms.track([mask(), mask(A), mask()])
    assert events(none) == {(1, 1): ("new", ""), (2, 1): ("resolved", "")}
    empty = ms.track([mask(), mask()])
    assert empty.lesions.empty
    assert list(empty.lesions.columns[:13]) == DESIGN_COLUMNS
    assert empty.summary["volume_ml"].tolist() == [0, 0]
    empty.plot()


def test_visits_in_the_wrong_order_are_sorted_with_a_warning() -> None:
    with pytest.warns(ms.MedseqWarning, match="order"):
        p = ms.track([mask(A, C), mask(A)], dates=[date(2021, 1, 1), date(2020, 1, 1)])
    assert events(p)[1, 2] == ("new", "")
    assert p.warnings


def test_two_visits_on_one_day() -> None:
    with pytest.warns(ms.MedseqWarning, match="same date"):
        p = ms.track([mask(A), mask(A)], dates=["2020-01-01"] * 2)
    assert p.summary["days"].tolist() == [0, 0]


def test_different_patients_are_refused_unless_forced() -> None:
    pair = [mask(A, meta={"patient": "one"}), mask(A, meta={"patient": "two"})]
    with pytest.raises(ms.MedseqError, match="different patients"):
        ms.track(pair)
    with pytest.warns(ms.MedseqWarning, match="different patients"):
        assert len(ms.track(pair, force=True).lesions) == 2


def test_a_mask_that_fills_the_volume_is_doubted() -> None:
    with pytest.warns(ms.MedseqWarning, match="inverted"):
        ms.track([mask((0, 20, 0, 40, 0, 40))])


@pytest.mark.slow
def test_five_thousand_specks() -> None:
    data = np.zeros((42, 102, 102), bool)
    data[1:-1, 1:-1, 1:-1] = np.random.default_rng(0).random((40, 100, 100)) < 0.02
    noise = ImageSequence(data.astype(np.uint8), ("z", "y", "x"), affine_from((1, 1, 1)), kind="labels")
    p = ms.track([noise, noise])
    one = p.lesions.query("visit == 1")
    assert len(one) > 5000
    assert (one["event"] == "stable").all()
    assert (one["parents"] == one["lesion"].astype(str)).all()


@pytest.mark.parametrize(
    ("labels", "more", "says"),
    [
        ([], {}, "no visit"),
        (mask(A), {}, "list of masks"),
        (["a.nii"], {}, "not an ImageSequence"),
        ([mask(A)], {"dates": ["yesterday"]}, "is not a date"),
        ([mask(A)], {"dates": [None, None]}, "2 dates for 1 visit;"),
        ([mask(A)], {"images": []}, "0 images for 1 visit;"),
        ([mask(A).replace(kind="image", data=np.ones((20, 40, 40), np.float32))], {}, "not a mask"),
        ([Visit(None, (), (), "v"), None], {}, "no visit"),
        ([mask(A)], {"transforms": [np.zeros((4, 4))]}, "affine"),
    ],
)
def test_bad_input_is_one_clear_error(labels: Any, more: dict[str, Any], says: str) -> None:
    with pytest.raises(ms.MedseqError, match=says):
        ms.track(labels, **more)


def test_bad_settings() -> None:
    with pytest.raises(ms.MedseqError, match="connectivity"):
        ms.TrackSettings(connectivity=7)
    with pytest.raises(ms.MedseqError, match="nonsense"):
        ms.TrackSettings(**{"nonsense": 1})


def test_what_was_out_of_view_is_not_surely_new_or_resolved() -> None:
    small = mask(A, shape=(20, 40, 22))  # C lies beyond its edge
    p = ms.track([small, mask(A, C), small])
    rows = {(r.visit, r.lesion): (r.event, r.certainty) for r in p.lesions.itertuples()}
    assert rows[1, 2] == ("new", 0.0)
    assert rows[2, 2] == ("resolved", 0.0)
    assert rows[1, 1][1] == 1.0


def test_progress_and_cancel() -> None:
    seen = []
    ms.track([mask(A), mask(A)], progress=lambda *a: seen.append(a))
    assert seen[-1][0] == seen[-1][1]
    with pytest.raises(ms.MedseqError, match="Cancelled"):
        ms.track([mask(A), mask(A)], cancelled=lambda: True)
