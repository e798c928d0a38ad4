"""A twin of a layer: the same voxels with the same appearance in another canvas; painting in it paints in the layer.

Twins share memory with their layer, so that a stroke is the same stroke wherever it was made, and one step of the
viewer's undo.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import ref

import numpy as np

from napari_medseq.errors import MedseqError
from napari_medseq.viewer.editing.active import MouseEvent, Stroke, guarded_stroke
from napari_medseq.viewer.editing.model import Editing
from napari_medseq.viewer.layers.conversion import KEY, layer_kind

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer
    from napari.utils.events import Event, EventEmitter

#: attributes that a layer and its twin share, by kind of layer
_ALIKE = {
    "image": ("visible", "opacity", "blending", "colormap", "contrast_limits", "gamma", "interpolation2d"),
    # without the colormap, because napari cannot compare two that give each label a colour
    "labels": ("visible", "opacity", "blending", "contour", "show_selected_label"),
}
#: shared attributes of other kinds of layers
_SEEN = ("visible", "opacity")

Callback = Callable[["Event"], None]


class Connections:
    """Callbacks that can be disconnected together."""

    def __init__(self) -> None:
        self._made: list[tuple[EventEmitter, Callback]] = []
        self._last: list[Callable[[], None]] = []

    def connect(self, emitter: EventEmitter, callback: Callback) -> None:
        """Call `callback` with each event from now on."""
        emitter.connect(callback)
        self._made.append((emitter, callback))

    def at_end(self, action: Callable[[], None]) -> None:
        """Add an action for when the callbacks are disconnected."""
        self._last.append(action)

    def close(self) -> None:
        """Disconnect all of them."""
        for emitter, callback in self._made:
            emitter.disconnect(callback)
        for action in reversed(self._last):
            action()
        self._made, self._last = [], []


class Twin:
    """A layer's twin in the viewer of a pane.

    Parameters
    ----------
    layer : Layer
    editing : Editing
        The editing of the layer's viewer.
    pane : ViewerModel
        Where the twin is shown.

    Attributes
    ----------
    original, layer : Layer
        The layer, and its twin.
    """

    def __init__(self, layer: Layer, editing: Editing, pane: ViewerModel) -> None:
        from napari.experimental import link_layers, unlink_layers
        from napari.layers import Layer as AnyLayer

        self.original, self._editing, self._pane = layer, editing, ref(pane)
        self._links = Connections()
        self._busy = False
        data, state, kind = layer.as_layer_data_tuple()
        facts = layer.metadata.get(KEY)
        if facts is not None:  # the placement is the twin's own; the facts are shared
            state["metadata"] = {**layer.metadata, KEY: dict(facts)}
        self.layer: Layer = AnyLayer.create(data, state, kind)
        alike = _ALIKE.get(layer_kind(layer), _SEEN)
        link_layers([layer, self.layer], alike)
        self._links.at_end(lambda: unlink_layers([layer, self.layer], alike))
        if layer_kind(layer) in _ALIKE:
            self._links.connect(layer.events.data, self._replaced)
        else:
            self._links.connect(layer.events.data, self._points_changed)
            self._links.connect(self.layer.events.data, self._points_changed)
        if layer_kind(layer) == "labels":
            self._links.connect(layer.events.colormap, self._coloured)
            self._links.connect(self.layer.events.colormap, self._coloured)
            self._links.connect(self.layer.events.paint, self._painted)
            # this follows the brush as it moves, not only when it is lifted; a fill is announced before it is made
            self._links.connect(self.layer.events.labels_update, lambda _event: _show_anew(self.original))
            self._links.connect(layer.events.labels_update, lambda _event: _show_anew(self.layer))
            self.layer.mouse_drag_callbacks.insert(0, self._guard)
            self.layer.bind_key("Control-Z", lambda _layer: self._by_key(editing.undo, "Undone"), overwrite=True)
            self.layer.bind_key(
                "Control-Shift-Z", lambda _layer: self._by_key(editing.redo, "Done again"), overwrite=True
            )

    def close(self) -> None:
        """Disconnect the twin from its layer."""
        self._links.close()

    def refresh(self) -> None:
        """Show the present state of the layer."""
        _show_anew(self.layer)

    def _replaced(self, _event: Event) -> None:
        if self.original.data is not self.layer.data:
            self.layer.data = self.original.data

    def _coloured(self, event: Event) -> None:
        changed, other = (self.original, self.layer) if event.source is self.original else (self.layer, self.original)
        if self._busy or changed.colormap is other.colormap:
            return
        self._busy = True
        try:
            other.colormap = changed.colormap
        finally:
            self._busy = False

    def _points_changed(self, event: Event) -> None:
        target, source = (self.original, self.layer) if event.source is self.original else (self.layer, self.original)
        if self._busy or np.array_equal(target.data, source.data):
            return
        self._busy = True
        try:
            source.data = np.array(target.data)
        finally:
            self._busy = False

    def _painted(self, event: Event) -> None:
        self._editing.stroke(self.original, event.value)
        _show_anew(self.original)

    def _guard(self, layer: Labels, event: MouseEvent) -> Stroke:
        pane = self._pane()
        if pane is not None:
            yield from guarded_stroke(pane, layer, event)

    def _by_key(self, action: Callable[[], str], doing: str) -> None:
        viewer, pane = self._editing.viewer, self._pane()
        try:
            text = f"{doing}: {action()}"
        except MedseqError as error:
            text = str(error)
        viewer.status = text
        if pane is not None:
            pane.status = text


def _show_anew(layer: Layer) -> None:
    """Redraw voxels that were changed in place."""
    if layer.visible:
        layer.refresh(thumbnail=False, extent=False, highlight=False)
