"""What is written on plots fits into them, however low they are docked."""

from __future__ import annotations

import itertools
from datetime import date

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from napari_medseq._napari.controls.canvas import save_height
from napari_medseq.progression import plots, track
from tests.unit.progression.masks import A, B, mask

pytest.importorskip("qtpy")


def test_words_of_a_low_plot_neither_leave_it_nor_lie_on_each_other() -> None:
    progression = track([mask(A), mask(A, B)], dates=[date(1992, 12, 29), date(1994, 2, 17)])
    figure = Figure(figsize=(9.5, 0.85), dpi=100, layout="constrained")
    lesions, total = figure.subplots(1, 2, width_ratios=(1.6, 1))
    plots.spaghetti(progression, lesions)
    plots.burden(progression, total)
    lesions.set_title("Volume of each lesion", loc="left")
    total.set_title("Total burden", loc="left")
    for axes in (lesions, total):
        axes.title.set_fontsize(9)
        axes.tick_params(labelsize=8)
        save_height(axes)
    FigureCanvasAgg(figure).draw()
    assert [a.get_title(loc="left") for a in (lesions, total)] == ["Volume of each lesion (mL)", "Total burden (mL)"]
    words = [total._left_title, *total.texts]
    boxes = [word.get_window_extent() for word in words]
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))
    assert total.bbox.height >= 30  # and a curve can be seen
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_the_curve_of_a_low_plot_keeps_room_beside_the_name_of_its_axis() -> None:
    figure = Figure(figsize=(9.5, 0.85), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [58, 102])
    axes.set_title("Mean intensity over time", loc="left")
    axes.set_ylabel("mean intensity")
    axes.set_xlabel("time (s)")
    save_height(axes)
    FigureCanvasAgg(figure).draw()
    assert axes.get_title(loc="left") == "Mean intensity over time"
    assert [text.get_text() for text in axes.texts] == ["time (s)"]
    assert axes.bbox.height >= 30
