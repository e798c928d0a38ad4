"""*Preprocess*: a recipe of steps, its preview on the slice that is shown, and running it on layers, visits and
patients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info, show_warning
from qtpy.QtWidgets import QFileDialog, QFormLayout, QHBoxLayout, QPushButton, QWidget

import napari
from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import (
    CollapsibleSection,
    LayerBox,
    ShortBox,
    follow_layers,
    scrolled,
    wrapped,
)
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded
from napari_medseq._napari.preprocess.also_box import AlsoBox
from napari_medseq._napari.preprocess.chains import chains_for
from napari_medseq._napari.preprocess.made_by import MadeBy
from napari_medseq._napari.preprocess.preview_box import PreviewBox, Wanted
from napari_medseq._napari.preprocess.step_list import StepList
from napari_medseq._napari.window.services import accompany
from napari_medseq.errors import MedseqError
from napari_medseq.preprocessing import Step, load, save
from napari_medseq.viewer.layers.conversion import layer_kind

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_medseq.preprocessing.pipeline import StepLike
    from napari_medseq.sequence import ImageSequence

_FILES = "Recipes (*.yaml *.yml *.json)"


class PreprocessWidget(QWidget):  # type: ignore[misc]
    """The dock widget; `chain` holds the steps that are switched on, with the settings of their forms."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        accompany(napari_viewer)
        self.layer = LayerBox(napari_viewer, ["image", "labels"])
        self.layer.setToolTip("The image or mask to which the steps are applied")
        self.layer.begin_with_shown()
        self.made_by = MadeBy(napari_viewer, self.replace_chain)
        self.ready_made = ShortBox()
        self.ready_made.setToolTip("Replace the steps by those of a recipe, which you can then change")
        self.load_button = self._button("Load …", "Take the steps of a recipe file (.yaml, .json)", self._ask_load)
        self.save_button = self._button("Save …", "", self._ask_save)
        self.steps = StepList()
        self.reference = LayerBox(napari_viewer, ["image", "labels"], optional="(none)")
        self.reference.setToolTip(
            "The layer that Registration moves the image to, Difference subtracts, Resample takes the grid of, and Crop the box of"
        )
        self.reference_row = QWidget()
        reference = QFormLayout(self.reference_row)
        reference.setContentsMargins(0, 0, 0, 0)
        reference.addRow("Other layer", self.reference)
        self.preview = PreviewBox(napari_viewer, self._wanted)
        self.also = AlsoBox(napari_viewer, self.layer, self._recipe_for_patients)
        self.apply_button = self._button("Apply", "", self.run)
        self.apply_button.setStyleSheet("font-weight: bold; padding: 6px;")
        self.notice = wrapped()
        self.work = WorkBar()
        self._build()
        self.layer.currentIndexChanged.connect(self._layer_chosen)
        self.reference.currentIndexChanged.connect(self._changed)
        self.steps.changed.connect(self._changed)
        self.also.changed.connect(self._changed)
        self.ready_made.activated.connect(self._ready_made_chosen)
        self.work.busy_changed.connect(self._update)
        self._layer_chosen()
        follow_layers(napari_viewer, self._layers_changed)

    def _build(self) -> None:
        layout = scrolled(self)
        form = QFormLayout()
        form.addRow("Layer", self.layer)
        form.addRow(self.made_by)
        recipe = QHBoxLayout()
        recipe.addWidget(self.ready_made, 1)
        recipe.addWidget(self.load_button)
        recipe.addWidget(self.save_button)
        form.addRow("Recipe", recipe)
        layout.addLayout(form)
        self.also_section = CollapsibleSection("Also apply to …", self.also)
        for widget in (
            self.steps, self.reference_row, self.preview, self.also_section, self.apply_button, self.notice, self.work,
        ):  # fmt: skip
            layout.addWidget(widget)
        layout.addStretch(1)

    def _button(self, text: str, tip: str, action: Callable[[], object]) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tip)
        button.clicked.connect(lambda: action())
        return button

    # -- the recipe ----------------------------------------------------------------------------------------------------
    @property
    def chain(self) -> list[Step]:
        """The steps that are switched on, validated.

        Raises
        ------
        SettingsError
            If a value in a form cannot be used.
        """
        return self.steps.steps

    def add_step(self, step: StepLike) -> None:
        """Add a step by name or as settings, with its form."""
        self.steps.add_step(step)

    def replace_chain(self, steps: Iterable[StepLike]) -> None:
        """Replace all steps by these."""
        self.steps.replace_steps(steps)

    def _ready_made_chosen(self, index: int) -> None:
        steps = self.ready_made.itemData(index)
        if steps is not None:
            guarded("Taking a recipe", lambda: self.replace_chain(steps))
        self.ready_made.setCurrentIndex(0)

    def _ask_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Recipe", "", _FILES)
        if path:
            guarded("Loading steps", lambda: self.load(Path(path)))

    def load(self, path: Path) -> None:
        """Replace the steps by those of a recipe file."""
        self.replace_chain(load(path))

    def _ask_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Recipe", "recipe.yaml", _FILES)
        if path and guarded("Saving steps", lambda: save(self.chain, path)):
            show_info(f"Saved: {path}")

    # -- what is chosen ------------------------------------------------------------------------------------------------
    @property
    def layers(self) -> list[Layer]:
        """The layers that the recipe is applied to: the chosen one, and those ticked beside it."""
        first = self.layer.layer
        return [] if first is None else [first, *(one for one in self.also.layers if one != first)]

    def _other(self) -> Layer | None:
        return self.reference.layer if self.steps.takes_reference else None

    def _wanted(self) -> Wanted:
        if not self.layers:
            raise MedseqError("Open an image: drop a file or a folder on the viewer.")
        if not self.steps.entries:
            raise MedseqError("Add a step, or choose a ready-made recipe: what it does to this slice is shown here.")
        if self.steps.problem:
            raise MedseqError(self.steps.problem)
        return Wanted(self.layers, self.chain, self._other())

    def _layers_changed(self, _event: object = None) -> None:
        self._layer_chosen()

    def _layer_chosen(self, _index: int = -1) -> None:
        layer = self.layer.layer
        modality = None if layer is None else verbs.to_sequence(layer).modality
        self.steps.modality = modality
        self.ready_made.clear()
        self.ready_made.addItem("ready-made …", None)
        for title, steps in chains_for(modality).items():
            self.ready_made.addItem(title, steps)
        self.made_by.show_layer(layer)
        self.also.leave_out(layer)
        self._changed()

    def _changed(self, _event: object = None) -> None:
        self._update()
        self.preview.refresh()

    def _update(self, _event: object = None) -> None:
        """Show what can be done now, in words and by what is enabled."""
        self.reference_row.setVisible(self.steps.takes_reference)
        problem = "Open an image first." if self.layer.layer is None else self.steps.problem
        busy = "It runs already; wait, or cancel it." if self.work.busy else ""
        why = problem or busy
        count = len(self.layers)
        self.apply_button.setText("Apply" if count < 2 else f"Apply to {count} layers")
        self.apply_button.setEnabled(not why)
        self.apply_button.setToolTip(why or "Run the steps on the whole image; each result is a new layer")
        unsaved = self.steps.problem
        self.save_button.setEnabled(not unsaved)
        self.save_button.setToolTip(
            unsaved or "Save the steps as a file, which scripts, the command line and Analyse can use"
        )
        # errors in a form are shown beside it
        notice = self._about_labels() if not problem else "" if self.steps.entries else problem
        self.notice.setText(notice)
        self.notice.setVisible(bool(notice))

    def _about_labels(self) -> str:
        """Explain which steps a mask gets, if one is chosen."""
        layer = self.layer.layer
        if layer is None or layer_kind(layer) != "labels":
            return ""
        used, left_out = verbs.steps_for_labels(self.chain)
        if not left_out:
            return "A mask: nearest neighbour, its values stay."
        if not used:
            return f"A mask: none of these steps is for labels ({verbs.step_titles(left_out)})."
        return f"A mask: only {verbs.step_titles(used)}, by nearest neighbour; {verbs.step_titles(left_out)} left out."

    # -- the job -------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Apply the recipe; the new layers are shown when the worker is done."""
        guarded("Preprocessing", self._run)

    def _run(self) -> None:
        if not self.layers:
            raise MedseqError("No layer is chosen. Open an image and choose it.")
        if self.steps.problem:
            raise MedseqError(self.steps.problem)
        job = verbs.Preprocessing(self.layers, self.chain, reference=self._other())

        def done(results: Sequence[tuple[Layer, ImageSequence]]) -> None:
            job.show(self.viewer, results)
            for note in job.notes:
                show_info(note)
            if job.failures:
                show_warning("\n".join(job.failures))

        self.work.start("Preprocessing", job.run, done)

    def _recipe_for_patients(self) -> list[Step]:
        if self.steps.problem:
            raise MedseqError(self.steps.problem)
        return self.chain
