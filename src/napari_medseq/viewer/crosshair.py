"""Lines that cross at one place of the patient, in a canvas: where the mouse points in another, or where three planes meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medseq.sequence import SPACE
from napari_medseq.viewer.positions import Place, shown_at

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

NAME = "crosshair"
#: longer than any patient, in mm
_ARM = 2000.0
_COLOUR = "#ffd933"


class Crosshair:
    """The crosshair of one canvas; a layer on top of the others, made when it is first shown."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self.layer: Layer | None = None

    def show(self, anchor: Layer, place: Place) -> None:
        """Let its lines cross at a place (RAS+ mm of what `anchor` shows)."""
        at = shown_at(anchor, place)
        names = [a for a in SPACE if a in at]
        point = np.array([at[n] for n in names])
        lines = np.zeros((len(names), 2, len(names)))
        for k in range(len(names)):
            lines[k, 0] = point
            lines[k, 0, k] -= _ARM
            lines[k, 1, k] = 2 * _ARM
        if self.layer is None or self.layer not in self._viewer.layers or self.layer.ndim != len(names):
            self._make(lines, names, float(min(anchor.scale[-2:])))
        else:
            self.layer.data = lines
        assert self.layer is not None
        if not self.layer.visible:
            self.layer.visible = True

    def hide(self) -> None:
        """Show it no more."""
        if self.layer is not None and self.layer.visible:
            self.layer.visible = False

    def _make(self, lines: np.ndarray, names: list[str], width: float) -> None:
        from napari.layers import Vectors

        active = self._viewer.layers.selection.active
        self.layer = Vectors(
            lines, name=NAME, vector_style="line", edge_color=_COLOUR, edge_width=width, opacity=0.8,
            units=["millimeter"] * len(names), axis_labels=names,
        )  # fmt: skip
        self._viewer.layers.append(self.layer)
        self._viewer.layers.selection.active = active
