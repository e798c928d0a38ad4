"""*Progression*: choose a study or label layers, Run, and see what changed, lesion by lesion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_info
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

import napari
import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.choosers import Fold, LayerChecklist, StudyBox, follow_layers
from napari_medseq._napari.forms import ModelForm
from napari_medseq._napari.model_box import ModelBox
from napari_medseq._napari.progression_plot import ProgressionPlot
from napari_medseq._napari.studies import facts_of, is_tracked, ordinals
from napari_medseq._napari.tables import Table
from napari_medseq._napari.work import DISCLAIMER, WorkBar, guarded
from napari_medseq.errors import MedseqError
from napari_medseq.progression import TrackSettings, lesion_colour

_HINT = "Open a study: drag a folder with one folder of images per visit into the viewer, or File → Open Sample."
_COLUMNS = {"lesion": "lesion", "visit": "visit", "volume_ml": "mL", "event": "event", "date": "date"}


class ProgressionWidget(QWidget):  # type: ignore[misc]
    """The dock widget; `progression` is the result that is shown."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.progression: Any = None
        self.layers: list[Any] = []
        self._plot: ProgressionPlot | None = None
        verbs.keep_views_true(napari_viewer)
        self._build()
        follow_layers(napari_viewer, self._update)

    # -- the form ------------------------------------------------------------------------------------------------------
    def _build(self) -> None:
        self.study = StudyBox(self.viewer)
        self.facts = QLabel()
        self.facts.setWordWrap(True)
        self.by_model = QRadioButton("Segment each visit with a model, then follow")
        self.by_labels = QRadioButton("Follow label layers as they are")
        self.by_model.setChecked(True)
        self.model = ModelBox(["segmentation"])
        self.labels = LayerChecklist(self.viewer, "labels", tick=is_tracked)
        self.labels.setToolTip("One per visit. After painting in lesions, follow them again from here.")
        self.run_button = QPushButton("Run")
        self.run_button.setStyleSheet("font-weight: bold; padding: 6px;")
        self.run_button.clicked.connect(self.run)
        self.work = WorkBar()
        self.series = QLineEdit()
        self.series.setPlaceholderText("the model's card decides")
        self.series.setToolTip("Name, or pattern such as *T1post*, of the image to use of each visit")
        self.register = QComboBox()
        self.register.addItems(["auto", "none", "translation", "rigid", "affine", "deformable"])
        self.register.setToolTip("auto: visits that are aligned already are left as they lie")
        self.settings = ModelForm(TrackSettings)
        inner = QWidget()
        rows = QFormLayout(inner)
        rows.addRow("series", self.series)
        rows.addRow("align visits", self.register)
        rows.addRow(self.settings.native)
        more = Fold("Settings", inner)
        self.table = Table()
        self.table.setMinimumHeight(150)
        self.table.row_chosen.connect(self._row_chosen)
        self.again_button = QPushButton("Follow again after painting")
        self.again_button.setToolTip("Keep the masks as they are painted now; only track and measure again")
        self.again_button.clicked.connect(self.follow_again)
        self.plot_button = QPushButton("Show plot")
        self.plot_button.clicked.connect(self._show_plot)
        self.export_button = QPushButton("Save results …")
        self.export_button.setToolTip("Label volumes, tables, plot and run.json, as the command writes them")
        self.export_button.clicked.connect(self._ask_export)
        self.report_button = QPushButton("Save report …")
        self.report_button.clicked.connect(self._ask_report)
        buttons = QHBoxLayout()
        for button in (self.plot_button, self.export_button, self.report_button):
            buttons.addWidget(button)
        self.results = QGroupBox("Result")
        result = QVBoxLayout(self.results)
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        result.addWidget(self.summary)
        result.addWidget(self.table)
        result.addWidget(self.again_button)
        result.addLayout(buttons)
        self.results.hide()

        layout = QVBoxLayout(self)
        form = QFormLayout()
        form.addRow("Study", self.study)
        layout.addLayout(form)
        layout.addWidget(self.facts)
        for widget in (self.by_model, self.model, self.by_labels, self.labels, more, self.run_button, self.work):
            layout.addWidget(widget)
        layout.addWidget(self.results, 1)
        note = QLabel(DISCLAIMER)
        note.setStyleSheet("font-style: italic;")
        layout.addWidget(note)
        layout.addStretch(0)
        self.by_model.toggled.connect(self._update)
        self.study.currentTextChanged.connect(self._update)
        self.model.loaded.connect(self._update)
        self.work.busy_changed.connect(self._update)

    def _update(self, _event: Any = None) -> None:
        """What can be done now, in words and by what is enabled."""
        by_model = self.by_model.isChecked()
        self.model.setVisible(by_model)
        self.labels.setVisible(not by_model)
        name = self.study.study
        text = _HINT
        if name is not None:
            study = guarded("Reading the study", lambda: verbs.study_of(self.viewer, name))
            if study is not None:
                days = ", ".join(str(d) if d else "undated" for d in study.dates)
                text = f"{len(study.visits)} visit{'' if len(study.visits) == 1 else 's'}: {days}. Press Run to follow its lesions."
                self.model.fit_to([i for v in study.visits for i in v.images])
        elif self.labels.count():
            text = "No study is open; label layers can be followed."
        self.facts.setText(text)
        ready = self.model.info is not None and name is not None if by_model else self.labels.count() > 0
        self.run_button.setEnabled(ready and not self.work.busy)
        self.again_button.setEnabled(not self.work.busy)

    # -- the job -------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Segment and follow, or follow label layers; the result comes when the worker is done."""
        guarded("Progression", self._run_model if self.by_model.isChecked() else self._run_labels)

    def _run_model(self) -> None:
        source = verbs.study_of(self.viewer, self.study.study)
        if self.model.info is None:
            raise MedseqError("No model is chosen. Choose one, or a folder with '…'.")
        arguments: dict[str, Any] = {
            "series": self.series.text().strip() or None,
            "register": self.register.currentText(),
            "device": self.model.device_name,
            "settings": self.settings.settings,
        }
        model = self.model.reference

        def job(progress: Any, cancelled: Any) -> Any:
            return ms.run(source, model, progress=progress, cancelled=cancelled, **arguments)

        self.work.start("Segmenting and following", job, lambda found: self.show_result(found, source))

    def _run_labels(self) -> None:
        self._follow(self.labels.layers)

    def follow_again(self) -> None:
        """Track the label layers of the result again, as they are painted now."""
        here = [layer for layer in self.layers if layer in self.viewer.layers]
        guarded("Following lesions", lambda: self._follow(here))

    def _follow(self, chosen: list[Any]) -> None:
        source, arguments = verbs.tracking_job(self.viewer, chosen)
        register, settings = self.register.currentText(), self.settings.settings

        def job(progress: Any, cancelled: Any) -> Any:
            return verbs.track_job(source, arguments, register, settings, progress, cancelled)

        self.work.start("Following lesions", job, lambda found: self.show_result(found, source))

    def show_result(self, progression: Any, source: Any) -> None:
        """Show a progression of the study `source`: layers, plot, table, and the largest lesion of the last visit."""
        before = list(self.viewer.layers)
        self.layers = verbs.show_progression(self.viewer, progression, source)
        if not all(layer in before for layer in self.layers):
            for layer in before:  # masks below would hide what is new
                if layer._type_string == "labels" and facts_of(layer).get("study") == source.name:
                    layer.visible = layer in self.layers
        self.progression = progression
        self.labels.tick(self.layers)
        self._fill_table()
        self.results.show()
        self._show_plot()
        self.plot.show_progression(progression, ordinals(source, progression))
        self.summary.setText(_in_words(progression.summary))
        last = progression.lesions[progression.lesions["visit"] == len(self.layers) - 1]
        if len(last):
            largest = int(last.loc[last["volume_ml"].idxmax(), "lesion"])
            verbs.go_to(self.viewer, self.layers, len(self.layers) - 1, largest, center=False)
        self.viewer.reset_view()

    # -- the result ----------------------------------------------------------------------------------------------------
    def _fill_table(self) -> None:
        lesions = self.progression.lesions
        rows = []
        for row in lesions[list(_COLUMNS)].itertuples(index=False):
            day = "" if row.date is None or row.date != row.date else str(row.date)[:10]
            rows.append((int(row.lesion), int(row.visit) + 1, float(row.volume_ml), str(row.event), day))
        self.table.fill(list(_COLUMNS.values()), rows, [lesion_colour(r[0]) for r in rows])

    def _row_chosen(self, row: int) -> None:
        lesion, visit = int(self.table.item(row, 0).text()), int(self.table.item(row, 1).text()) - 1
        self.go_to(visit, lesion)

    def go_to(self, visit: int, lesion: int | None) -> None:
        """Show a visit and a lesion there, its label selected; None: the visit only."""
        if visit >= len(self.layers) or self.layers[visit] not in self.viewer.layers:
            show_info("The label layer of that visit was removed; press Run to make it again.")
            return
        if not verbs.go_to(self.viewer, self.layers, visit, lesion or 0) and lesion:
            show_info(f"Lesion {lesion} is not there at visit {visit + 1}.")

    @property
    def plot(self) -> ProgressionPlot:
        """The plot, docked below the canvas by `_show_plot`."""
        if self._plot is None:
            self._plot = ProgressionPlot(self.viewer, self.go_to)
        return self._plot

    def _show_plot(self) -> None:
        if self.plot.parent() is None:  # new, or its dock was closed
            self.viewer.window.add_dock_widget(self.plot, name="Progression plot", area="bottom")
        self.plot.show()
        self.plot.parent().show()

    def _ask_export(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for the results")
        if folder:
            self.save(Path(folder), self.progression.save)

    def _ask_report(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Report", "progression.html", "HTML (*.html)")
        if path:
            self.save(Path(path), self.progression.report)

    def save(self, path: Path, writer: Callable[[Path], Any]) -> None:
        """Write the result with one of the progression's own functions and say where."""
        where = guarded("Saving", lambda: writer(path))
        if where is not None:
            show_info(f"Saved: {where}")


def _in_words(summary: Any) -> str:
    """The burden at the last visit and at the first, for people."""
    first, last = summary.iloc[0], summary.iloc[-1]
    count = int(last["lesions"])
    text = f"{count} lesion{'' if count == 1 else 's'}, {last['volume_ml']:.3g} mL at the last visit"
    return f"{text} ({first['volume_ml']:.3g} mL at the first)." if len(summary) > 1 else f"{text}."
