"""The result in the *Progression* widget: table, corrections, plot, files and report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QGroupBox, QHBoxLayout, QPushButton, QVBoxLayout

from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import CollapsibleSection, wrapped
from napari_medseq._napari.controls.parts import set_enabled
from napari_medseq._napari.gone import connect_until_destroyed
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded
from napari_medseq._napari.progression.corrections_box import CorrectionsBox
from napari_medseq._napari.progression.lesion_table import LesionTable
from napari_medseq._napari.progression.response_box import ResponseBox
from napari_medseq._napari.window.saving import save_result_in_job
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.layers.studies import facts_of
from napari_medseq.viewer.results.followed import rearranged_since
from napari_medseq.viewer.visibility import set_visible
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    import pandas as pd
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_medseq._napari.progression.plot import ProgressionPlot
    from napari_medseq.progression import Progression


_SAVE = "Label volumes, tables, plot and run.json, as the command writes them"
_REPORT = "One HTML file with pictures, tables and sentences; opened when written"


class ProgressionResult(QGroupBox):  # type: ignore[misc]
    """The result for the patient that is chosen; hidden until there is one."""

    again = Signal()
    #: signal with the action to run after the painting was followed
    follow_first = Signal(object)
    #: signal that a result is shown where none was
    arrived = Signal()
    #: signal that another result is shown, or that the shown one has changed
    refreshed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__("Result")
        self.viewer = viewer
        self._study: str | None = None
        self._drawn: object = None
        self._plot: ProgressionPlot | None = None
        self.summary = wrapped()
        self.lesion_table = LesionTable()
        self.table = self.lesion_table.table
        self.lesion_table.chosen.connect(self.go_to)
        self.corrections = CorrectionsBox(viewer)
        self.corrections.corrected.connect(self._corrected)
        self.painted = wrapped()
        self.painted.hide()
        self.again_button = QPushButton("Follow again")
        self.again_button.setToolTip(
            "Follow and measure the lesions again in the masks, and in the order of visits, as they are now; nothing is segmented"
        )
        self.again_button.clicked.connect(lambda: self.again.emit())
        buttons = QHBoxLayout()
        self.save_button, self.report_button = QPushButton("Save …"), QPushButton("Report …")
        plot_button = QPushButton("Show plot")
        plot_button.setToolTip("Show or hide the plot below the image")
        for button, action in (
            (plot_button, self._show_plot),
            (self.save_button, self._ask_export),
            (self.report_button, self._ask_report),
        ):
            button.clicked.connect(action)
            buttons.addWidget(button)
        self.saving = WorkBar()
        self.saving.busy_changed.connect(self._mark)
        self._mark()
        self.response = ResponseBox()
        self.correct = CollapsibleSection("Correct the selected lesion", self.corrections)
        layout = QVBoxLayout(self)
        layout.addWidget(self.summary)
        layout.addWidget(self.painted)
        layout.addWidget(self.lesion_table, 1)
        layout.addWidget(self.response)
        for widget in (self.correct, self.again_button):
            layout.addWidget(widget)
        layout.addLayout(buttons)
        layout.addWidget(self.saving)
        connect_until_destroyed(verbs.editing_of(viewer).events.changed, self._refresh)
        self.hide()

    def show_result(self, followed: verbs.Followed) -> None:
        """Show a new result: layers, table, plot, and the largest lesion of the last visit."""
        for layer in self.viewer.layers:  # other masks would cover the new layers
            if layer_kind(layer) == "labels" and facts_of(layer).get("study") == followed.source.name:
                set_visible(layer, layer in followed.layers)
        self.show_study(followed.source.name)
        self._show_plot()
        end = followed.visits[-1] if followed.visits else -1
        last = followed.progression.lesions
        last = last[last["visit"] == end]
        if len(last):
            largest = int(last["lesion"].to_numpy()[last["volume_ml"].to_numpy().argmax()])
            verbs.go_to(self.viewer, self.layers, len(self.layers) - 1, largest, center=False)
        self.viewer.reset_view()

    def show_study(self, name: str | None) -> None:
        """Show the result of this patient; nothing if there is none."""
        self._study = name
        self._drawn = ()  # redrawn whether or not there is a result
        self._refresh()

    @property
    def followed(self) -> verbs.Followed | None:
        """The result that is shown."""
        return None if self._study is None else verbs.results_of(self.viewer).get(self._study)

    @property
    def progression(self) -> Progression | None:
        """The progression of the result that is shown."""
        return None if self.followed is None else self.followed.progression

    @property
    def layers(self) -> list[Labels]:
        """Its label layers, one per visit."""
        return [] if self.followed is None else self.followed.layers

    def _refresh(self, _event: object = None) -> None:
        """Update table, plot and texts after the result was changed in any way."""
        followed = self.followed
        self._say_what_is_painted()
        state = (
            None
            if followed is None
            else (followed, followed.progression, list(followed.progression.corrections), list(followed.places))
        )
        if state == self._drawn:
            return
        is_new, self._drawn = not self._drawn, state
        self.setVisible(followed is not None)
        self.corrections.show_followed(followed)
        self.refreshed.emit()
        if followed is None:
            self.lesion_table.show_progression(None)
            self.response.show_progression(None)
            if self._plot is not None:
                self._plot.show_nothing()
            return
        self.setTitle(f"Result of {followed.source.name}")
        self.lesion_table.show_progression(followed.progression)
        self.response.show_progression(followed.progression)
        self.plot.show_progression(followed.progression, followed.places, followed.layers)
        self.summary.setText(f"{followed.source.name}: {_in_words(followed.progression.summary)}")
        if is_new:  # such as that of a session
            self.arrived.emit()
            QTimer.singleShot(0, self._show_plot_first)

    def _say_what_is_painted(self) -> None:
        count = sum(verbs.editing_of(self.viewer).pending(self.layers).values()) if self.layers else 0
        arranged = "" if self.followed is None else rearranged_since(self.viewer, self.followed)
        painted = f"{count:,} painted voxels are not followed yet and in no number below." if count else ""
        self.painted.setText(
            " ".join(part for part in (arranged, painted, f"Press {self.again_button.text()}.") if part)
        )
        self.painted.setVisible(bool(arranged or painted))

    def _corrected(self, visit: int, lesion: int) -> None:
        """Show the recomputed result at the place where the user is."""
        self._refresh()
        layer = None if self.followed is None else self.followed.layer_at(visit)
        if lesion and layer is not None and layer in self.viewer.layers:
            self.viewer.layers.selection.active = layer
            layer.selected_label = lesion

    def go_to(self, visit: int, lesion: int | None) -> None:
        """Show a visit and a lesion in it with its label selected; None: only the visit."""
        layer = None if self.followed is None else self.followed.layer_at(visit)
        if layer is None:
            show_info(f"Visit {visit + 1} has no mask; nothing was followed there.")
        elif layer not in self.viewer.layers:
            show_info("The label layer of that visit was removed; press Run to make it again.")
        elif not verbs.go_to(self.viewer, [layer], 0, lesion or 0) and lesion:
            show_info(f"Lesion {lesion} is not there at visit {visit + 1}.")

    @property
    def plot(self) -> ProgressionPlot:
        """The plot, docked below the canvas."""
        if self._plot is None:
            # matplotlib takes its time, and is not waited for when the widget opens
            from napari_medseq._napari.progression.plot import ProgressionPlot

            self._plot = ProgressionPlot(self.viewer, self.go_to)
        return self._plot

    def _show_plot(self) -> None:
        self.plot.dock("Progression plot")

    def _show_plot_first(self) -> None:
        """Show the plot of a result that was not made here; on a low screen it would lie over the table."""
        plot = self._plot
        if plot is None or not hasattr(self.viewer, "window"):
            return
        with suppress(RuntimeError):  # the window was closed meanwhile
            if plot.parent() is None and not self.isHidden() and not plot.is_screen_low:
                self._show_plot()

    # -- files ---------------------------------------------------------------------------------------------------------
    def _mark(self, _busy: bool = False) -> None:
        """Allow only one file to be written at a time."""
        why = "The last one is still being written" if self.saving.busy else ""
        set_enabled(self.save_button, why, _SAVE)
        set_enabled(self.report_button, why, _REPORT)

    def _ask_export(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for the results")
        if folder:
            self.save(Path(folder))

    def _ask_report(self) -> None:
        followed = self.followed
        if followed is None:
            return
        path, _ = QFileDialog.getSaveFileName(self, "Report", f"{followed.source.name}.html", "HTML (*.html)")
        if path:
            self.report(Path(path), show=True)

    def report(self, path: Path, *, show: bool = False) -> None:
        """Write the report, with the study's name and the model's card; `show` opens it afterwards."""

        def then(written: Path) -> None:
            if show:
                QDesktopServices.openUrl(QUrl.fromLocalFile(str(written)))

        self._write(path, self.response.rules, then)

    def save(self, path: Path) -> None:
        """Write label volumes, tables, plot and run.json into a folder."""
        self._write(path, None, lambda _written: None)

    def _write(self, path: Path, rules: Sequence[str] | None, then: Callable[[Path], None]) -> None:
        """Write the result that is shown and report where; painting that is not yet followed is followed first."""
        followed = self.followed
        if followed is None:
            return
        study = followed.source.name

        def start() -> None:
            now = verbs.result_of(self.viewer, study)
            save_result_in_job(self.viewer, now, path, self.saving, rules=rules, on_saved=then)

        if verbs.differs(self.viewer, followed):
            self.follow_first.emit(start)
        else:
            guarded("Saving", start)


def _in_words(summary: pd.DataFrame) -> str:
    """The burden at the last visit that has a mask and at the first one, in words."""
    known = summary[summary["lesions"].notna()]
    if not len(known):
        return "no visit has a mask."
    first, last, count = known.iloc[0], known.iloc[-1], int(known["lesions"].iloc[-1])
    text = f"{how_many(count, 'lesion')}, {last['volume_ml']:.3g} mL at {_which(last, summary, -1)}"
    return f"{text} ({first['volume_ml']:.3g} mL at {_which(first, summary, 0)})." if len(known) > 1 else f"{text}."


def _which(row: pd.Series, summary: pd.DataFrame, end: int) -> str:
    """The name of a visit: by its number, unless it is the first (`end` 0) or last (-1) of all."""
    if row["visit"] == summary["visit"].iloc[end]:
        return "the last visit" if end else "the first"
    return f"visit {int(row['visit']) + 1} of {len(summary)}"
