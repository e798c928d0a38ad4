"""Small parts that widgets share: a list of choices, a button that says why it cannot be pressed."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtWidgets import QComboBox, QWidget

from napari_medseq._napari.choosers import narrow


def choice(entries: Mapping[str, str], tip: str) -> QComboBox:
    """A list of words, each with the value that it stands for as its data."""
    box = narrow(QComboBox())
    for text, value in entries.items():
        box.addItem(text, value)
    box.setToolTip(tip)
    return box


def set_enabled(control: QWidget, why_not: str, tip: str) -> None:
    """Enable a control, or say in its tooltip why it cannot be used."""
    control.setEnabled(not why_not)
    control.setToolTip(why_not or tip)
