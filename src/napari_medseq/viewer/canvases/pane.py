"""One of the canvases that `napari_medseq.viewer.canvases.panes` shows together: its plan, and the twins that it shows. No
Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_medseq import geometry
from napari_medseq.geometry import Affine
from napari_medseq.viewer.canvases.crosshair import Crosshair
from napari_medseq.viewer.canvases.twins import Twin
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.layers.placement import along_of, step_through

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


@dataclass(frozen=True, eq=False)
class PanePlan:
    """The plan of what a pane shows.

    Attributes
    ----------
    title : str
    shows : callable
        Tells whether a layer of the viewer belongs in the pane.
    ordinal : int or None
        Ordinal, from 0, of the visit; None if the pane follows the slider of visits.
    to_common : ndarray, shape (4, 4)
        RAS+ mm of its layers → common RAS+ mm.
    along : {"z", "y", "x"} or None
        The axis that the pane steps through; None: the viewer's axis.
    """

    title: str
    shows: Callable[[Layer], bool]
    ordinal: int | None = None
    to_common: Affine = field(default_factory=lambda: geometry.as_affine(np.eye(4)))
    along: str | None = None


class Pane:
    """One canvas.

    Attributes
    ----------
    viewer : ViewerModel
    plan : PanePlan
    twins : dict of Layer to Twin
        The pane's copy of each layer of the viewer.
    """

    def __init__(self, plan: PanePlan) -> None:
        from napari.components import ViewerModel as Model

        self.plan = plan
        self.viewer: ViewerModel = Model(title=plan.title)
        self.twins: dict[Layer, Twin] = {}
        self.crosshair = Crosshair(self.viewer)

    @property
    def anchor(self) -> Layer | None:
        """The twin through which places are found: the first visible image, else any twin."""
        return anchor_among(twin.layer for twin in self.twins.values())

    def original(self, layer: Layer | None) -> Layer | None:
        """The layer of the viewer that has this twin."""
        return next((own for own, twin in self.twins.items() if twin.layer is layer), None)


def anchor_among(layers: Iterator[Layer] | Sequence[Layer]) -> Layer | None:
    """The layer through which places are found: the first visible image, else the first mask or image."""
    candidates = [layer for layer in layers if layer_kind(layer) in ("image", "labels")]
    images = [layer for layer in candidates if layer_kind(layer) == "image"]
    return next((one for one in images if one.visible), next(iter(images), next(iter(candidates), None)))


def step_through_plane(pane: Pane, viewer: ViewerModel) -> None:
    """Let a pane show the plane of its plan, or else that of the viewer."""
    if pane.viewer.layers:
        names = [str(a) for a in pane.viewer.dims.axis_labels]
        along = pane.plan.along or along_of(viewer)
        if along in names:
            step_through(pane.viewer, along)
