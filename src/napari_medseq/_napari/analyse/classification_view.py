"""Probabilities per slice: a plot whose cursor follows the slider, and a table; a click in either goes to that
slice."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_medseq._napari.controls.choosers import ShortBox, wrapped
from napari_medseq._napari.controls.tables import Table
from napari_medseq._napari.gone import connect_until_destroyed
from napari_medseq.viewer.layers.conversion import layer_axis

if TYPE_CHECKING:
    from matplotlib.backend_bases import MouseEvent
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_medseq._napari.controls.canvas import PlotCanvas
    from napari_medseq.inference import Classification

#: axis → the usual name of a step along it
_STEP = {"z": "slice", "y": "slice", "x": "slice", "t": "frame", "visit": "visit"}


class ClassificationView(QWidget):  # type: ignore[misc]
    """Shows one result at a time, which is chosen by its layer."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = viewer
        self._pairs: list[tuple[Layer, Classification]] = []
        self._cursor: Line2D | None = None
        self.which = ShortBox()
        self.which.setToolTip("The image whose answer is shown")
        self.exam = wrapped()
        self.table = Table()
        self.table.setMinimumHeight(120)
        self.table.setToolTip("Click a row to go to that slice; Ctrl+C copies the table")
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.which, self.exam, self.table):
            self._column.addWidget(widget)
        self.which.currentIndexChanged.connect(self._draw)
        self.table.row_chosen.connect(self.go_to)
        connect_until_destroyed(viewer.dims.events.point, self._follow)

    @cached_property
    def canvas(self) -> PlotCanvas:
        """The plot, above the table; made for the first result, so that opening the widget does not wait for matplotlib."""
        from napari_medseq._napari.controls.canvas import PlotCanvas

        canvas = PlotCanvas(self.viewer, height=170)
        canvas.canvas.mpl_connect("button_press_event", self._clicked)
        self._column.insertWidget(self._column.indexOf(self.table), canvas)
        return canvas

    def show_results(self, pairs: list[tuple[Layer, Classification]]) -> None:
        """Show classifications, each with the layer that it belongs to."""
        self.which.blockSignals(True)
        self.which.clear()
        self._pairs = list(pairs)
        self.which.addItems([layer.name for layer, _ in pairs])
        self.which.blockSignals(False)
        self._draw()

    @property
    def current(self) -> tuple[Layer, Classification] | None:
        """The layer and the classification that are shown."""
        k = self.which.currentIndex()
        return self._pairs[k] if 0 <= k < len(self._pairs) else None

    def _draw(self, _index: int = 0) -> None:
        if self.current is None:
            return
        _, classification = self.current
        word, steps = _STEP.get(classification.step_axis, classification.step_axis), np.asarray(classification.per_step)
        whole = ", ".join(f"{name}: {p:.2f}" for name, p in classification.probabilities.items())
        self.exam.setText(
            f"Whole exam: {whole}. Most weight on {word} {int(np.argmax(classification.attention)) + 1} of {len(steps)}."
        )
        rows = [
            (k + 1, *(float(p) for p in row), float(a))
            for k, (row, a) in enumerate(zip(steps, classification.attention, strict=True))
        ]
        self.table.fill([word, *classification.classes, "attention"], rows)
        self.canvas.paint(self._paint)
        self._follow()

    def _paint(self, figure: Figure) -> None:
        if self.current is None:
            return
        from matplotlib.ticker import MaxNLocator

        _, classification = self.current
        axes = figure.add_subplot()
        steps = np.arange(len(classification.per_step))
        for k, name in enumerate(classification.classes):
            axes.plot(steps, np.asarray(classification.per_step)[:, k], label=name)
        share = np.asarray(classification.attention) / max(float(np.max(classification.attention)), 1e-12)
        axes.fill_between(steps, share, alpha=0.2, step="mid", linewidth=0, label="attention (scaled)")
        axes.set_ylim(0, 1.05)
        axes.set_xlabel(_STEP.get(classification.step_axis, classification.step_axis))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.xaxis.set_major_formatter(lambda step, _place: f"{step + 1:g}")  # shown numbers count from 1
        axes.set_ylabel("probability")
        # above the curves, which may be at any height
        axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
        self._cursor = axes.axvline(
            self.shown_step() or 0, color=axes.xaxis.label.get_color(), linestyle="--", linewidth=1
        )

    def shown_step(self) -> int | None:
        """The step that the slider shows; None if there is none."""
        if self.current is None:
            return None
        layer, classification = self.current
        axis, flipped = layer_axis(layer, classification.step_axis)
        if axis is None:
            return None
        point = np.asarray(self.viewer.dims.point)[-layer.ndim :]
        at = round(float(np.asarray(layer.world_to_data(point))[axis]))
        n = layer.data.shape[axis]
        return None if not 0 <= at < n else n - 1 - at if flipped else at

    def _follow(self, _event: object = None) -> None:
        step = self.shown_step()
        if step is None or self._cursor is None:
            return
        self._cursor.set_xdata([step, step])
        self.canvas.canvas.draw_idle()

    def _clicked(self, event: MouseEvent) -> None:
        if event.inaxes is not None and event.xdata is not None:
            self.go_to(round(event.xdata))

    def go_to(self, step: int) -> None:
        """Move the slider to a step."""
        if self.current is None:
            return
        layer, classification = self.current
        axis, flipped = layer_axis(layer, classification.step_axis)
        if axis is None or layer not in self.viewer.layers:
            return
        n = layer.data.shape[axis]
        step = min(max(step, 0), n - 1)
        at = np.zeros(layer.ndim)
        at[axis] = n - 1 - step if flipped else step
        world = np.asarray(layer.data_to_world(at))
        lead = self.viewer.dims.ndim - layer.ndim
        if layer.ndim == 4 and layer.axis_labels[0] == "visit":
            self.viewer.dims.set_point(lead, float(layer.translate[0]))
        self.viewer.dims.set_point(lead + axis, float(world[axis]))
