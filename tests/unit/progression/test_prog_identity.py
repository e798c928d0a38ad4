"""When masks are tracked again, lesions keep their numbers: by the voxels that they share with the earlier result."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import napari_medseq as ms
from napari_medseq.progression import identity
from napari_medseq.sequence import ImageSequence
from tests.unit.progression.masks import A, B, C, mask


def relabelled(seq: ImageSequence, **boxes: tuple[int, tuple[int, ...]]) -> ImageSequence:
    """The labels with boxes painted over them; each is its value and place."""
    data = np.array(seq.data)
    for value, (z0, z1, y0, y1, x0, x1) in boxes.values():
        data[z0:z1, y0:y1, x0:x1] = value
    return seq.replace(data=data)


def numbers(progression: ms.Progression, visit: int) -> set[int]:
    return {int(v) for v in np.unique(np.asarray(progression.labels[visit].data)) if v}  # type: ignore[union-attr]


def test_an_excluded_number_is_not_given_again_and_the_others_stay() -> None:
    before = ms.track([mask(A, B), mask(A, C)])
    assert numbers(before, 1) == {1, 3}
    before.exclude(2)
    painted = [labels for labels in before.labels if labels is not None]
    painted[1] = relabelled(painted[1], new=(9, (2, 4, 30, 36, 30, 36)), other=(3, (14, 18, 2, 6, 2, 6)))
    again = ms.track(painted)
    assert numbers(again, 1) == {1, 2, 3, 4}  # by themselves they are counted anew
    again.keep_identities(before, painted)
    now = np.asarray(again.labels[1].data)  # type: ignore[union-attr]
    assert now[10, 20, 20] == 3  # C
    assert now[2, 30, 30] == 9  # a number that nobody had
    assert now[14, 2, 2] == 10  # painted as 3, which C is
    assert numbers(again, 0) == {1}
    assert set(again.lesions["lesion"]) == {1, 3, 9, 10}


def test_a_lesion_that_is_cut_keeps_its_number_on_the_larger_part() -> None:
    before = ms.track([mask(C), mask(C, A)])
    painted = [labels for labels in before.labels if labels is not None]
    painted[1] = relabelled(painted[1], cut=(0, (2, 8, 2, 8, 4, 5)))  # A: x 2 to 10
    again = ms.track(painted)
    again.keep_identities(before)
    now = np.asarray(again.labels[1].data)  # type: ignore[union-attr]
    assert (now[2, 2, 9], now[10, 20, 20]) == (2, 1)
    assert now[2, 2, 2] == 3


@given(
    st.dictionaries(st.integers(1, 6), st.dictionaries(st.integers(1, 6), st.integers(1, 9), max_size=4), max_size=6)
)
def test_no_number_is_given_twice(counts: dict[int, dict[int, int]]) -> None:
    given_numbers = identity.assigned(counts, taken={3})
    assert len(set(given_numbers.values())) == len(given_numbers)
    assert 3 not in given_numbers.values()
    for i, number in given_numbers.items():
        assert number in counts[i]
