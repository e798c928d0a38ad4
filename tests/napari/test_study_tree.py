"""Visits and series are arranged in the tree of *Study* as a person does it: dragged, by keys, buttons and menu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPointF, Qt
from qtpy.QtGui import QDropEvent
from qtpy.QtTest import QTest

from napari_medseq import viewer as verbs
from napari_medseq._napari.progression_widget import ProgressionWidget
from napari_medseq._napari.study_widget import StudyWidget
from napari_medseq.viewer.layers.studies import facts_of
from tests.napari.helpers import Wait, as_plugins_see_it, click, docked
from tests.napari.test_order_of_visits import named, names, study_of

pytestmark = [pytest.mark.viewer, pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")]


@pytest.fixture
def opened(make_napari_viewer: Callable[..., Any]) -> Any:
    return make_napari_viewer(show=False)


@pytest.fixture
def study(opened: Any, qtbot: Any) -> StudyWidget:
    """The dock beside a patient of three visits without dates."""
    verbs.add_study(opened, study_of((None, None, None)))
    widget = StudyWidget(as_plugins_see_it(opened))
    qtbot.addWidget(widget)
    widget.resize(380, 600)
    widget.show()
    return widget


def row(widget: StudyWidget, *role: object) -> Any:
    (item,) = [item for item in widget.tree.rows() if widget.tree.role(item)[: len(role)] == role]
    return item


def drop(widget: StudyWidget, dragged: Any, target: Any) -> None:
    """Drop a row onto another one."""
    tree = widget.tree
    tree.setCurrentItem(dragged)
    at = QPointF(tree.visualItemRect(target).center())
    event = QDropEvent(at, Qt.MoveAction, QMimeData(), Qt.LeftButton, Qt.NoModifier)
    tree.dropEvent(event)


def test_a_visit_is_moved_by_dragging_keys_buttons_and_menu_and_stays_chosen(study: StudyWidget, qtbot: Any) -> None:
    viewer, tree = study.viewer, study.tree
    assert not study.up_button.isEnabled()
    assert "Click a visit" in study.up_button.toolTip()
    drop(study, row(study, "visit", "P1", 2), row(study, "visit", "P1", 0))
    qtbot.wait(10)
    assert names(viewer) == ["three", "one", "two"]
    assert tree.role() == ("visit", "P1", 0)
    assert tree.currentItem().text(2) == "three"
    assert not study.up_button.isEnabled()
    QTest.keyClick(tree, Qt.Key_Down, Qt.AltModifier)
    qtbot.wait(10)
    assert names(viewer) == ["one", "three", "two"]
    click(qtbot, study.down_button)
    qtbot.wait(10)
    assert names(viewer) == ["one", "two", "three"]
    menu = tree.menu_of(tree.currentItem())
    assert menu is not None
    up, down, _date = menu.actions()
    assert [up.isEnabled(), down.isEnabled()] == [True, False]
    up.trigger()
    qtbot.wait(10)
    assert names(viewer) == ["one", "three", "two"]
    verbs.undo(viewer)  # by Ctrl+Z, wherever
    assert row(study, "visit", "P1", 2).text(2) == "three"


def test_a_series_is_dragged_to_another_visit_and_an_image_of_no_patient_too(study: StudyWidget, qtbot: Any) -> None:
    viewer = study.viewer
    mask = named(viewer, "one", "mask")
    drop(study, row(study, "layer", mask.name), row(study, "visit", "P1", 1))
    qtbot.wait(10)
    assert (facts_of(mask)["ordinal"], mask.translate[0]) == (1, 1)
    assert study.tree.role() == ("layer", mask.name)
    viewer.add_image(np.zeros((4, 5, 6)), name="found")
    drop(study, row(study, "layer", "found"), row(study, "layer", named(viewer, "three", "T1").name))
    qtbot.wait(10)
    assert "found" not in viewer.layers
    assert facts_of(named(viewer, "found"))["ordinal"] == 2
    drop(study, row(study, "visit", "P1", 0), row(study, "visit", "P1", 0))  # onto itself
    assert names(viewer) == ["one", "two", "three"]
    menu = study.tree.menu_of(row(study, "layer", mask.name))
    assert menu is not None
    (inside,) = [action.menu() for action in menu.actions()]
    assert [(a.text(), a.isEnabled()) for a in inside.actions()] == [
        ("visit 1", True), ("visit 2", False), ("visit 3", True), ("visit 4 (a new one)", True),
    ]  # fmt: skip
    inside.actions()[-1].trigger()
    assert facts_of(mask)["ordinal"] == 3


def test_what_cannot_be_done_is_said_and_changes_nothing(study: StudyWidget, qtbot: Any, notices: list[Any]) -> None:
    for ordinal, day in enumerate(("2020-01-01", "2020-02-01")):
        row(study, "visit", "P1", ordinal).setText(1, day)
        qtbot.wait(10)
    drop(study, row(study, "visit", "P1", 1), row(study, "visit", "P1", 0))
    assert len(notices) == 1
    assert "cannot lie before visit 1 (2020-01-01)" in str(notices[0])
    assert names(study.viewer) == ["one", "two", "three"]
    row(study, "visit", "P1", 1).setText(1, "2019-02-01")  # a date may be any
    qtbot.wait(10)
    assert names(study.viewer) == ["two", "one", "three"]
    assert study.tree.role() == ("visit", "P1", 0)


def test_an_outdated_result_is_said_and_followed_again_by_its_button(
    study: StudyWidget, opened: Any, qtbot: Any, wait: Wait, notices: list[Any]
) -> None:
    viewer = study.viewer
    progression: ProgressionWidget = docked(opened, ProgressionWidget, wait)
    progression.register.setCurrentText("none")
    verbs.track_layers(viewer, register="none")
    result = progression.result
    qtbot.wait(10)
    assert result.painted.isHidden()
    drop(study, row(study, "visit", "P1", 2), row(study, "visit", "P1", 0))
    assert "in another order" in str(notices[-1])
    assert "press Follow again in Progression" in str(notices[-1])
    assert not result.painted.isHidden()
    assert result.painted.text() == (
        "The visits are in another order than when the lesions were followed. Press Follow again."
    )
    assert result.plot._ordinals == [1, 2, 0]
    click(qtbot, result.again_button)
    wait(lambda: not progression.work.busy)
    assert result.painted.isHidden()
    assert result.plot._ordinals == [0, 1, 2]
    volumes = verbs.result_of(viewer).progression.summary["volume_ml"].tolist()
    assert volumes[0] == max(volumes)  # the visit with the largest ball is first now
