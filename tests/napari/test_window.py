"""What the window looks like with our images and docks in it: sliders count from 1, docks are tabs and fit a small screen."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QTabBar

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.analyse_widget import AnalyseWidget
from napari_medseq._napari.controls import plot_dock
from napari_medseq._napari.curves_plot import CurvesPlot
from napari_medseq._napari.curves_widget import CurvesWidget
from napari_medseq._napari.progression_widget import ProgressionWidget
from napari_medseq._napari.study_widget import StudyWidget
from napari_medseq._napari.teach_widget import TeachWidget
from napari_medseq._napari.window.services import accompany
from napari_medseq.sequence import Study, Visit, affine_from

pytestmark = pytest.mark.viewer

DOCKS = (StudyWidget, ProgressionWidget, AnalyseWidget, TeachWidget, CurvesWidget)


def slider(viewer: Any, axis: str) -> Any:
    at = list(viewer.dims.axis_labels).index(axis)
    return viewer.window._qt_viewer.dims.slider_widgets[at]


def test_the_sliders_count_from_one(make_napari_viewer: Any, ball_study: Path, qtbot: Any) -> None:
    viewer = make_napari_viewer(show=False)
    verbs.open_path(viewer, ball_study)
    accompany(viewer)  # what was there before counts from one, too
    names = list(viewer.dims.axis_labels)
    visit, z = slider(viewer, "visit"), slider(viewer, "z")
    visits = int(viewer.dims.nsteps[names.index("visit")])
    assert (visit.curslice_label.text(), visit.totslice_label.text()) == ("1", str(visits))
    verbs.next_visit(viewer)
    assert visit.curslice_label.text() == "2"
    assert f"visit 2 of {visits}" in verbs.identity(viewer)[1]
    z.curslice_label.setText("")
    qtbot.keyClicks(z.curslice_label, "5")
    qtbot.keyClick(z.curslice_label, Qt.Key_Return)
    assert viewer.dims.current_step[names.index("z")] == 4
    assert z.curslice_label.text() == "5"


def test_sliders_count_the_slices_of_the_visit_that_is_shown_as_the_canvas_does(
    make_napari_viewer: Any,
) -> None:
    """Visits of 10 and of 4 slices: napari's slider has steps for both together, and room for one digit, since 9 is the last of 10."""
    visits = []
    for number, (count, spacing) in enumerate(((10, 2.0), (4, 5.0))):
        image = ms.ImageSequence(
            np.zeros((count, 8, 8), np.float32), ("z", "y", "x"), affine_from((1, 1, spacing)), name="T1", modality="MR"
        )
        visits.append(Visit(date(2020, 1 + number, 1), (image,), (), f"v{number + 1}"))
    viewer = make_napari_viewer(show=False)
    accompany(viewer)
    verbs.add_study(viewer, Study("sub-x", tuple(visits)))
    z, seen = slider(viewer, "z"), set()
    for visit in (0, 1):
        viewer.dims.set_point(0, visit)
        for step in range(viewer.dims.nsteps[1]):
            viewer.dims.set_current_step(1, step)
            texts = f"slice {z.curslice_label.text()} of {z.totslice_label.text()}"
            own = [line for line in verbs.identity(viewer) if line.startswith("slice")]
            assert own in ([texts], [])  # beyond a visit's slices nothing is shown of it
            seen.update(own)
            room = z.totslice_label.width() - z.totslice_label.fontMetrics().boundingRect("10").width()
            assert room >= 0
    assert {f"slice {k} of 4" for k in range(1, 5)} | {"slice 1 of 10", "slice 10 of 10"} <= seen
    viewer.dims.set_current_step(1, 0)
    z.curslice_label.setText("3")
    z.curslice_label.editingFinished.emit()
    assert verbs.identity(viewer)[-1] == "slice 3 of 4"
    z.curslice_label.setText("9")
    z.curslice_label.editingFinished.emit()
    assert verbs.identity(viewer)[-1] == "slice 4 of 4"


def test_docks_are_tabs_and_fit_a_small_screen(
    make_napari_viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = make_napari_viewer(show=False)
    window = viewer.window._qt_window
    for kind in DOCKS:
        viewer.window.add_dock_widget(kind(viewer), name=kind.__name__)
        qtbot.wait(20)
    ours = [dock for dock in window.findChildren(QDockWidget) if dock.windowTitle() in {k.__name__ for k in DOCKS}]
    assert len(ours) == len(DOCKS)
    assert len(window.tabifiedDockWidgets(ours[0])) == len(DOCKS) - 1
    assert window.minimumSizeHint().height() <= 720
    assert window.minimumSizeHint().width() <= 1280
    assert all(dock.widget().sizeHint().width() >= 350 for dock in ours)
    monkeypatch.setattr(plot_dock, "LOW_SCREEN", 10_000)
    plot = CurvesPlot(viewer)
    plot.dock("plot")
    qtbot.wait(20)
    (dock,) = (dock for dock in window.findChildren(QDockWidget) if dock.windowTitle() == "plot")
    assert window.dockWidgetArea(dock) == Qt.RightDockWidgetArea
    assert len(window.tabifiedDockWidgets(ours[0])) == len(DOCKS)
    assert window.minimumSizeHint().height() <= 600
    assert plot.minimumSizeHint().width() <= 420


def test_tabs_show_whole_names_and_scroll_where_the_dock_is_narrow(make_napari_viewer: Any, qtbot: Any) -> None:
    viewer = make_napari_viewer(show=False)
    window = viewer.window._qt_window
    names = ("Study", "Progression", "Analyse", "Teach", "Time curves")
    for kind, name in zip(DOCKS, names, strict=True):
        # the name that napari gives to the dock of a plugin's widget
        viewer.window.add_dock_widget(kind(viewer), name=f"{name} (napari-medseq)")
        qtbot.wait(20)
    (bar,) = window.findChildren(QTabBar, options=Qt.FindDirectChildrenOnly)
    assert {bar.tabText(k) for k in range(bar.count())} == set(names)
    assert bar.elideMode() == Qt.ElideNone
    assert bar.usesScrollButtons()
