"""What the window looks like with our images and docks in it: sliders count from 1, docks are tabs and fit a small screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QTabBar

from napari_medseq import viewer as verbs
from napari_medseq._napari import plot_dock
from napari_medseq._napari.analyse_widget import AnalyseWidget
from napari_medseq._napari.curves_plot import CurvesPlot
from napari_medseq._napari.curves_widget import CurvesWidget
from napari_medseq._napari.progression_widget import ProgressionWidget
from napari_medseq._napari.study_widget import StudyWidget
from napari_medseq._napari.teach_widget import TeachWidget
from napari_medseq._napari.window import accompany

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
