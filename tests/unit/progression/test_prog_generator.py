"""Tracking against the seeded generator, whose truth comes from how the masks were made."""

from __future__ import annotations

import pytest

from label_series import make_series
from matching import scores_of_track


@pytest.mark.parametrize("seed", range(4))
def test_edges_and_events_of_a_series(seed):
    series = make_series(100 + seed, error_voxels=1.0)
    scores = scores_of_track(series)
    assert scores.edge_f1 >= 0.9
    assert scores.event_recall >= 0.85
