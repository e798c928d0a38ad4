"""Every control says what it does, and every disabled button says why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QListWidget,
    QTableWidget,
    QTreeWidget,
    QWidget,
)

from napari_medseq._napari.analyse_widget import AnalyseWidget
from napari_medseq._napari.compare_widget import CompareWidget
from napari_medseq._napari.curves_plot import CurvesPlot
from napari_medseq._napari.curves_widget import CurvesWidget
from napari_medseq._napari.display_widget import DisplayWidget
from napari_medseq._napari.edit_widget import EditWidget
from napari_medseq._napari.preprocess_widget import PreprocessWidget
from napari_medseq._napari.progression.plot import ProgressionPlot
from napari_medseq._napari.progression_widget import ProgressionWidget
from napari_medseq._napari.study_widget import StudyWidget
from napari_medseq._napari.teach_widget import TeachWidget

pytestmark = pytest.mark.viewer

_KINDS = (QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QListWidget, QTableWidget, QTreeWidget)


def controls(widget: QWidget) -> Iterator[QWidget]:
    """What a person can press, choose in or write in; not the parts of which these consist."""
    for child in widget.findChildren(QWidget):
        inside = child.parent()
        parts_of_another = isinstance(inside, (QAbstractSpinBox, QComboBox, QLineEdit, QTableWidget, QTreeWidget))
        if isinstance(child, _KINDS) and not parts_of_another and not child.objectName().startswith("qt_"):
            yield child


def described(child: QWidget) -> str:
    """Its text, or the kind of control that it is and what stands in it."""
    text = getattr(child, "text", lambda: "")() or child.objectName()
    return f"{type(child).__name__} {text} in {type(child.parent()).__name__}"


def a_plot(viewer: Any) -> ProgressionPlot:
    return ProgressionPlot(viewer, lambda _visit, _lesion: None)


DOCKS = (
    StudyWidget, ProgressionWidget, AnalyseWidget, TeachWidget, CurvesWidget, CompareWidget, EditWidget, DisplayWidget,
    PreprocessWidget, CurvesPlot, a_plot,
)  # fmt: skip


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("kind", DOCKS)
def test_every_control_has_a_tooltip(qtbot: Any, kind: Any, opened: bool) -> None:
    viewer: Any = ViewerModel()
    if opened:
        viewer.add_image(np.zeros((3, 4, 5), np.float32), name="an image")
        viewer.add_labels(np.zeros((3, 4, 5), np.uint8), name="a mask")
    widget = kind(viewer)
    qtbot.addWidget(widget)
    silent = [described(child) for child in controls(widget) if not child.toolTip()]
    assert not silent, "; ".join(silent)


@pytest.mark.parametrize("kind", [ProgressionWidget, AnalyseWidget, TeachWidget, CurvesWidget])
def test_run_is_off_when_nothing_can_run_and_says_why(qtbot: Any, kind: Any) -> None:
    widget = kind(ViewerModel())
    qtbot.addWidget(widget)
    button = getattr(widget, "lesson", widget).run_button
    assert not button.isEnabled()
    assert any(word in button.toolTip() for word in ("Open", "Tick", "No model", "listed", "Choose", "first"))


def test_curves_are_off_where_the_image_has_no_frames(qtbot: Any) -> None:
    viewer: Any = ViewerModel()
    viewer.add_labels(np.ones((3, 4, 5), np.uint8), name="a mask")
    viewer.add_image(np.zeros((3, 4, 5), np.float32), name="a volume")
    widget = CurvesWidget(viewer)
    qtbot.addWidget(widget)
    nothing = CurvesWidget(ViewerModel())
    qtbot.addWidget(nothing)
    assert "Open a series with frames first" in nothing.hint.text()  # and not how to paint on it
    assert not widget.run_button.isEnabled()
    assert "frames" in widget.run_button.toolTip()
    assert widget.image.count() == 0  # a volume is no series with frames
    assert "No series with frames is open" in widget.hint.text()
    viewer.add_image(np.zeros((6, 3, 4, 5), np.float32), name="a series")
    assert widget.image.currentText() == "a series"
    assert widget.run_button.isEnabled()


def test_analyse_says_what_comes_next(qtbot: Any) -> None:
    viewer: Any = ViewerModel()
    widget = AnalyseWidget(viewer)
    qtbot.addWidget(widget)
    qtbot.waitUntil(widget.model.box.isEnabled, timeout=60_000)
    assert "Open an image" in widget.note.text()
    viewer.add_image(np.zeros((3, 4, 5), np.float32), name="a volume")
    assert "Tick an image" in widget.note.text()
    widget.images.tick([viewer.layers[0]])
    assert (widget.note.text(), widget.run_button.isEnabled()) == ("", True)
