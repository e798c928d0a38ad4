"""*Progression*: choose a study or label layers, Run, and see what changed, lesion by lesion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info, show_warning
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QRadioButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

import napari
import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import (
    CollapsibleSection,
    LayerChecklist,
    ShortBox,
    StudyBox,
    follow_layers,
    scrolled,
    wrapped,
)
from napari_medseq._napari.controls.forms import ModelForm
from napari_medseq._napari.controls.model_box import ModelBox
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded
from napari_medseq._napari.progression.jobs import ResultJobs
from napari_medseq._napari.progression.result import ProgressionResult
from napari_medseq._napari.window.opening import open_result_in_job
from napari_medseq._napari.window.services import accompany
from napari_medseq.errors import MedseqError
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.progression import TrackSettings
from napari_medseq.viewer.layers.studies import is_tracked, masks_alike
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_medseq.progression import Progression
    from napari_medseq.sequence import Study

_HINT = "Open a study: drag a folder with one folder of images per visit into the viewer, or File → Open Sample."


class ProgressionWidget(QWidget):  # type: ignore[misc]
    """The dock widget; `result` shows the result."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        accompany(napari_viewer)
        self._build()
        follow_layers(napari_viewer, self._update)

    # -- the form ------------------------------------------------------------------------------------------------------
    def _build(self) -> None:
        self.work = WorkBar()
        self.study = StudyBox(self.viewer)
        self.facts = wrapped()
        self._make_mask_choices()
        self._make_buttons()
        self._make_settings()
        self._make_result()
        self._lay_out()
        self.by_model.toggled.connect(self._how_chosen)
        self.labels.changed.connect(self._update)
        self.study.currentTextChanged.connect(self._study_chosen)
        self.model.loaded.connect(self._update)
        self.work.busy_changed.connect(self._update)
        # a result that existed before the dock, such as a saved one that was dropped on the window
        self.result.show_study(self.study.study)

    def _make_mask_choices(self) -> None:
        """Where the masks come from: a model, or label layers."""
        self.by_model = QRadioButton("Segment each visit with a model, then follow")
        self.by_labels = QRadioButton("Follow label layers as they are")
        self.by_model.setChecked(True)
        self.by_model.setToolTip("A model segments the images of all visits")
        self.by_labels.setToolTip("The masks are painted, or came from files: nothing is segmented")
        self.model = ModelBox(["segmentation"])
        self.labels = LayerChecklist(self.viewer, "labels", tick=is_tracked)
        self.labels.setToolTip(
            "One mask per visit. After you painted in the result (lesions), follow the lesions again from here."
        )

    def _make_buttons(self) -> None:
        """*Run* and *Open saved*."""
        self.run_button = QPushButton("Run")
        self.run_button.setStyleSheet("font-weight: bold; padding: 6px;")
        self.run_button.clicked.connect(self.run)
        self.open_button = QPushButton("Open saved …")
        self.open_button.setToolTip(
            "Open a result folder that Save …, ms.run or the command line wrote. Open the study first to see the images below it"
        )
        self.open_button.clicked.connect(self._ask_open)

    def _make_settings(self) -> None:
        """The image of each visit, the alignment of visits, and how lesions are followed."""
        self.series = QLineEdit()
        self.series.setPlaceholderText("the model's card decides")
        self.series.setToolTip("The name of the series to use at each visit, or a pattern such as *T1post*")
        self.register = ShortBox()
        self.register.addItems(["auto", "none", "translation", "rigid", "affine", "deformable"])
        self.register.setToolTip("auto registers only the visits that are not aligned yet")
        self.settings = ModelForm(TrackSettings)
        self.overwrite = QCheckBox("Run may change what was painted")
        self.overwrite.setToolTip(
            "Otherwise every voxel that was painted by hand is kept, and is a part of the lesions that are followed"
        )

    def _make_result(self) -> None:
        """The result, and the longer jobs on it."""
        self.result = ProgressionResult(self.viewer)
        self.result.table.setToolTip("Click a row to go to that lesion at that visit; Ctrl+C copies the table")
        self.jobs = ResultJobs(self.result, self.model, self.work)
        self.result.layout().addWidget(self.jobs)
        self.result.refreshed.connect(self._update)
        self.result.arrived.connect(self._make_room)
        self.result.again.connect(self.follow_again)
        self.result.follow_first.connect(self.follow_again)

    def _lay_out(self) -> None:
        """Put the controls into the dock: the study, how to follow, the buttons, the result."""
        settings = QWidget()
        rows = QFormLayout(settings)
        rows.addRow("series", self.series)
        rows.addRow("align visits", self.register)
        rows.addRow(self.settings)
        rows.addRow(self.overwrite)
        choices = QWidget()
        column = QVBoxLayout(choices)
        column.setContentsMargins(0, 0, 0, 0)
        section = CollapsibleSection("Settings", settings)
        for widget in (self.by_model, self.model, self.by_labels, self.labels, section):
            column.addWidget(widget)
        self.how = CollapsibleSection("Model and settings", choices)
        self.how.button.setChecked(True)
        self.how.setSizePolicy(QSizePolicy.Preferred, QSizePolicy.Maximum)
        form, row = QFormLayout(), QHBoxLayout()
        form.addRow("Study", self.study)
        row.addWidget(self.run_button, 1)
        row.addWidget(self.open_button)
        layout = scrolled(self)
        layout.addLayout(form)
        layout.addWidget(self.facts)
        layout.addWidget(self.how)
        layout.addLayout(row)
        layout.addWidget(self.work)
        layout.addWidget(self.result, 1)
        layout.addStretch(0)

    def _study_chosen(self, name: str) -> None:
        if name and verbs.patient_in_front(self.viewer) not in (None, name):
            verbs.bring_to_front(self.viewer, name)
        self.result.show_study(name or None)
        self._tick_masks(name)
        self._update()

    def _tick_masks(self, study: str | None) -> None:
        """Tick what is to be followed of this patient: the lesions of its result, else its masks; none of another patient."""
        if study:
            self.labels.tick(self.result.layers or masks_alike(self.viewer.layers, study))

    def _how_chosen(self, by_model: bool) -> None:
        if not by_model and not self.labels.layers:
            self._tick_masks(self.study.study)
        self._update()

    def _update(self, _event: object = None) -> None:
        """Show what can be done now, in words and by what is enabled."""
        by_model = self.by_model.isChecked()
        self.model.setVisible(by_model)
        self.labels.setVisible(not by_model)
        name = self.study.study
        text = _HINT
        if name is not None:
            try:
                study = verbs.study_of(self.viewer, name)
            except MedseqError as error:
                text = f"{name}: {error}"
            else:
                visits = [v for v in study.visits if v.images or v.labels]
                days = ", ".join(str(v.date) if v.date else "undated" for v in visits)
                text = f"{how_many(len(visits), 'visit')}: {days}. {self._next_step()}"
                self.model.fit_to([i for v in study.visits for i in v.images])
        elif self.labels.count():
            text = "No study is open; label layers can be followed."
        self.facts.setText(text)
        self.by_labels.setEnabled(bool(self.labels.count()) or not by_model)
        self.by_labels.setToolTip(
            "The masks are painted, or came from files: nothing is segmented"
            if self.by_labels.isEnabled()
            else "No mask is open: open one, or make one with New labels on this image's grid"
        )
        self.run_button.setToolTip(self._why_not() or "Segment, follow and measure the lesions of all visits")
        self.run_button.setEnabled(not self._why_not())
        self.result.again_button.setEnabled(not self.work.busy)
        self.jobs.update_buttons()

    def _next_step(self) -> str:
        """What to do now, in words."""
        if self.work.busy:
            return ""  # the progress bar tells it
        if self.result.progression is not None:
            return "Correct its lesions below, or press Run to follow them again."
        why = self._why_not()
        return f"{why}." if why else "Press Run to follow its lesions."

    def _why_not(self) -> str:
        """Why Run cannot be pressed now; "" if it can."""
        if self.work.busy:
            return "A job of this widget runs"
        if not self.by_model.isChecked():
            return "" if self.labels.layers else "Tick the masks to follow first, one for each visit"
        if self.study.study is None:
            return "Open a study first"
        return self.model.why_none

    # -- the job -------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Segment and follow, or follow label layers; the result is shown when the worker is done."""
        guarded("Progression", self._run_model if self.by_model.isChecked() else self._run_labels)

    def _run_model(self) -> None:
        source = verbs.study_of(self.viewer, self.study.study)
        if self.model.info is None:
            raise MedseqError(f"{self.model.why_none}.")
        arguments: dict[str, Any] = {
            "series": self.series.text().strip() or None,
            "register": self.register.currentText(),
            "device": self.model.device_name,
            "force": self.model.force,
            "settings": self.settings.settings,
        }
        model, card = self.model.reference, self.model.info.card

        rerun = verbs.Rerun(self.viewer, source, overwrite=self.overwrite.isChecked())

        def job(progress: Progress, cancelled: Cancelled) -> Progression:
            return ms.run(source, model, revise=rerun.revise, progress=progress, cancelled=cancelled, **arguments)

        def done(progression: Progression) -> None:
            notes = rerun.show(self.viewer, progression, card)
            self._shown(source, notes)

        self.work.start("Segmenting and following", job, done)

    def _shown(self, source: Study, notes: Sequence[str] = ()) -> None:
        """Show a new result in the viewer, and report which corrections were kept."""
        for note in notes:
            (show_warning if "could not" in note else show_info)(note)
        self.study.setCurrentText(source.name)
        self.result.show_result(verbs.result_of(self.viewer, source.name))
        self.labels.tick(self.result.layers)
        self._make_room()
        self._update()

    def _make_room(self) -> None:
        """Fold the choices, so that there is room for the result."""
        self.how.button.setChecked(False)

    def _ask_open(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of a result")
        if folder:
            guarded("Opening the result", lambda: self.open_saved(folder))

    def open_saved(self, folder: str) -> None:
        """Show a result from its folder: over its patient's images if these are open, else with those that its record
        names."""
        open_result_in_job(self.viewer, Path(folder), self.work, lambda followed: self._shown(followed.source))

    def show_result(self, progression: Progression, source: Study, card: str = "") -> None:
        """Show a progression of the study `source`, made with the model of that card."""
        verbs.show_progression(self.viewer, progression, source, card=card)
        self._shown(source)

    def _run_labels(self) -> None:
        self._follow(self.labels.layers)

    def follow_again(self, on_followed: Callable[[], None] | None = None) -> None:
        """Follow the label layers of the result again, as they are painted now; `on_followed` is called afterwards."""
        layers = [layer for layer in self.result.layers if layer in self.viewer.layers]
        guarded("Following lesions", lambda: self._follow(layers, on_followed))

    def _follow(self, chosen: Sequence[Labels], on_followed: Callable[[], None] | None = None) -> None:
        chosen = verbs.by_visit(chosen)
        source, arguments = verbs.tracking_job(self.viewer, chosen)
        snapshot = verbs.masks_now(chosen)
        register, settings = self.register.currentText(), self.settings.settings

        def job(progress: Progress, cancelled: Cancelled) -> Progression:
            return verbs.track_job(
                source, arguments, register=register, settings=settings, progress=progress, cancelled=cancelled
            )

        def done(progression: Progression) -> None:
            self._shown(source, verbs.show_followed(self.viewer, progression, source, chosen, snapshot))
            if on_followed is not None:
                on_followed()

        self.work.start("Following lesions", job, done)
