"""`Labelled` keeps boxes of a plane and answers as a whole plane would."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_medseq.inference.prompts.merging import Labelled

SIZE = (9, 7)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[slice, slice]:
    rows, columns = (
        sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True).map(tuple))) for n in SIZE
    )
    return slice(*rows), slice(*columns)


@given(st.lists(st.tuples(boxes(), st.integers(0, 99)), max_size=12), boxes())
def test_boxes_say_what_the_whole_plane_would_and_are_never_larger(
    objects: list[tuple[tuple[slice, slice], int]], asked: tuple[slice, slice]
) -> None:
    labelled, plane = Labelled(SIZE), np.zeros(SIZE, np.float16)
    for box, seed in objects:
        rng = np.random.default_rng(seed)
        p = rng.random(plane[box].shape, np.float32) * (rng.random(plane[box].shape) < 0.4)
        labelled.add(box, p)
        np.maximum(plane[box], p.astype(np.float16), out=plane[box])
    assert np.array_equal(labelled.probability(asked), plane[asked])
    assert labelled.kept <= 2 * plane.size


def test_objects_that_lie_apart_keep_only_their_own_boxes() -> None:
    labelled = Labelled((200, 100))
    for corner in (10, 150):
        p = np.zeros((60, 50), np.float32)
        p[5:9, 20:30] = 0.8
        labelled.add((slice(corner - 10, corner + 50), slice(0, 50)), p)
    assert labelled.kept == 2 * 2 * 4 * 10
