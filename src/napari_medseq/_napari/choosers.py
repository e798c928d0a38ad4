"""The boxes in which a user chooses layers and a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_medseq._napari.studies import studies_in
from napari_medseq._napari.work import DISCLAIMER, heed

#: napari's theme draws no ticks in lists
_TICKS = """
QListWidget::indicator { width: 11px; height: 11px; border: 1px solid #909090; border-radius: 2px; }
QListWidget::indicator:checked { background: #5b8def; border-color: #d0d0d0; }
"""
_LAYER_EVENTS = ("inserted", "removed", "reordered", "renamed")


def follow_layers(viewer: Any, update: Callable[..., None]) -> None:
    """Call `update`, a widget's method, now and whenever layers come, go, move or get another name."""
    for name in _LAYER_EVENTS:
        heed(getattr(viewer.layers.events, name), update)
    update()


def scrolled(widget: QWidget) -> QVBoxLayout:
    """A column for the rows of a dock widget that scrolls where the window is low, instead of squeezing them."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
    inner = QWidget()
    area.setWidget(inner)
    outer = QVBoxLayout(widget)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.addWidget(area)
    widget.setMinimumWidth(310)
    return QVBoxLayout(inner)


def disclaimer() -> QLabel:
    """What stands below every result."""
    note = QLabel(DISCLAIMER)
    note.setStyleSheet("font-style: italic;")
    return note


class LayerBox(QComboBox):  # type: ignore[misc]
    """One layer of given kinds ("image", "labels"), or none where `optional` names that choice."""

    def __init__(self, viewer: Any, kinds: Sequence[str], optional: str | None = None) -> None:
        super().__init__()
        self.viewer, self.kinds, self.optional = viewer, tuple(kinds), optional
        follow_layers(viewer, self._update)

    def _update(self, _event: Any = None) -> None:
        before = self.layer
        self.blockSignals(True)
        self.clear()
        if self.optional is not None:
            self.addItem(self.optional, None)
        for layer in self.viewer.layers:
            if layer._type_string in self.kinds:
                self.addItem(layer.name, layer)
        self.blockSignals(False)
        self.choose(before)

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        return self.currentData()

    def choose(self, layer: Any) -> None:
        """Choose a layer, if it is here."""
        for k in range(self.count()):
            if self.itemData(k) is layer and layer is not None:
                self.setCurrentIndex(k)


class LayerChecklist(QListWidget):  # type: ignore[misc]
    """Layers of one kind to tick; what is ticked stays ticked while layers come and go."""

    changed = Signal()

    def __init__(self, viewer: Any, kind: str, tick: Callable[[Any], bool] = lambda _layer: False) -> None:
        super().__init__()
        self.viewer, self.kind, self._tick = viewer, kind, tick
        self.setMaximumHeight(110)
        self.setStyleSheet(_TICKS)
        self.itemChanged.connect(lambda _item: self.changed.emit())
        follow_layers(viewer, self._update)

    def _update(self, _event: Any = None) -> None:
        known = {id(self.item(k).data(Qt.UserRole)): self.item(k).checkState() for k in range(self.count())}
        self.blockSignals(True)
        self.clear()
        for layer in self.viewer.layers:
            if layer._type_string == self.kind:
                item = QListWidgetItem(layer.name)
                item.setData(Qt.UserRole, layer)
                item.setFlags(Qt.ItemIsEnabled | Qt.ItemIsUserCheckable | Qt.ItemIsSelectable)
                fresh = Qt.Checked if self._tick(layer) else Qt.Unchecked
                item.setCheckState(known.get(id(layer), fresh))
                self.addItem(item)
        self.blockSignals(False)
        self.changed.emit()

    @property
    def layers(self) -> list[Any]:
        """The ticked layers, in the order of the layer list."""
        items = [self.item(k) for k in range(self.count())]
        return [i.data(Qt.UserRole) for i in items if i.checkState() == Qt.Checked]

    def tick(self, layers: Sequence[Any]) -> None:
        """Tick these layers and no others."""
        wanted = {id(layer) for layer in layers}
        for k in range(self.count()):
            item = self.item(k)
            item.setCheckState(Qt.Checked if id(item.data(Qt.UserRole)) in wanted else Qt.Unchecked)


class StudyBox(QComboBox):  # type: ignore[misc]
    """One of the studies that are open."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer
        follow_layers(viewer, self._update)

    def _update(self, _event: Any = None) -> None:
        names = studies_in(self.viewer.layers)
        if names == [self.itemText(k) for k in range(self.count())]:
            return
        new = [n for n in names if self.findText(n) < 0]
        before = self.currentText()
        self.clear()
        self.addItems(names)
        # what was opened last is what the user means
        self.setCurrentText(new[-1] if new else before)

    @property
    def study(self) -> str | None:
        """Its name, or None where nothing is open."""
        return self.currentText() or None


class Fold(QWidget):  # type: ignore[misc]
    """A button that shows and hides what lies below it."""

    def __init__(self, title: str, inside: QWidget) -> None:
        super().__init__()
        self.title, self.inside = title, inside
        self.button = QPushButton()
        self.button.setCheckable(True)
        self.button.setStyleSheet("text-align: left; padding-left: 6px;")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(inside)
        self.button.toggled.connect(self._toggled)
        self._toggled(False)

    def _toggled(self, opened: bool) -> None:
        self.button.setText(f"{'▾' if opened else '▸'} {self.title}")
        self.inside.setVisible(opened)
