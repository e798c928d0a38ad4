"""The keys of the package: none is napari's own, each does in a real viewer what its table and its button say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtCore import QCoreApplication, QEvent, Qt
from qtpy.QtWidgets import QCheckBox, QFileDialog, QPushButton, QVBoxLayout, QWidget

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.keys import press_by_keys
from napari_medseq._napari.edit_widget import KEYS as EDIT_KEYS
from napari_medseq._napari.progression_widget import ProgressionWidget
from napari_medseq._napari.teach_widget import TeachWidget
from napari_medseq.inference import Segmentation
from tests.napari.helpers import as_plugins_see_it
from tests.napari.person import key, press_key

pytestmark = pytest.mark.viewer


def plain(shortcut: str) -> str:
    """A key without regard to how it is written."""
    return "+".join(sorted(shortcut.replace("-", "+").lower().split("+")))


def test_no_key_is_one_of_naparis_own_nor_of_its_menus(make_napari_viewer: Any) -> None:
    window = make_napari_viewer(show=False).window
    # what napari binds for any layer, for labels and for images; other layers' keys are theirs while they are active
    ours = {plain(k) for k in (*verbs.KEYS, *EDIT_KEYS)}
    theirs = {
        plain(str(one)): name
        for name, keys in default_shortcuts.items()
        for one in keys
        if not re.search(r"shape|vertex|points|polygon|surface|tracks|vectors|select|drawing", name)
    }
    menus = {
        plain(f"Alt+{m.group(1)}") for a in window._qt_window.menuBar().actions() if (m := re.search("&(.)", a.text()))
    }
    assert len(menus) >= 5
    assert not ours & (set(theirs) | menus)


def test_every_key_stands_in_the_table_of_the_documentation() -> None:
    table = (Path(__file__).parents[2] / "docs" / "how-to" / "viewer.md").read_text(encoding="utf-8")
    rows = " ".join(line for line in table.splitlines() if line.startswith("| "))
    for one in (*verbs.KEYS, *EDIT_KEYS):
        assert one.replace("-", "+") in rows


@pytest.fixture
def followed(make_napari_viewer: Any, ball_study: Path) -> tuple[Any, ProgressionWidget]:
    viewer = make_napari_viewer(show=True)
    verbs.open_path(viewer, ball_study)
    widget = ProgressionWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name="Progression")
    verbs.track_layers(viewer)
    widget.result.show_result(verbs.result_of(viewer))
    return viewer, widget


def test_keys_go_from_visit_to_visit_and_from_lesion_to_lesion_and_correct_the_selected_one(
    followed: tuple[Any, ProgressionWidget], qtbot: Any, notices: list[Any]
) -> None:
    viewer, widget = followed
    viewer.dims.set_point(0, 0)
    key(viewer, qtbot, Qt.Key_Right, Qt.AltModifier)
    assert viewer.dims.point[0] == 1
    key(viewer, qtbot, Qt.Key_Left, Qt.AltModifier)
    assert viewer.dims.point[0] == 0
    seen = []
    for code in (Qt.Key_PageDown, Qt.Key_PageDown, Qt.Key_PageUp):
        key(viewer, qtbot, code, Qt.AltModifier)
        seen.append(int(viewer.layers.selection.active.selected_label))
    assert len(set(seen)) == 2
    assert seen[0] == seen[2]
    # and link and exclude the lesion that is selected
    box, found = widget.result.corrections, verbs.result_of(viewer)
    viewer.layers.selection.active = next(layer for layer in viewer.layers if "T1post" in layer.name)
    for code in (Qt.Key_K, Qt.Key_E):
        key(viewer, qtbot, code, Qt.AltModifier)
    assert [text.split(":")[0] for _, text in notices[-2:]] == ["Select a lesion first"] * 2
    assert not found.progression.corrections
    table = found.progression.lesions
    later = sorted({int(v) for v in table["lesion"][table["visit"] == 1]})
    earlier = sorted({int(v) for v in table["lesion"][table["visit"] == 0]})
    widget.result.go_to(1, later[0])
    other = next(lesion for lesion in earlier if lesion != later[0])
    box.other.setCurrentIndex(box.other.findData(other))
    assert "Alt+K" in box.link_button.toolTip()
    key(viewer, qtbot, Qt.Key_K, Qt.AltModifier)
    assert [str(c) for c in found.progression.corrections] == [f"link lesion {later[0]} at visit 2 to lesion {other}"]
    assert "Alt+E" in box.exclude_button.toolTip()
    key(viewer, qtbot, Qt.Key_E, Qt.AltModifier)
    assert "exclude" in str(found.progression.corrections[-1])


def test_keys_look_at_the_next_slice_accept_and_reject_it(
    make_napari_viewer: Any, qtbot: Any, notices: list[Any]
) -> None:
    viewer = make_napari_viewer(show=True)
    seq = ms.ImageSequence(np.zeros((6, 8, 10), np.float32), ("z", "y", "x"), np.diag([-1, -1, 3, 1.0]), name="scan")
    image = verbs.add_sequence(viewer, seq)
    painted = verbs.new_labels(viewer, image)
    painted.brush_size, painted.mode = 7, "erase"
    widget = TeachWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name="Teach")
    key(viewer, qtbot, Qt.Key_N, Qt.AltModifier)
    assert notices[-1] == ("info", "There is no answer yet: press Propagate or Teach first")
    doubt = np.zeros(seq.data.shape, np.float32)
    doubt[4], doubt[1] = 0.9, 0.5
    labels = seq.labels_like(np.ones(seq.data.shape, np.uint8), name="found", label_names={1: "lesion"})
    found = Segmentation(labels, None, seq.like(doubt), "m 1")
    widget._show(verbs.lesson_job(viewer, image, painted), found, "answer")
    answer = widget.answer
    # strokes go into the answer, which is what is seen, with the same brush
    assert viewer.layers.selection.active == answer
    assert (str(answer.mode), answer.brush_size) == ("erase", 7)
    for button, name in ((widget.next_button, "N"), (widget.right_button, "A"), (widget.empty_button, "X")):
        assert f"(Alt+{name})" in button.toolTip()
    key(viewer, qtbot, Qt.Key_N, Qt.AltModifier)
    assert viewer.dims.current_step[0] == np.flatnonzero(np.asarray(verbs.to_sequence(answer).data).any((1, 2)))[4]
    key(viewer, qtbot, Qt.Key_A, Qt.AltModifier)
    assert np.asarray(verbs.to_sequence(painted).data).any((1, 2)).tolist() == [k == 4 for k in range(6)]
    assert widget.next_button.text() == "Look at slice 2 next"
    key(viewer, qtbot, Qt.Key_N, Qt.AltModifier)
    key(viewer, qtbot, Qt.Key_X, Qt.AltModifier)
    assert np.asarray(verbs.to_sequence(answer).data).any((1, 2)).tolist() == [k != 1 for k in range(6)]
    assert "in doubt" in widget.next_button.toolTip()
    assert not widget.next_button.isEnabled()
    # what is undone is offered again at once, and what is redone is not
    key(viewer, qtbot, Qt.Key_Z, Qt.ControlModifier)
    assert widget.next_button.text() == "Look at slice 2 next"
    key(viewer, qtbot, Qt.Key_Z, Qt.ControlModifier)
    assert widget.next_button.text() == "Look at slice 5 next"
    verbs.redo(viewer)
    assert widget.next_button.text() == "Look at slice 2 next"
    viewer.layers.remove(answer)
    assert widget.next_button.isHidden()
    assert "no answer" in widget.right_button.toolTip()


def test_a_second_dock_that_is_closed_gives_the_keys_back_to_the_first(viewer: Any, qtbot: Any) -> None:
    pressed = []
    widgets = {}
    for name in ("first", "second"):
        widgets[name] = QWidget()
        button = QPushButton(name, widgets[name])
        button.clicked.connect(lambda _on=False, name=name: pressed.append(name))
        press_by_keys(widgets[name], viewer, {"Alt-S": button})
    key(viewer, qtbot, Qt.Key_S, Qt.AltModifier)
    for name in ("second", "first"):
        widgets.pop(name).deleteLater()
        QCoreApplication.sendPostedEvents(None, QEvent.DeferredDelete)
        key(viewer, qtbot, Qt.Key_S, Qt.AltModifier)
    assert pressed == ["second", "first"]


def test_keys_go_before_naparis_menus_and_work_in_a_dock_that_is_torn_off(
    make_napari_viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alt+S is *Save Screenshot* in the File menu, which Qt presses wherever the window is active."""
    dialogs: list[str] = []
    monkeypatch.setattr(QFileDialog, "exec_", lambda _dialog: dialogs.append("screenshot"))
    monkeypatch.setattr(QFileDialog, "exec", lambda _dialog: dialogs.append("screenshot"))
    viewer = make_napari_viewer(show=True)
    pressed: list[str] = []
    widget = QWidget()
    layout = QVBoxLayout(widget)
    button, box = QPushButton("propagate"), QCheckBox("only")
    layout.addWidget(button)
    layout.addWidget(box)
    button.clicked.connect(lambda: pressed.append("propagate"))
    dock = viewer.window.add_dock_widget(widget, name="Teach")
    press_by_keys(widget, viewer, {"Alt-S": button})
    window = viewer.window._qt_window
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    for where in (viewer.window._qt_viewer.canvas.native, box, viewer.window._qt_viewer.layers):
        where.setFocus()
        press_key(qtbot, where, Qt.Key_S, Qt.AltModifier)
    assert (pressed, dialogs) == (["propagate"] * 3, [])
    dock.setFloating(True)
    dock.activateWindow()
    qtbot.waitUntil(dock.isActiveWindow)
    box.setFocus()
    press_key(qtbot, box, Qt.Key_S, Qt.AltModifier)
    assert (pressed, dialogs) == (["propagate"] * 4, [])
    dock.setFloating(False)
