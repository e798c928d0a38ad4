"""Small parts that widgets share: a list of choices, and a button that explains why it cannot be pressed."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtWidgets import QComboBox, QWidget

from napari_medseq._napari.controls.choosers import ShortBox


def choice(entries: Mapping[str, str], tip: str) -> QComboBox:
    """A list of texts, each with its value as data."""
    box = ShortBox()
    for text, value in entries.items():
        box.addItem(text, value)
    box.setToolTip(tip)
    return box


def set_enabled(control: QWidget, why_not: str, tip: str) -> None:
    """Enable a control, or explain in its tooltip why it cannot be used."""
    control.setEnabled(not why_not)
    control.setToolTip(why_not or tip)
