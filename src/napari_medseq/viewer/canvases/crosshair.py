"""Lines in a canvas that cross at one place of the patient: where the mouse points in another canvas, or where three
planes meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq.sequence import SPACE
from napari_medseq.viewer.layers.positions import Place, shown_at

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

NAME = "crosshair"
#: width of the lines, in pixels of the image
_WIDTH = 0.8
_COLOUR = "#ffd933"


class Crosshair:
    """The crosshair of one canvas: a layer on top of the others, made when it is first shown."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self.layer: Layer | None = None

    def show(self, anchor: Layer, place: Place) -> None:
        """Let the lines cross at a place, given in RAS+ mm of what `anchor` shows."""
        at = shown_at(anchor, place)
        names = [a for a in SPACE if a in at]
        own = [str(a) for a in anchor.axis_labels]
        axes = (
            [own.index(n) for n in names]
            if set(names) <= set(own)
            else list(range(anchor.ndim - len(names), anchor.ndim))
        )
        low, high = np.asarray(anchor.extent.world, dtype=float)[:, axes]
        steps = np.abs(np.asarray(anchor.scale, dtype=float)[axes])
        # lines are equally thin in every plane; the sliders keep the steps of the image, which are smaller
        scale = np.full(len(names), steps.max())
        lines = np.zeros((len(names), 2, len(names)))
        # the lines are no longer than the image, so that they do not change the view
        lines[:, 0] = np.array([at[n] for n in names]) / scale
        for k in range(len(names)):
            lines[k, 0, k] = low[k] / scale[k]
            lines[k, 1, k] = (high[k] - low[k]) / scale[k]
        if self.layer is None or self.layer not in self._viewer.layers or not np.array_equal(self.layer.scale, scale):
            self._make(lines, names, scale, _WIDTH * float(steps.min() / steps.max()))
        else:
            self.layer.data = lines
        assert self.layer is not None
        if not self.layer.visible:
            self.layer.visible = True

    def hide(self) -> None:
        """Hide the crosshair."""
        if self.layer is not None and self.layer.visible:
            self.layer.visible = False

    def _make(self, lines: NDArray[np.float64], names: list[str], scale: NDArray[np.float64], width: float) -> None:
        from napari.layers import Vectors

        if self.layer is not None and self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)
        active = self._viewer.layers.selection.active
        self.layer = Vectors(
            lines, name=NAME, vector_style="line", edge_color=_COLOUR, edge_width=width, opacity=0.8, scale=scale,
            units=["millimeter"] * len(names), axis_labels=names,
        )  # fmt: skip
        self._viewer.layers.append(self.layer)
        self._viewer.layers.selection.active = active
