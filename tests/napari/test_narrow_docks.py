"""The widgets fit a dock of 380 pixels, whatever the layers, the patient and the devices are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.qt import get_stylesheet
from qtpy.QtGui import QFont
from qtpy.QtWidgets import QComboBox, QLabel, QScrollArea, QStyle, QStyleOptionComboBox

from napari_medseq import viewer as verbs
from napari_medseq._napari.analyse_widget import AnalyseWidget
from napari_medseq._napari.compare_widget import CompareWidget
from napari_medseq._napari.controls.choosers import CollapsibleSection, LayerBox, ShortBox
from napari_medseq._napari.controls.forms import ModelForm, _Title
from napari_medseq._napari.controls.tables import Table
from napari_medseq._napari.curves_widget import VOLUME, CurvesWidget
from napari_medseq._napari.display_widget import DisplayWidget
from napari_medseq._napari.edit_widget import EditWidget
from napari_medseq._napari.preprocess_widget import PreprocessWidget
from napari_medseq._napari.progression_widget import ProgressionWidget
from napari_medseq._napari.study_widget import StudyWidget
from napari_medseq._napari.teach_widget import TeachWidget
from napari_medseq.progression import TrackSettings

pytestmark = pytest.mark.viewer

WIDGETS = (
    StudyWidget,
    ProgressionWidget,
    AnalyseWidget,
    TeachWidget,
    PreprocessWidget,
    CompareWidget,
    CurvesWidget,
    EditWidget,
    DisplayWidget,
)


@pytest.mark.parametrize("kind", WIDGETS)
def test_a_widget_is_no_wider_than_380_pixels(qtbot: Any, kind: Any) -> None:
    viewer: Any = ViewerModel()
    name = "a patient of a trial with a very long pseudonym, ses-20200131, T1 post contrast, resampled, corrected"
    viewer.add_image(np.zeros((3, 4, 5), np.float32), name=name)
    viewer.add_labels(np.zeros((3, 4, 5), np.uint8), name=f"{name} mask")
    widget = kind(viewer)
    qtbot.addWidget(widget)
    if hasattr(getattr(widget, "model", None), "device"):
        widget.model.device.addItem(
            "cuda:0 (a graphics card with a name as long as the manufacturer's marketing likes it)"
        )
    for section in widget.findChildren(CollapsibleSection):
        section.button.setChecked(True)
    if kind is CurvesWidget:
        widget.what.setCurrentText(VOLUME)
    widget.show()
    qtbot.wait(20)
    assert widget.minimumSizeHint().width() <= 380
    widget.setStyleSheet(get_stylesheet("dark"))  # as napari does once it is docked
    qtbot.wait(20)
    assert widget.minimumSizeHint().width() <= 380
    widget.resize(380, 700)
    qtbot.wait(20)
    for box in widget.findChildren(QComboBox):  # a text that is cut without a sign is taken for the whole
        for k in range(box.count()):
            assert isinstance(box, ShortBox) or box.fontMetrics().horizontalAdvance(box.itemText(k)) <= field_of(box)


def field_of(box: QComboBox) -> int:
    """The width of the text of a list, in pixels."""
    option = QStyleOptionComboBox()
    box.initStyleOption(option)
    return int(box.style().subControlRect(QStyle.CC_ComboBox, option, QStyle.SC_ComboBoxEditField, box).width())


def test_a_text_that_does_not_fit_is_shortened_with_a_sign(qtbot: Any) -> None:
    viewer: Any = ViewerModel()
    widget = CurvesWidget(viewer)
    qtbot.addWidget(widget)
    widget.what.setFixedWidth(120)
    pictures = []
    for text in ("volume of each label in each frame", "volume of each label in every slice"):
        widget.what.setItemText(0, text)
        widget.what.setCurrentIndex(0)
        pictures.append(widget.what.grab().toImage())
    assert pictures[0] == pictures[1]  # both end in the sign before they differ
    widget.what.setFixedWidth(400)
    assert widget.what.grab().toImage() != pictures[1]


def test_sizes_of_series_are_in_view_in_a_narrow_list(qtbot: Any, ball_study: Path) -> None:
    viewer: Any = ViewerModel()
    verbs.open_path(viewer, ball_study)
    widget = StudyWidget(viewer)
    qtbot.addWidget(widget)
    widget.resize(380, 500)
    widget.show()
    qtbot.wait(20)
    header = widget.tree.header()
    assert header.length() <= widget.tree.viewport().width()  # nothing to scroll to
    assert header.sectionSize(2) >= widget.tree.sizeHintForColumn(2)
    visit = widget.tree.topLevelItem(0).child(0)
    assert visit.toolTip(0) == "visit 1 of 2: ses-20200131"
    assert [visit.text(0), visit.text(2)] == ["visit 1 of 2", "ses-20200131"]
    wanted = widget.tree.sizeHintForColumn(0)
    assert header.sectionSize(0) >= wanted  # no name of a patient, visit or series is cut


def test_titles_of_settings_that_take_several_lines_are_whole(qtbot: Any) -> None:
    form = ModelForm(TrackSettings)
    qtbot.addWidget(form)
    for section in form.findChildren(CollapsibleSection):
        section.button.setChecked(True)
    form.findChildren(_Title)[0].setText("the smallest volume of what counts as a lesion at all, in millilitres")
    form.resize(220, 900)
    form.show()
    qtbot.wait(20)
    titles = [label for label in form.findChildren(QLabel) if label.wordWrap()]
    assert any(label.heightForWidth(label.width()) > 2 * label.fontMetrics().height() for label in titles)
    assert all(label.height() >= label.heightForWidth(label.width()) for label in titles)


def test_layers_whose_names_differ_at_their_ends_are_told_apart_in_a_narrow_list(qtbot: Any) -> None:
    viewer = ViewerModel()
    long = "sub-0123456789 ses-20200131-first-visit T1post"
    for ending in ("painted", "propagate", "lesions"):
        viewer.add_labels(np.zeros((4, 4), np.uint8), name=f"{long} {ending}")
    box = LayerBox(viewer, ["labels"])
    qtbot.addWidget(box)
    box.resize(150, 24)
    seen = []
    for k in range(box.count()):
        box.setCurrentIndex(k)
        assert box.currentText().endswith(("painted", "propagate", "lesions"))
        seen.append(box.grab().toImage())
    assert all(one != other for k, one in enumerate(seen) for other in seen[k + 1 :])


def test_columns_of_a_table_that_was_filled_before_it_was_docked_fit_the_font_of_the_theme(qtbot: Any) -> None:
    table = Table()
    qtbot.addWidget(table)
    table.setFont(QFont(table.font().family(), 5))
    table.fill(["visit", "event"], [["1: 1992-12-29", "baseline"]])
    table.show()
    table.setStyleSheet("QTableWidget { font-size: 20px; }")
    qtbot.wait(20)
    assert all(table.columnWidth(k) >= table.sizeHintForColumn(k) for k in range(2))


def test_nothing_is_cut_at_the_right_of_the_narrowest_dock_in_the_theme(qtbot: Any) -> None:
    viewer: Any = ViewerModel()
    viewer.add_image(np.zeros((3, 4, 5), np.float32), name="scan")
    widget = TeachWidget(viewer)
    qtbot.addWidget(widget)
    widget.show()
    widget.setStyleSheet(get_stylesheet("dark"))  # as napari does once it is docked
    qtbot.wait(20)
    (area,) = [a for a in widget.findChildren(QScrollArea) if a.widgetResizable() and a.widget().layout() is not None]
    widget.resize(1, 300)
    qtbot.wait(20)
    assert area.verticalScrollBar().isVisible()
    assert area.widget().width() <= area.viewport().width()
