"""What the plots give back for the mouse, and their colours."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pytest
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import napari_medseq as ms
from napari_medseq.colours import lesion_colour
from napari_medseq.progression import plots, sentences
from napari_medseq.sequence import ImageSequence, affine_from
from tests.narrowing import some
from tests.unit.progression.masks import BRIDGE, A, B, C, mask

Draw: TypeAlias = Callable[[ms.Progression, Axes], dict[int, list[Artist]]]


@pytest.fixture(scope="module")
def progression() -> ms.Progression:
    return ms.track([mask(A, B, C), mask(A, B, BRIDGE), mask(A, B)], dates=["2020-01-01", "2020-03-01", "2020-06-01"])


@pytest.mark.parametrize("draw", [plots.spaghetti, plots.swimmer, plots.waterfall])
def test_each_lesion_has_its_artists_in_its_colour(progression: ms.Progression, draw: Draw) -> None:
    shown = draw(progression, Figure().subplots())
    expected = set(progression.lesions["lesion"])
    if (
        draw.__name__ == "waterfall"
    ):  # a lesion that merged, or was seen once, at the last visit, has no change of its own
        expected -= {2, 4}
    assert set(shown) == expected
    for lesion, artists in shown.items():
        first = artists[0]
        assert isinstance(first, (Line2D, Patch))
        colour = first.get_color() if isinstance(first, Line2D) else first.get_facecolor()
        assert to_rgba(colour) == pytest.approx(lesion_colour(lesion))


def test_lines_lie_on_true_dates_and_values(progression: ms.Progression) -> None:
    axes = Figure().subplots()
    line = plots.spaghetti(progression, axes)[1][0]
    assert isinstance(line, Line2D)
    rows = progression.lesions.query("lesion == 1")
    np.testing.assert_array_equal(line.get_xdata(), rows["date"].to_numpy("datetime64[D]"))
    np.testing.assert_allclose(np.asarray(line.get_ydata(), float), rows["volume_ml"])
    relative = plots.spaghetti(progression, Figure().subplots(), relative=True, log=True)[1][0]
    assert isinstance(relative, Line2D)
    assert np.asarray(relative.get_ydata())[0] == 100


def test_undated_visits_stand_at_their_numbers() -> None:
    x, real = plots.x_positions(ms.track([mask(A), mask(A)]))
    assert not real
    assert x.tolist() == [1, 2]


def test_where_every_lesion_is_excluded_the_dates_still_stand_apart() -> None:
    progression = ms.track([mask(A), mask(A)], dates=["2020-01-01", "2020-03-01"])
    progression.exclude(1)
    axes = Figure().subplots()
    plots.spaghetti(progression, axes)
    assert np.allclose(axes.get_xticks(), axes.get_xlim())


def test_colours_differ_and_zero_is_clear() -> None:
    colours = [lesion_colour(n) for n in range(1, 40)]
    assert len({tuple(np.round(c, 3)) for c in colours}) == 39
    apart = [np.abs(np.subtract(a, b)).max() for a, b in pairwise(colours)]
    assert min(apart) > 0.2
    assert lesion_colour(0)[3] == 0


@pytest.mark.parametrize(("ground", "ink"), [("#262930", "white"), ("white", "black")])
def test_marks_of_events_are_seen_on_dark_and_light_ground(progression: ms.Progression, ground: str, ink: str) -> None:
    axes = Figure().subplots()
    axes.set_facecolor(ground)
    axes.xaxis.label.set_color(ink)
    drawn = [a for artists in plots.swimmer(progression, axes).values() for a in artists]
    marks = [a for a in drawn if isinstance(a, Line2D) and a.get_marker() != "o"]
    assert all(isinstance(a, Line2D) for a in drawn)
    assert "x" in {a.get_marker() for a in marks}
    for mark in marks:
        seen = np.abs(np.subtract(to_rgba(mark.get_markeredgecolor()), to_rgba(ground))[:3]).max()
        assert seen > 0.3
        assert mark.get_markeredgewidth() >= (2 if mark.get_marker() == "x" else 1)


def test_of_very_many_lesions_the_largest_are_drawn_and_said() -> None:
    data = np.zeros((12, 40, 40), np.uint8)
    data[1::4, 1::4, 1::4] = 1  # 300 specks
    data[5:8, 5:8, 5:8] = 1
    noise = ImageSequence(data, ("z", "y", "x"), affine_from((3, 3, 3)), kind="labels")
    p = ms.track([noise, noise])
    largest = int(some(p.labels[0]).data[5, 5, 5])
    for draw in (plots.spaghetti, plots.swimmer, plots.waterfall):
        axes = Figure().add_subplot()
        shown = draw(p, axes)
        assert len(shown) == 200
        assert largest in shown
        assert any("200 largest of 300" in text.get_text() for text in axes.texts)
    assert len(p.growth) == 300


def test_a_union_has_no_change_of_its_own_until_it_falls_apart_again() -> None:
    apart, union = mask(A, B, C), mask(A, B, BRIDGE, C)
    assert set(plots.waterfall(ms.track([apart, union]), Figure().subplots())) == {3}
    assert {1, 3} <= set(plots.waterfall(ms.track([apart, union, apart]), Figure().subplots()))


def test_a_visit_without_a_mask_has_no_numbers_beside_the_burden() -> None:
    axes = Figure().subplots()
    with pytest.warns(ms.MedseqWarning, match="no mask"):
        p = ms.track([mask(A), None, mask(A)])
    plots.burden(p, axes)
    assert [text.get_text() for text in axes.texts] == ["0.288 mL\n1 lesion"] * 2


def test_the_sentence_on_the_burden_and_the_table_name_one_bound() -> None:
    p = ms.track([mask((2, 5, 2, 5, 2, 5)), mask((2, 12, 2, 20, 2, 20))], dates=["2020-01-01", "2020-06-01"])
    bound = p.lesions.query("visit == 1")["change_bound_ml"].item()
    assert f"noise bound {bound:.2g} mL" in " ".join(sentences.overall(p))
