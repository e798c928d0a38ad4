"""The part of *Teach* that trains a model on painted slices, and lets it label the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QFormLayout, QGroupBox, QLineEdit, QPushButton

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import wrapped
from napari_medseq._napari.controls.model_box import announce_models
from napari_medseq._napari.controls.parts import set_enabled
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded
from napari_medseq.progress import Cancelled, Progress, part

if TYPE_CHECKING:
    from napari_medseq.inference import Segmentation
    from napari_medseq.models import Model

_HOW = (
    "For other images too: paint three slices or more, whole (what is not painted in them is background); "
    "Teach makes a model of what is in them."
)


class LessonBox(QGroupBox):  # type: ignore[misc]
    """A name, minutes, and *Teach*; `model` is the last model that was taught.

    Parameters
    ----------
    work : WorkBar
    lesson : callable
        Gives what is painted and corrected now.
    show : callable
        Shows an answer under a name, and says where it is.
    say : callable
        Takes what is to be read once a model is taught.
    """

    def __init__(
        self,
        work: WorkBar,
        lesson: Callable[[], verbs.LessonJob],
        show: Callable[[verbs.LessonJob, Segmentation, str], str],
        say: Callable[[str], None],
    ) -> None:
        super().__init__("A model of what is painted")
        self.work, self._lesson, self._show, self._say = work, lesson, show, say
        self.model: Model | None = None
        self.name = QLineEdit("taught")
        self.name.setToolTip("The name of the model in Analyse, in scripts and on the command line")
        self.minutes = QDoubleSpinBox()
        self.minutes.setRange(0.1, 600)
        self.minutes.setValue(2)
        self.minutes.setToolTip("The longest time that one lesson may take")
        self.go_on = QCheckBox("continue the last lesson")
        self.go_on.setEnabled(False)
        self.go_on.setToolTip("Train the model of the last lesson further, instead of a new one")
        self.judge = QCheckBox("estimate how good it is")
        self.judge.setChecked(True)
        self.judge.setToolTip(
            "Painted slices are held back in turn and labelled by models that did not see them; this takes as long as teaching itself"
        )
        self.replace = QCheckBox("replace a model of that name")
        self.replace.setToolTip("Otherwise an existing model is kept, and you are asked for another name")
        self.run_button = QPushButton("Teach")
        self.run_button.setStyleSheet("font-weight: bold; padding: 6px;")
        self.run_button.clicked.connect(lambda: guarded("Teaching", self._run))
        form = QFormLayout(self)
        form.addRow(wrapped(_HOW))
        form.addRow("Name", self.name)
        form.addRow(self.replace)
        form.addRow("Minutes", self.minutes)
        for widget in (self.judge, self.go_on, self.run_button):
            form.addRow(widget)

    def mark(self, why_not: str) -> None:
        """Enable *Teach*, or explain why it cannot be pressed."""
        set_enabled(self.run_button, why_not, "Train a small model on the painted slices, and let it label the others")

    def _run(self) -> None:
        name = self.name.text().strip() or "taught"
        own_model = self.model is not None and self.model.info.name == name
        out = verbs.check_model_name(name, replace=own_model or self.replace.isChecked())
        settings: dict[str, object] = {"name": name, "minutes": self.minutes.value(), "out": str(out)}
        lesson = self._lesson()
        if set(lesson.done) - set(lesson.labelled):  # some slices were corrected to be empty, or accepted as empty
            settings["steps"] = list(lesson.done)
        if self.go_on.isChecked() and self.model is not None:
            settings["start_from"] = self.model.info.folder
        judge = self.judge.isChecked() and len(lesson.labelled) > 1

        def job(progress: Progress, cancelled: Cancelled) -> tuple[Model, Segmentation, str]:
            from napari_medseq.training.lesson_quality import Pace, judge_lesson, why_it_ended

            seq, painted = lesson.seq, lesson.painted
            pace, end = Pace(), 0.45 if judge else 0.9
            lesson_result = ms.teach(seq, painted, settings, progress=part(progress, 0.0, end), cancelled=cancelled)
            words = [why_it_ended(lesson_result, settings, pace)]
            if judge:
                tests = part(progress, end, 0.9)
                words.insert(0, str(judge_lesson(seq, painted, settings, progress=tests, cancelled=cancelled)))
            answer = ms.segment(
                seq, lesson_result.model, keep=painted, outputs=("labels", "uncertainty"), progress=part(progress, 0.9, 1.0),
                cancelled=cancelled,
            )  # fmt: skip
            return lesson_result.model, answer, " ".join(words)

        def show(lesson_result: tuple[Model, Segmentation, str]) -> None:
            model, answer, quality = lesson_result
            self.model = model
            self._say_taught(model, quality, self._show(lesson, answer, model.info.name))

        self.work.start("Teaching", job, show)

    def _say_taught(self, model: Model, quality: str, where: str) -> None:
        self.go_on.setEnabled(True)
        announce_models()
        answer = f"The answer for all slices is {where}"
        use = f"Analyse and ms.segment(…, {model.info.name!r}) use the model from now on."
        self._say(" ".join((model.info.description, quality, answer, use)))
