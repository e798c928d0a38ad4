"""A small read-only table that signals the chosen row, sorts by a click on a column, and can be copied to a
spreadsheet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtGui import QColor, QKeySequence
from qtpy.QtWidgets import QAbstractItemView, QApplication, QTableWidget, QTableWidgetItem, QWidget

if TYPE_CHECKING:
    from qtpy.QtGui import QKeyEvent


#: content of a cell
Cell = str | float | int | None
Colour = Sequence[float]


#: role under which the first item of a row keeps its original position
_ROW = Qt.UserRole + 1


class _Item(QTableWidgetItem):  # type: ignore[misc]
    """A cell that sorts by its value: numbers as numbers, blanks below them, texts by the numbers in them."""

    def __init__(self, value: Cell) -> None:
        super().__init__(_shown(value))
        self.key = _sort_key(value)

    def __lt__(self, other: _Item) -> bool:
        return self.key < other.key


class Table(QTableWidget):  # type: ignore[misc]
    """Rows of text and numbers; Ctrl+C copies everything.

    `row_chosen` carries the position that the chosen row had when it was filled, and `cell_chosen` the column, too.
    """

    row_chosen = Signal(int)
    cell_chosen = Signal(int, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setEditTriggers(QAbstractItemView.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectRows)
        self.setSelectionMode(QAbstractItemView.SingleSelection)
        self.verticalHeader().setVisible(False)
        self.verticalHeader().setDefaultSectionSize(20)
        self.horizontalHeader().setStretchLastSection(True)
        self.cellClicked.connect(self._clicked)

    def changeEvent(self, event: QEvent) -> None:
        """Measure the columns again when the theme brings another font, as it does once the dock is made."""
        super().changeEvent(event)
        if event.type() in (QEvent.StyleChange, QEvent.FontChange):
            header = self.horizontalHeader()
            shown = header.isSortIndicatorShown()
            header.setSortIndicatorShown(False)  # no room is left for the arrow, as when the table is filled
            self.resizeColumnsToContents()
            header.setSortIndicatorShown(shown)

    def fill(
        self, columns: Sequence[str], rows: Sequence[Sequence[Cell]], colours: Sequence[Colour] | None = None
    ) -> None:
        """Show `rows` in their order; `colours` (RGBA in 0 to 1, one per row) are shown in the first column."""
        sortable = self.isSortingEnabled()
        self.setSortingEnabled(False)
        self.setRowCount(0)
        self.setColumnCount(len(columns))
        self.setHorizontalHeaderLabels(list(columns))
        self.setRowCount(len(rows))
        for r, row in enumerate(rows):
            for c, value in enumerate(row):
                item = _Item(value)
                if isinstance(value, int | float):
                    item.setTextAlignment(Qt.AlignRight | Qt.AlignVCenter)
                self.setItem(r, c, item)
            if row:
                self.item(r, 0).setData(_ROW, r)
            if colours is not None and rows:
                # a swatch, because coloured text may be unreadable in a dark or a light theme
                self.item(r, 0).setData(Qt.DecorationRole, QColor.fromRgbF(*colours[r]))
        self.resizeColumnsToContents()
        self.setSortingEnabled(sortable)

    def sort_by_click(self) -> None:
        """Let a click on a column's heading sort by it, another one reverse the order, and a third restore the first
        order."""
        self.horizontalHeader().setSortIndicatorClearable(True)
        self.horizontalHeader().setSortIndicator(-1, Qt.AscendingOrder)
        self.setSortingEnabled(True)

    def order(self) -> list[int]:
        """The original positions of the rows, from top to bottom."""
        return [int(self.item(r, 0).data(_ROW)) for r in range(self.rowCount())]

    def _clicked(self, row: int, column: int) -> None:
        filled = int(self.item(row, 0).data(_ROW))
        self.row_chosen.emit(filled)
        self.cell_chosen.emit(filled, column)

    def text(self) -> str:
        """The table with tabs between columns, as a spreadsheet pastes it."""
        header = [self.horizontalHeaderItem(c).text().replace("\n", " ") for c in range(self.columnCount())]
        body = [[self.item(r, c).text() for c in range(self.columnCount())] for r in range(self.rowCount())]
        return "\n".join("\t".join(row) for row in [header, *body])

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Copy the table on Ctrl+C."""
        if event.matches(QKeySequence.Copy):
            QApplication.clipboard().setText(self.text())
        else:
            super().keyPressEvent(event)


def _shown(value: Cell) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.3g}"
    return "" if value is None else str(value)


def _sort_key(value: Cell) -> tuple[tuple[int, float, str], ...]:
    """Blanks first, then numbers, then texts, whose numbers count as such: "2: 2020" before "10: 2019"."""
    if value is None or value == "" or value != value:
        return ((0, 0.0, ""),)
    if isinstance(value, int | float):
        return ((1, float(value), ""),)
    parts = re.split(r"(\d+)", value.lower())
    return tuple((1, float(part), "") if part.isdecimal() else (2, 0.0, part) for part in parts if part)
