"""The docked plots and the corrections: what a mouse does, what is highlighted, exported, corrected and undone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backend_bases import MouseButton, MouseEvent
from matplotlib.lines import Line2D
from qtpy.QtCore import Qt
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QLabel

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari import actions
from napari_medseq._napari.controls.plot_dock import PlotDock
from napari_medseq._napari.curves_widget import CurvesWidget
from napari_medseq._napari.progression_widget import ProgressionWidget
from napari_medseq.colours import lesion_colour
from napari_medseq.sequence import ImageSequence, Study, Visit, affine_from
from napari_medseq.viewer.layers.placement import camera_of
from tests.napari.helpers import as_plugins_see_it

pytestmark = [pytest.mark.viewer, pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")]


def block(data: np.ndarray, z: int, y: int, x: int, size: int) -> None:
    data[z : z + size, y : y + size, x : x + size] = 1


def three_visits() -> Study:
    """Lesions far apart: 1 grows, 2 vanishes at the second visit, another comes elsewhere at the second and third."""
    from datetime import date

    visits = []
    for k in range(3):
        data = np.zeros((12, 48, 48), np.uint8)
        block(data, 2, 4, 4, 6 + k)
        if k == 0:
            block(data, 2, 30, 6, 5)
        else:
            block(data, 4, 32, 34, 4)
        grey = np.where(data > 0, 300, 100).astype(np.int16)
        image = ImageSequence(grey, ("z", "y", "x"), affine_from((1, 1, 2)), modality="MR", name="T1post")
        mask = image.labels_like(data, name="mask", label_names={1: "lesion"})
        visits.append(Visit(date(2020, 1 + k, 1), (image,), (mask,), f"v{k + 1}"))
    return Study("three", tuple(visits))


@pytest.fixture
def widget(make_napari_viewer: Callable[..., Any], qtbot: Any) -> Any:
    """The Progression widget with the result of three visits."""
    viewer = make_napari_viewer(show=False)
    study = three_visits()
    verbs.add_study(viewer, study)
    widget = ProgressionWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name="Progression")
    labels = [visit.labels[0] for visit in study.visits]
    widget.show_result(ms.track(labels, dates=study.dates), study, card="# the card")
    qtbot.waitUntil(widget.model.box.isEnabled, timeout=60000)
    return widget


def mouse(canvas: Any, what: str, axes: Any, x: float, y: float) -> None:
    right, up = axes.transData.transform((x, y))
    event = MouseEvent(what, canvas, right, up, MouseButton.LEFT if "button" in what else None)
    assert event.inaxes is axes
    canvas.callbacks.process(what, event)


def identities(widget: Any, visit: int) -> set[int]:
    return {int(v) for v in np.unique(widget.result.layers[visit].data)} - {0}


def select(widget: Any, visit: int, lesion: int) -> Any:
    widget.result.go_to(visit, lesion)
    box = widget.result.corrections
    assert box.current == (visit, lesion)
    return box


def test_the_plot_answers_to_mouse_labels_and_slider(widget: Any, tmp_path: Path, notices: list[Any]) -> None:
    viewer, plot = widget.viewer, widget.result.plot
    canvas = plot.canvas.canvas
    canvas.draw()
    lesions, total = plot.canvas.figure.axes
    x = plot.positions()
    table = widget.result.progression.lesions
    value = float(table.query("lesion == 1 and visit == 1")["volume_ml"].iloc[0])
    # hover names the lesion, its date, volume and event
    mouse(canvas, "motion_notify_event", lesions, x[1], value)
    assert plot.hovered == f"lesion 1, 2020-02-01, {value:.3g} mL, growing"
    mouse(canvas, "motion_notify_event", total, x[0], 0.01)
    assert plot.hovered == ""
    # a click goes to visit and lesion; a click beside every line goes to the nearest visit
    mouse(canvas, "button_press_event", lesions, x[1], value)
    assert viewer.dims.point[0] == 1
    assert widget.result.layers[1].selected_label == 1
    mouse(canvas, "button_press_event", total, x[2] - 2, 0.01)
    assert viewer.dims.point[0] == 2
    assert [line.get_xdata()[0] for line in plot._cursors] == [x[2]] * 2
    # the selected label's line stands out, in the label's colour
    widget.result.layers[2].selected_label = 3
    assert plot.selected == 3
    lines = {owner: a for a, owner in plot._drawn.owners.items() if len(getattr(a, "get_xydata", list)()) > 1}
    assert lines[3].get_linewidth() > lines[1].get_linewidth()
    assert lines[3].get_alpha() != lines[1].get_alpha()
    for lesion, line in lines.items():
        np.testing.assert_allclose(line.get_color(), lesion_colour(lesion))
        np.testing.assert_allclose(widget.result.layers[0].get_color(lesion), lesion_colour(lesion), atol=0.01)
    # a new theme keeps the cursor where the slider is
    viewer.theme = "light"
    assert np.asarray(plot._cursors[0].get_xdata())[0] == x[2]
    # every view is drawn; only lines can be logarithmic or relative
    for k in range(plot.view.count()):
        plot.view.setCurrentIndex(k)
        assert plot.log.isHidden() == (k > 1)
    plot.view.setCurrentIndex(0)
    plot.relative.setChecked(True)
    plot.log.setChecked(True)
    axes = plot.canvas.figure.axes[0]
    assert axes.get_ylabel() == "% of first visit"
    assert axes.get_yscale() == "log"
    # export: pictures dark on white whatever the theme, and the numbers
    for ending in ("png", "svg", "csv"):
        plot.save(tmp_path / f"plot.{ending}")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (tmp_path / "plot.svg").read_text()
    assert pd.read_csv(tmp_path / "plot.csv")["lesion"].tolist() == table["lesion"].tolist()
    plot.view.setCurrentText("Total burden")
    plot.save(tmp_path / "plot.csv")
    assert len(pd.read_csv(tmp_path / "plot.csv")) == 3
    assert not list(tmp_path.glob(".*"))
    assert notices[-1][1].startswith("Saved")


def test_corrections_act_on_the_selected_label_and_recompute(widget: Any, qtbot: Any, notices: list[Any]) -> None:
    result = widget.result
    assert [identities(widget, k) for k in range(3)] == [{1, 2}, {1, 3}, {1, 3}]
    box = select(widget, 1, 3)
    assert not box.unlink_button.isEnabled()  # it is new: there is nothing to unlink
    assert not box.undo_button.isEnabled()
    # lesion 3 was lesion 2 of the first visit
    box.other.setCurrentIndex(box.other.findData(2))
    assert box.link_button.isEnabled()
    assert not box.merge_button.isEnabled()  # 2 is not there at this visit
    qtbot.mouseClick(box.link_button, Qt.LeftButton)
    assert [identities(widget, k) for k in range(3)] == [{1, 2}] * 3
    assert box.current == (1, 2)
    assert "resolved" not in result.progression.lesions["event"].tolist()
    assert result.table.rowCount() == len(result.progression.lesions) == 6
    assert set(result.plot._drawn.owners.values()) == {1, 2}
    assert box.undo_button.text() == "Undo (1)"
    # unlink and merge at the third visit
    box = select(widget, 2, 2)
    qtbot.mouseClick(box.unlink_button, Qt.LeftButton)
    assert len(identities(widget, 2)) == 2
    assert 2 not in identities(widget, 2)
    box.other.setCurrentIndex(box.other.findData(1))
    qtbot.mouseClick(box.merge_button, Qt.LeftButton)
    assert identities(widget, 2) == {1}
    assert box.current == (2, 1)
    # cut it in its two parts again
    qtbot.mouseClick(box.split_button, Qt.LeftButton)
    assert len(identities(widget, 2)) == 2
    # no lesion after all, at this visit only
    box = select(widget, 1, 1)
    box.only_here.setChecked(True)
    qtbot.mouseClick(box.exclude_button, Qt.LeftButton)
    assert identities(widget, 1) == {2}
    assert box.current is None
    assert result.progression.corrections[-1] == "exclude lesion 1 at visit 2"
    # all of it is taken back
    for _ in range(5):
        qtbot.mouseClick(box.undo_button, Qt.LeftButton)
    assert [identities(widget, k) for k in range(3)] == [{1, 2}, {1, 3}, {1, 3}]
    assert not box.undo_button.isEnabled()
    assert not [text for severity, text in notices if severity == "error"]
    # what cannot be done is one notification, and nothing changes
    box = select(widget, 0, 2)
    qtbot.mouseClick(box.split_button, Qt.LeftButton)
    assert [severity for severity, _ in notices if severity == "error"] == ["error"]
    assert "one piece" in notices[-1][1]
    assert identities(widget, 0) == {1, 2}
    box.pieces.setValue(2)
    qtbot.mouseClick(box.split_button, Qt.LeftButton)
    assert len(identities(widget, 0)) == 3


def test_the_plot_and_its_disclaimer_are_there_and_come_back(widget: Any) -> None:
    viewer, plot = widget.viewer, widget.result.plot
    for shown in (plot, widget):
        notes = [label for label in shown.findChildren(QLabel) if "not a medical device" in label.text()]
        assert len(notes) == 1
        assert notes[0].isVisibleTo(shown)
    dock = plot.parent()
    viewer.window.remove_dock_widget(dock)
    assert plot.parent() is None
    widget.result._show_plot()
    assert plot.parent() not in (None, dock)
    assert "Progression plot" in viewer.window.dock_widgets


def test_the_camera_moves_only_where_the_lesion_is_out_of_view(widget: Any) -> None:

    camera = camera_of(widget.viewer)
    layer = widget.result.layers[1]
    layer.corner_pixels = np.array([[0, 0, 0, 0], [0, 11, 47, 47]])
    before = tuple(camera.center)
    widget.result.go_to(1, 1)
    assert tuple(camera.center) == before
    layer.corner_pixels = np.array([[0, 0, 20, 20], [0, 11, 47, 47]])  # zoomed in elsewhere
    widget.result.go_to(1, 1)
    assert tuple(camera.center) != before


def test_a_result_whose_last_visit_has_no_mask_is_shown(widget: Any, notices: list[Any]) -> None:
    study = three_visits()
    labels = [*(visit.labels[0] for visit in study.visits[:2]), None]
    widget.show_result(ms.track(labels, dates=study.dates), study)
    assert widget.result.summary.text().endswith("mL at visit 2 of 3 (0.682 mL at the first).")
    assert not [text for kind, text in notices if kind == "error"]
    widget.result.go_to(2, 1)
    assert notices[-1][1] == "Visit 3 has no mask; nothing was followed there."


def test_a_name_without_an_ending_replaces_no_plot(
    widget: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notices: list[Any]
) -> None:
    """The dialog asks about the name that was typed, and not about the one with the ending."""
    for typed in ("sub-03.v1", "sub-03.v2"):
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_a, name=typed: (str(tmp_path / name), ""))
        widget.result.plot._ask("csv")
    assert sorted(path.name for path in tmp_path.glob("sub*")) == ["sub-03.v1.csv", "sub-03.v2.csv"]
    (tmp_path / "sub-03.v2.csv").write_text("mine")
    widget.result.plot._ask("csv")
    assert (tmp_path / "sub-03.v2.csv").read_text() == "mine"
    assert notices[-1][0] == "error"
    assert "exists" in notices[-1][1]


def test_the_report_is_saved_with_the_card_and_opened(
    widget: Any, wait: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notices: list[Any]
) -> None:
    opened: list[str] = []
    path = tmp_path / "report.html"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_a: (str(path), ""))
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    widget.result._ask_report()
    wait(lambda: not widget.result.saving.busy)
    text = path.read_text()
    assert "the card" in text
    assert "Progression of three" in text
    assert "not a medical device" in text
    assert opened == [str(path)]
    # a place that cannot be written: told once, not opened
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_a: (str(path / "below" / "r.html"), ""))
    widget.result._ask_report()
    wait(lambda: not widget.result.saving.busy)
    assert len(opened) == 1
    assert notices[-1][0] == "error"


def test_curves_of_a_dynamic_series(make_napari_viewer: Callable[..., Any], qtbot: Any, notices: list[Any]) -> None:
    times = np.array([0.0, 2.0, 5.0, 9.0, 20.0])
    data = np.full((5, 4, 16, 16), 100.0, np.float32)
    data[:, 1, 4:8, 4:8] += np.array([0, 10, 80, 60, 40], np.float32)[:, None, None]
    data[:, 2, 10:13, 10:13] += np.array([0, 5, 10, 20, 30], np.float32)[:, None, None]
    viewer = make_napari_viewer(show=False)
    image = verbs.add_sequence(
        viewer, ImageSequence(data, ("t", "z", "y", "x"), affine_from((1, 1, 2)), times=times, name="dce")
    )
    # a user has no labels yet: the command gives an empty layer on this grid, one mask for all frames
    viewer.layers.selection.active = image
    actions.new_labels(viewer)
    layer = viewer.layers.selection.active
    assert layer.data.shape == (4, 16, 16)
    assert layer.mode == "paint"
    widget = CurvesWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name="Time curves")
    qtbot.mouseClick(widget.run_button, Qt.LeftButton)
    qtbot.waitUntil(lambda: not widget.work.busy, timeout=60000)
    assert notices[-1][0] == "error"
    assert "no label painted" in notices[-1][1]
    rise = np.asarray(image.data[2]) - 100
    layer.data = np.where(rise > 50, 1, np.where(rise > 0, 2, 0)).astype(layer.data.dtype)
    qtbot.mouseClick(widget.run_button, Qt.LeftButton)
    qtbot.waitUntil(lambda: not widget.work.busy, timeout=60000)
    assert widget.measures is not None
    assert widget.measures["time_to_peak_s"].tolist() == [5.0, 20.0]
    assert widget.table.rowCount() == 2
    heads = {widget.table.horizontalHeaderItem(k).text(): k for k in range(widget.table.columnCount())}
    slope = widget.table.item(0, heads["wash-in\n(intensity/s)"]).text()
    assert float(slope) == 80 / 5  # 80 above the first frame, 5 s after it
    assert all("(" in head for head in list(heads)[1:])  # each number has its unit
    plot = widget.plot
    plot.canvas.canvas.draw()
    (axes,) = plot.canvas.figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time (s)", "mean intensity")
    mouse(plot.canvas.canvas, "button_press_event", axes, 9.0, 160.0)
    assert plot.shown_step() == 3
    assert layer.selected_label == 1
    assert np.asarray(plot._cursors[0].get_xdata())[0] == 9.0
    viewer.dims.set_current_step(0, 1)
    assert np.asarray(plot._cursors[0].get_xdata())[0] == 2.0
    mouse(plot.canvas.canvas, "motion_notify_event", axes, 5.0, 110.0)
    assert plot.hovered == "label 2, frame 3 of 5, 5 s, 110"
    camera_of(viewer).zoom = zoom = camera_of(viewer).zoom * 3
    qtbot.mouseClick(widget.run_button, Qt.LeftButton)  # the plot is there already: the view stays as it is
    qtbot.waitUntil(lambda: not widget.work.busy, timeout=60000)
    assert camera_of(viewer).zoom == zoom
    widget.table.row_chosen.emit(1)
    assert plot.selected == 2
    assert plot.shown_step() == 1
    plot.relative.setChecked(True)
    lines = [line for line in plot._drawn.owners if isinstance(line, Line2D)]
    assert max(np.max(line.get_ydata()) for line in lines) == pytest.approx(180)
    np.testing.assert_allclose(layer.get_color(2), lesion_colour(2), atol=0.01)
    assert widget.subject.text() == f"{layer.name} in dce"
    viewer.layers.remove(image)  # of what is gone nothing is shown or held
    assert (widget.table.rowCount(), widget.table.isHidden(), widget.subject.text()) == (0, True, "")
    assert not plot.ready
    assert not plot.canvas.figure.axes
    assert plot._image is plot._layer is vars(widget)["measures"] is None
    assert not widget._measured


def test_new_labels_lie_on_the_visits_image_and_count_as_its_mask(
    make_napari_viewer: Callable[..., Any], notices: list[Any]
) -> None:
    viewer = make_napari_viewer(show=False)
    actions.new_labels(viewer)
    assert notices[-1][0] == "error"
    study = three_visits()
    verbs.add_study(viewer, Study("three", tuple(Visit(v.date, v.images, (), v.name) for v in study.visits)))
    for image in [layer for layer in viewer.layers if layer._type_string == "image"]:
        viewer.layers.selection.active = image
        actions.new_labels(viewer)
        painted = viewer.layers.selection.active
        assert painted.data.shape == image.data.shape
        assert (painted.scale == image.scale).all()
        assert (painted.translate == image.translate).all()
        assert painted.units == image.units
        assert painted.metadata["napari-medseq"]["affine"] is not image.metadata["napari-medseq"]["affine"]
        assert verbs.to_sequence(painted).same_grid(verbs.to_sequence(image))
        painted.data[0, 2:6, 4:8, 4:8] = 1
    assert [len(v.labels) for v in verbs.study_of(viewer).visits] == [1, 1, 1]
    progression = verbs.track_layers(viewer, register="none")
    assert progression.lesions["event"].tolist() == ["baseline", "stable", "stable"]


def test_a_plot_that_does_not_say_everything_is_no_plot() -> None:
    def table(_self: PlotDock) -> pd.DataFrame:
        return pd.DataFrame()

    with pytest.raises(
        NotImplementedError, match="Half does not say draw_on, go, in_words, positions, ready, shown_step"
    ):
        type("Half", (PlotDock,), {"table": table})
