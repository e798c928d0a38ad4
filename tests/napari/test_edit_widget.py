"""*Edit* in a real viewer: its buttons, its keys, the mouse on islands, a brush that keeps to intensities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from scipy.ndimage import center_of_mass, label

from napari_medseq import viewer as view
from napari_medseq._napari.edit_widget import EditWidget
from tests.napari.helpers import Wait, click, docked
from tests.napari.person import at, key, stroke

pytestmark = [pytest.mark.viewer, pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")]


@pytest.fixture
def widget(viewer: Any, wait: Wait) -> EditWidget:
    """The dock beside the study of balls, whose first mask is active."""
    made: EditWidget = docked(viewer, EditWidget, wait)
    choose(viewer, 0)
    return made


def choose(viewer: Any, visit: int) -> Any:
    layer = [k for k in viewer.layers if "tumor" in k.name][visit]
    viewer.dims.set_point(0, visit)
    viewer.layers.selection.active = layer
    return layer


def show_slice(viewer: Any, layer: Any, index: int) -> None:
    viewer.dims.set_point(1, at(layer, index, 0, 0)[1])
    viewer.reset_view()


def middle(layer: Any) -> int:
    return int((np.asarray(layer.data)[0] > 0).sum(axis=(1, 2)).argmax())


def test_buttons_edit_the_active_mask_and_undo_takes_it_back(widget: EditWidget, viewer: Any, qtbot: Any) -> None:
    layer = choose(viewer, 0)
    before = np.array(layer.data)
    widget.shape.margin.setValue(4)
    click(qtbot, widget.shape.expand)
    assert (layer.data > 0).sum() > (before > 0).sum()
    assert "mL" in widget.outcome.text()
    click(qtbot, widget.shape.shrink)
    click(qtbot, widget.undo_button)
    click(qtbot, widget.undo_button)
    assert np.array_equal(layer.data, before)
    assert not widget.undo_button.isEnabled()
    assert widget.redo_button.isEnabled()


def test_it_follows_the_slider_of_visits(widget: EditWidget, viewer: Any, qtbot: Any) -> None:
    first, last = choose(viewer, 0), choose(viewer, 1)
    before = np.array(first.data)
    assert last.name in widget.what.text()
    count = int((last.data > 0).sum())
    click(qtbot, widget.shape.expand)
    assert (last.data > 0).sum() > count
    assert np.array_equal(first.data, before)


def test_what_cannot_be_done_says_why(widget: EditWidget, viewer: Any) -> None:
    viewer.layers.selection.active = viewer.layers[0]
    for button in widget._actions:
        assert not button.isEnabled()
        assert button.toolTip() == "Select a label layer first"
    assert "No mask is active" in widget.what.text()
    layer = choose(viewer, 0)
    layer.selected_label = 0
    assert "Label 0 is background" in widget.shape.expand.toolTip()
    layer.selected_label = 1
    assert widget.shape.expand.isEnabled()
    viewer.layers.remove(viewer.layers[0])
    assert widget.intensity.grow.toolTip() == "No image lies on the grid of this mask"


def test_an_error_changes_nothing_and_is_said(widget: EditWidget, viewer: Any, qtbot: Any, notices: list[Any]) -> None:
    layer = choose(viewer, 0)
    before = np.array(layer.data)
    widget.shape.margin.setValue(90)
    click(qtbot, widget.shape.shrink)
    assert np.array_equal(layer.data, before)
    assert any("nothing would be left of label 1" in text for _, text in notices)


def test_interpolation_by_key_off_the_gui_thread(widget: EditWidget, viewer: Any, qtbot: Any, wait: Wait) -> None:
    layer = choose(viewer, 0)
    n = middle(layer)
    emptied = np.array(layer.data)
    full = int((emptied[0, n] > 0).sum())
    emptied[0, n] = 0
    view.editing_of(viewer).write(layer, emptied)
    key(viewer, qtbot, Qt.Key_I)
    wait(lambda: not widget.work.busy)
    assert (layer.data[0, n] > 0).sum() == pytest.approx(full, rel=0.5)
    assert view.editing_of(viewer).pending() == {layer: int((layer.data[0, n] > 0).sum())}


def test_the_outline_goes_to_the_next_slice_by_key(widget: EditWidget, viewer: Any, qtbot: Any) -> None:
    layer = choose(viewer, 0)
    n = middle(layer)
    show_slice(viewer, layer, n)
    before = np.array(layer.data)
    key(viewer, qtbot, Qt.Key_N)
    key(viewer, qtbot, Qt.Key_N)
    assert viewer.dims.point[1] == pytest.approx(at(layer, n + 2, 0, 0)[1])
    for k in (n + 1, n + 2):
        assert (layer.data[0, k] > 0)[before[0, n] > 0].all()
    key(viewer, qtbot, Qt.Key_Z, Qt.ControlModifier)
    assert np.array_equal(layer.data[0, n + 2], before[0, n + 2])
    assert widget.redo_button.isEnabled()


def test_an_island_that_is_clicked_goes(widget: EditWidget, viewer: Any, qtbot: Any) -> None:
    layer = choose(viewer, 0)
    pieces, count = label(layer.data[0])
    assert count == 2
    z, y, x = (round(v) for v in center_of_mass(pieces == 2))
    show_slice(viewer, layer, z)
    layer.mode = "paint"
    click(qtbot, widget.islands.pick_remove)
    assert layer.mode == "pan_zoom"
    stroke(viewer, [at(layer, z, y, x)])
    assert np.array_equal(layer.data[0] > 0, pieces == 1)
    click(qtbot, widget.islands.pick_remove)
    click(qtbot, widget.undo_button)
    stroke(viewer, [at(layer, z, y, x)])
    assert np.array_equal(layer.data[0], (pieces > 0).astype(layer.data.dtype))


def test_a_stroke_keeps_to_the_range_of_the_label(widget: EditWidget, viewer: Any, qtbot: Any) -> None:
    layer = choose(viewer, 0)
    image = next(k for k in viewer.layers if "T1post" in k.name)
    truth = np.array(layer.data) > 0
    n = middle(layer)
    y, x = (round(v) for v in center_of_mass(truth[0, n]))
    show_slice(viewer, layer, n)
    click(qtbot, widget.intensity.take)
    assert widget.intensity.low.value() > 400
    view.editing_of(viewer).write(layer, np.zeros_like(layer.data))
    widget.intensity.limit.setChecked(True)
    layer.mode, layer.brush_size, layer.selected_label = "paint", 14, 1
    stroke(viewer, [at(layer, n, y, x), at(layer, n, y, x + 3), at(layer, n, y, x + 6)])
    painted = np.asarray(layer.data) > 0
    low, high = widget.intensity.range
    assert 0 < painted.sum() <= truth[0, n].sum() + 1
    values = np.asarray(image.data)[painted]
    assert low <= values.min() <= values.max() <= high
    widget.intensity.limit.setChecked(False)
    stroke(viewer, [at(layer, n, y, x), at(layer, n, y, x + 3)])
    assert (np.asarray(layer.data) > 0).sum() > painted.sum()


def test_seeds_grow_within_the_range(widget: EditWidget, viewer: Any, qtbot: Any, wait: Wait) -> None:
    layer = choose(viewer, 1)
    truth = np.array(layer.data) > 0
    click(qtbot, widget.intensity.take)
    seeds = np.zeros_like(layer.data)
    where = np.argwhere(truth)
    seeds[tuple(where[len(where) // 2])] = 1
    view.editing_of(viewer).write(layer, seeds)
    widget.intensity.within.setChecked(True)
    widget.intensity.reach.setValue(60)
    click(qtbot, widget.intensity.grow)
    wait(lambda: not widget.work.busy)
    found = np.asarray(layer.data) > 0
    assert found.sum() > 30
    assert (found & truth).sum() > 0.95 * found.sum()


def test_a_label_goes_to_the_next_visit(widget: EditWidget, viewer: Any, qtbot: Any) -> None:
    layer, target = choose(viewer, 0), choose(viewer, 1)
    view.editing_of(viewer).write(target, np.zeros_like(target.data))
    choose(viewer, 0)
    click(qtbot, widget.between.next_visit)
    assert viewer.layers.selection.active == target
    assert (np.asarray(target.data) > 0).sum() == pytest.approx(int((np.asarray(layer.data) > 0).sum()), rel=0.3)
    assert target.name in widget.what.text()


def test_a_closed_dock_leaves_nothing_behind(widget: EditWidget, viewer: Any, qtbot: Any, wait: Wait) -> None:
    layer = choose(viewer, 0)
    widget.intensity.low.setValue(1)
    widget.intensity.high.setValue(2)
    widget.intensity.limit.setChecked(True)
    click(qtbot, widget.islands.pick_remove)
    gone: list[bool] = []
    widget.destroyed.connect(lambda: gone.append(True))
    viewer.window.remove_dock_widget(widget)
    widget.deleteLater()
    wait(lambda: bool(gone))
    assert view.editing_of(viewer).limit is None
    before = np.array(layer.data)
    n = middle(layer)
    show_slice(viewer, layer, n)
    y, x = (round(v) for v in center_of_mass(before[0, n]))
    stroke(viewer, [at(layer, n, y, x)])
    key(viewer, qtbot, Qt.Key_H)
    assert np.array_equal(layer.data, before)


def test_masks_are_combined(widget: EditWidget, viewer: Any, qtbot: Any) -> None:
    layer = choose(viewer, 0)
    other = view.new_labels(viewer, viewer.layers[0])
    assert other.data.shape == layer.data.shape
    half = np.zeros_like(other.data)
    half[..., : half.shape[-1] // 2] = 1
    view.editing_of(viewer).write(other, half)
    choose(viewer, 0)
    before = np.array(layer.data)
    widget.combine.other.choose(other)
    widget.combine.operation.setCurrentText("Subtract")
    click(qtbot, widget.combine.combine)
    assert np.array_equal(layer.data > 0, (before > 0) & (half == 0))


def test_the_plugin_offers_it(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer(show=False)
    _, widget = viewer.window.add_plugin_dock_widget("napari-medseq", "Edit")
    assert isinstance(widget, EditWidget)
