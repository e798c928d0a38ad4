"""The docks of this package lie on one another as tabs: stacked, five of them need more height than a screen has."""

from __future__ import annotations

from contextlib import suppress

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

_PACKAGE = "napari_medseq."
#: a dock that was put beside its fellows once is where the user wants it from then on
_PLACED = "medseq tab"


def tab_newcomers(window: QMainWindow) -> None:
    """Put docks that came just now on those of this package that are there, each as a tab, the latest in front."""
    with suppress(RuntimeError):  # the window was closed meanwhile
        # the window's own children only: PySide holds for ever what it sees on the way further in, layers among it
        all_docks = window.findChildren(QDockWidget, options=Qt.FindDirectChildrenOnly)
        docks = [dock for dock in all_docks if _is_ours(window, dock)]
        placed = [dock for dock in docks if dock.property(_PLACED)]
        for dock in (dock for dock in docks if not dock.property(_PLACED)):
            dock.setProperty(_PLACED, True)
            if placed:
                window.tabifyDockWidget(placed[-1], dock)
                dock.show()
                dock.raise_()
            placed.append(dock)


def _is_ours(window: QMainWindow, dock: QDockWidget) -> bool:
    """Whether a dock at the right holds a widget of this package."""
    if dock.isFloating() or window.dockWidgetArea(dock) != Qt.RightDockWidgetArea:
        return False
    inside = [
        dock.widget(),
        *(dock.widget().findChildren(QWidget, options=Qt.FindDirectChildrenOnly) if dock.widget() else []),
    ]
    return any(type(widget).__module__.startswith(_PACKAGE) for widget in inside)
