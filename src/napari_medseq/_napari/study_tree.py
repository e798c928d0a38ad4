"""The tree of patients, visits and series in *Study*: visits are dragged to another place, series to another visit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QPoint, Qt, Signal
from qtpy.QtGui import QDragMoveEvent, QDropEvent, QKeyEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QMenu, QTreeWidget, QTreeWidgetItem

from napari_medseq._napari.controls.choosers import TICKS
from napari_medseq.sequence import ImageSequence
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.layers.studies import facts_of

if TYPE_CHECKING:
    from napari.layers import Layer

#: where a row keeps what it shows: ("patient", study), ("visit", study, ordinal), ("layer", name) and so on
ROLE = Qt.UserRole
DATE = 1
_WIDEST = 220  # pixels of a column; longer names are in its tooltips
#: number of characters of a visit's name that are shown
_NAME = 20
#: key (with Alt) → how many places later it moves a visit
_MOVES = {Qt.Key_Up: -1, Qt.Key_Down: 1}


class StudyTree(QTreeWidget):  # type: ignore[misc]
    """The tree; what is dropped or chosen in its menu it only says, and changes nothing itself."""

    #: study, ordinal of a visit, and how many places later it is to go
    visit_moved = Signal(str, int, int)
    #: name of a layer, study, and the ordinal of the visit to which it is to belong
    layer_assigned = Signal(str, str, int)

    def __init__(self) -> None:
        super().__init__()
        self.setHeaderLabels(["series", "date", "what"])
        self.setMinimumHeight(160)
        self.setStyleSheet(TICKS)
        self.header().setStretchLastSection(False)
        self.header().setMaximumSectionSize(_WIDEST)
        for column, how in enumerate((QHeaderView.ResizeToContents, QHeaderView.ResizeToContents, QHeaderView.Stretch)):
            self.header().setSectionResizeMode(column, how)
        self.setToolTip(
            "A patient: click to bring in front. A visit: click to go there, double-click its date to correct it, drag it (or Alt+Up, "
            "Alt+Down) to another place. A series: drag it to another visit. More with the right button"
        )
        self.setDragDropMode(QAbstractItemView.InternalMove)
        self.setContextMenuPolicy(Qt.CustomContextMenu)
        self.customContextMenuRequested.connect(self._ask)

    # -- rows ----------------------------------------------------------------------------------------------------------
    def rows(self) -> Iterator[QTreeWidgetItem]:
        """All rows below the patients that show something."""

        def below(item: QTreeWidgetItem) -> Iterator[QTreeWidgetItem]:
            for k in range(item.childCount()):
                child = item.child(k)
                if child.data(0, ROLE) is not None:
                    yield child
                yield from below(child)

        return below(self.invisibleRootItem())

    def role(self, item: QTreeWidgetItem | None = None) -> tuple[Any, ...]:
        """What a row shows, by default the current one; () if nothing."""
        item = self.currentItem() if item is None else item
        return () if item is None else tuple(item.data(0, ROLE) or ())

    def choose(self, role: tuple[Any, ...]) -> None:
        """Make the row that shows this the current one, if it is there."""
        for item in self.rows():
            if role and self.role(item) == role:
                self.setCurrentItem(item)
                return

    def visits(self, study: str) -> list[int]:
        """The ordinals of the visits of a patient that are listed."""
        roles = [self.role(item) for item in self.rows()]
        return [int(role[2]) for role in roles if role[:2] == ("visit", study)]

    @property
    def visit(self) -> tuple[str, int] | None:
        """Study and ordinal of the visit of the current row; None if it belongs to none."""
        return self._visit_of(self.currentItem())

    def _visit_of(self, item: QTreeWidgetItem | None) -> tuple[str, int] | None:
        while item is not None:
            role = self.role(item)
            if role[:1] == ("visit",):
                return str(role[1]), int(role[2])
            item = item.parent()
        return None

    # -- dragging ------------------------------------------------------------------------------------------------------
    def _drop(self, at: QPoint) -> Callable[[], None] | None:
        """What it means to drop the current row at a place; None if it means nothing."""
        dragged, target = self.role(), self._visit_of(self.itemAt(at))
        if target is None or not dragged:
            return None
        study, ordinal = target
        if dragged[0] == "layer" and self.visit != target:
            return lambda: self.layer_assigned.emit(str(dragged[1]), study, ordinal)
        if dragged[0] == "visit" and dragged[1] == study and dragged[2] != ordinal:
            visits = self.visits(study)
            by = visits.index(ordinal) - visits.index(int(dragged[2]))
            return lambda: self.visit_moved.emit(study, int(dragged[2]), by)
        return None

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:
        """Show where the row may be dropped."""
        super().dragMoveEvent(event)
        if self._drop(event.position().toPoint()) is None:
            event.ignore()
        else:
            event.accept()

    def dropEvent(self, event: QDropEvent) -> None:
        """Say what was dropped where; the rows are listed anew when that is done."""
        action = self._drop(event.position().toPoint())
        event.setDropAction(Qt.IgnoreAction)  # Qt would remove the row
        event.accept()
        if action is not None:
            action()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Alt+Up and Alt+Down move the visit of the current row."""
        by, visit = _MOVES.get(event.key()), self.visit
        if by is not None and visit is not None and event.modifiers() & Qt.AltModifier:
            self.visit_moved.emit(*visit, by)
        else:
            super().keyPressEvent(event)

    # -- the menu ------------------------------------------------------------------------------------------------------
    def _ask(self, at: QPoint) -> None:
        item = self.itemAt(at)
        menu = None if item is None else self.menu_of(item)
        if menu is not None:
            menu.exec_(self.viewport().mapToGlobal(at))

    def menu_of(self, item: QTreeWidgetItem) -> QMenu | None:
        """The menu of a row; None if there is nothing to do."""
        role, visit = self.role(item), self._visit_of(item)
        menu = QMenu(self)
        if role[:1] == ("visit",) and visit is not None:
            visits = self.visits(visit[0])
            for text, by, last in (("Move up", -1, visits[0]), ("Move down", 1, visits[-1])):
                action = menu.addAction(text, lambda by=by: self.visit_moved.emit(*visit, by))
                action.setEnabled(visit[1] != last)
            menu.addAction("Set the date …", lambda: self.editItem(item, DATE))
        elif role[:1] == ("layer",):
            studies = (
                [visit[0]]
                if visit is not None
                else [r[1] for r in map(self.role, self._tops()) if r[:1] == ("patient",)]
            )
            for study in studies:
                inside = menu.addMenu(f"Assign to a visit of {study}")
                visits = self.visits(study)
                for ordinal in (*visits, visits[-1] + 1):
                    text = f"visit {ordinal + 1}" + ("" if ordinal in visits else " (a new one)")
                    action = inside.addAction(
                        text, lambda s=study, o=ordinal: self.layer_assigned.emit(str(role[1]), s, o)
                    )
                    action.setEnabled((study, ordinal) != visit)
        return None if menu.isEmpty() else menu

    def _tops(self) -> list[QTreeWidgetItem]:
        return [self.topLevelItem(k) for k in range(self.topLevelItemCount())]


