"""What a person does in a real viewer: opens, paints with the mouse, presses keys and buttons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication, QPushButton, QWidget


def open_folder(viewer: Any, folder: Path) -> None:
    """Open a folder as napari does when it is dropped."""
    viewer.open(str(folder), plugin="napari-medseq")


def at(layer: Any, *index: float) -> tuple[float, ...]:
    """World position of an index in the layer's last axes; earlier ones where the layer begins."""
    return tuple(layer.data_to_world((0,) * (layer.ndim - len(index)) + index))


def stroke(viewer: Any, points: Iterable[Sequence[float]]) -> None:
    """Press the left button over the first of these world positions on the canvas, drag over the others, release."""
    shown = [[point[d - viewer.dims.ndim] for d in viewer.dims.displayed] for point in points]
    drag(viewer.window._qt_viewer.canvas, shown)


def drag(canvas: Any, points: Iterable[Sequence[float]]) -> None:
    """Press over the first of these places (as the canvas counts) on a canvas, drag over the others, release."""
    view, _ = canvas._get_viewbox_at((canvas.size[1] // 2, canvas.size[0] // 2))
    transform = view.transform * view.scene.transform
    steps = [QPointF(*(round(float(v)) for v in transform.map(list(point)[::-1])[:2])) for point in points]
    left, none = Qt.LeftButton, Qt.NoButton
    events = [(QEvent.MouseButtonPress, steps[0], left, left)]
    events += [(QEvent.MouseMove, step, none, left) for step in steps[1:]]
    events += [(QEvent.MouseButtonRelease, steps[-1], left, none)]
    for kind, where, what, held in events:
        QApplication.sendEvent(canvas.native, QMouseEvent(kind, where, where, what, held, Qt.NoModifier))


def paint(
    viewer: Any, layer: Any, index: Sequence[float], *, label: int, size: int = 4, mode: str = "paint"
) -> np.ndarray:
    """Make a layer active, go to the slice of `index` (z, y, x) and paint a short stroke there; where its voxels changed."""
    viewer.layers.selection.active = layer
    if layer.axis_labels[0] == "visit":
        viewer.dims.set_point(0, float(layer.translate[0]))
    viewer.dims.set_point(viewer.dims.ndim - 3, at(layer, *index)[-3])
    viewer.reset_view()
    layer.mode, layer.brush_size, layer.selected_label = mode, size, label
    before = np.array(layer.data)
    stroke(viewer, [at(layer, *index), at(layer, index[0], index[1], index[2] + 2)])
    return np.asarray(before != layer.data)


def key(viewer: Any, qtbot: Any, code: Any, modifier: Any = Qt.NoModifier) -> None:
    """Press a key while the canvas has the focus."""
    press_key(qtbot, viewer.window._qt_viewer.canvas.native, code, modifier)


def press_key(qtbot: Any, where: QWidget, code: Any, modifier: Any = Qt.NoModifier) -> None:
    """Press a key, and let go of the modifiers, too: Qt believes them to be held until another key comes."""
    qtbot.keyClick(where, code, modifier)
    if modifier != Qt.NoModifier:
        qtbot.keyRelease(where, Qt.Key_Alt)


def button(widget: QWidget, text: str) -> QPushButton:
    """The button that shows this text."""
    return next(b for b in widget.findChildren(QPushButton) if b.text().startswith(text))
