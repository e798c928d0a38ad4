"""Tracking against the seeded generator, whose truth comes from how the masks were made."""

from __future__ import annotations

from typing import Any

import pytest

from label_series import make_series
from matching import Scores, scores_of_track


@pytest.mark.parametrize(
    "options",
    [
        {"error_voxels": 1.0},
        {"error_voxels": 1.0, "tilt_deg": 12.0, "bend_voxels": 0.3},
        {"error_voxels": 1.0, "missed": 0.3, "visits": 5},
        {"error_voxels": 3.0, "lesions": 30},  # far beyond a voxel: what all lesions moved together is found
    ],
    ids=str,
)
def test_edges_and_events_of_series(options: dict[str, Any]) -> None:
    total = Scores()
    for seed in (100, 101):
        total += scores_of_track(make_series(seed, **options))
    assert total.edge_f1 >= 0.95
    assert total.event_recall >= 0.95
