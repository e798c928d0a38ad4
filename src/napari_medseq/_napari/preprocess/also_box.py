"""Further targets of a recipe: masks of the image, its other visits, other layers, a folder of patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import LayerBox, LayerChecklist
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    import pandas as pd
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_medseq.preprocessing import Step
    from napari_medseq.progress import Cancelled, Progress


class AlsoBox(QWidget):  # type: ignore[misc]
    """A list of layers to tick, with buttons that tick the usual ones; `layers` are the ticked ones."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel, chosen: LayerBox, recipe: Callable[[], Sequence[Step]]) -> None:
        super().__init__()
        self.viewer, self._chosen, self._recipe = viewer, chosen, recipe
        self.list = LayerChecklist(viewer, "image", "labels")
        self.list.setToolTip(
            "Ticked images get the same steps. A ticked mask is moved, cropped and resampled as its image was (nearest neighbour)."
        )
        self.list.changed.connect(self.changed.emit)
        self.masks_button = self._button("Its masks", self._tick_masks)
        self.visits_button = self._button("Other visits", self._tick_visits)
        self.patients_button = self._button("Patients …", self._ask_patients)
        self.patients_button.setToolTip(
            "Run the steps on all images of a folder of patients, without opening them; their masks are moved with them"
        )
        self.work = WorkBar()
        row = QHBoxLayout()
        for button in (self.masks_button, self.visits_button, self.patients_button):
            row.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        column.addWidget(self.list)
        column.addWidget(self.work)

    def _button(self, text: str, action: Callable[[], object]) -> QPushButton:
        button = QPushButton(text)
        button.setStyleSheet("padding: 3px 4px;")
        button.clicked.connect(lambda: action())
        return button

    @property
    def layers(self) -> list[Layer]:
        """The ticked layers."""
        return self.list.layers

    def leave_out(self, layer: Layer | None) -> None:
        """Do not offer the layer that is already chosen, and update what the buttons find for it."""
        self.list.set_left_out(layer)
        masks = [] if layer is None or layer_kind(layer) != "image" else verbs.masks_of(self.viewer, layer)
        visits = [] if layer is None else verbs.other_visits(self.viewer, layer)
        self.masks_button.setEnabled(bool(masks))
        self.masks_button.setToolTip(
            f"Tick {', '.join(m.name for m in masks)}" if masks else "There is no mask of the chosen image"
        )
        self.visits_button.setEnabled(bool(visits))
        self.visits_button.setToolTip(
            f"Tick the same series at {how_many(len(visits), 'other visit')}"
            if visits
            else "The chosen layer has no other visits here: open a study"
        )

    def _tick_masks(self) -> None:
        layer = self._chosen.layer
        if layer is not None:
            images = [layer, *(one for one in self.layers if layer_kind(one) == "image")]
            masks = [mask for image in images for mask in verbs.masks_of(self.viewer, image)]
            self.list.tick([*self.layers, *masks])

    def _tick_visits(self) -> None:
        layer = self._chosen.layer
        if layer is not None:
            self.list.tick([*self.layers, *verbs.other_visits(self.viewer, layer)])

    # -- patients ------------------------------------------------------------------------------------------------------
    def _ask_patients(self) -> None:
        steps = guarded("Preprocessing patients", self._recipe)
        if steps is None:
            return
        studies = QFileDialog.getExistingDirectory(self, "Folder with a study folder per patient")
        out = studies and QFileDialog.getExistingDirectory(self, "Folder for the results (another one)")
        if out:
            self.run_patients(Path(studies), Path(out))

    def run_patients(self, studies: Path, out: Path) -> None:
        """Run the recipe on a folder of patients, in the background."""
        steps = guarded("Preprocessing patients", self._recipe)
        if steps is None:
            return

        def job(progress: Progress, cancelled: Cancelled) -> pd.DataFrame:
            from napari_medseq.cohort import preprocess_cohort

            return preprocess_cohort(studies, steps, out, progress=progress, cancelled=cancelled)

        def done(table: pd.DataFrame) -> None:
            failed = int((table["status"] == "failed").sum())
            text = f"{how_many(len(table) - failed, 'file was', 'files were')} written to {out}"
            if failed:
                show_warning(f"{text}; {failed} failed, and preprocessed.csv there says why.")
            else:
                show_info(f"{text}.")

        self.work.start("Preprocessing patients", job, done, writes=True)
