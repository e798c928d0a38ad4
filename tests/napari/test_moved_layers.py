"""A layer that is moved by napari's transform tool is said to be moved in the window only, and undo puts it back; Teach follows
the slider of visits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from napari_medseq import viewer as verbs
from napari_medseq._napari.teach_widget import TeachWidget
from napari_medseq.viewer.editing.active import visit_of
from tests.napari.helpers import as_plugins_see_it, click, masks


def drag_with_the_tool(layer: Any, by: float) -> None:
    """What napari does while a person drags with the transform tool: our callback before its own change of the place."""
    event = SimpleNamespace(type="mouse_press", position=(0,) * layer.ndim, dims_displayed=[2, 3])
    ours = [made for call in layer.mouse_drag_callbacks if (made := call(layer, event)) is not None]
    for one in ours:
        next(one, None)
    event.type = "mouse_move"
    matrix = np.array(layer.affine.affine_matrix)
    matrix[-2, -1] += by
    layer.affine = matrix
    event.type = "mouse_release"
    for one in ours:
        next(one, None)


def test_a_move_by_the_transform_tool_is_said_and_taken_back(opened: Any, notices: Any) -> None:
    verbs.editing_of(opened)
    image = next(layer for layer in opened.layers if "T1post" in layer.name)
    for layer in (masks(opened)[0], image):
        place = np.array(layer.affine.affine_matrix)
        layer.mode = "transform"
        drag_with_the_tool(layer, 0)
        assert not notices
        drag_with_the_tool(layer, 5)
        severity, text = notices.pop()
        assert severity == "warning"
        assert f"{layer.name} was moved in the window only" in text
        assert layer.name in verbs.undo(opened)
        assert np.allclose(layer.affine.affine_matrix, place)
        verbs.redo(opened)
        assert np.isclose(layer.affine.affine_matrix[-2, -1], place[-2, -1] + 5)
        verbs.undo(opened)


def test_teach_follows_the_slider_of_visits(viewer: Any, qtbot: Any) -> None:
    widget = TeachWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name="Teach")
    viewer.dims.set_point(0, 0.0)
    first, second = (next(o for o in viewer.layers if "T1post" in o.name and visit_of(o) == k) for k in (0, 1))
    widget.image.choose(first)
    widget.labels.choose(masks(viewer)[0])
    viewer.dims.set_point(0, 1.0)
    assert (widget.image.layer, visit_of(widget.labels.layer)) == (second, 1)
    click(qtbot, widget.new_button)
    assert visit_of(widget.labels.layer) == 1
    assert viewer.layers.selection.active == widget.labels.layer
    viewer.dims.set_point(0, 0.0)
    assert (widget.image.layer, visit_of(widget.labels.layer)) == (first, 0)
    widget.image.choose(second)  # by hand, while the slider stays
    viewer.dims.set_point(1, viewer.dims.point[1] + viewer.dims.range[1].step)
    assert widget.image.layer == second
