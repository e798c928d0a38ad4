"""Keys that press a widget's buttons while it is open, and their names in tooltips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from napari.utils.notifications import show_info
from qtpy.QtCore import QEvent, QObject
from qtpy.QtGui import QKeyEvent, QKeySequence
from qtpy.QtWidgets import QAbstractButton, QMainWindow, QWidget

from napari_medseq._napari.gone import WhenGone
from napari_medseq.viewer.layers.proxies import real

if TYPE_CHECKING:
    from napari.components import ViewerModel


#: event emitters of a viewer → key → the widgets that have it, in the order in which they were opened
_PRESSES: WeakKeyDictionary[object, dict[str, list[tuple[object, Callable[[ViewerModel], None]]]]] = WeakKeyDictionary()


def with_key(tip: str, key: str) -> str:
    """A tooltip with the key of its button, such as "Alt-A", in readable form."""
    return f"{tip} ({key.replace('-', '+')})"


class KeysFirst(QObject):  # type: ignore[misc]
    """Lets the keys of a widget go before the menus of napari, where Alt+S would save a screenshot, and lets them work in a dock
    that is torn off.

    Qt offers a key as `QEvent.ShortcutOverride` to what has the focus and to all around it, before it looks at menus.
    """

    def __init__(
        self, widget: QWidget, window: QMainWindow | None, presses: Mapping[str, Callable[[], object]]
    ) -> None:
        super().__init__(widget)
        self._widget = widget
        self._presses = {QKeySequence(key.replace("-", "+")).toString(): press for key, press in presses.items()}
        for watched in (widget, window):
            if watched is not None:
                watched.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Take the keys of the widget; what is pressed in the main window goes on to the viewer, which has them, too."""
        presses = getattr(self, "_presses", None)  # Qt still sends events while this is being destroyed
        if not presses or event.type() not in (QEvent.ShortcutOverride, QEvent.KeyPress):
            return False
        if not isinstance(event, QKeyEvent):
            return False
        press = presses.get(QKeySequence(event.keyCombination()).toString())
        if press is None or (event.type() == QEvent.KeyPress and watched is not self._widget):
            return False
        event.accept()
        if event.type() == QEvent.KeyPress:
            press()
        return True


def press_by_keys(widget: QWidget, viewer: ViewerModel, buttons: Mapping[str, QAbstractButton]) -> None:
    """Let each key press its button until a widget is deleted; a disabled button shows its tooltip, which explains
    why. Of two widgets with the same keys, the one that was opened last has them while it is open."""
    viewer = real(viewer)

    def bind(key: str, button: QAbstractButton) -> None:
        def press(_viewer: ViewerModel) -> None:
            if button.isEnabled():
                button.click()
            else:
                show_info(button.toolTip())

        _PRESSES.setdefault(viewer.events, {}).setdefault(key, []).append((token, press))
        viewer.bind_key(key, press, overwrite=True)

    token = object()
    for key, button in buttons.items():
        bind(key, button)
    window = getattr(getattr(viewer, "window", None), "_qt_window", None)
    KeysFirst(widget, window, {key: partial(_press_last, viewer, key) for key in buttons})
    keys = tuple(buttons)
    WhenGone(widget, lambda: _let_go(viewer, keys, token))


def _press_last(viewer: ViewerModel, key: str) -> None:
    """Press the button that has a key now."""
    presses = _PRESSES.get(viewer.events, {}).get(key, [])
    if presses:
        presses[-1][1](viewer)


def _let_go(viewer: ViewerModel, keys: tuple[str, ...], token: object) -> None:
    """Give the keys of a widget that is gone back to the one that was opened before it, if there is one."""
    for key in keys:
        presses = _PRESSES.get(viewer.events, {}).get(key, [])
        presses[:] = [(other, press) for other, press in presses if other is not token]
        viewer.bind_key(key, presses[-1][1] if presses else None, overwrite=True)
