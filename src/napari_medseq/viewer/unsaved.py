"""Which layers changed since they were saved; a copy that is written meanwhile does not count for what changed after it was taken."""

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
        """A layer changed."""
        super().add(item)
        self._changes[item] = self._changes.get(item, 0) + 1

    def as_they_are(self, among: Iterable[Labels] | None = None) -> WeakKeyDictionary[Labels, int]:
        """How often each layer (of these, or of all) has changed by now; to be taken together with a copy of what is in it."""
        chosen = list(self) if among is None else [layer for layer in among if layer in self]
        return WeakKeyDictionary({layer: self._changes[layer] for layer in chosen})

    def discard_unchanged(self, changes: WeakKeyDictionary[Labels, int]) -> None:
        """The copy was written: what has not changed since `as_they_are` is saved."""
        for layer, count in list(changes.items()):
            if self._changes.get(layer) == count:
                self.discard(layer)
