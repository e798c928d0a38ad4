"""The panes of a viewer on the screen, in place of its canvas; the sliders and the layer list stay."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari.qt import QtViewer
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QFrame, QGridLayout, QVBoxLayout, QWidget

from napari_medseq.viewer import Panes
from napari_medseq.viewer.layers.proxies import real

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.utils.events import Event

    from napari_medseq.viewer.canvases.pane import Pane

#: colour of the frame of the pane whose visit the sliders and the layer list show
_ACTIVE, _OTHER = "#f0c419", "transparent"


class PanesScreen(QWidget):  # type: ignore[misc]
    """The canvases of some panes, in rows.

    Attributes
    ----------
    canvases : list of QtViewer
        One per pane.
    """

    def __init__(self, panes: Panes, canvas: QWidget) -> None:
        super().__init__(canvas.parentWidget())
        self.panes, self._instead_of = panes, canvas
        self.canvases: list[QtViewer] = []
        self._frames: list[QFrame] = []
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for pane, place in zip(panes.panes, places(len(panes.panes), panes.kind), strict=True):
            layout.addWidget(self._framed(pane), *place)
        panes.events.active.connect(self._mark)
        panes.events.closed.connect(self._closed)
        self._mark()
        column = canvas.parentWidget().layout()
        column.insertWidget(column.indexOf(canvas), self, 1)
        canvas.hide()
        self.show()
        self._shown_in = canvas.parentWidget().parentWidget()
        self._shown_in.installEventFilter(self)
        # the canvases have their final size only after layout
        QTimer.singleShot(0, self._fit)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Close the panes before the window that they are in."""
        if event.type() == QEvent.Close and watched is self._shown_in:
            self.panes.close()
        return bool(super().eventFilter(watched, event))

    def _framed(self, pane: Pane) -> QFrame:
        canvas = QtViewer(pane.viewer)
        canvas.dims.hide()
        frame = QFrame()
        frame.setObjectName("medseqPane")
        inside = QVBoxLayout(frame)
        inside.setContentsMargins(2, 2, 2, 2)
        inside.addWidget(canvas)
        self.canvases.append(canvas)
        self._frames.append(frame)
        return frame

    def _fit(self) -> None:
        if self.canvases:
            self.panes.fit()

    def _mark(self, _event: Event | None = None) -> None:
        """Draw a frame around the active pane."""
        for pane, frame in zip(self.panes.panes, self._frames, strict=True):
            colour = _ACTIVE if pane is self.panes.active else _OTHER
            frame.setStyleSheet(f"QFrame#medseqPane {{ border: 2px solid {colour}; }}")

    def _closed(self, _event: Event | None = None) -> None:
        """Show the viewer's canvas again."""
        self._shown_in.removeEventFilter(self)
        self._instead_of.show()
        for canvas in self.canvases:
            canvas.close()
        self.canvases = []
        self.hide()
        self.deleteLater()


def places(count: int, kind: str) -> list[tuple[int, int, int, int]]:
    """Row, column, number of rows and number of columns of each pane.

    Visits are placed beside one another, two or three in a row; of three planes the first is beside the two others.
    """
    if kind == "planes":
        return [(0, 0, 2, 1), (0, 1, 1, 1), (1, 1, 1, 1)][:count]
    columns = count if count <= 3 else math.ceil(count / 2)
    return [(number // columns, number % columns, 1, 1) for number in range(count)]


def put_on_screen(viewer: ViewerModel, panes: Panes) -> PanesScreen | None:
    """Show panes in place of a viewer's canvas; None if it has no window."""
    viewer = real(viewer)
    window = getattr(viewer, "window", None)
    qt_viewer = getattr(window, "_qt_viewer", None)
    return None if qt_viewer is None else PanesScreen(panes, qt_viewer.canvas.native)
