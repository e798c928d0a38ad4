"""The table of the *Progression* widget: one row per lesion and visit, or lesion by visit with one measure in the cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_medseq._napari.controls.choosers import ShortBox, wrapped
from napari_medseq._napari.controls.tables import Cell, Table
from napari_medseq._napari.notifications import guarded
from napari_medseq.colours import lesion_colour
from napari_medseq.errors import SettingsError
from napari_medseq.progression.matrix import MEASURES, chosen_rows, matrix
from napari_medseq.tables import write_table

if TYPE_CHECKING:
    import pandas as pd

    from napari_medseq.progression import Progression

_LIST = "list"
#: column of the lesion table → its heading
_HEADS = {
    "lesion": "lesion",
    "visit": "visit",
    "event": "event",  # before the measures, so that a narrow dock shows it without scrolling
    "volume_ml": "mL",
    "longest_mm": "mm",
    "change_percent": "Δ %",
}
#: explanations of the short headings
_TIPS = {
    "volume_ml": "Volume in mL",
    "longest_mm": "Longest diameter in mm",
    "change_percent": "Change of the volume since the lesion's last visit, in percent",
}
#: columns that are also shown if the scan was measured again (`retest`)
_RETESTED = {"smallest_change_ml": "real from mL", "real_change": "real"}


class LesionTable(QWidget):  # type: ignore[misc]
    """A table to filter, to sort by a click on a column, to go to a clicked lesion, and to export."""

    #: visit (from 0) and lesion of the cell that was clicked
    chosen = Signal(int, int)

    def __init__(self) -> None:
        super().__init__()
        self._progression: Progression | None = None
        self._keys: list[tuple[int, int]] = []
        self._frame: pd.DataFrame | None = None
        self.form = ShortBox()
        self.form.addItems([_LIST, *MEASURES])
        self.form.setToolTip("One row per lesion and visit, or one row per lesion with a column per visit")
        self.form.currentIndexChanged.connect(lambda _index: self._form_chosen())
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("filter: growing, volume>0.5, visit=2 …")
        self.filter.setToolTip(
            "Words are searched for in the columns label and event, and a number selects a lesion. Volume, diameter, change "
            "(percent), days and visit can be compared, as in volume>0.5 change>20"
        )
        self.filter.setClearButtonEnabled(True)
        self.filter.textChanged.connect(lambda _text: self._fill())
        self.export_button = QPushButton("Export …")
        self.export_button.setToolTip("Write the rows that are shown, in this order, as .csv or .parquet")
        self.export_button.clicked.connect(self._ask_export)
        self.problem = wrapped()
        self.problem.hide()
        self.table = Table()
        self.table.setMinimumHeight(140)
        self.table.sort_by_click()
        self.table.cell_chosen.connect(self._chosen)
        controls = QHBoxLayout()
        controls.addWidget(self.form, 1)
        controls.addWidget(self.export_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(controls)
        layout.addWidget(self.filter)
        layout.addWidget(self.problem)
        layout.addWidget(self.table, 1)

    def show_progression(self, progression: Progression | None) -> None:
        """Show a result; None: show nothing."""
        self._progression = progression
        self._fill()

    def shown(self) -> pd.DataFrame | None:
        """The rows that are shown, with all columns of the long form, in the order on the screen."""
        return None if self._frame is None else self._frame.iloc[self.table.order()]

    def export(self, path: Path) -> Path:
        """Write the rows that are shown.

        Raises
        ------
        SettingsError
            If the ending is neither .csv nor .parquet, or nothing is shown.
        WriteError
            If it cannot be written.
        """
        table_shown = self.shown()
        if table_shown is None:
            raise SettingsError("There is no result to export; press Run first.")
        return write_table(table_shown, path)

    # -- inside --------------------------------------------------------------------------------------------------------
    def _form_chosen(self) -> None:
        self.table.sort_by_click()  # the columns have changed, so the order is that of the lesions again
        self._fill()

    def _fill(self) -> None:
        progression = self._progression
        self._keys, self._frame = [], None
        self.export_button.setEnabled(progression is not None)
        if progression is None:
            self.table.fill([], [])
            return
        self._say("")
        try:
            rows = chosen_rows(progression.lesions, self.filter.text())
        except SettingsError as error:  # the filter is incomplete or wrong, so all rows stay visible
            self._say(str(error))
            rows = progression.lesions
        if self.form.currentText() == _LIST:
            self._fill_list(progression, rows)
        else:
            self._fill_matrix(progression, rows, MEASURES[self.form.currentText()])

    def _fill_list(self, progression: Progression, rows: pd.DataFrame) -> None:
        cells: list[list[Cell]] = []
        heads = {**_HEADS, **{c: name for c, name in _RETESTED.items() if c in rows}}
        for row in rows[list(heads)].to_dict("records"):
            visit, lesion = int(row["visit"]), int(row["lesion"])
            day = progression.dates[visit]
            when = f"{visit + 1}: {day}" if day else str(visit + 1)
            numbers: list[Cell] = [float(row[c]) for c in ("volume_ml", "longest_mm", "change_percent")]
            repeat_cells: list[Cell] = (
                [float(row["smallest_change_ml"]), str(row["real_change"])] if len(heads) > len(_HEADS) else []
            )
            cells.append([lesion, when, str(row["event"]), *numbers, *repeat_cells])
            self._keys.append((visit, lesion))
        self._frame = rows
        self.table.fill(list(heads.values()), cells, [lesion_colour(lesion) for _, lesion in self._keys])
        for at, column in enumerate(heads):
            self.table.horizontalHeaderItem(at).setToolTip(_TIPS.get(column, ""))

    def _fill_matrix(self, progression: Progression, rows: pd.DataFrame, measure: str) -> None:
        wide = matrix(rows, progression.dates, measure)
        lesions = [int(v) for v in wide["lesion"]]
        named = wide["label"].nunique() > 1
        heads = ["lesion", *(["label"] if named else []), *wide.columns[2:]]
        cells: list[list[Cell]] = [
            [lesion, *([str(row[1])] if named else []), *row[2:]]
            for lesion, row in zip(lesions, wide.itertuples(index=False, name=None), strict=True)
        ]
        seen = rows.drop_duplicates("lesion").set_index("lesion")["visit"].to_dict()
        self._keys = [(int(seen[lesion]), lesion) for lesion in lesions]
        self._frame = wide
        self.table.fill([h.replace(" (", "\n").rstrip(")") for h in heads], cells, [lesion_colour(n) for n in lesions])

    def _chosen(self, row: int, column: int) -> None:
        visit, lesion = self._keys[row]
        if self._frame is not None and self.form.currentText() != _LIST:
            visits = len(self._frame.columns) - 2
            at = column - (self.table.columnCount() - visits)
            visit = at if at >= 0 else visit
        self.chosen.emit(visit, lesion)

    def _say(self, text: str) -> None:
        self.problem.setText(text)
        self.problem.setVisible(bool(text))

    def _ask_export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export the table", "lesions.csv", "Tables (*.csv *.parquet)")
        if path:
            guarded("Exporting", lambda: show_info(f"Saved: {self.export(Path(path))}"))
