"""The map of change: against sets of voxels that are known, through registration, merges and visits between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import napari_medseq as ms
from napari_medseq.errors import MedseqError
from napari_medseq.progression.changemap import CHANGES, change_map, flows_between, mark_changes
from tests.unit.progression.masks import BRIDGE, A, B, C, mask

NAMES = {name: value for value, name in CHANGES.items()}
SMALL = arrays(np.uint8, (3, 4, 4), elements=st.integers(0, 3))


def counts(found: ms.ImageSequence) -> dict[str, int]:
    values, numbers = np.unique(np.asarray(found.data), return_counts=True)
    return {CHANGES[int(v)]: int(n) for v, n in zip(values, numbers, strict=True) if v}


def size(box: tuple[int, ...]) -> int:
    return int(np.prod(np.diff(np.reshape(box, (3, 2)), axis=1)))


def test_new_gone_grown_and_shrunk_are_where_they_were_painted() -> None:
    smaller = (2, 8, 2, 8, 2, 6)
    p = ms.track([mask(A, B), mask(smaller, C)])
    found = counts(change_map(p, 0, 1))
    assert found == {"unchanged": size(smaller), "shrunk": size(A) - size(smaller), "gone": size(B), "new": size(C)}
    back = counts(change_map(ms.track([mask(smaller, C), mask(A, B)]), 0, 1))
    assert back == {"unchanged": size(smaller), "grown": size(A) - size(smaller), "gone": size(C), "new": size(B)}


def test_a_lesion_that_merges_into_another_is_not_gone() -> None:
    p = ms.track([mask(A, B), mask(A, B, BRIDGE)])
    assert flows_between(p, 0, 1) == {(1, 1), (2, 1)}
    assert counts(change_map(p, 0, 1)) == {"unchanged": size(A) + size(B), "grown": size(BRIDGE)}


def test_a_lesion_missed_between_goes_on() -> None:
    p = ms.track([mask(A, C), mask(C), mask(A, C)])
    assert counts(change_map(p, 0, 2)) == {"unchanged": size(A) + size(C)}
    # and from the visit that missed it, it is new
    assert counts(change_map(p, 1, 2)) == {"unchanged": size(C), "new": size(A)}


def test_registration_is_followed() -> None:
    """The second visit lies 7 mm off in the scanner; with its registration nothing changed."""
    shift = np.eye(4)
    shift[0, 3] = 7.0
    here = mask(A, C)
    p = ms.track([here, here.replace(affine=shift @ here.affine)], transforms=[np.eye(4), np.linalg.inv(shift)])
    assert counts(change_map(p, 0, 1)) == {"unchanged": size(A) + size(C)}


def test_outside_the_earlier_field_of_view_nothing_is_called_new() -> None:
    p = ms.track([mask(A, shape=(9, 40, 40)), mask(A, C)])
    found = counts(change_map(p, 0, 1))
    assert found["not seen before"] + found.get("new", 0) == size(C)
    assert found["not seen before"] >= size(C) - 36


@pytest.mark.parametrize(("earlier", "later"), [(1, 0), (0, 0), (0, 2), (-1, 1)])
def test_visits_that_cannot_be_compared_are_refused(earlier: int, later: int) -> None:
    with pytest.raises(MedseqError, match="cannot be compared"):
        change_map(ms.track([mask(A), mask(A)]), earlier, later)


def test_a_visit_without_a_mask_is_refused() -> None:
    with pytest.raises(MedseqError, match="Visit 2 has no mask"):
        change_map(ms.track([mask(A), None, mask(A)]), 0, 1)


@given(SMALL, SMALL, st.sets(st.tuples(st.integers(1, 3), st.integers(1, 3))))
def test_every_voxel_of_either_mask_and_no_other_is_marked(
    before: np.ndarray, after: np.ndarray, flows: set[tuple[int, int]]
) -> None:
    found = mark_changes(before, after, flows)
    assert ((found != 0) == ((before != 0) | (after != 0))).all()
    assert ((found == NAMES["unchanged"]) == ((before != 0) & (after != 0))).all()
    for z in np.ndindex(found.shape):
        if found[z] == NAMES["grown"]:
            assert any(later == after[z] for _, later in flows)
        if found[z] == NAMES["gone"]:
            assert not any(earlier == before[z] for earlier, _ in flows)


@given(SMALL, SMALL, st.sets(st.tuples(st.integers(1, 3), st.integers(1, 3))))
def test_time_turned_round_turns_each_change_round(
    before: np.ndarray, after: np.ndarray, flows: set[tuple[int, int]]
) -> None:
    there = mark_changes(before, after, flows)
    back = mark_changes(after, before, {(b, a) for a, b in flows})
    for one, other in (("new", "gone"), ("grown", "shrunk"), ("unchanged", "unchanged")):
        assert ((there == NAMES[one]) == (back == NAMES[other])).all()
