"""A slice before and after preprocessing, in one picture with a line to drag: before on its left, after on its
right."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF, QTransform
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_medseq._napari.preprocess.preview_picture import Picture, Pixels
from napari_medseq.geometry import Affine

_PAPER, _INK, _LINE = QColor(0, 0, 0), QColor(235, 235, 235), QColor(255, 210, 60)
_KEY_STEP = 0.05
_MARGIN = 4


class BeforeAfter(QWidget):  # type: ignore[misc]
    """The picture; `share` is the position of the line, from 0 (left edge) to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.picture: Picture | None = None
        self.message = ""
        self.share = 0.5
        self.stale = False
        self._images: tuple[QImage, QImage] | None = None
        self.setMinimumSize(160, 180)
        self.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Preferred)
        self.setFocusPolicy(Qt.StrongFocus)
        self.setCursor(Qt.SplitHCursor)
        self.setToolTip("Drag the line: before on its left, after on its right. The keys ← and → move it, too.")
        self.setAccessibleName("The shown slice before and after")

    def sizeHint(self) -> QSize:
        """The height that is useful in a dock of 380 pixels."""
        return QSize(340, 260)

    def show_picture(self, picture: Picture) -> None:
        """Show a new picture; the line stays where it is."""
        self.picture, self.message, self.stale = picture, "", False
        self._images = (_image(picture.before), _image(picture.after))
        self.update()

    def show_message(self, message: str) -> None:
        """Show a text instead of a picture."""
        self.picture = self._images = None
        self.message, self.stale = message, False
        self.update()

    def set_stale(self) -> None:
        """Dim the picture while it does not match the form, until the next one comes."""
        self.stale = True
        self.update()

    # -- drawing -------------------------------------------------------------------------------------------------------
    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw both pictures in the same millimetres, cut at the line."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), _PAPER)
        if self.picture is None or self._images is None:
            painter.setPen(_INK)
            painter.drawText(self.rect().adjusted(12, 12, -12, -12), Qt.AlignCenter | Qt.TextWordWrap, self.message)
            return
        painter.setRenderHint(QPainter.SmoothPixmapTransform)
        if self.stale:
            painter.setOpacity(0.5)
        fit, at = self._fit(), self._line()
        sides = (QRectF(0, 0, at, self.height()), QRectF(at, 0, self.width() - at, self.height()))
        placed = (self.picture.before_to_mm, self.picture.after_to_mm)
        for side, image, to_mm in zip(sides, self._images, placed, strict=True):
            painter.save()
            painter.setClipRect(side)
            painter.setTransform(_transform(to_mm) * fit)
            painter.drawImage(QPointF(-0.5, -0.5), image)
            painter.restore()
        painter.setOpacity(1.0)
        painter.setPen(QPen(_LINE, 2))
        painter.drawLine(QPointF(at, 0), QPointF(at, self.height()))
        self._caption(painter, "before", at - _MARGIN, right=True)
        self._caption(painter, "after", at + _MARGIN, right=False)

    def _caption(self, painter: QPainter, text: str, x: float, *, right: bool) -> None:
        box = painter.fontMetrics().boundingRect(text)
        width, height = box.width() + 8, box.height() + 2
        at = QRectF(x - width if right else x, self.height() - height - _MARGIN, width, height)
        if at.left() < 0 or at.right() > self.width():
            return  # there is no room beside the line
        painter.fillRect(at, QColor(0, 0, 0, 150))
        painter.setPen(_INK)
        painter.drawText(at, Qt.AlignCenter, text)

    def _fit(self) -> QTransform:
        """Millimetres → pixels of this widget, so that the whole slice before preprocessing is visible."""
        assert self.picture is not None
        rows, columns = self.picture.before.shape[:2]
        edges = QRectF(-0.5, -0.5, columns, rows)
        whole = _transform(self.picture.before_to_mm).map(QPolygonF(edges)).boundingRect()
        scale = min(self.width() / whole.width(), self.height() / whole.height())
        fit = QTransform()
        fit.translate(self.width() / 2, self.height() / 2)
        fit.scale(scale, scale)
        fit.translate(-whole.center().x(), -whole.center().y())
        return fit

    def _line(self) -> float:
        return self.share * float(self.width())

    # -- the line ------------------------------------------------------------------------------------------------------
    def move_line(self, share: float) -> None:
        """Move the line to a share of the width."""
        self.share = min(max(share, 0.0), 1.0)
        self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Move the line to the mouse."""
        self.move_line(event.position().x() / max(1, self.width()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Let the line follow the mouse."""
        self.move_line(event.position().x() / max(1, self.width()))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Move the line with the arrow keys."""
        by = {Qt.Key_Left: -_KEY_STEP, Qt.Key_Right: _KEY_STEP}.get(event.key())
        if by is None:
            super().keyPressEvent(event)
            return
        self.move_line(self.share + by)


def _image(pixels: Pixels) -> QImage:
    whole = np.ascontiguousarray(pixels)
    rows, columns = whole.shape[:2]
    # copied, because QImage does not keep the array alive
    return QImage(whole.data, columns, rows, 4 * columns, QImage.Format_RGBA8888).copy()


def _transform(matrix: Affine) -> QTransform:
    """Qt's transform of (column, row) by a matrix that acts on column vectors."""
    m = np.asarray(matrix, dtype=float)
    return QTransform(m[0, 0], m[1, 0], m[0, 1], m[1, 1], m[0, 2], m[1, 2])
