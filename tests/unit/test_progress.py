"""Progress of parts and cancelling, as plain callables."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_medseq.errors import OperationCancelled
from napari_medseq.progress import check, part, with_progress

Calls = list[tuple[int, int, str]]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6).map(sorted), st.integers(0, 9), st.integers(0, 9))
def test_parts_one_after_the_other_never_go_back(cuts: list[float], total: int, over: int) -> None:
    calls: Calls = []
    for k, (start, stop) in enumerate(pairwise(cuts)):
        report = part(lambda *call: calls.append(call), start, stop, f"{k}: ")
        assert report is not None
        for done in range(total + over + 1):
            report(done, total, "slice")
    shares = [done / whole for done, whole, _ in calls]
    assert shares == sorted(shares)
    assert all(cuts[0] - 1e-3 <= s <= cuts[-1] + 1e-3 for s in shares)
    assert calls[0][2] == "0: slice"


def test_a_part_of_no_progress_is_none() -> None:
    assert part(None, 0, 1) is None


def test_a_part_may_be_divided_again() -> None:
    calls: Calls = []
    report = part(part(lambda *call: calls.append(call), 0.5, 1.0, "a "), 0.0, 0.5, "b ")
    assert report is not None
    report(1, 1, "c")
    assert calls == [(750, 1000, "a b c")]


def test_items_are_counted_and_a_stop_is_seen_before_the_next_one() -> None:
    calls: Calls = []
    taken: list[str] = []
    with pytest.raises(OperationCancelled, match="nothing was changed"):  # noqa: PT012
        for item in with_progress("abc", 3, "work", lambda *call: calls.append(call), lambda: len(taken) == 2):
            taken.append(item)
    assert taken == ["a", "b"]
    assert calls == [(1, 3, "work"), (2, 3, "work")]
    check(None)
