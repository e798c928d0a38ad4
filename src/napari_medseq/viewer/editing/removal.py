"""Taking back that a mask with unsaved painting was removed from the viewer: napari's bin asks nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakSet, ref

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_medseq.viewer.editing.unsaved import Unsaved

#: layers that are being removed again by redo, so that their steps stay
_REDONE: WeakSet[Labels] = WeakSet()


@dataclass(frozen=True, eq=False)
class Removal:
    """A layer with unsaved painting was removed; undo puts it back where it was.

    Attributes
    ----------
    viewer : weakref to ViewerModel
    unsaved : Unsaved
        The viewer's layers that changed by hand since they were saved; this one is again one of them when it is back.
    layer : Labels
    index : int
        Its place in the list of layers.
    """

    viewer: ref[ViewerModel]
    unsaved: Unsaved
    layer: Labels
    index: int

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the layer holds."""
        return int(getattr(self.layer.data, "nbytes", 0))

    def undo(self) -> None:
        """Put the layer back, and make it the active one."""
        viewer = self.viewer()
        if viewer is not None and self.layer not in viewer.layers:
            viewer.layers.insert(min(self.index, len(viewer.layers)), self.layer)
            viewer.layers.selection.active = self.layer
            self.unsaved.add(self.layer)

    def redo(self) -> None:
        """Remove the layer again."""
        viewer = self.viewer()
        if viewer is not None and self.layer in viewer.layers:
            _REDONE.add(self.layer)
            try:
                viewer.layers.remove(self.layer)
            finally:
                _REDONE.discard(self.layer)


def is_redone(layer: Labels) -> bool:
    """Whether a layer is just being removed by redo."""
    return layer in _REDONE
