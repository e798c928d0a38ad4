"""Longer jobs on the result in *Progression*: its DICOM files, and the retest that shows which changes are real."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.parts import set_enabled
from napari_medseq._napari.notifications import guarded
from napari_medseq.errors import MedseqError
from napari_medseq.viewer.results.sources import dicom_series, model_of, scan_to_retest

if TYPE_CHECKING:
    from napari_medseq._napari.controls.model_box import ModelBox
    from napari_medseq._napari.jobs.work import WorkBar
    from napari_medseq._napari.progression.result import ProgressionResult
    from napari_medseq.models import ModelInfo
    from napari_medseq.progress import Cancelled, Progress
    from napari_medseq.progression.repeatability import Repeatability
    from napari_medseq.viewer.results.followed import Followed

_DICOM = "For each visit a segmentation and a structured report; a lesion has the same tracking UID at every visit"
_RETEST = (
    "Move, noise and segment the last visit's scan again and again, and let known lesions grow in it: the table then says which "
    "changes are real. Takes several times as long as Run"
)


class ResultJobs(QWidget):  # type: ignore[misc]
    """Two buttons below the result that is shown; each explains why it cannot be pressed."""

    def __init__(self, result: ProgressionResult, model: ModelBox, work: WorkBar) -> None:
        super().__init__()
        self.result, self.model, self.work = result, model, work
        self.dicom_button = QPushButton("DICOM …")
        self.dicom_button.clicked.connect(self._ask_folder)
        self.retest_button = QPushButton("Retest")
        self.retest_button.clicked.connect(lambda: guarded("Retest", self.retest))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.dicom_button)
        row.addWidget(self.retest_button)
        self.update_buttons()

    def update_buttons(self, _event: object = None) -> None:
        """Enable what can be done with the result that is shown, and explain what cannot."""
        followed = self.result.followed
        set_enabled(self.dicom_button, self._why_no_dicom(followed), _DICOM)
        set_enabled(self.retest_button, self._why_no_retest(followed), _RETEST)

    def _why_not(self, followed: Followed | None) -> str:
        if followed is None:
            return "There is no result yet"
        return "A job of this widget runs" if self.work.busy else ""

    def _why_no_dicom(self, followed: Followed | None) -> str:
        why = self._why_not(followed)
        if why or followed is None:
            return why
        try:
            dicom_series(followed)
        except MedseqError as error:
            return str(error)
        return ""

    def _why_no_retest(self, followed: Followed | None) -> str:
        why = self._why_not(followed)
        if why or followed is None:
            return why
        try:
            scan_to_retest(followed)
            info = self._model(model_of(followed))
        except MedseqError as error:
            return str(error)
        return f"{info.name} segments all visits together, not one scan" if info.sequence_axis == "visit" else ""

    def _model(self, name: str) -> ModelInfo:
        """The model of that name, if it is among those that can be chosen."""
        box = self.model.box
        # an entry is None while the list is being read
        infos: list[ModelInfo | None] = [box.itemData(k) for k in range(box.count())]
        info_of_model = next((info for info in infos if info is not None and info.name == name), None)
        if info_of_model is None:
            raise MedseqError(f"The model {name}, which made these masks, is not among the models above")
        return info_of_model

    # -- the jobs ------------------------------------------------------------------------------------------------------
    def _ask_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for the DICOM files")
        if folder:
            guarded("DICOM", lambda: self.export_dicom(Path(folder)))

    def export_dicom(self, folder: Path) -> None:
        """Write the result that is shown as DICOM; painting that is not yet followed is followed first."""
        followed = self.result.followed
        if followed is None:
            return
        study, viewer = followed.source.name, self.result.viewer

        def start() -> None:
            now = verbs.result_of(viewer, study)
            # corrections made meanwhile are not in the files
            series, progression = (
                dicom_series(now),
                copy(now.progression),
            )

            def job(progress: Progress, cancelled: Cancelled) -> list[Path]:
                return progression.export_dicom(folder, references=series, progress=progress, cancelled=cancelled)

            self.work.start(
                "Writing DICOM",
                job,
                lambda written: show_info(f"Saved: {len(written)} DICOM files in {folder}"),
                writes=True,
            )

        if verbs.differs(viewer, followed):
            self.result.follow_first.emit(start)
        else:
            start()

    def retest(self, settings: ms.RetestSettings | None = None) -> None:
        """Measure the last visit's scan again with the model that made the masks; the table then shows which changes
        are real."""
        followed = self.result.followed
        if followed is None:
            return
        study, viewer = followed.source.name, self.result.viewer
        scan, model = scan_to_retest(followed), self._model(model_of(followed))
        device, force = self.model.device_name, self.model.force

        def job(progress: Progress, cancelled: Cancelled) -> Repeatability:
            return ms.retest(
                scan,
                model.folder,
                device=device,
                settings=settings,
                force=force,
                progress=progress,
                cancelled=cancelled,
            )

        def done(measured: Repeatability) -> None:
            verbs.result_of(viewer, study).progression.use_repeatability(measured)
            self.result.show_study(study)
            show_info("\n".join(measured.sentences()))

        self.work.start("Retest", job, done)
