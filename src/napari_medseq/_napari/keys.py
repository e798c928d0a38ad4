"""Keys that press a widget's buttons while it is open, and their names in tooltips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QAbstractButton, QWidget

from napari_medseq._napari.gone import WhenGone
from napari_medseq.viewer.proxies import real

if TYPE_CHECKING:
    from napari.components import ViewerModel


def with_key(tip: str, key: str) -> str:
    """A tooltip with the key of its button, such as "Alt-A", in readable form."""
    return f"{tip} ({key.replace('-', '+')})"


def press_by_keys(widget: QWidget, viewer: ViewerModel, buttons: Mapping[str, QAbstractButton]) -> None:
    """Let each key press its button until a widget is deleted; a disabled button shows its tooltip, which explains
    why."""
    viewer = real(viewer)

    def bind(key: str, button: QAbstractButton) -> None:
        def press(_viewer: ViewerModel) -> None:
            if button.isEnabled():
                button.click()
            else:
                show_info(button.toolTip())

        viewer.bind_key(key, press, overwrite=True)

    for key, button in buttons.items():
        bind(key, button)
    keys = tuple(buttons)
    WhenGone(widget, lambda: _let_go(viewer, keys))


def _let_go(viewer: ViewerModel, keys: tuple[str, ...]) -> None:
    for key in keys:
        viewer.bind_key(key, None, overwrite=True)
