"""Actions when a widget is deleted, with PySide6 and with PyQt6."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from qtpy.QtCore import QObject


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
