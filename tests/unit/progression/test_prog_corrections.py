"""Corrections by hand, each with undo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import napari_medseq as ms
from tests.narrowing import some
from tests.unit.progression.masks import BRIDGE, A, B, Box, C, events, mask


def undone(p: ms.Progression, before: pd.DataFrame) -> None:
    p.undo()
    pd.testing.assert_frame_equal(p.lesions, before)


def test_link_and_undo() -> None:
    p = ms.track([mask(A), mask(C)])
    before = p.lesions
    assert events(p)[1, 2] == ("new", "")
    p.link(1, 2, 1)
    assert events(p) == {(0, 1): ("baseline", ""), (1, 1): ("shrinking", "1")}
    assert p.corrections == ["link lesion 2 at visit 2 to lesion 1"]
    undone(p, before)
    assert p.corrections == []


def test_unlink_and_undo() -> None:
    p = ms.track([mask(A, B), mask(A, B)])
    before = p.lesions
    p.unlink(1, 2)
    assert events(p)[1, 3] == ("new", "")
    assert events(p)[1, 2] == ("resolved", "")
    undone(p, before)


def test_merge_and_undo() -> None:
    p = ms.track([mask(A, B), mask(A, B)])
    before = p.lesions
    p.merge(1, [1, 2])
    assert events(p)[1, 1] == ("merged", "1;2")
    row = p.lesions.query("visit == 1 and lesion == 1").iloc[0]
    assert row["volume_ml"] == pytest.approx((6 * 6 * 8 + 6 * 6 * 6) / 1000)
    assert set(np.unique(some(p.labels[1]).data)) == {0, 1}
    undone(p, before)
    assert set(np.unique(some(p.labels[1]).data)) == {0, 1, 2}


@pytest.mark.parametrize("parts", [2, [(-5.0, -4.0, 4.0), (-17.0, -4.0, 4.0)]])
def test_split_into_pieces(parts: int | list[tuple[float, float, float]]) -> None:
    p = ms.track([mask(A, B), mask(A, B, BRIDGE)])
    before = p.lesions
    p.split(1, 1, parts)
    assert events(p)[1, 1][1] == "1"
    assert events(p)[1, 2][1] == "2"
    assert p.lesions["volume_ml"].sum() == pytest.approx(before["volume_ml"].sum())
    undone(p, before)


def test_split_into_components_undoes_a_value() -> None:
    p = ms.track([mask(A, B, values=(1, 1))], settings=ms.TrackSettings(instances="values"))
    assert len(p.lesions) == 1
    p.split(0, 1)
    assert len(p.lesions) == 2


def test_excluding_a_lesion_renumbers_no_other() -> None:
    p = ms.track([mask(A, B, C), mask(A, B, C)])
    before = p.lesions
    p.exclude(1)
    assert set(p.lesions["lesion"]) == {2, 3}
    assert set(np.unique(some(p.labels[0]).data)) == {0, 2, 3}
    undone(p, before)


def test_a_lesion_that_merged_into_an_excluded_one_goes_on() -> None:
    both = mask(A, B, BRIDGE)
    p = ms.track([mask(A, B), both, both])
    assert events(p)[1, 1] == ("merged", "1;2")
    before = p.lesions
    with pytest.warns(
        ms.MedseqWarning, match=r"^Lesion 2 at visit 2, lesion 2 at visit 3 had an outline in common with"
    ):
        p.exclude(1)
    assert events(p) == {(0, 2): ("baseline", ""), (1, 2): ("stable", "2"), (2, 2): ("stable", "2")}
    own, bridge = 6 * 6 * 6 / 1000, 3 * 3 * 4 / 1000
    assert p.summary["volume_ml"].tolist() == pytest.approx([own, own + bridge / 2, own + bridge / 2])
    # the bridge is 10 to 13
    assert np.array_equal(np.unique(np.nonzero(some(p.labels[1]).data == 2)[2]), np.arange(12, 20))
    # the same in a new result of the same masks, again and again
    again = ms.track([mask(A, B), both, both])
    assert again.reapply_corrections(p) == []
    third = ms.track([mask(A, B), both, both])
    assert third.reapply_corrections(again) == []
    assert third.corrections == ["exclude lesion 1"]
    pd.testing.assert_frame_equal(third.lesions, p.lesions)
    undone(p, before)
    # a speck that does not count in a merge does not go on as a lesion
    speck = (3, 4, 3, 4, 12, 13)
    specks = ms.track([mask(A, speck), mask(A, BRIDGE)])
    assert events(specks)[1, 2] == ("merged", "")
    specks.exclude(1)
    assert specks.summary["volume_ml"].tolist() == pytest.approx([0.001, 0])
    # at one visit alone, the person says that nothing is there
    p.exclude(1, visit=1)
    assert p.summary["volume_ml"].tolist()[1] == 0


def test_an_excluded_lesion_that_merged_into_a_larger_one_takes_its_part_along() -> None:
    """It is not a lesion: what it added to the other one is none either, and what falls off again is not a new one."""
    large, both = (1, 8, 1, 8, 2, 10), mask((1, 8, 1, 8, 2, 10), B, BRIDGE)
    p = ms.track([mask(large, B), both, both, mask(large, B)])
    assert (events(p)[1, 1], events(p)[3, 3]) == (("merged", "1;2"), ("split", "1"))
    before = p.lesions
    with pytest.warns(
        ms.MedseqWarning, match="Lesion 1 at visit 2, lesion 1 at visit 3 had an outline in common with lesion 2"
    ):
        p.exclude(2)
    assert set(events(p)) == {(visit, 1) for visit in range(4)}
    own, bridge = 7 * 7 * 8 / 1000, 3 * 3 * 4 / 1000
    assert p.summary["volume_ml"].tolist() == pytest.approx([own, own + bridge / 2, own + bridge / 2, own])
    # the same in a new result of the same masks; where the excluded lesion is not found any more, the other one stays whole
    again = ms.track([mask(large, B), both, both, mask(large, B)])
    assert again.reapply_corrections(p) == []
    pd.testing.assert_frame_equal(again.lesions, p.lesions)
    without = ms.track([mask(large), both, both, mask(large)])
    whole = without.lesions
    assert without.reapply_corrections(p) == []
    pd.testing.assert_frame_equal(without.lesions, whole)
    undone(p, before)
    # a speck that was excluded takes nothing along; nor does a sighting at one visit
    speck = (3, 4, 3, 4, 12, 13)
    specks = ms.track([mask(large, speck), mask(large, BRIDGE)])
    specks.exclude(2)
    p.exclude(2, visit=0)
    assert [q.summary["volume_ml"].tolist()[1] for q in (specks, p)] == pytest.approx(
        [own + bridge, own + bridge + 0.216]
    )


def test_exclude_one_sighting_bridges_it() -> None:
    p = ms.track([mask(A), mask(A), mask(A)])
    p.exclude(1, visit=1)
    assert events(p) == {(0, 1): ("baseline", ""), (1, 1): ("resolved", ""), (2, 1): ("reappeared", "1")}


def test_several_corrections_are_undone_in_turn() -> None:
    p = ms.track([mask(A, B), mask(A, B)])
    before = p.lesions
    p.unlink(1, 2)
    p.merge(1, [1, 3])
    p.exclude(2)
    assert len(p.corrections) == 3
    for _ in range(3):
        p.undo()
    pd.testing.assert_frame_equal(p.lesions, before)
    with pytest.raises(ms.MedseqError, match="no correction"):
        p.undo()


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("link", (1, 9, 1)),
        ("link", (1, 1, 9)),
        ("link", (0, 1, 2)),
        ("unlink", (0, 1)),
        ("merge", (1, [1])),
        ("split", (1, 1)),
        ("split", (1, 1, 100000)),
        ("split", (1, 1, [(0.0, 0.0)])),
        ("exclude", (7,)),
    ],
)
def test_what_cannot_be_corrected_says_so_and_changes_nothing(verb: str, args: tuple[Any, ...]) -> None:
    p = ms.track([mask(A, B), mask(A, B)])
    before = p.lesions
    with pytest.raises(ms.MedseqError):
        getattr(p, verb)(*args)
    pd.testing.assert_frame_equal(p.lesions, before)
    assert not p.corrections


# -- again on a new result ----------------------------------------------------------------------------------------------------


def tracked_again(p: ms.Progression) -> ms.Progression:
    """The result's own labels, as "Follow again" takes them, with each lesion under another number."""
    return ms.track([some(one).replace(data=np.asarray(some(one).data)) for one in p.labels])


