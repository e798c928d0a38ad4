"""Keys that press a widget's buttons while it is open, and their names in tooltips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QAbstractButton, QWidget

from napari_medseq._napari.gone import WhenGone
from napari_medseq.viewer.proxies import real

if TYPE_CHECKING:
    from napari.components import ViewerModel


#: event emitters of a viewer → key → the widgets that have it, in the order in which they were opened
_PRESSES: WeakKeyDictionary[object, dict[str, list[tuple[object, Callable[[ViewerModel], None]]]]] = WeakKeyDictionary()


def with_key(tip: str, key: str) -> str:
    """A tooltip with the key of its button, such as "Alt-A", in readable form."""
    return f"{tip} ({key.replace('-', '+')})"


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
    keys = tuple(buttons)
    WhenGone(widget, lambda: _let_go(viewer, keys, token))


def _let_go(viewer: ViewerModel, keys: tuple[str, ...], token: object) -> None:
    """Give the keys of a widget that is gone back to the one that was opened before it, if there is one."""
    for key in keys:
        presses = _PRESSES.get(viewer.events, {}).get(key, [])
        presses[:] = [(other, press) for other, press in presses if other is not token]
        viewer.bind_key(key, presses[-1][1] if presses else None, overwrite=True)