def add_row(parent: QTreeWidget | QTreeWidgetItem, *texts: str) -> QTreeWidgetItem:
    """A new row below another one, with a text for each column."""
    row = QTreeWidgetItem(parent, list(texts))
    for column, text in enumerate(texts):
        row.setToolTip(column, text)  # the text is shortened if the dock is narrow
    return row


def add_visit_row(top: QTreeWidgetItem, ordinal: int, count: int, day: str, name: str) -> QTreeWidgetItem:
    """A new row of a visit; its name stands where there is room for it."""
    title = f"visit {ordinal + 1} of {count}"
    row = add_row(top, title, day, name if len(name) <= _NAME else f"{name[: _NAME - 1]}…")
    for column in (0, 2):
        row.setToolTip(column, f"{title}: {name}")
    return row


def what(seq: ImageSequence) -> str:
    """Kind, modality and size of a series, in short form."""
    kind = "mask" if seq.kind == "labels" else seq.modality or "image"
    return f"{kind}, {'×'.join(str(n) for n in reversed(list(seq.sizes.values())))}"


def short_name(layer: Layer, title: str) -> str:
    """A layer's name as in the list of layers, without patient and visit, which are above it in the tree."""
    return str(layer.name).removeprefix(title).strip() or str(layer.name)


def shape(layer: Layer) -> str:
    """Kind, modality and size of a layer's series, in short form."""
    facts = facts_of(layer)
    kind = "mask" if layer_kind(layer) == "labels" else facts.get("modality") or "image"
    return f"{kind}, {'×'.join(str(n) for n in facts.get('grid', reversed(layer.data.shape)))}"
