"""Corrections by hand, each with undo."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from test_prog_track import BRIDGE, A, B, C, events, mask

import napari_medseq as ms


def undone(p, before):
    p.undo()
    pd.testing.assert_frame_equal(p.lesions, before)


def test_link_and_undo():
    p = ms.track([mask(A), mask(C)])
    before = p.lesions
    assert events(p)[1, 2] == ("new", "")
    p.link(1, 2, 1)
    assert events(p) == {(0, 1): ("baseline", ""), (1, 1): ("shrinking", "1")}
    assert p.corrections == ["link lesion 2 at visit 1 to lesion 1"]
    undone(p, before)
    assert p.corrections == []


def test_unlink_and_undo():
    p = ms.track([mask(A, B), mask(A, B)])
    before = p.lesions
    p.unlink(1, 2)
    assert events(p)[1, 3] == ("new", "")
    assert events(p)[1, 2] == ("resolved", "")
    undone(p, before)


def test_merge_and_undo():
    p = ms.track([mask(A, B), mask(A, B)])
    before = p.lesions
    p.merge(1, [1, 2])
    assert events(p)[1, 1] == ("merged", "1;2")
    row = p.lesions.query("visit == 1 and lesion == 1").iloc[0]
    assert row["volume_ml"] == pytest.approx((6 * 6 * 8 + 6 * 6 * 6) / 1000)
    assert set(np.unique(p.labels[1].data)) == {0, 1}
    undone(p, before)
    assert set(np.unique(p.labels[1].data)) == {0, 1, 2}


@pytest.mark.parametrize("parts", [2, [(-5.0, -4.0, 4.0), (-17.0, -4.0, 4.0)]])
def test_split_into_pieces(parts):
    p = ms.track([mask(A, B), mask(A, B, BRIDGE)])
    before = p.lesions
    p.split(1, 1, parts)
    assert events(p)[1, 1][1] == "1"
    assert events(p)[1, 2][1] == "2"
    assert p.lesions["volume_ml"].sum() == pytest.approx(before["volume_ml"].sum())
    undone(p, before)


def test_split_into_components_undoes_a_value():
    p = ms.track([mask(A, B, values=(1, 1))], settings=ms.TrackSettings(instances="values"))
    assert len(p.lesions) == 1
    assert len(p.split(0, 1).lesions) == 2


def test_exclude_renames_nobody():
    p = ms.track([mask(A, B, C), mask(A, B, C)])
    before = p.lesions
    p.exclude(1)
    assert set(p.lesions["lesion"]) == {2, 3}
    assert set(np.unique(p.labels[0].data)) == {0, 2, 3}
    undone(p, before)


def test_exclude_one_sighting_bridges_it():
    p = ms.track([mask(A), mask(A), mask(A)])
    p.exclude(1, visit=1)
    assert events(p) == {(0, 1): ("baseline", ""), (1, 1): ("resolved", ""), (2, 1): ("reappeared", "1")}


def test_several_corrections_are_undone_in_turn():
    p = ms.track([mask(A, B), mask(A, B)])
    before = p.lesions
    p.unlink(1, 2).merge(1, [1, 3]).exclude(2)
    assert len(p.corrections) == 3
    p.undo().undo().undo()
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
def test_what_cannot_be_corrected_says_so_and_changes_nothing(verb, args):
    p = ms.track([mask(A, B), mask(A, B)])
    before = p.lesions
    with pytest.raises(ms.MedseqError):
        getattr(p, verb)(*args)
    pd.testing.assert_frame_equal(p.lesions, before)
    assert not p.corrections
