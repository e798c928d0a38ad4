"""A small read-only table that tells which row was chosen, and copies itself for a spreadsheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QKeySequence
from qtpy.QtWidgets import QAbstractItemView, QApplication, QTableWidget, QTableWidgetItem, QWidget

if TYPE_CHECKING:
    from qtpy.QtGui import QKeyEvent


#: what a cell shows
Cell = str | float | int | None
Colour = Sequence[float]


class Table(QTableWidget):  # type: ignore[misc]
    """Rows of text and numbers; `row_chosen` carries the row's position. Ctrl+C copies everything."""

    row_chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setEditTriggers(QAbstractItemView.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectRows)
        self.setSelectionMode(QAbstractItemView.SingleSelection)
        self.verticalHeader().setVisible(False)
        self.verticalHeader().setDefaultSectionSize(20)
        self.horizontalHeader().setStretchLastSection(True)
        self.cellClicked.connect(lambda row, _column: self.row_chosen.emit(row))

    def fill(
        self, columns: Sequence[str], rows: Sequence[Sequence[Cell]], colours: Sequence[Colour] | None = None
    ) -> None:
        """Show `rows`; `colours`, RGBA in 0 to 1 per row, stand in the first column."""
        self.setRowCount(0)
        self.setColumnCount(len(columns))
        self.setHorizontalHeaderLabels(list(columns))
        self.setRowCount(len(rows))
        for r, row in enumerate(rows):
            for c, value in enumerate(row):
                item = QTableWidgetItem(_shown(value))
                if isinstance(value, int | float):
                    item.setTextAlignment(Qt.AlignRight | Qt.AlignVCenter)
                self.setItem(r, c, item)
            if colours is not None and rows:
                # a swatch: a dark colour cannot be read as text on a dark theme, nor a light one on a light theme
                self.item(r, 0).setData(Qt.DecorationRole, QColor.fromRgbF(*colours[r]))
        self.resizeColumnsToContents()

    def text(self) -> str:
        """The table with tabs between columns, as a spreadsheet pastes it."""
        header = [self.horizontalHeaderItem(c).text() for c in range(self.columnCount())]
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
