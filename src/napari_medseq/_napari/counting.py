"""Sliders that count from 1 as everything else does: "slice 15 of 24", not "14 of 23"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol
from weakref import ref

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QLabel, QLineEdit, QMainWindow

from napari_medseq.viewer.study import facts_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

_MINE = "counts from one"


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
        viewer.layers.events.inserted.connect(self.update, position="last")
        viewer.layers.events.removed.connect(self.update, position="last")
        self.update()  # images may have been there before

    def update(self, _event: object = None) -> None:
        """Write the current numbers."""
        viewer = self._viewer()
        if viewer is None or not any(facts_of(layer) for layer in viewer.layers):
            return
        for slider in self._sliders():
            if slider.axis < viewer.dims.ndim:
                self._take(slider)
                slider.curslice_label.setText(str(viewer.dims.current_step[slider.axis] + 1))
                slider.totslice_label.setText(str(viewer.dims.nsteps[slider.axis]))

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
        step = min(max(int(text) - 1, 0), int(viewer.dims.nsteps[slider.axis]) - 1)
        slider.curslice_label.clearFocus()
        viewer.dims.set_current_step(slider.axis, step)
        self.update()
