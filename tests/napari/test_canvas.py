"""What is written on plots fits into them, however low they are docked."""

from __future__ import annotations

import itertools
from datetime import date

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from napari_medseq._napari.canvas import save_height
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
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
