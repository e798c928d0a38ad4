"""Sliders that count as the canvas and everything else does: "slice 15 of 24", not "14 of 23", and the slices of the
image that is shown, not the steps of all visits together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol
from weakref import ref

import numpy as np
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QLabel, QLineEdit, QMainWindow

from napari_medseq.viewer.identity import image_in_front, shown_step
from napari_medseq.viewer.layers.studies import facts_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

_MINE = "counts from one"
#: pixels beside the digits, as napari has them
_ROOM = 6


class _Slider(Protocol):
    """The part of napari's slider of an axis that this module uses."""

    axis: int
    curslice_label: QLineEdit
    totslice_label: QLabel


class SliderTexts(QObject):  # type: ignore[misc]
    """Corrects the numbers beside the sliders of one window, while images of this package are open in it."""

    def __init__(self, viewer: ViewerModel, window: QMainWindow) -> None:
        super().__init__(window)
        self._viewer, self._window = ref(viewer), window
        for event in ("current_step", "range", "order", "ndisplay"):
            # after napari's own callback, which writes the number from 0
            getattr(viewer.dims.events, event).connect(self.update, position="last")
        viewer.events.title.connect(self.update, position="last")  # another patient is in front
        for event in ("inserted", "removed", "reordered"):
            getattr(viewer.layers.events, event).connect(self.update, position="last")
        self.update()  # images may have been there before

    def update(self, _event: object = None) -> None:
        """Write the current numbers."""
        viewer = self._viewer()
        if viewer is None or not any(facts_of(layer) for layer in viewer.layers):
            return
        digits = 1
        for slider in self._sliders():
            if slider.axis < viewer.dims.ndim:
                self._take(slider)
                step, count = self._numbers(viewer, slider.axis)
                slider.curslice_label.setText(str(step + 1))
                slider.totslice_label.setText(str(count))
                digits = max(digits, len(str(count)), len(str(step + 1)))
        for slider in self._sliders():  # napari leaves room for numbers from 0
            for label in (slider.curslice_label, slider.totslice_label):
                width = label.fontMetrics().boundingRect("8" * digits).width() + _ROOM
                if label.width() < width:
                    label.setFixedWidth(width)

    @staticmethod
    def _numbers(viewer: ViewerModel, axis: int) -> tuple[int, int]:
        """The step of an axis that is shown, from 0, and how many there are: those of the image in front, if it has that
        axis, since visits may have slices of their own."""
        image, name = image_in_front(viewer), str(viewer.dims.axis_labels[axis])
        own = None if image is None or name == "visit" else shown_step(viewer, image, name)
        return own or (int(viewer.dims.current_step[axis]), int(viewer.dims.nsteps[axis]))

    def _sliders(self) -> Sequence[_Slider]:
        """napari's sliders; none if napari no longer has them.

        They are not searched with ``findChildren``, because PySide then keeps everything that it met on the way (the
        controls of each layer with the layer and its image) long after the window is closed.
        """
        dims = getattr(getattr(self._window, "_qt_viewer", None), "dims", None)
        sliders: Sequence[_Slider] = getattr(dims, "slider_widgets", ())
        return sliders

    def _take(self, slider: _Slider) -> None:
        """Let typed numbers count from 1 too, from now on."""
        box = slider.curslice_label
        if box.property(_MINE):
            return
        box.setProperty(_MINE, True)
        box.editingFinished.disconnect()
        box.editingFinished.connect(self._typed)

    def _typed(self) -> None:
        """Take the number that was typed in the box that sent the signal."""
        slider = next((one for one in self._sliders() if one.curslice_label == self.sender()), None)
        if slider is None:
            return
        viewer, text = self._viewer(), slider.curslice_label.text()
        if viewer is None or not text.isdigit():
            return
        _, count = self._numbers(viewer, slider.axis)
        step = min(max(int(text) - 1, 0), count - 1)
        slider.curslice_label.clearFocus()
        go_to_step(viewer, slider.axis, step)
        self.update()


def go_to_step(viewer: ViewerModel, axis: int, step: int) -> None:
    """Show a step of an axis, counted from 0 as the image in front counts its own, if it is shown there."""
    image, name = image_in_front(viewer), str(viewer.dims.axis_labels[axis])
    if image is None or name == "visit" or shown_step(viewer, image, name) is None:
        viewer.dims.set_current_step(axis, step)
        return
    lead = viewer.dims.ndim - image.ndim
    at = np.array(image.world_to_data(np.asarray(viewer.dims.point)[lead:]), float)
    at[axis - lead] = step
    viewer.dims.set_point(axis, float(image.data_to_world(at)[axis - lead]))
