"""The boxes in which a user chooses layers and a study.

Layers are compared with ``==``, because napari hands plugins a proxy of the viewer, which gives another proxy of a
layer each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QSize, Qt, Signal
from qtpy.QtGui import QPaintEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QVBoxLayout,
    QWidget,
)

from napari_medseq._napari.gone import connect_until_destroyed
from napari_medseq.record import DISCLAIMER
from napari_medseq.viewer.editing.active import shown_visit, visit_of
from napari_medseq.viewer.identity import image_in_front, patient_in_front
from napari_medseq.viewer.layers.conversion import AT_MOST, layer_kind
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.layers.studies import facts_of, series_name, studies_in

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

#: style that draws ticks in lists and trees, which napari's theme does not
TICKS = """
QAbstractItemView::indicator { width: 11px; height: 11px; border: 1px solid #909090; border-radius: 2px; }
QAbstractItemView::indicator:checked { background: #5b8def; border-color: #d0d0d0; }
QAbstractItemView::indicator:indeterminate { background: qlineargradient(x1:0, y1:0, x2:0, y2:1,
    stop:0.35 transparent, stop:0.36 #5b8def, stop:0.64 #5b8def, stop:0.65 transparent); border-color: #d0d0d0; }
"""
_LAYER_EVENTS = ("inserted", "removed", "reordered", "renamed")


def follow_layers(viewer: ViewerModel, update: Callable[..., None]) -> None:
    """Call `update`, a widget's method, now and whenever layers are added, removed, moved or renamed."""
    for name in _LAYER_EVENTS:
        connect_until_destroyed(getattr(viewer.layers.events, name), update)
    update()


def scrolled(widget: QWidget) -> QVBoxLayout:
    """A column for the rows of a dock widget, which scrolls if the window is low; the disclaimer below is always
    visible."""
    area = _Column()
    outer = QVBoxLayout(widget)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.addWidget(area)
    note = QLabel(DISCLAIMER)
    note.setStyleSheet("font-style: italic; padding: 3px 9px;")
    outer.addWidget(note)
    return QVBoxLayout(area.widget())


def wrapped(text: str = "") -> QLabel:
    """A label whose text wraps at the end of the column, so that it never makes the column wider."""
    label = QLabel(text)
    label.setWordWrap(True)
    policy = label.sizePolicy()
    policy.setHorizontalPolicy(QSizePolicy.Ignored)
    label.setSizePolicy(policy)
    return label


#: events after which the width of the content may have changed
_MEASURED_AT = (QEvent.LayoutRequest, QEvent.Polish, QEvent.StyleChange, QEvent.FontChange, QEvent.Show, QEvent.Resize)
#: pixels that the theme keeps free around the scrolled content
_EDGE = 2
#: pixels that a dock asks for when it is opened; the user can make it narrower
_WIDTH = 350


class _Column(QScrollArea):  # type: ignore[misc]
    """Scrolls vertically only; it is always as wide as its content."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        self.setMinimumHeight(180)
        inner = QWidget()
        inner.installEventFilter(self)
        self.setWidget(inner)

    def sizeHint(self) -> QSize:
        """As high as the content, so that stacked docks share the window fairly, and wide enough for every widget's rows."""
        return self.widget().sizeHint().expandedTo(QSize(_WIDTH, 250))

    def eventFilter(self, watched: QWidget, event: QEvent) -> bool:
        """Follow the width of the content, which the theme also changes when it is set after the widget is made."""
        if event.type() in _MEASURED_AT:
            beside = self.verticalScrollBar().sizeHint().width() + _EDGE
            self.setMinimumWidth(watched.minimumSizeHint().width() + beside)
        return bool(super().eventFilter(watched, event))


class ShortBox(QComboBox):  # type: ignore[misc]
    """A list that may be narrower than its longest entry, which is shortened; its placeholder stands there while it is empty."""

    #: position of the part that is left out
    shortened = Qt.ElideRight

    def __init__(self) -> None:
        super().__init__()
        self.setSizeAdjustPolicy(QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(6)  # so that docks work at 380 px

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Shorten the text that does not fit."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        field = self.style().subControlRect(QStyle.CC_ComboBox, option, QStyle.SC_ComboBoxEditField, self)
        text = option.currentText or self.placeholderText()
        option.currentText = self.fontMetrics().elidedText(text, self.shortened, field.width() - 6)
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.CC_ComboBox, option)
        painter.drawControl(QStyle.CE_ComboBoxLabel, option)


class LayerBox(ShortBox):
    """A list of layers of given kinds ("image", "labels") that are `fit`, or no layer, which `optional` names."""

    #: the list of layers was made anew
    listed = Signal()
    #: names of layers begin with patient and visit, so that they differ at their ends
    shortened = Qt.ElideMiddle

    def __init__(
        self,
        viewer: ViewerModel,
        kinds: Sequence[str],
        optional: str | None = None,
        fit: Callable[[Layer], bool] = lambda _layer: True,
    ) -> None:
        super().__init__()
        self._fit = fit
        self._purpose, self._not_listed = "The layer to use", ""
        self.currentTextChanged.connect(self._name_whole)
        self._name_whole(self.currentText())
        self.viewer, self.kinds, self.optional = viewer, tuple(kinds), optional
        self._front, self._behind = patient_in_front(viewer), False
        self._for_want: Layer | None = None  # a hidden layer that stands here because no other was there
        connect_until_destroyed(viewer.events.title, self._follow_front)  # which names the patient in front
        follow_layers(viewer, self._update)

    def setToolTip(self, text: str) -> None:
        """Explain the purpose of the layer; the whole name of the chosen one stands below."""
        self._purpose = text
        self._name_whole(self.currentText())

    def _name_whole(self, name: str) -> None:
        super().setToolTip("\n".join(part for part in (self._purpose, name, self._not_listed) if part))

    def _update(self, _event: object = None) -> None:
        before = self.layer
        self.blockSignals(True)
        self.clear()
        if self.optional is not None:
            self.addItem(self.optional, None)
        for layer in self.viewer.layers:
            if layer_kind(layer) in self.kinds and self._fit(layer):
                self.addItem(layer.name, layer)
        self.blockSignals(False)
        if self.currentIndex() < 0 and self.count():  # Qt chooses none where there is a placeholder
            self.setCurrentIndex(0)
        self.choose(before)
        self._prefer_shown(before)
        unfit = (layer for layer in self.viewer.layers if layer_kind(layer).endswith(" axes"))
        self._not_listed = "\n".join(f"Not listed: {layer.name} has {layer.ndim} axes; {AT_MOST}" for layer in unfit)
        self._name_whole(self.currentText())
        self._follow_front()
        self.listed.emit()

    def _prefer_shown(self, before: Layer | None) -> None:
        """Where nobody chose, and the first layer is hidden, take the first one that is shown, now or when it comes."""
        layer = self.layer
        if layer is None or (layer == before and before is not self._for_want):
            return
        if not layer.visible:
            shown = (k for k in range(self.count()) if (one := self.itemData(k)) is not None and one.visible)
            self.setCurrentIndex(next(shown, self.currentIndex()))
        self._for_want = None if self.layer is None or self.layer.visible else self.layer

    def _follow_front(self, _event: object = None) -> None:
        """When another patient comes to the front, choose that one's layer of the same series, else its first one."""
        front, chosen = patient_in_front(self.viewer), self.layer
        self._behind |= front != self._front
        self._front = front
        if not self._behind or front is None or chosen is None:
            return
        facts = facts_of(chosen)
        if facts.get("study") in (None, front):
            self._behind = False
            return
        of_front = [k for k in range(self.count()) if self._study(k) == front]
        if of_front:  # else they are still to come
            alike = [k for k in of_front if series_name(facts_of(self.itemData(k))) == series_name(facts)]
            self._behind = False
            self.setCurrentIndex((alike or of_front)[0])

    def _study(self, index: int) -> object:
        layer = self.itemData(index)
        return None if layer is None else facts_of(layer).get("study")

    @property
    def layer(self) -> Layer | None:
        """The chosen layer, or None."""
        return self.currentData()

    def begin_with_shown(self) -> None:
        """Choose the image that the user looks at."""
        self.choose(image_looked_at(self.viewer))

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer, if it is in the list."""
        for k in range(self.count()):
            if layer is not None and self.itemData(k) == layer:
                self.setCurrentIndex(k)


def image_looked_at(viewer: ViewerModel) -> Layer | None:
    """The active layer, if it is an image that is seen, else the image in front at the visit that is shown: napari makes the last of
    several new layers active, also a hidden one, one of another visit, and a mask."""
    viewer = real(viewer)
    active = viewer.layers.selection.active
    is_seen = (
        active is not None
        and layer_kind(active) == "image"
        and active.visible
        and visit_of(active) in (None, shown_visit(viewer))
    )
    return active if is_seen else image_in_front(viewer)


class LayerChecklist(QListWidget):  # type: ignore[misc]
    """Layers of some kinds to tick; ticks are kept while layers are added and removed."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel, *kinds: str, tick: Callable[[Layer], bool] = lambda _layer: False) -> None:
        super().__init__()
        self.viewer, self.kinds, self._tick = viewer, kinds, tick
        self._left_out: Layer | None = None
        self.setMaximumHeight(110)
        self.setToolTip("Tick the layers to use")
        self.setStyleSheet(TICKS)
        self.itemChanged.connect(lambda _item: self.changed.emit())
        follow_layers(viewer, self._update)

    def _update(self, _event: object = None) -> None:
        previous = [(self.item(k).data(Qt.UserRole), self.item(k).checkState()) for k in range(self.count())]
        self.blockSignals(True)
        self.clear()
        for layer in self.viewer.layers:
            if layer_kind(layer) in self.kinds and (self._left_out is None or layer != self._left_out):
                item = QListWidgetItem(layer.name)
                item.setData(Qt.UserRole, layer)
                item.setFlags(Qt.ItemIsEnabled | Qt.ItemIsUserCheckable | Qt.ItemIsSelectable)
                fresh = Qt.Checked if self._tick(layer) else Qt.Unchecked
                item.setCheckState(next((state for old, state in previous if old == layer), fresh))
                self.addItem(item)
        self.blockSignals(False)
        self.changed.emit()

    @property
    def layers(self) -> list[Layer]:
        """The ticked layers, in the order of the layer list."""
        items = [self.item(k) for k in range(self.count())]
        return [i.data(Qt.UserRole) for i in items if i.checkState() == Qt.Checked]

    def set_left_out(self, layer: Layer | None) -> None:
        """Do not offer this layer, because it is chosen elsewhere."""
        if layer != self._left_out:
            self._left_out = layer
            self._update()

    def tick(self, layers: Sequence[Layer]) -> None:
        """Tick these layers, and untick all others."""
        for k in range(self.count()):
            item = self.item(k)
            item.setCheckState(Qt.Checked if item.data(Qt.UserRole) in layers else Qt.Unchecked)


class StudyBox(ShortBox):
    """A list of the studies that are open."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.setToolTip("The patient whose lesions are followed")
        self.viewer = viewer
        connect_until_destroyed(viewer.events.title, self._follow_front)  # which names the patient in front
        follow_layers(viewer, self._update)

    def _follow_front(self, _event: object = None) -> None:
        front = patient_in_front(self.viewer)
        if front is not None and self.findText(front) >= 0:
            self.setCurrentText(front)

    def _update(self, _event: object = None) -> None:
        names = studies_in(self.viewer.layers)
        if names == [self.itemText(k) for k in range(self.count())]:
            return
        new = [n for n in names if self.findText(n) < 0]
        before = self.currentText()
        self.clear()
        self.addItems(names)
        # the patient in front is what the user means, else what was opened last
        front = patient_in_front(self.viewer)
        self.setCurrentText(front if front in names else new[-1] if new else before)

    @property
    def study(self) -> str | None:
        """Name of the study; None if nothing is open."""
        return self.currentText() or None


def ticked_list(tip: str) -> QListWidget:
    """An empty list of a few rows, whose ticks are visible in any theme."""
    box = QListWidget()
    box.setMaximumHeight(110)
    box.setStyleSheet(TICKS)
    box.setToolTip(tip)
    return box


class CollapsibleSection(QWidget):  # type: ignore[misc]
    """A button that shows and hides the content below it."""

    def __init__(self, title: str, inside: QWidget) -> None:
        super().__init__()
        self.title, self.inside = title, inside
        self.button = QPushButton()
        self.button.setCheckable(True)
        self.button.setToolTip(f"Show or hide: {title}")
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
