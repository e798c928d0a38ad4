"""Layers that a person moves by hand with napari's transform tool: said once, and a step of undo.

The tool changes where a layer is shown. Files, measures and models go on using its voxels where the scanner placed them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet, ref

import numpy as np

from napari_medseq.viewer.editing.active import MouseEvent, Stroke
from napari_medseq.viewer.layers.conversion import KEY, layer_kind
from napari_medseq.viewer.layers.proxies import real

if TYPE_CHECKING:
    from napari.layers import Layer
    from numpy.typing import NDArray

_WATCHED: WeakSet[Layer] = WeakSet()


class Remembers(Protocol):
    """What remembers steps of undo: an `Editing`."""

    def act(self, undo: Callable[[], None], redo: Callable[[], None], name: str = "a change") -> None:
        """Remember an action by how it is taken back and made again."""


def watch_moves(editing: Remembers, layer: Layer) -> None:
    """Make each move of an image or mask of this package by the transform tool a step of undo, and say what it means."""
    if layer in _WATCHED or layer_kind(layer) not in ("image", "labels") or not layer.metadata.get(KEY):
        return
    _WATCHED.add(layer)
    weak = ref(editing)

    def moved(layer: Layer, event: MouseEvent) -> Stroke:
        layer = real(layer)
        before = np.array(layer.affine.affine_matrix)
        if str(layer.mode) != "transform":
            return
        yield
        while event.type == "mouse_move":
            yield
        after, alive = np.array(layer.affine.affine_matrix), weak()
        if alive is None or np.allclose(before, after):
            return
        place = _placing(ref(layer))
        alive.act(lambda: place(before), lambda: place(after), f"moving {layer.name}")
        from napari.utils.notifications import show_warning

        show_warning(
            f"{layer.name} was moved in the window only: files, measures and models use its voxels where they were, and painting in it "
            "would lie elsewhere. Ctrl+Z puts it back."
        )

    layer.mouse_drag_callbacks.insert(0, moved)


def _placing(layer: ref[Layer]) -> Callable[[NDArray[np.float64]], None]:
    def place(matrix: NDArray[np.float64]) -> None:
        alive = layer()
        if alive is not None:
            alive.affine = matrix

    return place
