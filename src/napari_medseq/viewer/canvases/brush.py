"""One brush for several canvases: a setting for the edited layer also holds for its counterpart in each pane.

Each visit has its own mask. The brush, its size, label and mode go to the mask of the pane that is painted in, by the
same rule that moves them with the slider of visits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol
from weakref import ref

import numpy as np

from napari_medseq.viewer.canvases.twins import Connections, Twin
from napari_medseq.viewer.editing.active import BRUSH, DRAWING
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.layers.studies import facts_of, series_name

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer
    from napari.utils.events import Event


class Canvas(Protocol):
    """The part of a pane that this module needs."""

    @property
    def viewer(self) -> ViewerModel:
        """The canvas's own viewer."""

    @property
    def twins(self) -> dict[Layer, Twin]:
        """The twins that the canvas shows, by the layers that they are twins of."""


class Brush:
    """Hands the brush of a viewer on to its panes."""

    def __init__(self, viewer: ViewerModel, panes: Sequence[Canvas]) -> None:
        self._viewer, self._panes = ref(viewer), panes
        self._busy = False
        self._links = Connections()
        self._links.connect(viewer.layers.selection.events.active, lambda _event: self.hand_on())
        for layer in viewer.layers:
            self.watch(layer)

    def close(self) -> None:
        """Stop handing the brush on."""
        self._links.close()

    def watch(self, layer: Layer) -> None:
        """Hand on the settings of a layer to its twins, and those of its twins to the layer."""
        if layer_kind(layer) not in ("labels", "points"):
            return
        for name in ("mode", *BRUSH) if layer_kind(layer) == "labels" else ("mode",):
            self._links.connect(getattr(layer.events, name), lambda _event: self.hand_on())
            for pane in self._panes:
                if layer in pane.twins:
                    twin = pane.twins[layer].layer
                    self._links.connect(getattr(twin.events, name), partial(self._chosen_in, layer, twin))

    def _chosen_in(self, layer: Labels, twin: Labels, _event: Event) -> None:
        """Apply a setting that was changed by a key in a pane to the layer that is edited, and thereby to all
        panes."""
        viewer = self._viewer()
        if not self._busy and viewer is not None and viewer.layers.selection.active is layer:
            give(twin, layer)

    def hand_on(self) -> None:
        """Make the counterpart of the edited layer the active layer of each pane, with the same brush."""
        viewer = self._viewer()
        if viewer is None or self._busy:
            return
        self._busy = True
        try:
            active = viewer.layers.selection.active
            for pane in self._panes:
                own = counterpart_in(pane, active)
                twin = None if own is None else pane.twins[own].layer
                if pane.viewer.layers.selection.active is not twin:
                    pane.viewer.layers.selection.active = twin
                if twin is not None and active is not None and layer_kind(active) == layer_kind(twin):
                    give(active, twin)
        finally:
            self._busy = False

    @contextmanager
    def handing_over(self, pane: Canvas) -> Iterator[None]:
        """Within this context the viewer goes to the visit of a pane; afterwards the edited layer belongs to that
        pane, with the same brush."""
        viewer = self._viewer()
        if viewer is None:
            yield
            return
        active = viewer.layers.selection.active
        before, self._busy = self._busy, True
        try:
            target = counterpart_in(pane, active)
            yield
            if target is not None and active is not None and target is not active:
                if layer_kind(target) == layer_kind(active) == "labels":
                    give(pane.twins[target].layer, target)  # which got it from the active layer
                    if str(active.mode) in DRAWING:
                        active.mode = "pan_zoom"
                viewer.layers.selection.active = target
        finally:
            self._busy = before
        self.hand_on()

    def refusal(self, pane: Canvas) -> str | None:
        """Why a stroke in a pane has no mask to go into; None if it has one, or if nothing is being painted."""
        viewer = self._viewer()
        active = None if viewer is None else viewer.layers.selection.active
        if active is None or layer_kind(active) != "labels" or str(active.mode) not in DRAWING:
            return None
        if counterpart_in(pane, active) is not None:
            return None
        return (
            f"Nothing was painted: {pane.viewer.title} has no mask that belongs to {active.name}. Carry the mask to that visit, or make "
            "new labels on its image (New labels on this image's grid)."
        )


def counterpart_in(pane: Canvas, layer: Layer | None) -> Layer | None:
    """The layer of a pane that corresponds to `layer`: its twin, one of the same role and series, or the only one."""
    if layer is None or layer in pane.twins:
        return layer
    facts = facts_of(layer)
    kind = layer_kind(layer)
    candidates = [
        one for one in pane.twins if layer_kind(one) == kind and facts_of(one).get("role") == facts.get("role")
    ]
    alike = [one for one in candidates if facts and series_name(facts_of(one)) == series_name(facts)]
    return alike[0] if alike else candidates[0] if len(candidates) == 1 else None


def give(source: Labels, target: Labels) -> None:
    """Give one label layer the brush, the label and the mode of another; of two layers of points, only the mode."""
    kind = layer_kind(source)
    for name in BRUSH if kind == "labels" else ():
        value = getattr(source, name)
        if getattr(target, name) != value and not (
            name == "selected_label" and value > np.iinfo(target.data.dtype).max
        ):
            setattr(target, name, value)
    if kind in ("labels", "points") and str(target.mode) != str(source.mode):
        target.mode = str(source.mode)
