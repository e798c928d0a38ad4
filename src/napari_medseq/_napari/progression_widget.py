"""*Progression*: choose a study or label layers, Run, and see what changed, lesion by lesion."""

from __future__ import annotations

from typing import Any

from napari.utils.notifications import show_info, show_warning
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

import napari
import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.choosers import Fold, LayerChecklist, StudyBox, follow_layers, scrolled, wrapped
from napari_medseq._napari.forms import ModelForm
from napari_medseq._napari.model_box import ModelBox
from napari_medseq._napari.progression_result import ProgressionResult
from napari_medseq._napari.work import WorkBar, guarded
from napari_medseq.errors import MedseqError
from napari_medseq.progression import TrackSettings
from napari_medseq.viewer.study import is_tracked

_HINT = "Open a study: drag a folder with one folder of images per visit into the viewer, or File → Open Sample."


class ProgressionWidget(QWidget):  # type: ignore[misc]
    """The dock widget; `result` shows what was found."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        verbs.keep_views_true(napari_viewer)
        self._build()
        follow_layers(napari_viewer, self._update)

    # -- the form ------------------------------------------------------------------------------------------------------
    def _build(self) -> None:
        self.study = StudyBox(self.viewer)
        self.facts = wrapped()
        self.by_model = QRadioButton("Segment each visit with a model, then follow")
        self.by_labels = QRadioButton("Follow label layers as they are")
        self.by_model.setChecked(True)
        self.model = ModelBox(["segmentation"])
        self.labels = LayerChecklist(self.viewer, "labels", tick=is_tracked)
        self.labels.setToolTip("One per visit. After painting in lesions, follow them again from here.")
        self.run_button = QPushButton("Run")
        self.run_button.setStyleSheet("font-weight: bold; padding: 6px;")
        self.run_button.clicked.connect(self.run)
        self.open_button = QPushButton("Open saved …")
        self.open_button.setToolTip(
            "A folder that Save …, ms.run or the command wrote; open the study first to see it below"
        )
        self.open_button.clicked.connect(self._ask_open)
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
        self.result = ProgressionResult(self.viewer)
        self.result.again.connect(self.follow_again)
        layout = scrolled(self)
        form = QFormLayout()
        form.addRow("Study", self.study)
        layout.addLayout(form)
        layout.addWidget(self.facts)
        choices = QWidget()
        column = QVBoxLayout(choices)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.by_model, self.model, self.by_labels, self.labels, more):
            column.addWidget(widget)
        self.how = Fold("Model and settings", choices)
        self.how.button.setChecked(True)
        layout.addWidget(self.how)
        row = QHBoxLayout()
        row.addWidget(self.run_button, 1)
        row.addWidget(self.open_button)
        layout.addLayout(row)
        layout.addWidget(self.work)
        layout.addWidget(self.result, 1)
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
        self.result.again_button.setEnabled(not self.work.busy)

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
        model, card = self.model.reference, self.model.info.card

        def job(progress: Any, cancelled: Any) -> Any:
            return ms.run(source, model, progress=progress, cancelled=cancelled, **arguments)

        before = self.result.made_of(source)

        def done(found: Any) -> None:
            self._correct_again(found, before)
            self.show_result(found, source, card)

        self.work.start("Segmenting and following", job, done)

    def _correct_again(self, found: Any, before: Any, *, exclusions: bool = True) -> None:
        """What people corrected in the result before is corrected in the new one, or named."""
        if before is None or not before.corrections:
            return
        missed = found.reapply_corrections(before, exclusions=exclusions)
        kept = len(before.corrections) - len(missed)
        if kept:
            show_info(f"{kept} correction{'' if kept == 1 else 's'} made by hand {'is' if kept == 1 else 'are'} kept.")
        if missed:
            show_warning("These corrections could not be made again: " + "; ".join(missed) + ".")

    def _ask_open(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of a result")
        if folder:
            guarded("Opening the result", lambda: self.open_saved(folder))

    def open_saved(self, folder: str) -> None:
        """Show a progression from its folder, over the open study where that has the same dates."""
        found = ms.Progression.load(folder)
        source = verbs.study_of(self.viewer, self.study.study) if self.study.study is not None else None
        if source is None or list(source.dates) != list(found.dates):
            source = verbs.study_for(found)
        self.show_result(found, source)

    def _run_labels(self) -> None:
        chosen = self.labels.layers
        mine = (
            bool(chosen)
            and all(layer in chosen for layer in self.result.layers)
            and len(chosen) == len(self.result.layers)
        )
        self._follow(chosen, self.result.progression if mine else None)

    def follow_again(self) -> None:
        """Track the label layers of the result again, as they are painted now."""
        here = [layer for layer in self.result.layers if layer in self.viewer.layers]
        before = self.result.progression if len(here) == len(self.result.layers) else None
        guarded("Following lesions", lambda: self._follow(here, before))

    def _follow(self, chosen: list[Any], before: Any = None) -> None:
        source, arguments = verbs.tracking_job(self.viewer, chosen)
        register, settings = self.register.currentText(), self.settings.settings

        def job(progress: Any, cancelled: Any) -> Any:
            return verbs.track_job(source, arguments, register, settings, progress, cancelled)

        def done(found: Any) -> None:
            # what was excluded is not in the layers; what was painted there since is meant
            self._correct_again(found, before, exclusions=False)
            self.show_result(found, source)

        self.work.start("Following lesions", job, done)

    def show_result(self, progression: Any, source: Any, card: str = "") -> None:
        """Show a progression of the study `source`, made with the model of that card."""
        self.result.show_result(progression, source, card)
        self.labels.tick(self.result.layers)
        self.how.button.setChecked(False)  # room for the result