@pytest.mark.parametrize(
    ("masks", "correct"),
    [
        (([A], [C]), lambda p: p.link(1, 2, 1)),
        (([A, B], [A, B]), lambda p: p.unlink(1, 2)),
        (([A, B], [A, B]), lambda p: p.merge(1, [1, 2])),
        (([A, B], [A, B, BRIDGE]), lambda p: p.split(1, 1, 2)),
        (([A, B], [A, B]), lambda p: p.exclude(2)),
        (([A, B], [A, B]), lambda p: (p.exclude(2, 1), p.unlink(1, 1))),
    ],
)
def test_corrections_hold_after_tracking_the_painted_labels_again(
    masks: tuple[list[Box], ...], correct: Callable[[ms.Progression], object]
) -> None:
    p = ms.track([mask(*m) for m in masks])
    correct(p)
    again = tracked_again(p)
    assert again.reapply_corrections(p, exclusions=False) == []
    assert sorted(again.corrections) == sorted(p.corrections)
    columns = ["visit", "volume_ml", "event"]
    order = ["visit", "volume_ml", "event"]
    pd.testing.assert_frame_equal(
        again.lesions[columns].sort_values(order, ignore_index=True),
        p.lesions[columns].sort_values(order, ignore_index=True),
    )
    # and once more
    third = tracked_again(again)
    assert third.reapply_corrections(again, exclusions=False) == []
    assert sorted(third.corrections) == sorted(p.corrections)


