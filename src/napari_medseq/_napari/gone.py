"""What is done when a widget is gone, with PySide6 and with PyQt6."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from qtpy.QtCore import QObject


class WhenGone:
    """What is done when a widget is gone.

    It is kept here until then, and connected by a method. A function that only the widget's signal holds is taken apart together
    with the widget when Python collects both; PyQt6 then calls what is left of it, and crashes.
    """

    _kept: ClassVar[set[WhenGone]] = set()

    def __init__(self, widget: QObject, action: Callable[[], object]) -> None:
        self._action = action
        self._kept.add(self)
        widget.destroyed.connect(self.run)

    def run(self) -> None:
        """Do it, once."""
        self._kept.discard(self)
        self._action()
