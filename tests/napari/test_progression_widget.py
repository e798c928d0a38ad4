"""The Progression widget in the real viewer."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.progression.corrections_box import CorrectionsBox
from napari_medseq._napari.progression_widget import ProgressionWidget
from napari_medseq.progress import check
from tests.napari.helpers import Wait, click, docked
from tests.narrowing import some

pytestmark = [pytest.mark.viewer, pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")]


@pytest.mark.usefixtures("knows")
def test_run_gives_tracked_labels_a_plot_and_a_table(
    viewer: Any, qtbot: Any, wait: Wait, ball_study: Path, bright_bundle: Path
) -> None:
    widget = docked(viewer, ProgressionWidget, wait)
    assert "2 visits: 2020-01-31, 2020-05-04" in widget.facts.text()
    assert widget.model.info.name == "tiny"
    click(qtbot, widget.run_button)
    assert not widget.run_button.isEnabled()
    wait(lambda: not widget.work.busy)
    assert [layer.name for layer in widget.result.layers] == [
        "sub-x ses-20200131 lesions",
        "sub-x ses-20200504 lesions",
    ]
    scripted = ms.run(ball_study, bright_bundle)
    for layer, theirs in zip(widget.result.layers, scripted.labels, strict=True):
        np.testing.assert_array_equal(verbs.to_sequence(layer).data, some(theirs).data)
    assert widget.result.table.rowCount() == len(scripted.lesions)
    # the plot's cursor follows the visit slider
    plot = widget.result.plot
    for visit in (0, 1):
        viewer.dims.set_point(0, visit)
        assert plot._cursors[0].get_xdata()[0] == plot.positions()[visit]
    # a click on a point goes to that visit and lesion and selects its label
    viewer.dims.set_point(0, 1)
    qtbot.wait(50)
    plot.canvas.canvas.draw()
    line = next(a for a, lesion in plot._drawn.owners.items() if lesion == 2 and len(a.get_xydata()) == 2)
    x, y = line.axes.transData.transform(line.get_xydata()[0])
    plot.canvas.canvas.callbacks.process("button_press_event", mouse(plot.canvas.canvas, x, y, line.axes))
    assert viewer.dims.point[0] == 0
    assert viewer.layers.selection.active == widget.result.layers[0]
    assert widget.result.layers[0].selected_label == 2
    # so does a row of the table
    widget.result.table.cellClicked.emit(0, 0)
    assert widget.result.layers[0].selected_label == int(widget.result.table.item(0, 0).text())
    # the plot wears the viewer's theme, and each of its views can be drawn
    dark = plot.canvas.figure.get_facecolor()
    viewer.theme = "light"
    assert plot.canvas.figure.get_facecolor() != dark
    for k in range(plot.view.count()):
        plot.view.setCurrentIndex(k)
    plot.log.setChecked(True)


def mouse(canvas: Any, x: float, y: float, axes: Any) -> Any:
    from matplotlib.backend_bases import MouseButton, MouseEvent

    event = MouseEvent("button_press_event", canvas, round(x), round(y), MouseButton.LEFT)
    assert event.inaxes is axes
    return event


@pytest.mark.usefixtures("knows")
def test_painting_and_following_again(viewer: Any, qtbot: Any, wait: Wait, tmp_path: Path, notices: list[Any]) -> None:
    widget = docked(viewer, ProgressionWidget, wait)
    click(qtbot, widget.run_button)
    wait(lambda: not widget.work.busy)
    later = viewer.layers[widget.result.layers[1].name]
    new = int(widget.result.progression.lesions.query("event == 'new'")["lesion"].iloc[0])
    verbs.correct(viewer, "split", 1, new, 2)
    verbs.correct(viewer, "exclude", 2)  # the lesion of the first is painted away
    parts = np.isin(later.data, [new, int(later.data.max())])
    later.data[parts] = 0
    count = len(viewer.layers)
    click(qtbot, widget.result.again_button)
    wait(lambda: not widget.work.busy)
    assert "new" not in widget.result.progression.lesions["event"].tolist()
    assert len(viewer.layers) == count
    told = [text for _, text in notices]
    assert any("1 correction made by hand is kept" in text for text in told)
    assert any("could not be made again: split lesion" in text for text in told)
    assert [c.split()[0] for c in widget.result.progression.corrections] == ["exclude"]
    widget.result.save(tmp_path / "result")
    wait(lambda: not widget.result.saving.busy)
    assert (tmp_path / "result" / "lesions.csv").exists()
    assert any("Saved" in text for _, text in notices)
    # what was saved can be opened again, over the open study
    widget.open_saved(str(tmp_path / "result"))
    wait(lambda: not widget.work.busy)
    assert len(viewer.layers) == count
    assert widget.result.table.rowCount() == len(widget.result.progression.lesions)
    # label layers chosen by hand
    widget.by_labels.setChecked(True)
    widget.labels.tick([layer for layer in viewer.layers if "tumor" in layer.name])
    click(qtbot, widget.run_button)
    wait(lambda: not widget.work.busy)
    assert "new" in widget.result.progression.lesions["event"].tolist()
    viewer.layers.remove(widget.result.layers[0].name)
    widget.result.go_to(0, 1)
    assert "removed" in notices[-1][1]


@pytest.mark.usefixtures("knows")
def test_cancel_stops_within_a_slice_and_changes_nothing(
    viewer: Any, qtbot: Any, wait: Wait, monkeypatch: pytest.MonkeyPatch, notices: list[Any]
) -> None:
    slices: list[int] = []
    go = threading.Semaphore(0)

    def slow(_image: Any, _model: Any, **options: Any) -> Any:
        for k in range(1000):
            check(options["cancelled"])
            slices.append(k)
            options["progress"](k, 1000, "slow")
            go.acquire(timeout=100)
        raise AssertionError("was not cancelled")

    monkeypatch.setattr("napari_medseq.inference.segment", slow)
    widget = docked(viewer, ProgressionWidget, wait)
    before = [(layer, np.array(layer.data)) for layer in viewer.layers]
    click(qtbot, widget.run_button)
    wait(lambda: len(slices) > 0)
    # the viewer can be used meanwhile; a second job waits, and can be given up
    viewer.dims.set_point(0, 1)
    second = WorkBar()
    assert second.start("another", lambda _p, _c: None, print)
    assert "waits until segmenting and following is done" in second.message.text()
    second.cancel()
    assert not second.busy
    assert not widget.work.start("a third", lambda _p, _c: None, print)
    assert "still running" in notices[-1][1]
    go.release()
    wait(lambda: len(slices) > 1)
    click(qtbot, widget.work.cancel_button)
    n = len(slices)
    go.release()
    wait(lambda: not widget.work.busy)
    assert len(slices) <= n + 1
    assert [layer for layer, _ in before] == list(viewer.layers)
    assert all(np.array_equal(layer.data, data) for layer, data in before)
    assert widget.result.progression is None
    assert "cancelled" in notices[-1][1]
    assert widget.run_button.isEnabled()


@pytest.mark.usefixtures("knows")
def test_closing_the_dock_stops_its_job_and_disturbs_nothing(
    viewer: Any, qtbot: Any, wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = threading.Event()

    def endless(_image: Any, _model: Any, **options: Any) -> Any:
        while True:
            check(options["cancelled"])
            running.set()
            options["progress"](1, 2, "endless")
            time.sleep(0.06)

    monkeypatch.setattr("napari_medseq.inference.segment", endless)
    widget = docked(viewer, ProgressionWidget, wait)
    before = list(viewer.layers)
    click(qtbot, widget.run_button)
    wait(running.is_set)
    viewer.window.remove_dock_widget(widget)
    wait(lambda: not widget.work.busy, 60)
    assert list(viewer.layers) == before
    # what it listened to can happen without it
    viewer.add_image(np.zeros((4, 4)), name="later")
    viewer.dims.set_point(0, 1)
    viewer.theme = "light"
    viewer.layers.remove("later")


@pytest.mark.usefixtures("knows")
def test_an_error_is_one_notification_without_traceback(
    viewer: Any, qtbot: Any, wait: Wait, monkeypatch: pytest.MonkeyPatch, notices: list[Any]
) -> None:
    widget = docked(viewer, ProgressionWidget, wait)
    before = list(viewer.layers)
    widget.series.setText("*FLAIR*")
    click(qtbot, widget.run_button)
    wait(lambda: not widget.work.busy)
    assert [s for s, _ in notices] == ["error"]
    assert "FLAIR" in notices[0][1] or "image" in notices[0][1]
    assert "Traceback" not in notices[0][1]
    assert list(viewer.layers) == before

    def broken(*_args: Any, **_options: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr("napari_medseq.inference.segment", broken)
    widget.series.setText("")
    click(qtbot, widget.run_button)
    wait(lambda: not widget.work.busy)
    assert len(notices) == 2
    assert "RuntimeError: a bug" in notices[1][1]
    # a setting that cannot be used is said before anything starts
    widget.settings["growth_percent"].value = "plenty"
    click(qtbot, widget.run_button)
    assert not widget.work.busy
    assert "growth" in notices[2][1]
    assert list(viewer.layers) == before


def test_an_empty_viewer_says_what_to_do(make_napari_viewer: Any, wait: Wait) -> None:
    widget = docked(make_napari_viewer(show=False), ProgressionWidget, wait)
    assert "Open a study" in widget.facts.text()
    assert not widget.run_button.isEnabled()


def test_the_masks_of_all_visits_are_ticked_and_the_next_step_is_said(qtbot: Any, ball_study: Path) -> None:
    viewer: Any = ViewerModel()
    verbs.open_path(viewer, ball_study)
    widget = ProgressionWidget(viewer)
    qtbot.addWidget(widget)
    assert not widget.labels.layers
    widget.by_labels.setChecked(True)
    assert [layer.name for layer in widget.labels.layers] == [
        "sub-x ses-20200131 tumor",
        "sub-x ses-20200504 tumor",
    ]
    assert "Press Run" in widget.facts.text()
    widget.labels.tick([])
    assert "Tick the masks to follow first" in widget.facts.text()
    assert not widget.run_button.isEnabled()
    # of two series with a mask at every visit the user says which one is meant
    for layer in list(viewer.layers):
        if "T1post" in layer.name:
            verbs.new_labels(viewer, layer)
    widget.by_model.setChecked(True)
    widget.by_labels.setChecked(True)
    assert not widget.labels.layers


def test_a_correction_that_is_off_says_why(qtbot: Any, ball_study: Path) -> None:
    viewer: Any = ViewerModel()
    verbs.open_path(viewer, ball_study)
    verbs.track_layers(viewer)
    box = CorrectionsBox(viewer)
    qtbot.addWidget(box)
    found = verbs.result_of(viewer)
    box.show_followed(found)
    viewer.layers.selection.active = viewer.layers[0]
    for button in (box.link_button, box.unlink_button, box.merge_button, box.split_button, box.exclude_button):
        assert not button.isEnabled()
        assert "Select a lesion first" in button.toolTip()
    viewer.layers.selection.active = found.layers[0]
    found.layers[0].selected_label = int(found.progression.lesions["lesion"].iloc[0])
    assert not box.link_button.isEnabled()
    assert "at no earlier visit" in box.link_button.toolTip()
    assert "no earlier lesion" in box.unlink_button.toolTip()
    assert "(Alt+E)" in box.exclude_button.toolTip()