def test_after_a_new_segmentation_exclusions_are_made_again_under_the_new_names() -> None:
    p = ms.track([mask(A, B), mask(A, B)])
    p.exclude(2)
    again = ms.track([mask(B), mask(B)])  # what was lesion 2 is now lesion 1
    assert again.reapply_corrections(p) == []
    assert again.lesions.empty or not (again.lesions["volume_ml"] > 0).any()
    assert again.undoable == 1
    again.undo()
    assert (again.lesions["volume_ml"] > 0).all()
    # painted back after it was excluded: that is meant
    back = ms.track([mask(A, B), mask(A, B)])
    assert back.reapply_corrections(p, exclusions=False) == []
    assert back.undoable == 0
    assert back.corrections == p.corrections
    assert set(back.lesions["lesion"]) == {1, 2}


def test_lesions_have_the_numbers_that_they_had_before_the_corrections_were_made_again() -> None:
    p = ms.track([mask(A, B, C), mask(A, B, C)])
    p.exclude(2)
    p.unlink(1, 3)  # what it was linked to is 3, and it is 4
    assert set(events(p)) == {(0, 1), (0, 3), (1, 1), (1, 3), (1, 4)}
    again = ms.track([mask(A, B, C), mask(A, B, C)])
    again.keep_identities(p)
    assert again.reapply_corrections(p) == []
    assert events(again) == events(p)


def test_a_correction_that_makes_no_sense_any_more_is_named() -> None:
    p = ms.track([mask(A, B), mask(A, B)])
    p.unlink(1, 2)
    p.merge(0, [1, 2])
    again = ms.track([mask(A), mask(A)])  # B was painted away
    (unlinked, merged) = again.reapply_corrections(p)
    assert unlinked.startswith("unlink lesion 2 at visit 2")
    assert "no lesion is there any more" in unlinked
    assert merged.startswith("merge lesions 1, 2 at visit 1")
    assert again.corrections == []
    other = ms.track([mask(A)])
    assert all("visits are others" in text for text in other.reapply_corrections(p))
