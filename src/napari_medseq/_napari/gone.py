"""Actions when a widget is deleted, with PySide6 and with PyQt6."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakMethod

from qtpy.QtCore import QObject

if TYPE_CHECKING:
    from napari.utils.events import EventEmitter


class WhenGone:
    """An action for when a widget is deleted.

    The action is kept here until then, and connected by a method. A function that only the widget's signal holds is
    destroyed together with the widget when Python collects both; PyQt6 would then call what is left of it, and crash.
    """

    _kept: ClassVar[set[WhenGone]] = set()

    def __init__(self, widget: QObject, action: Callable[[], object]) -> None:
        self._action = action
        self._kept.add(self)
        widget.destroyed.connect(self.run)

    def run(self) -> None:
        """Run the action, once."""
        self._kept.discard(self)
        self._action()


def connect_until_destroyed(emitter: EventEmitter, callback: Callable[..., None]) -> None:
    """Call a widget's method at each of napari's events until the widget is deleted, because its dock may be closed at
    any time."""
    emitter.connect(callback)
    method = WeakMethod(callback)

    def forget() -> None:
        alive = method()
        if alive is not None:
            emitter.disconnect(alive)

    WhenGone(callback.__self__, forget)  # type: ignore[attr-defined]
