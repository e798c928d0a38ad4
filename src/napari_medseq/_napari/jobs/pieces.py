"""Work of a window that is done piece by piece, so that the window is redrawn in between and never blocked for
long."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtWidgets import QMainWindow

from napari_medseq._napari.notifications import guarded
from napari_medseq.viewer.canvas_text import pace
from napari_medseq.viewer.layers.proxies import real

if TYPE_CHECKING:
    from napari.components import ViewerModel

#: time between two pieces, in which the window is redrawn
_EVERY_MS = 15


class Pieces(QObject):  # type: ignore[misc]
    """The pieces of work that one window still has to do; from `pieces_of`."""

    def __init__(self, window: QMainWindow) -> None:
        super().__init__(window)
        self._waiting: deque[Callable[[], None]] = deque()
        self._timer = QTimer(self)
        self._timer.setInterval(_EVERY_MS)
        self._timer.timeout.connect(self._next)

    def later(self, piece: Callable[[], None]) -> None:
        """Do this soon, after what was added before."""
        self._waiting.append(piece)
        self._timer.start()

    @property
    def done(self) -> bool:
        """Whether nothing is left to do, and the last piece had time to be drawn."""
        return not self._timer.isActive()

    def _next(self) -> None:
        if self._waiting:
            guarded("Writing on the canvas", self._waiting.popleft())
        else:
            self._timer.stop()


def pieces_of(viewer: ViewerModel) -> Pieces | None:
    """The pieces of work of a viewer's window, which from now on include texts on its canvas; None if there is no
    window."""
    viewer = real(viewer)
    window = getattr(getattr(viewer, "window", None), "_qt_window", None)
    if window is None:
        return None
    pieces: Pieces | None = window.findChild(Pieces, options=Qt.FindDirectChildrenOnly)
    if pieces is None:
        pieces = Pieces(window)
        pace(viewer, pieces.later)
    return pieces
