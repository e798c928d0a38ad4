"""An object outlined from a box, points or scribbles: analytic shapes in noise, and hints that cannot be right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.masks import Hints, outline
from napari_medseq.masks.outlining import _minimum_cut, _neighbours

SIZE = (80, 100)
Y, X = np.indices(SIZE)


def disc(row: float, column: float, radius: float) -> NDArray[np.bool_]:
    return np.asarray((Y - row) ** 2 + (X - column) ** 2 <= radius**2)


def seen(mask: NDArray[np.bool_], contrast: float = 40.0, seed: int = 0) -> NDArray[np.float64]:
    return 100 + contrast * mask + np.random.default_rng(seed).normal(0, 12, mask.shape)


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


@settings(max_examples=12, deadline=None)
@given(st.integers(22, 56), st.integers(22, 76), st.integers(7, 18), st.sampled_from([-40.0, 40.0]))
def test_a_box_finds_a_bright_or_dark_disc(row: int, column: int, radius: int, contrast: float) -> None:
    truth = disc(row, column, radius)
    found = outline(
        seen(truth, contrast), Hints(box=((row - radius, column - radius), (row + radius, column + radius)))
    )
    assert dice(found, truth) > 0.93


def test_what_is_no_ellipse_is_followed() -> None:
    truth = (abs(Y - 40) <= 20) & (abs(X - 50) <= 20) & ~((Y > 40) & (X > 50))  # an L
    found = outline(seen(truth, 60), Hints(box=((20, 30), (60, 70))))
    assert dice(found, truth) > 0.95


def test_nothing_beyond_the_box_is_taken() -> None:
    truth = disc(40, 50, 18)
    found = outline(seen(truth), Hints(box=((22, 32), (58, 50))))  # its left half
    assert not found[:, 51:].any()
    assert dice(found, truth & (X <= 50)) > 0.85


def test_one_point_finds_the_disc_it_lies_in_and_not_its_like_elsewhere() -> None:
    one, other = disc(40, 30, 12), disc(40, 75, 12)
    assert dice(outline(seen(one | other), Hints(inside=[(41, 29)])), one) > 0.93


def test_a_point_beside_takes_a_neighbour_away() -> None:
    one, other = disc(40, 42, 10), disc(40, 60, 10)
    both = seen(one | other)
    box = ((29, 31), (51, 71))
    assert dice(outline(both, Hints(box=box)), one | other) > 0.9
    found = outline(both, Hints(inside=[(40, 42)], outside=[(40, 60), (40, 55)], box=box))
    assert dice(found, one) > 0.85
    assert not found[40, 60]


def test_scribbles_are_their_pixels_and_stay() -> None:
    truth = disc(40, 50, 15)
    inside, outside = truth & (Y == 40), disc(40, 50, 26) & ~disc(40, 50, 24)
    found = outline(seen(truth, 15), Hints(inside=np.argwhere(inside), outside=np.argwhere(outside)))
    assert found[inside].all()
    assert not found[outside].any()
    assert dice(found, truth) > 0.85


def test_a_large_plane_is_answered_at_its_own_size() -> None:
    y, x = np.indices((500, 700))
    truth = (y - 250) ** 2 + (x - 350) ** 2 <= 120**2
    found = outline(seen(truth), Hints(box=((130, 230), (370, 470))))
    assert found.shape == truth.shape
    assert dice(found, truth) > 0.96


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_where_nothing_is_to_be_seen_the_place_decides(value: float) -> None:
    found = outline(np.full(SIZE, value), Hints(box=((20, 30), (60, 70))))
    assert dice(found, disc(40, 50, 20)) > 0.85


@pytest.mark.parametrize(
    ("hints", "text"),
    [
        (Hints(), "Nothing says where"),
        (Hints(outside=[(3, 3)]), "Nothing says where"),
        (Hints(inside=[(80, 3)]), "beyond the image of 80 × 100"),
        (Hints(inside=[(3, 3)], outside=[(-1, 3)]), "A point outside"),
        (Hints(inside=[(3, 3)], outside=[(3, 3)]), "inside and outside"),
        (Hints(box=((5, 5), (5, 50))), "holds nothing"),
        (Hints(box=((200, 5), (250, 50))), "holds nothing"),
    ],
)
def test_hints_that_cannot_be_right_are_named(hints: Hints, text: str) -> None:
    with pytest.raises(MedseqError, match=text):
        outline(np.zeros(SIZE), hints)


def test_a_volume_is_refused() -> None:
    with pytest.raises(MedseqError, match="choose a slice"):
        outline(np.zeros((3, 4, 5)), Hints(inside=[(1, 1)]))


def test_the_cut_is_the_cheapest_of_all() -> None:
    """Against every labelling of a few pixels."""
    rng = np.random.default_rng(0)
    plane, wish = rng.normal(0, 1, (3, 4)), np.round(rng.normal(0, 3000, (3, 4)))
    graph = _neighbours(plane, (1.0, 1.0))
    dense: Any = graph.toarray()

    def cost(labels: NDArray[np.bool_]) -> float:
        flat = labels.ravel()
        own = np.where(flat, np.maximum(-wish.ravel(), 0), np.maximum(wish.ravel(), 0)).sum()
        return float(own + dense[np.ix_(flat, ~flat)].sum())

    every = ((np.arange(1 << 12)[:, None] >> np.arange(12)) & 1).astype(bool)
    assert cost(_minimum_cut(graph, wish)) == min(cost(labels) for labels in every)


def test_pixels_that_are_no_numbers_do_not_move_the_outline() -> None:
    truth = disc(40, 50, 15)
    plane = seen(truth)
    hints = Hints(box=((25, 35), (55, 65)))
    clean = outline(plane, hints)
    plane[40, 50], plane[41, 52], plane[5, 5], plane[24, 40] = np.inf, np.nan, -np.inf, -np.inf
    assert dice(outline(plane, hints), clean) > 0.98
