"""Teach in a real viewer: a box becomes a painted slice, Propagate carries it to the others, and one undo takes back each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_model.types import KeyBinding
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.actions import save_layer
from napari_medseq._napari.teach_widget import TeachWidget
from napari_medseq.models.library import SHIPPED
from tests.napari.helpers import as_plugins_see_it, click
from tests.napari.person import at, key, paint, stroke
from tests.narrowing import some

pytestmark = pytest.mark.skipif(not (SHIPPED / "propagate").is_dir(), reason="the bundle propagate is not there yet")
Z, Y, X = np.indices((14, 48, 48))
TRUTH = (Z - 7) ** 2 * 4 + (Y - 24) ** 2 + (X - 20) ** 2 <= 121


@pytest.fixture
def scene(make_napari_viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, TeachWidget]:
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(tmp_path))
    noise = np.random.default_rng(0).normal(0, 12, TRUTH.shape)
    image = ms.ImageSequence(
        (100 + 80 * TRUTH + noise).astype(np.float32), ("z", "y", "x"), np.diag([-1, -1, 2, 1.0]), name="scan"
    )
    viewer = make_napari_viewer(show=False)
    verbs.add_sequence(viewer, image)
    widget = TeachWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name="Teach")
    return viewer, widget


def dice(found: Any, truth: Any) -> float:
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def paint_one_slice(widget: TeachWidget, qtbot: Any) -> Any:
    """Make a label layer with the button, with the truth in its middle slice."""
    click(qtbot, widget.new_button)
    labels = some(widget.labels.layer)
    labels.data[7] = TRUTH[7]
    return labels


def propagate(widget: TeachWidget, qtbot: Any, wait: Callable[..., None]) -> None:
    """Press Propagate, and wait for the answer."""
    click(qtbot, widget.propagate_button)
    wait(lambda: not widget.work.busy)


def test_from_a_box_to_all_slices_and_back(
    scene: tuple[Any, TeachWidget], qtbot: Any, wait: Callable[..., None]
) -> None:
    viewer, widget = scene
    assert not widget.hints.outline_button.isEnabled()
    assert "first" in widget.hints.outline_button.toolTip()
    click(qtbot, widget.new_button)
    labels = widget.labels.layer
    click(qtbot, widget.hints.buttons["boxes"])
    boxes = viewer.layers.selection.active
    assert (boxes.name, boxes.mode) == ("boxes", "add_rectangle")
    truth = np.asarray(viewer.layers["scan"].data) > 140
    step = int(truth.sum((1, 2)).argmax())
    (top, left), (bottom, right) = (f(np.argwhere(TRUTH[7]), axis=0) for f in (np.min, np.max))
    boxes.add_rectangles([[step, top, left], [step, top, right], [step, bottom, right], [step, bottom, left]])
    click(qtbot, widget.hints.outline_button)
    assert "1 slice" in widget.hints.outcome.text()
    assert viewer.layers.selection.active == labels
    assert dice(labels.data[step] > 0, TRUTH[7]) > 0.9
    propagate(widget, qtbot, wait)
    found = np.asarray(verbs.to_sequence(widget.answer).data) > 0
    assert dice(found, np.asarray(verbs.to_sequence(viewer.layers["scan"]).data) > 140) > 0.7
    assert verbs.undo(viewer)
    assert not labels.data.any()  # the box's outline, whole


def shown_slice(viewer: Any, step: int) -> None:
    """Go to a slice of the scan and see all of it."""
    image = viewer.layers["scan"]
    viewer.dims.set_point(0, at(image, step, 0, 0)[0])
    viewer.reset_view()


def test_points_are_clicked_inside_and_beside_the_object(scene: tuple[Any, TeachWidget], qtbot: Any) -> None:
    viewer, widget = scene
    click(qtbot, widget.new_button)
    labels = some(widget.labels.layer)
    shown_slice(viewer, 7)
    for kind, places in (("points inside", [(24, 20), (20, 17)]), ("points outside", [(4, 4), (44, 42), (24, 42)])):
        click(qtbot, widget.hints.buttons[kind])
        assert (viewer.layers.selection.active.name, viewer.layers.selection.active.mode) == (kind, "add")
        for y, x in places:
            stroke(viewer, [at(labels, 7, y, x)])  # a click
        assert len(viewer.layers[kind].data) == len(places)
    click(qtbot, widget.hints.outline_button)
    assert "1 slice" in widget.hints.outcome.text()
    assert dice(labels.data[7] > 0, TRUTH[7]) > 0.85
    assert np.flatnonzero(labels.data.any((1, 2))).tolist() == [7]
    verbs.undo(viewer)
    assert not labels.data.any()


def test_a_box_that_was_drawn_is_taken_back_by_the_key_whatever_layer_is_active(
    scene: tuple[Any, TeachWidget], qtbot: Any
) -> None:
    viewer, widget = scene
    click(qtbot, widget.new_button)
    labels = some(widget.labels.layer)
    shown_slice(viewer, 7)
    click(qtbot, widget.hints.buttons["boxes"])
    boxes = viewer.layers["boxes"]
    stroke(viewer, [at(labels, 7, y, x) for y, x in ((14, 10), (33, 29), (33, 29))])
    drawn = np.array(boxes.data[0])
    assert np.ptp(drawn, axis=0)[-2:].min() > 10
    click(qtbot, widget.hints.outline_button)
    viewer.layers.selection.active = viewer.layers["scan"]
    key(viewer, qtbot, Qt.Key_Z, Qt.ControlModifier)
    assert not labels.data.any()
    viewer.layers.selection.active = boxes
    key(viewer, qtbot, Qt.Key_Z, Qt.ControlModifier)
    assert not len(boxes.data)
    key(viewer, qtbot, Qt.Key_Z, Qt.ControlModifier | Qt.ShiftModifier)
    assert np.array_equal(boxes.data[0], drawn)
    key(viewer, qtbot, Qt.Key_Z, Qt.ControlModifier | Qt.ShiftModifier)
    assert labels.data[7].any()
    assert widget.hints.outcome.text()
    click(qtbot, widget.new_button)  # what was said concerns other labels
    assert not widget.hints.outcome.text()


def test_undo_in_the_middle_of_a_polygon_takes_back_its_last_vertex(scene: tuple[Any, TeachWidget], qtbot: Any) -> None:
    viewer, widget = scene
    click(qtbot, widget.new_button)
    labels = some(widget.labels.layer)
    shown_slice(viewer, 7)
    stroke(viewer, [at(labels, 7, 24, 18), at(labels, 7, 24, 22)])
    painted = np.array(labels.data)
    assert painted.any()
    labels.mode = "polygon"
    for y, x in ((10, 10), (10, 30), (30, 30)):
        stroke(viewer, [at(labels, 7, y, x)])  # a click
    corners = len(labels._overlays["polygon"].points)
    key(viewer, qtbot, Qt.Key_Z, Qt.ControlModifier)
    assert len(labels._overlays["polygon"].points) == corners - 1
    for _ in range(corners):
        if labels._overlays["polygon"].points:
            key(viewer, qtbot, Qt.Key_Z, Qt.ControlModifier)
    assert np.array_equal(labels.data, painted)
    key(viewer, qtbot, Qt.Key_Z, Qt.ControlModifier)
    assert not labels.data.any()


@pytest.mark.parametrize("selected", [1, 2])
def test_scribbles_in_the_object_and_beside_it_outline_it(
    scene: tuple[Any, TeachWidget], selected: int, qtbot: Any
) -> None:
    viewer, widget = scene
    click(qtbot, widget.new_button)
    labels = some(widget.labels.layer)
    shown_slice(viewer, 7)
    labels.brush_size = 2
    for label, path in ((1, [(22, 18), (26, 22)]), (2, [(4, 6), (4, 40), (44, 40), (44, 6)])):
        labels.selected_label = label
        stroke(viewer, [at(labels, 7, y, x) for y, x in path])
    assert {*np.unique(labels.data[7])} == {0, 1, 2}
    labels.selected_label = selected  # the scribbles beside the object are drawn last
    widget.hints.background.setValue(2)
    scribbled = np.array(labels.data)
    click(qtbot, widget.hints.outline_button)
    assert dice(labels.data[7] == 1, TRUTH[7]) > 0.85
    assert not (labels.data == 2).any()  # what said where it is not is taken away
    assert labels.selected_label == 1  # corrections go into the object
    verbs.undo(viewer)
    assert np.array_equal(labels.data, scribbled)


def test_of_several_scribbled_objects_one_must_be_selected(
    scene: tuple[Any, TeachWidget], qtbot: Any, notices: list[Any]
) -> None:
    viewer, widget = scene
    click(qtbot, widget.new_button)
    labels = some(widget.labels.layer)
    shown_slice(viewer, 7)
    for label in (1, 2, 3):
        labels.data[7, 10 * label, 10:20] = label
    labels.selected_label = 3
    widget.hints.background.setValue(3)
    before = np.array(labels.data)
    click(qtbot, widget.hints.outline_button)
    assert "Select the label of the object" in notices[-1][1]
    assert np.array_equal(labels.data, before)


def test_a_key_propagates_and_a_second_time_is_one_step_of_undo(
    scene: tuple[Any, TeachWidget], qtbot: Any, wait: Callable[..., None]
) -> None:
    viewer, widget = scene
    labels = paint_one_slice(widget, qtbot)
    viewer.keymap[KeyBinding.from_str("Alt-S")](viewer)
    assert widget.work.busy
    wait(lambda: not widget.work.busy)
    first, named = np.array(some(widget.answer).data), widget._next
    labels.data[3] = TRUTH[3]
    propagate(widget, qtbot, wait)
    assert not np.array_equal(some(widget.answer).data, first)
    labels.data[3] = 0
    doubt, widget._next = some(verbs.answered(some(widget.answer))).doubt, None
    verbs.undo(viewer)
    assert np.array_equal(some(widget.answer).data, first)
    assert widget._next == named  # the doubts of the answer that is shown again
    assert some(verbs.answered(some(widget.answer))).doubt is not doubt


def test_next_to_check_goes_to_the_slice_that_is_named(
    scene: tuple[Any, TeachWidget], qtbot: Any, wait: Callable[..., None]
) -> None:
    viewer, widget = scene
    click(qtbot, widget.new_button)
    some(widget.labels.layer).data[7] = TRUTH[7]
    propagate(widget, qtbot, wait)
    named = widget._next
    assert named is not None
    assert widget.next_button.text() == f"Look at slice {named + 1} next"
    click(qtbot, widget.next_button)
    assert verbs.shown_slice(viewer, widget.answer) == named
    click(qtbot, widget.right_button)
    assert named in verbs.settled_slices(viewer, some(widget.labels.layer))
    assert widget._next != named
    assert named in widget._lesson().done
    assert verbs.undo(viewer) == f"accepting slice {named + 1}"
    assert named not in widget._lesson().done  # it is in doubt again
    verbs.redo(viewer)
    assert named in widget._lesson().done
    empty = some(widget._next)
    verbs.go_to_slice(viewer, some(widget.answer), empty)
    click(qtbot, widget.empty_button)
    # as of a dock that is opened anew
    again = verbs.lesson_job(viewer, some(widget.image.layer), some(widget.labels.layer))
    assert {named, empty} <= set(again.done)


def test_labels_of_another_grid_are_neither_chosen_nor_carried(scene: tuple[Any, TeachWidget]) -> None:
    viewer, widget = scene
    image = widget.image.layer
    coarse = ms.ImageSequence(
        np.zeros((7, 24, 24), np.uint8), ("z", "y", "x"), np.diag([-2, -2, 4, 1.0]), kind="labels", name="of the MR"
    )
    elsewhere = verbs.add_sequence(viewer, coarse)
    assert widget.labels.layer == elsewhere  # there are no others
    assert not widget.propagate_button.isEnabled()
    assert "does not lie on the grid" in widget.propagate_button.toolTip()
    assert not widget.lesson.run_button.isEnabled()
    fine = verbs.new_labels(viewer, image)
    widget.image.currentIndexChanged.emit(0)  # as when the image is chosen
    assert widget.labels.layer == fine
    assert widget.propagate_button.isEnabled()
    widget.labels.choose(elsewhere)
    assert not widget.propagate_button.isEnabled()


def test_a_finished_object_is_left_alone_by_every_new_answer(
    scene: tuple[Any, TeachWidget], qtbot: Any, wait: Callable[..., None]
) -> None:
    viewer, widget = scene
    labels = paint_one_slice(widget, qtbot)
    propagate(widget, qtbot, wait)
    first = np.array(some(widget.answer).data)
    assert (first == 1).any((1, 2)).sum() > 1
    viewer.layers.selection.active = labels
    labels.selected_label = 1
    click(qtbot, widget.finish_button)
    labels.data[4, 34:42, 36:44] = 2  # another object
    labels.data[9][TRUTH[9]] = 1  # a correction, which a finished object does not follow beyond its own slice
    propagate(widget, qtbot, wait)
    second = np.array(some(widget.answer).data)
    elsewhere = np.delete(np.arange(len(first)), [4, 9])
    assert np.array_equal(second[elsewhere] == 1, first[elsewhere] == 1)
    assert (second == 2).any()
    verbs.undo(viewer)
    assert np.array_equal(some(widget.answer).data, first)  # the whole answer is one step
    click(qtbot, widget.finish_button)  # go on with it
    assert widget._finished == set()


def test_a_finished_object_is_named_and_painted_over_only_by_its_own_label(
    scene: tuple[Any, TeachWidget], qtbot: Any, wait: Callable[..., None]
) -> None:
    viewer, widget = scene
    paint_one_slice(widget, qtbot)
    propagate(widget, qtbot, wait)
    answer = some(widget.answer)
    viewer.layers.selection.active = answer
    answer.selected_label = 2
    assert widget.finish_button.text() == "Finish object 2"
    answer.selected_label = 1
    assert widget.finish_button.text() == "Finish object 1"
    click(qtbot, widget.finish_button)
    assert "1 is finished" in widget.finish_button.text()
    before = np.array(answer.data)
    beside = (7, 24, int(np.flatnonzero(before[7, 24]).max()))  # half on the object, half beside it
    painted = paint(viewer, answer, beside, label=2, size=8)
    assert (painted & (before == 0)).any()
    assert not (painted & (before == 1)).any()
    assert "Finished" in str(viewer.status)
    assert not (paint(viewer, answer, (7, 24, 20), label=2, mode="erase") & (before == 1)).any()
    assert (paint(viewer, answer, (7, 24, 20), label=1, mode="erase") & (before == 1)).any()
    answer.selected_label = 1
    click(qtbot, widget.finish_button)  # go on with it
    assert (paint(viewer, answer, (7, 30, 20), label=2) & (before == 1)).any()


def test_an_answer_is_corrected_where_it_is_seen_and_another_dock_goes_on_with_it(
    scene: tuple[Any, TeachWidget], qtbot: Any, wait: Callable[..., None]
) -> None:
    viewer, widget = scene
    labels = paint_one_slice(widget, qtbot)
    propagate(widget, qtbot, wait)
    answer = some(widget.answer)
    # the painted slice below would show the same colour where the answer above is erased
    assert answer.visible
    assert not labels.visible
    viewer.layers.selection.active = labels  # who goes on painting there sees it
    assert labels.visible
    click(qtbot, widget.finish_button)
    erased = paint(viewer, answer, (7, 24, 20), label=1, mode="erase")
    assert erased.any()
    again = TeachWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(again, name="Teach again")
    assert (again.answer, again.labels.layer, again._finished) == (answer, labels, {1})
    assert again._next == widget._next
    click(qtbot, again.finish_button)
    count = len(viewer.layers)
    propagate(again, qtbot, wait)
    assert len(viewer.layers) == count
    assert not labels.data[erased].any()  # the correction is taken over
    assert not labels.visible


def test_interpolation_only_fills_between_and_nothing_beyond(
    scene: tuple[Any, TeachWidget], qtbot: Any, wait: Callable[..., None]
) -> None:
    _, widget = scene
    click(qtbot, widget.new_button)
    labels = some(widget.labels.layer)
    labels.data[[5, 9]] = TRUTH[[5, 9]]
    widget.only_between.setChecked(True)
    propagate(widget, qtbot, wait)
    found = np.asarray(some(widget.answer).data) > 0
    assert np.flatnonzero(found.any((1, 2))).tolist() == [5, 6, 7, 8, 9]
    assert dice(found[6:9], TRUTH[6:9]) > 0.85
    assert np.array_equal(found[[5, 9]], TRUTH[[5, 9]])
    assert "interpolated" in widget.outcome.text()


def test_a_mask_that_no_answer_hid_stays_hidden_when_it_is_selected(scene: tuple[Any, TeachWidget], qtbot: Any) -> None:
    viewer, widget = scene
    click(qtbot, widget.new_button)
    labels = some(widget.labels.layer)
    labels.visible = False
    viewer.layers.selection.active = viewer.layers["scan"]
    viewer.layers.selection.active = labels
    assert not labels.visible


def test_a_corrected_slice_is_not_offered_again_and_the_tool_stays_after_the_next_answer(
    scene: tuple[Any, TeachWidget], qtbot: Any, wait: Callable[..., None]
) -> None:
    viewer, widget = scene
    paint_one_slice(widget, qtbot)
    propagate(widget, qtbot, wait)
    answer = next(layer for layer in viewer.layers if layer == widget.answer)
    offered = some(widget._next)
    click(qtbot, widget.next_button)
    answer.mode, answer.brush_size = "erase", 3
    shown = np.flatnonzero(np.isclose([at(answer, k, 0, 0)[0] for k in range(14)], viewer.dims.point[0]))
    viewer.reset_view()
    stroke(viewer, [at(answer, shown[0], 24, 20), at(answer, shown[0], 24, 22)])
    assert widget._next != offered
    assert f"slice {offered + 1} " not in widget.next_button.text()
    verbs.undo(viewer)
    assert widget._next == offered
    propagate(widget, qtbot, wait)
    assert viewer.layers.selection.active == answer == widget.answer
    assert str(answer.mode) == "erase"


@pytest.mark.parametrize(
    ("typed", "written"), [("mine.nii.gz", "mine.nii.gz"), ("mine", "mine.nii.gz"), ("mine.seg.nrrd",) * 2]
)
def test_the_answer_is_saved_by_its_button_as_it_is_shown(
    scene: tuple[Any, TeachWidget],
    typed: str,
    written: str,
    qtbot: Any,
    wait: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    viewer, widget = scene
    paint_one_slice(widget, qtbot)
    propagate(widget, qtbot, wait)
    answer = next(layer for layer in viewer.layers if layer == widget.answer)
    paint(viewer, answer, (3, 10, 10), label=1)
    asked: list[Any] = []

    def name_it(*about: Any) -> tuple[str, str]:
        asked.extend(about)
        return str(tmp_path / typed), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", name_it)
    click(qtbot, widget.save_button)
    wait(lambda: not widget.work.busy)
    assert asked[1] == "Save scan propagated"
    assert asked[2].endswith("scan_propagated_mask.nii.gz")
    (saved,) = ms.read(tmp_path / written)
    assert saved.kind == "labels"
    shown = verbs.to_sequence(answer)
    assert np.array_equal(saved.data, shown.data)
    np.testing.assert_allclose(saved.affine, shown.affine, atol=1e-4)
    assert not verbs.editing_of(viewer).is_unsaved  # the painted labels are in the file, too


def test_a_file_whose_ending_was_added_is_not_replaced_without_a_question(
    scene: tuple[Any, TeachWidget], notices: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    viewer, widget = scene
    there = tmp_path / "mine.nii.gz"
    there.write_text("an expert's")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_about: (str(tmp_path / "mine"), ""))
    viewer.layers.selection.active = viewer.layers["scan"]
    save_layer(viewer)
    assert "exists already" in notices[-1][1]
    assert there.read_text() == "an expert's"
    viewer.layers.selection.active = None
    save_layer(viewer)
    assert "No layer is active" in notices[-1][1]
    assert widget.save_button.isHidden()
