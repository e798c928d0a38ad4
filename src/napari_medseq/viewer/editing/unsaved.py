"""Which layers changed since they were saved; changes after a copy was made are not saved by writing that copy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

if TYPE_CHECKING:
    from napari.layers import Labels


class Unsaved(WeakSet["Labels"]):
    """Label layers that changed by hand since they were saved; each change is counted."""

    def __init__(self, layers: Iterable[Labels] = ()) -> None:
        super().__init__()
        self._changes: WeakKeyDictionary[Labels, int] = WeakKeyDictionary()
        self.update(layers)

    def add(self, item: Labels) -> None:
        """Count a change of a layer."""
        super().add(item)
        self._changes[item] = self._changes.get(item, 0) + 1

    def changes(self, layer: Labels) -> int:
        """How often a layer was changed by hand so far, saved or not."""
        return self._changes.get(layer, 0)

    def as_they_are(self, among: Iterable[Labels] | None = None) -> WeakKeyDictionary[Labels, int]:
        """The number of changes of each layer (of these, or of all); to be read together with copying the layers."""
        chosen = list(self) if among is None else [layer for layer in among if layer in self]
        return WeakKeyDictionary({layer: self._changes[layer] for layer in chosen})

    def discard_unchanged(self, changes: WeakKeyDictionary[Labels, int]) -> None:
        """After a copy was written, mark as saved what has not changed since `as_they_are`."""
        for layer, count in list(changes.items()):
            if self._changes.get(layer) == count:
                self.discard(layer)
