"""Docks of this package are arranged as tabs, because five of them stacked need more height than a screen has.

Each tab shows its whole name, without the package's; where a narrow dock has no room for all of them, arrows scroll the tabs.
"""

from __future__ import annotations

from contextlib import suppress

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow, QTabBar, QWidget

_PACKAGE = "napari_medseq."
#: what napari appends to the name of a plugin's dock
_OF_PLUGIN = " (napari-medseq)"
#: docks that were arranged once, and afterwards stay where the user puts them
_PLACED = "medseq tab"


def tab_newcomers(window: QMainWindow) -> None:
    """Put new docks on the existing ones of this package as tabs, with the latest in front."""
    with suppress(RuntimeError):  # the window has been closed
        # only direct children of the window, because PySide keeps everything that a deeper search meets, including layers
        all_docks = window.findChildren(QDockWidget, options=Qt.FindDirectChildrenOnly)
        docks = [dock for dock in all_docks if _is_ours(window, dock)]
        placed = [dock for dock in docks if dock.property(_PLACED)]
        for dock in (dock for dock in docks if not dock.property(_PLACED)):
            dock.setProperty(_PLACED, True)
            dock.setWindowTitle(dock.windowTitle().removesuffix(_OF_PLUGIN))
            if placed:
                window.tabifyDockWidget(placed[-1], dock)
                dock.show()
                dock.raise_()
            placed.append(dock)
        names = {dock.windowTitle() for dock in placed}
        for bar in window.findChildren(QTabBar, options=Qt.FindDirectChildrenOnly):
            if any(bar.tabText(k) in names for k in range(bar.count())):
                bar.setElideMode(Qt.ElideNone)


def _is_ours(window: QMainWindow, dock: QDockWidget) -> bool:
    """Whether a dock at the right holds a widget of this package."""
    if dock.isFloating() or window.dockWidgetArea(dock) != Qt.RightDockWidgetArea:
        return False
    inside = [
        dock.widget(),
        *(dock.widget().findChildren(QWidget, options=Qt.FindDirectChildrenOnly) if dock.widget() else []),
    ]
    return any(type(widget).__module__.startswith(_PACKAGE) for widget in inside)
