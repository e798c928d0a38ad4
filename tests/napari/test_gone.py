"""What is done when a widget is gone: by deletion, and by the collector of garbage, with either binding of Qt."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QWidget

from napari_medseq._napari.gone import WhenGone

pytestmark = pytest.mark.viewer


class Holder(QWidget):  # type: ignore[misc]  # Qt has no types here
    """A widget that ends with a widget's own method, and lies in a circle with what it tells."""

    def __init__(self, told: list[str]) -> None:
        super().__init__()
        self.me = self
        WhenGone(self, lambda: told.append("gone"))


def test_it_is_done_once_when_the_widget_is_deleted(qtbot: Any) -> None:
    told: list[str] = []
    widget = Holder(told)
    widget.deleteLater()
    QCoreApplication.sendPostedEvents(widget, QEvent.Type.DeferredDelete)
    qtbot.wait(10)
    del widget
    gc.collect()
    assert told == ["gone"]


@pytest.mark.usefixtures("qtbot")
def test_it_is_done_when_the_collector_takes_a_circle_apart() -> None:
    """Connected to a function instead, PyQt6 called what was left of it, and crashed."""
    told: list[str] = []
    for _ in range(20):
        Holder(told)
    gc.collect()
    assert told == ["gone"] * 20
