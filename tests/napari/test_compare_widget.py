"""*Compare* as a person uses it: ticks, buttons, the mouse and keys in the panes of a real window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.compare_widget import CompareWidget
from napari_medseq.viewer.layers.studies import facts_of
from tests.napari.helpers import Wait, click, docked, masks
from tests.napari.person import drag, open_folder, press_key
from tests.narrowing import some

pytestmark = [pytest.mark.viewer, pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")]


@pytest.fixture
def widget(
    request: pytest.FixtureRequest,
    make_napari_viewer: Callable[..., Any],
    ball_study: Path,
    wait: Wait,
    qtbot: Any,
) -> Iterator[CompareWidget]:
    """The widget in a window with the study of balls; the window is on the screen unless the test asks for a hidden one."""
    viewer = make_napari_viewer(show=getattr(request, "param", True))
    open_folder(viewer, ball_study)
    made: CompareWidget = docked(viewer, CompareWidget, wait)
    yield made
    made.close_panes()
    qtbot.wait(50)  # Qt takes the canvases down when it is idle


hidden = pytest.mark.parametrize("widget", [False], indirect=True, ids=["hidden"])


def press(widget: CompareWidget, number: int, points: list[tuple[float, float]]) -> None:
    """Press over the first of these places (vertical, horizontal; as the canvas counts) in a pane, drag over the others, release."""
    assert widget.screen is not None
    drag(widget.screen.canvases[number].canvas, points)


def patients_in_panes(widget: CompareWidget) -> list[set[str]]:
    panes = some(widget.panes).panes
    return [{facts_of(layer)["study"] for layer in pane.twins if layer.visible} for pane in panes]


@hidden
def test_panes_go_with_the_patient_in_front(widget: CompareWidget, wait: Wait) -> None:
    widget.open_side_by_side()
    assert patients_in_panes(widget) == [{"sub-x"}] * 2
    verbs.add_study(widget.viewer, replace(verbs.study_of(widget.viewer), name="sub-y"))
    wait(lambda: patients_in_panes(widget) == [{"sub-y"}] * 2)
    verbs.bring_to_front(widget.viewer, "sub-x")
    wait(lambda: patients_in_panes(widget) == [{"sub-x"}] * 2)
    for name in ("sub-x", "sub-y"):
        verbs.close_patient(widget.viewer, name)
    wait(lambda: widget.panes is None)


def test_a_person_paints_in_the_other_visits_pane_takes_it_back_and_clicks_in_three_planes(
    widget: CompareWidget, qtbot: Any
) -> None:
    viewer = getattr(widget.viewer, "__wrapped__", widget.viewer)
    first, last = masks(viewer)
    before = np.array(first.data), np.array(last.data)
    viewer.layers.selection.active = first
    first.mode, first.brush_size = "paint", 4
    click(qtbot, widget.side_button)
    qtbot.wait(50)
    assert widget.screen is not None
    assert len(widget.screen.canvases) == 2
    assert not viewer.window._qt_viewer.canvas.native.isVisible()
    press(widget, 1, [(20.0, -20.0), (20.0, -14.0)])
    assert (last.data != before[1]).any()
    assert np.array_equal(first.data, before[0])
    assert viewer.layers.selection.active is last
    assert viewer.dims.point[0] == 1
    press_key(qtbot, widget.screen.canvases[1].canvas.native, Qt.Key_Z, Qt.ControlModifier)
    assert np.array_equal(last.data, before[1])
    click(qtbot, widget.one_button)
    assert viewer.window._qt_viewer.canvas.native.isVisible()
    assert vars(widget)["screen"] is None
    # in the same window: a click in one of three planes moves the others
    viewer.layers.selection.active = None
    click(qtbot, widget.planes_button)
    qtbot.wait(50)
    press(widget, 0, [(9.0, -11.0)])
    assert viewer.dims.point[2:] == pytest.approx((9.0, -11.0), abs=2.5)
    assert widget.panes is not None
    assert widget.panes.panes[2].viewer.dims.point == viewer.dims.point


@hidden
def test_what_changed_is_shown_at_the_later_visit(widget: CompareWidget, qtbot: Any) -> None:
    assert not widget.change_button.isEnabled()
    assert "Follow the lesions" in widget.change_button.toolTip()
    verbs.track_layers(getattr(widget.viewer, "__wrapped__", widget.viewer))
    click(qtbot, widget.change_button)
    assert widget.viewer.dims.point[0] == 1
    assert "grown (yellow)" in widget.note.text()
    verbs.correct(getattr(widget.viewer, "__wrapped__", widget.viewer), "exclude", 1)
    assert not widget.note.text()


@hidden
def test_ticks_that_make_no_pair_are_told(widget: CompareWidget) -> None:
    widget.visits.item(1).setCheckState(Qt.Unchecked)
    assert not widget.side_button.isEnabled()
    assert "Tick two to 6 visits" in widget.side_button.toolTip()


@hidden
def test_a_mask_is_carried_and_checked(widget: CompareWidget, qtbot: Any, wait: Wait) -> None:
    viewer = getattr(widget.viewer, "__wrapped__", widget.viewer)
    widget.carry.mask.choose(masks(viewer)[1])
    assert "later visit already" in widget.carry.carry_button.toolTip()
    widget.carry.mask.choose(masks(viewer)[0])
    click(qtbot, widget.carry.carry_button)
    wait(lambda: not widget.work.busy)
    (carried,) = verbs.carried_unseen(viewer)
    assert carried.name in widget.carry.note.text()
    click(qtbot, widget.carry.looked_button)
    assert verbs.carried_unseen(viewer) == []
    assert "No carried mask is left" in widget.carry.looked_button.toolTip()


@hidden
def test_an_alignment_is_seen_nudged_and_kept(widget: CompareWidget, qtbot: Any, wait: Wait) -> None:
    viewer = getattr(widget.viewer, "__wrapped__", widget.viewer)
    over = widget.over
    assert "Lay one visit over the other first" in over.keep_button.toolTip()
    click(qtbot, over.show_button)
    wait(lambda: not widget.work.busy)
    assert "mutual information" in over.measure.text()
    assert "Nothing was moved" in over.keep_button.toolTip()
    before = np.array(some(over.overlay).layer.data)
    over.shifts[0].setValue(6.0)
    wait(over.keep_button.isEnabled)
    assert not np.array_equal(before, some(over.overlay).layer.data)
    click(qtbot, over.keep_button)
    kept = verbs.hand_alignment(viewer, some(verbs.patient_in_front(viewer)), 1)
    assert kept is not None
    assert kept.to_first[0, 3] == pytest.approx(-6.0, abs=1e-6)
    click(qtbot, widget.side_button)
    over.shifts[0].setValue(2.0)
    wait(over.keep_button.isEnabled)
    click(qtbot, over.keep_button)
    assert widget.panes is not None
    assert widget.panes.panes[1].plan.to_common[0, 3] == pytest.approx(-8.0, abs=1e-6)  # the panes lie by it at once
    over.mode.setCurrentText("blink")
    seen = some(over.overlay).layer.visible
    wait(lambda: some(over.overlay).layer.visible != seen)
    click(qtbot, over.close_button)
    assert verbs.overlay_of(viewer) is None
    assert not over.timer.isActive()


def test_landmarks_are_clicked_in_the_panes(widget: CompareWidget, qtbot: Any, wait: Wait) -> None:
    over = widget.over
    click(qtbot, over.show_button)
    wait(lambda: not widget.work.busy)
    click(qtbot, widget.side_button)
    qtbot.wait(50)
    click(qtbot, over.landmarks_button)
    assert "Mark the same places" in over.align_button.toolTip()
    press(widget, 0, [(9.0, -11.0)])
    press(widget, 1, [(9.0, -5.0)])
    pairs = verbs.landmark_pairs(widget.viewer)
    assert pairs is not None
    first, last = pairs
    assert last[0] - first[0] == pytest.approx((-6, 0, 0), abs=2.5)
    widget.over.mark("")
    click(qtbot, over.align_button)
    assert "Landmarks are 0.0 mm apart" in over.measure.text()


def test_two_dynamic_series_without_a_study_are_shown_side_by_side(
    make_napari_viewer: Callable[..., Any], wait: Wait, qtbot: Any
) -> None:
    viewer = make_napari_viewer(show=False)
    for count in (9, 5):
        frames = np.zeros((count, 4, 8, 10), np.float32)
        axes = ("t", "z", "y", "x")
        verbs.add_sequence(
            viewer, ms.ImageSequence(frames, axes, np.eye(4), times=np.arange(float(count)), name=f"cine {count}")
        )
    widget = docked(viewer, CompareWidget, wait)
    assert [widget.visits.item(k).text() for k in range(2)] == ["cine 9", "cine 5"]
    assert "assign them to visits" in widget.change_button.toolTip()
    click(qtbot, widget.side_button)
    viewer.dims.set_current_step(0, 8)
    assert [pane.viewer.dims.current_step[0] for pane in widget.panes.panes] == [8, 4]
    widget.close_panes()
    qtbot.wait(50)


@hidden
def test_the_earlier_visits_mask_is_the_prompt_of_the_later_one(widget: CompareWidget, qtbot: Any, wait: Wait) -> None:
    viewer = getattr(widget.viewer, "__wrapped__", widget.viewer)
    first, last = masks(viewer)
    before = np.array(last.data)
    widget.carry.mask.choose(first)
    widget.carry.way.setCurrentIndex(widget.carry.way.findData("propagate"))
    click(qtbot, widget.carry.carry_button)
    wait(lambda: not widget.work.busy)
    carried = viewer.layers.selection.active
    assert carried not in (first, last)
    assert verbs.study_of(viewer).visits[1].labels[-1].same_grid(verbs.to_sequence(last))
    assert np.asarray(carried.data).any()
    assert np.array_equal(last.data, before)  # a proposal beside the mask that is there
    assert "found by a model" in widget.carry.note.text()
    assert carried in verbs.carried_unseen(viewer)
