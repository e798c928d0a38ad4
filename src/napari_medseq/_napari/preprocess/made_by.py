"""How preprocessing made a layer: its steps to take over, and its registration to save or to apply to masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QMenu, QPushButton, QVBoxLayout, QWidget

from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import wrapped
from napari_medseq._napari.notifications import guarded
from napari_medseq.errors import MedseqError
from napari_medseq.viewer.layers.conversion import layer_kind

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_medseq.preprocessing import Step


class MadeBy(QWidget):  # type: ignore[misc]
    """A box that is hidden for layers that preprocessing did not make."""

    def __init__(self, viewer: ViewerModel, take: Callable[[Sequence[Step]], None]) -> None:
        super().__init__()
        self.viewer, self._take = viewer, take
        self.made: Layer | None = None
        self.text = wrapped()
        self.take_button = self._button("Use its steps", "Put the steps that made this layer into the list", self._use)
        self.masks_button = self._button(
            "Bring a mask …",
            "Bring a mask of the original to this layer's grid, by its registration; values stay",
            None,
        )
        self.menu = QMenu(self)
        self.menu.aboutToShow.connect(self._fill)
        self.masks_button.setMenu(self.menu)
        self.save_button = self._button("Save transform …", "The registration, as a file", self._ask_save)
        row = QHBoxLayout()
        for button in (self.take_button, self.masks_button, self.save_button):
            row.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.text)
        column.addLayout(row)
        self.show_layer(None)

    def _button(self, text: str, tip: str, action: Callable[[], object] | None) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tip)
        button.setStyleSheet("padding: 3px 4px;")
        if action is not None:
            button.clicked.connect(lambda: action())
        return button

    def show_layer(self, layer: Layer | None) -> None:
        """Describe how this layer was made; nothing if preprocessing did not make it."""
        steps = [] if layer is None else verbs.recipe_of(layer)
        self.made = layer if steps else None
        self.setVisible(bool(steps))
        if layer is None or not steps:
            return
        self.text.setText(f"Made by: {verbs.step_titles(steps)}.")
        try:
            transform = repr(verbs.transform_of(layer))
        except MedseqError as error:
            transform = ""
            self.save_button.setToolTip(str(error))
        self.save_button.setEnabled(bool(transform))
        if transform:
            self.save_button.setToolTip(f"Save {transform[1:-1]} as .json (complete), .tfm or .h5 (ITK, 3D Slicer)")

    def _use(self) -> None:
        if self.made is not None:
            source = self.made
            guarded("Taking over steps", lambda: self._take(verbs.recipe_of(source)))

    def _fill(self) -> None:
        self.menu.clear()
        masks = [layer for layer in self.viewer.layers if layer_kind(layer) == "labels" and layer != self.made]
        for mask in masks:
            action = self.menu.addAction(mask.name)
            action.triggered.connect(lambda _checked=False, mask=mask: self.bring(mask))
        if not masks:
            self.menu.addAction("There is no mask; open or paint one").setEnabled(False)

    def bring(self, mask: Layer) -> None:
        """Resample a mask onto the layer's grid, as a new layer."""
        source = self.made
        if source is not None:
            guarded("Bringing a mask along", lambda: verbs.bring_along(self.viewer, mask, source))

    def _ask_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Transform", "transform.json", "Transforms (*.json *.tfm *.h5)")
        if path:
            guarded("Saving the transform", lambda: self.save(path))

    def save(self, path: str) -> None:
        """Save the registration that made the layer."""
        if self.made is not None:
            show_info(f"Saved: {verbs.transform_of(self.made).save(path)}")
