"""The result in the *Progression* widget: table, corrections, plot, files and report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_info
from qtpy.QtCore import QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QComboBox, QFileDialog, QGroupBox, QHBoxLayout, QHeaderView, QLabel, QPushButton, QVBoxLayout

from napari_medseq import viewer as verbs
from napari_medseq._napari.choosers import Fold, wrapped
from napari_medseq._napari.corrections_box import CorrectionsBox
from napari_medseq._napari.progression_plot import ProgressionPlot
from napari_medseq._napari.tables import Table
from napari_medseq._napari.work import guarded
from napari_medseq.colours import lesion_colour
from napari_medseq.progression.response import RULES
from napari_medseq.viewer.layers import layer_kind
from napari_medseq.viewer.study import facts_of, ordinals


class ProgressionResult(QGroupBox):  # type: ignore[misc]
    """What was found; hidden until there is something.

    Attributes
    ----------
    progression : Progression or None
    layers : list of Labels
        One per visit of the progression.
    """

    again = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__("Result")
        self.viewer = viewer
        self.progression: Any = None
        self.layers: list[Any] = []
        self._source: Any = None
        self._card = ""
        self._plot: ProgressionPlot | None = None
        self._rows: list[tuple[int, int]] = []
        self.summary = wrapped()
        self.table = Table()
        self.table.setMinimumHeight(140)
        self.table.row_chosen.connect(lambda row: self.go_to(*self._rows[row]))
        self.corrections = CorrectionsBox(viewer)
        self.corrections.corrected.connect(self._corrected)
        self.again_button = QPushButton("Follow again after painting")
        self.again_button.setToolTip("Keep the masks as they are painted now; only track and measure again")
        self.again_button.clicked.connect(lambda: self.again.emit())
        buttons = QHBoxLayout()
        for text, tip, action in (
            ("Show plot", "The plot below the image", self._show_plot),
            ("Save …", "Label volumes, tables, plot and run.json, as the command writes them", self._ask_export),
            ("Report …", "One HTML file with pictures, tables and sentences; opened when written", self._ask_report),
        ):
            button = QPushButton(text)
            button.setToolTip(tip)
            button.clicked.connect(action)
            buttons.addWidget(button)
        self.rule = QComboBox()
        self.rule.addItems(["volumetric", *(r for r in RULES if r != "volumetric"), "none"])
        self.rule.setToolTip("Response criteria that the report applies: a research measure, never a clinical verdict")
        rules = QHBoxLayout()
        rules.addWidget(QLabel("Response in the report"))
        rules.addWidget(self.rule, 1)
        self.correct = Fold("Correct the selected lesion", self.corrections)
        layout = QVBoxLayout(self)
        layout.addWidget(self.summary)
        layout.addWidget(self.table, 1)
        for widget in (self.correct, self.again_button):
            layout.addWidget(widget)
        layout.addLayout(rules)
        layout.addLayout(buttons)
        self.hide()

    def show_result(self, progression: Any, source: Any, card: str = "") -> None:
        """Show a progression of the study `source`: layers, table, plot, and the largest lesion of the last visit."""
        before = list(self.viewer.layers)
        self._source, self._card = source, card
        self._show(progression)
        if not all(layer in before for layer in self.layers):
            for layer in before:  # masks below would hide what is new
                if layer_kind(layer) == "labels" and facts_of(layer).get("study") == source.name:
                    layer.visible = layer in self.layers
        self.show()
        self._show_plot()
        last = progression.lesions[progression.lesions["visit"] == len(self.layers) - 1]
        if len(last):
            largest = int(last.loc[last["volume_ml"].idxmax(), "lesion"])
            verbs.go_to(self.viewer, self.layers, len(self.layers) - 1, largest, center=False)
        self.viewer.reset_view()

    def made_of(self, source: Any) -> Any:
        """The progression shown, if it is of that study; else None."""
        return self.progression if self._source is not None and self._source.name == source.name else None

    def _show(self, progression: Any) -> None:
        self.layers = verbs.show_progression(self.viewer, progression, self._source)
        self.progression = progression
        self._fill_table()
        self.plot.show_progression(progression, ordinals(self._source, progression), self.layers)
        self.corrections.show_progression(progression, self.layers)
        self.summary.setText(_in_words(progression.summary))

    def _corrected(self, visit: int, lesion: int) -> None:
        """Everything was computed again: show it where the user is."""
        self._show(self.progression)
        layer = self.layers[visit]
        if lesion and layer in self.viewer.layers:
            self.viewer.layers.selection.active = layer
            layer.selected_label = lesion

    def _fill_table(self) -> None:
        rows = []
        self._rows = []
        for row in self.progression.lesions.itertuples(index=False):
            visit, lesion = int(row.visit), int(row.lesion)
            day = self.progression.dates[visit]
            when = f"{visit + 1}: {day}" if day else str(visit + 1)
            rows.append((lesion, when, float(row.volume_ml), str(row.event)))
            self._rows.append((visit, lesion))
        self.table.fill(["lesion", "visit", "mL", "event"], rows, [lesion_colour(r[0]) for r in rows])
        self.table.horizontalHeader().setSectionResizeMode(3, QHeaderView.Stretch)

    def go_to(self, visit: int, lesion: int | None) -> None:
        """Show a visit and a lesion there, its label selected; None: the visit only."""
        if visit >= len(self.layers) or self.layers[visit] not in self.viewer.layers:
            show_info("The label layer of that visit was removed; press Run to make it again.")
            return
        if not verbs.go_to(self.viewer, self.layers, visit, lesion or 0) and lesion:
            show_info(f"Lesion {lesion} is not there at visit {visit + 1}.")

    @property
    def plot(self) -> ProgressionPlot:
        """The plot, docked below the canvas."""
        if self._plot is None:
            self._plot = ProgressionPlot(self.viewer, self.go_to)
        return self._plot

    def _show_plot(self) -> None:
        self.plot.dock("Progression plot")

    # -- files ---------------------------------------------------------------------------------------------------------
    def _ask_export(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for the results")
        if folder:
            self.save(Path(folder), self.progression.save)

    def _ask_report(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Report", f"{self._source.name}.html", "HTML (*.html)")
        if path and self.report(Path(path)):
            QDesktopServices.openUrl(QUrl.fromLocalFile(path))

    def report(self, path: Path) -> bool:
        """Write the report, with the study's name and the model's card; True if that worked."""
        rules = [r for r in (self.rule.currentText(),) if r in RULES]
        name, card = self._source.name, self._card
        return self.save(path, lambda p: self.progression.report(p, rules=rules, name=name, card=card))

    def save(self, path: Path, writer: Callable[[Path], Any]) -> bool:
        """Write the result with one of the progression's own functions and say where; True if that worked."""
        where = guarded("Saving", lambda: writer(path))
        if where is not None:
            show_info(f"Saved: {where}")
        return where is not None


def _in_words(summary: Any) -> str:
    """The burden at the last visit and at the first, for people."""
    first, last = summary.iloc[0], summary.iloc[-1]
    count = int(last["lesions"])
    text = f"{count} lesion{'' if count == 1 else 's'}, {last['volume_ml']:.3g} mL at the last visit"
    return f"{text} ({first['volume_ml']:.3g} mL at the first)." if len(summary) > 1 else f"{text}."
