"""The docked plot of *Time curves*: one line per label, whose cursor is the frame that the slider shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from qtpy.QtWidgets import QCheckBox

from napari_medseq._napari.controls.plot_dock import Drawn, PlotDock, owners
from napari_medseq.dynamics import enhancement as dynamic
from napari_medseq.viewer.layers.conversion import layer_axis

if TYPE_CHECKING:
    import pandas as pd
    from napari.components import ViewerModel
    from napari.layers import Layer

_MEAN = "mean intensity"


class CurvesPlot(PlotDock):
    """One line per label; the cursor is the frame that the slider shows."""

    def __init__(self, viewer: ViewerModel) -> None:
        self.curves: pd.DataFrame | None = None
        self._image: Layer | None = None
        self._layer: Layer | None = None
        self._times: NDArray[np.float64] = np.zeros(0)
        self._quantity = _MEAN
        super().__init__(viewer, "Click a point to go to that frame.")
        self.relative = QCheckBox("relative to the first frame")
        self.relative.setToolTip("Each label in percent of its own value in the first frame")
        self.relative.toggled.connect(self.redraw)
        self.controls.addWidget(self.relative)

    def show_curves(self, curves: pd.DataFrame, image: Layer, layer: Layer, quantity: str = _MEAN) -> None:
        """Draw curves of labels in `layer` through the frames of the layer `image`; `quantity` is what is measured, with its unit."""
        self._quantity = quantity
        self.curves, self._image, self._layer = curves, image, layer
        self._times = np.sort(curves["time_s"].unique()).astype(float)
        self.redraw()
        self.follow_labels([layer])

    def show_nothing(self) -> None:
        """Clear the plot, because its layers are no longer open."""
        self.curves = self._image = self._layer = None
        self._times = np.zeros(0)
        self.clear()

    # -- what PlotDock asks --------------------------------------------------------------------------------------------
    @property
    def ready(self) -> bool:
        """Whether there are curves."""
        return self.curves is not None

    def draw_on(self, figure: Figure) -> Drawn:
        """Draw a line per label."""
        axes = figure.subplots()
        relative, curves = self.relative.isChecked(), self.table()
        shown = dynamic.plot_curves(_relative(curves) if relative else curves, axes)
        name = self._quantity.split(" (")[0]
        axes.set_ylabel(f"{name} (% of the first frame)" if relative else self._quantity)
        axes.set_title(f"{name[0].upper()}{name[1:]} over time", loc="left")
        return Drawn(owners(shown), [axes])

    def positions(self) -> NDArray[np.float64]:
        """The frames' times in seconds."""
        return self._times

    def shown_step(self) -> int | None:
        """The frame that the slider shows, or None."""
        if self._image is None or (axis := layer_axis(self._image, "t")[0]) is None:
            return None
        point = np.asarray(self.viewer.dims.point)[-self._image.ndim :]
        at = round(float(np.asarray(self._image.world_to_data(point))[axis]))
        return at if 0 <= at < len(self._times) else None

    def go(self, step: int, lesion: int | None) -> None:
        """Show a frame, and select the label there."""
        if self._image is not None and (axis := layer_axis(self._image, "t")[0]) is not None:
            at = np.zeros(self._image.ndim)
            at[axis] = step
            lead = self.viewer.dims.ndim - self._image.ndim
            self.viewer.dims.set_point(lead + axis, float(np.asarray(self._image.data_to_world(at))[axis]))
        if lesion is not None and self._layer is not None and self._layer in self.viewer.layers:
            self.viewer.layers.selection.active = self._layer
            self._layer.selected_label = lesion

    def in_words(self, step: int, lesion: int | None) -> str:
        """The label, the time and the intensity."""
        curves = self.table()
        row = curves[(curves["lesion"] == lesion) & (curves["time_s"] == self._times[step])]
        value = f", {row['mean'].iloc[0]:.4g}" if len(row) else ""
        return f"label {lesion}, frame {step + 1} of {len(self._times)}, {self._times[step]:.4g} s{value}"

    def table(self) -> pd.DataFrame:
        """The curves."""
        assert self.curves is not None  # nothing is drawn or asked before
        return self.curves


def _relative(curves: pd.DataFrame) -> pd.DataFrame:
    """Each label in percent of its value in the first frame."""
    first = curves.groupby("lesion")["mean"].transform("first")
    return curves.assign(mean=100 * curves["mean"] / first.where(first != 0))
