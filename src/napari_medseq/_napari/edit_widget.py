"""*Edit*: changes of a mask by annotators, other than painting; each is one step of undo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QSpinBox, QWidget

import napari
from napari_medseq import viewer as verbs
from napari_medseq._napari import edit_sections as sections
from napari_medseq._napari.controls.choosers import (
    CollapsibleSection,
    LayerBox,
    ShortBox,
    follow_layers,
    scrolled,
    wrapped,
)
from napari_medseq._napari.gone import WhenGone, connect_until_destroyed
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded
from napari_medseq._napari.window.services import accompany
from napari_medseq.errors import MedseqError
from napari_medseq.masks import tools
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_medseq.masks.labels import LabelArray
    from napari_medseq.viewer.editing.active import MouseEvent

#: largest number of voxels that a tool reshapes at once; larger ones are reshaped in a thread
QUICK_VOXELS = 2_000_000
_QUICK = (
    tools.CopySlice,
    tools.FillHoles,
    tools.Island,
    tools.KeepLargest,
    tools.Margin,
    tools.RemoveSmall,
    tools.Split,
)
#: key → its action
KEYS = {
    "I": "interpolate between painted slices",
    "N": "copy the outline to the next slice",
    "Shift-N": "copy the outline to the previous slice",
    "H": "fill holes",
    "Shift-D": "remove the island under the cursor",
}


class EditWidget(QWidget):  # type: ignore[misc]
    """The dock widget; it edits the selected label of the active mask."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self._layer: Labels | None = None
        accompany(napari_viewer)
        self.what = wrapped()
        self.label = QSpinBox()
        self.label.setRange(0, 2**31 - 1)
        self.label.setPrefix("label ")
        self.label.setToolTip("The label that is edited")
        self.label.valueChanged.connect(self._choose_label)
        self.where = ShortBox()
        self.where.addItems(["All slices", "This slice"])
        self.where.setToolTip("Whether a tool works on the whole mask or on the slice that is shown")
        self.image = LayerBox(napari_viewer, ["image"], optional="image under the mask")
        self.image.setToolTip("The image whose intensities are used; it must have the grid of the mask")
        self.undo_button, self.redo_button = QPushButton("Undo"), QPushButton("Redo")
        self.undo_button.clicked.connect(
            lambda: guarded("Undo", lambda: self._say(f"Undone: {verbs.undo(self.viewer)}"))
        )
        self.redo_button.clicked.connect(
            lambda: guarded("Redo", lambda: self._say(f"Done again: {verbs.redo(self.viewer)}"))
        )
        self.work = WorkBar()
        self.outcome = wrapped()
        self.between = sections.BetweenSection(self.run, self._copy_slice, self._copy_visit)
        self.intensity = sections.IntensitySection(self.run, self._take_range)
        self.shape = sections.ShapeSection(self.run)
        self.islands = sections.IslandSection(self.run)
        self.combine = sections.CombineSection(LayerBox(napari_viewer, ["labels"]), self._combine)
        self._lay_out()
        self.intensity.limited.connect(lambda: guarded("Limiting the brush", self._limit))
        for button in (self.islands.pick_remove, self.islands.pick_keep):
            button.toggled.connect(self._picking)
        self.combine.other.currentIndexChanged.connect(self._update)
        self.work.busy_changed.connect(self._update)
        self._bind_keys()
        connect_until_destroyed(napari_viewer.layers.selection.events.active, self._update)
        connect_until_destroyed(napari_viewer.dims.events.point, self._update)
        connect_until_destroyed(verbs.editing_of(napari_viewer).events.changed, self._update)
        follow_layers(napari_viewer, self._update)

    def _lay_out(self) -> None:
        layout = scrolled(self)
        layout.addWidget(self.what)
        for pair in ((self.label, self.where), (self.undo_button, self.redo_button)):
            row = QHBoxLayout()
            for widget in pair:
                row.addWidget(widget, 1)
            layout.addLayout(row)
        layout.addWidget(self.work)
        layout.addWidget(self.outcome)
        self.intensity.row(self.image)
        for title, inside, opened in (
            ("Between slices and visits", self.between, True), ("Shape", self.shape, True),
            ("Intensity: brush and seeds", self.intensity, False), ("Islands", self.islands, False),
            ("Together with another label", self.combine, False),
        ):  # fmt: skip
            section = CollapsibleSection(title, inside)
            section.button.setChecked(opened)
            layout.addWidget(section)
        layout.addStretch(1)

    # -- what can be done ----------------------------------------------------------------------------------------------
    @property
    def layer(self) -> Labels | None:
        """The mask that is edited: the active layer, if it is a label layer."""
        active = self.viewer.layers.selection.active
        return active if active is not None and layer_kind(active) == "labels" else None

    @property
    def _actions(self) -> list[sections.ActionButton]:
        parts = (self.between, self.intensity, self.shape, self.islands, self.combine)
        return [button for part in parts for button in part.actions]

    def _update(self, _event: object = None) -> None:
        """Enable what can be done now, and explain what cannot."""
        layer = self.layer
        if layer != self._layer:
            self._follow(layer)
        lacking = self._lacking(layer)
        for button in self._actions:
            button.allow(lacking)
        history = verbs.editing_of(self.viewer).history
        for button, steps, verb in (
            (self.undo_button, history.done, "undo"),
            (self.redo_button, history.undone, "do again"),
        ):
            button.setEnabled(bool(steps))
            button.setToolTip(steps[-1].name if steps else f"There is nothing to {verb}")
        self.label.setEnabled(layer is not None)
        if layer is None:
            self.what.setText("No mask is active: select a label layer, or make new labels on an image.")
            return
        self.what.setText(f"Edits {layer.name}")
        self.label.blockSignals(True)
        self.label.setValue(int(layer.selected_label))
        self.label.blockSignals(False)

    def _follow(self, layer: Labels | None) -> None:
        """Follow the selected label of this mask only."""
        if self._layer is not None:
            self._layer.events.selected_label.disconnect(self._update)
        self._layer = layer
        if layer is not None:
            connect_until_destroyed(layer.events.selected_label, self._update)

    def _lacking(self, layer: Labels | None) -> dict[str, str]:
        """Requirement → why it is not met."""
        if layer is None:
            return {"mask": "Select a label layer first"}
        lacking = {}
        if self.work.busy:
            lacking["mask"] = "Another tool works"
        elif layer.selected_label <= 0:
            lacking["mask"] = "Label 0 is background: select the label that is to be edited"
        if sum(n > 1 for n in layer.data.shape[-3:]) < 3:
            lacking["slices"] = "This mask has one slice only"
        if verbs.image_under(self.viewer, layer, self.image.layer) is None:
            lacking["image"] = "No image lies on the grid of this mask"
        if "visit" not in self.viewer.dims.axis_labels:
            lacking["visits"] = "There is one visit only"
        if self.combine.other.layer is None:
            lacking["other"] = "Choose another mask"
        return lacking

    def _choose_label(self, value: int) -> None:
        if self.layer is not None:
            guarded("Choosing a label", lambda: setattr(self.layer, "selected_label", value))

    # -- doing it ------------------------------------------------------------------------------------------------------
    @property
    def this_slice(self) -> bool:
        """Whether tools work only on the slice that is shown."""
        return bool(self.where.currentIndex() == 1)

    def _chosen_image(self) -> Image | None:
        return self.image.layer

    def run(self, tool: tools.Tool, at: tuple[float, ...] | None = None) -> None:
        """Apply a tool to the selected label of the active mask."""
        slices = self.this_slice and not tool.needs_slices
        if isinstance(tool, tools.Split):
            tool = tools.Split(used=tuple(verbs.used_labels(self.viewer, verbs.edited_layer(self.viewer))))
        job = verbs.edit_job(self.viewer, tool, image=self._chosen_image(), this_slice=slices, at=at)

        def done(edited: LabelArray) -> None:
            self._tell(job, verbs.apply_edit(self.viewer, job, edited), edited)

        if isinstance(tool, _QUICK) and job.given.labels.size <= QUICK_VOXELS:
            done(job.compute())
        else:
            self.work.start(tool.title, job.compute, done)

    def _tell(self, job: verbs.EditJob, changed: int, edited: LabelArray) -> None:
        """Report the result in voxels and millilitres."""
        value = job.given.value
        voxel = float(np.prod(job.given.spacing)) / 1000
        gained = (int((edited == value).sum()) - int(job.given.mask.sum())) * voxel
        self._say(f"{job.tool.title}: {changed} voxels changed, label {value} {gained:+.2f} mL.")

    def _say(self, text: str) -> None:
        self.outcome.setText(text)
        self.viewer.status = text

    def _copy_slice(self, by: int) -> None:
        self._say(f"{verbs.copy_to_slice(self.viewer, by)} voxels copied.")

    def _copy_visit(self, by: int) -> None:
        target, count = verbs.copy_to_visit(self.viewer, by)
        self._say(f"{how_many(count, 'voxel')} copied to {target.name}.")

    def _combine(self) -> None:
        other, label = self.combine.other.layer, self.combine.label.value() or None
        if other is None:
            raise MedseqError("Choose another mask.")
        changed = verbs.combine_labels(
            self.viewer, self.combine.operation.currentData(), other, label, this_slice=self.this_slice
        )
        self._say(f"{self.combine.operation.currentText()} {other.name}: {changed} voxels changed.")

    # -- intensities ---------------------------------------------------------------------------------------------------
    def _take_range(self) -> None:
        low, high = verbs.painted_range(self.viewer, verbs.edited_layer(self.viewer), image=self._chosen_image())
        for box, value in ((self.intensity.low, low), (self.intensity.high, high)):
            box.setValue(value)

    def _limit(self) -> None:
        """Limit the brush as the controls state."""
        if not self.intensity.limit.isChecked():
            verbs.limit_brush(self.viewer)
            return
        low, high = self.intensity.range
        if low <= high:  # while the upper end is being typed it may be below the lower one
            verbs.limit_brush(self.viewer, low, high, self._chosen_image())

    # -- islands under the mouse ---------------------------------------------------------------------------------------
    def _picking(self, _on: bool) -> None:
        callbacks = self.viewer.mouse_drag_callbacks
        if self.islands.picking is None:
            if self._clicked in callbacks:
                callbacks.remove(self._clicked)
            return
        if self.layer is not None:
            self.layer.mode = "pan_zoom"
        if self._clicked not in callbacks:
            callbacks.append(self._clicked)

    def _clicked(self, _viewer: ViewerModel, event: MouseEvent) -> Iterator[None]:
        """Treat a press without a drag as a click on an island."""
        yield
        moved = False
        while event.type == "mouse_move":
            moved = True
            yield
        action = self.islands.picking
        if action is not None and not moved:
            guarded("Islands", lambda: self.run(tools.Island(action=action), at=tuple(event.position)))

    # -- keys ----------------------------------------------------------------------------------------------------------
    def _bind_keys(self) -> None:
        actions: dict[str, Callable[[], object]] = {
            "I": lambda: self.run(tools.Interpolate()),
            "N": lambda: self._copy_slice(1),
            "Shift-N": lambda: self._copy_slice(-1),
            "H": lambda: self.run(tools.FillHoles()),
            "Shift-D": lambda: self.run(tools.Island(action="remove"), at=tuple(self.viewer.cursor.position)),
        }
        viewer = real(self.viewer)
        for key, action in actions.items():
            viewer.bind_key(key, _pressed(KEYS[key], action), overwrite=True)
        clicked = self._clicked
        WhenGone(self, lambda: _let_go(viewer, clicked))


def _let_go(viewer: ViewerModel, clicked: Callable[..., Iterator[None]]) -> None:
    """Remove everything that no button shows any longer: keys, clicks on islands, the limit of the brush."""
    for key in KEYS:
        viewer.bind_key(key, None, overwrite=True)
    if clicked in viewer.mouse_drag_callbacks:
        viewer.mouse_drag_callbacks.remove(clicked)
    verbs.limit_brush(viewer)


def _pressed(doing: str, action: Callable[[], object]) -> Callable[[ViewerModel], None]:
    def press(_viewer: ViewerModel) -> None:
        guarded(doing.capitalize(), action)

    return press
