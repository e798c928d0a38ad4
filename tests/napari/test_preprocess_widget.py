"""*Preprocess* as a person uses it: mouse and keys in a real window, the preview, the job, its recipe on other layers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QListWidget

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.preprocess_widget import PreprocessWidget
from napari_medseq.preprocessing import STEPS, Job, Percentile, Step, load, save
from napari_medseq.progress import check
from napari_medseq.sequence import ImageSequence
from tests.napari.helpers import Wait, click, docked

pytestmark = [pytest.mark.viewer, pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")]

FIRST, SECOND = "sub-x ses-20200131 T1post", "sub-x ses-20200504 T1post"


@pytest.fixture
def endless() -> Iterator[str]:
    """The kind of a step that runs until it is cancelled."""

    class Endless(Step):
        """Runs until it is cancelled."""

        kind: str = "endless for a test"

        def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:  # noqa: ARG002
            while True:
                check(job.cancelled)
                time.sleep(0.005)

    yield "endless for a test"
    del STEPS[Endless.model_fields["kind"].default]


@pytest.fixture
def widget(viewer: Any, wait: Wait) -> Any:
    widget = docked(viewer, PreprocessWidget, wait)
    widget.layer.choose(viewer.layers[SECOND])
    return widget


def chosen_from_menu(qtbot: Any, menu: Any, text: str) -> None:
    """Open a menu and click the entry, in a submenu too."""
    menu.popup(QPoint(0, 0))
    for inside in [menu, *(action.menu() for action in menu.actions() if action.menu() is not None)]:
        for action in inside.actions():
            if action.text() == text:
                if inside is not menu:
                    inside.popup(QPoint(0, 0))
                qtbot.mouseClick(inside, Qt.LeftButton, pos=inside.actionGeometry(action).center())
                menu.close()
                return
    raise AssertionError(f"{text} is not in the menu")


def press(qtbot: Any, listed: QListWidget, row: int, *, tick: bool = False) -> None:
    """Click a line of a list, or its tick box."""
    box = listed.visualItemRect(listed.item(row))
    at = QPoint(box.left() + 8, box.center().y()) if tick else box.center()
    qtbot.mouseClick(listed.viewport(), Qt.LeftButton, pos=at)


def kinds(widget: Any) -> list[str]:
    return [entry.kind for entry in widget.steps.entries]


# -- the list of steps -------------------------------------------------------------------------------------------------
def test_a_recipe_is_put_together_with_mouse_and_keys(widget: Any, qtbot: Any) -> None:
    for title in ("Percentile clipping", "Resample", "Z-score"):
        chosen_from_menu(qtbot, widget.steps.menu, title)
    assert kinds(widget) == ["percentile", "resample", "zscore"]
    click(qtbot, widget.steps.up_button)
    assert kinds(widget) == ["percentile", "zscore", "resample"]
    # switched off and on again
    press(qtbot, widget.steps.list, 0, tick=True)
    assert [step.kind for step in widget.chain] == ["zscore", "resample"]
    press(qtbot, widget.steps.list, 0, tick=True)
    assert len(widget.chain) == 3
    press(qtbot, widget.steps.list, 2)
    assert not widget.steps.down_button.isEnabled()
    assert widget.steps.down_button.toolTip() == "It is the last step"
    qtbot.keyClick(widget.steps.list, Qt.Key_Delete)
    assert kinds(widget) == ["percentile", "zscore"]
    # the form is that of the chosen step, under its name
    press(qtbot, widget.steps.list, 0)
    assert widget.steps.form_box.title() == "1. Percentile clipping"
    lower = widget.steps.entries[0].form["lower"]
    lower.native.setFocus()
    lower.native.selectAll()
    qtbot.keyClicks(lower.native, "7")
    qtbot.keyClick(lower.native, Qt.Key_Return)
    assert widget.chain[0] == Percentile(lower=7)


def test_steps_are_dragged_to_another_place(widget: Any) -> None:
    widget.replace_chain(["percentile", "zscore", "crop"])
    model = widget.steps.list.model()
    assert model.moveRow(model.index(0, 0).parent(), 0, model.index(0, 0).parent(), 3)  # what Qt does at a drop
    assert kinds(widget) == ["zscore", "crop", "percentile"]
    assert widget.steps.list.item(2).text() == "3. Percentile clipping"


def test_every_step_there_is_can_be_added_and_shows_a_form(widget: Any) -> None:
    for kind in STEPS:
        widget.add_step(kind)
        assert widget.steps.problem == "", kind
        assert widget.minimumSizeHint().width() <= 380, kind


def test_what_cannot_be_used_is_said_with_its_step_and_nothing_can_be_run(widget: Any) -> None:
    widget.replace_chain(["zscore", {"kind": "resample", "spacing": 2.0}])
    widget.steps.entries[1].form["spacing"].value = "wide"
    assert "Step 2, resample: spacing" in widget.steps.problem_label.text()
    assert not widget.apply_button.isEnabled()
    assert "Step 2" in widget.apply_button.toolTip()
    widget.steps.entries[1].form["spacing"].value = "3, 4, 4"
    assert widget.apply_button.isEnabled()


def test_an_empty_viewer_says_what_to_do_first(make_napari_viewer: Any, wait: Wait) -> None:
    widget = docked(make_napari_viewer(show=False), PreprocessWidget, wait)
    assert widget.notice.text() == "Open an image first."
    assert not widget.apply_button.isEnabled()
    assert widget.apply_button.toolTip() == "Open an image first."
    assert "Open an image" in widget.preview.view.message or not widget.preview.isVisible()


def test_every_control_says_what_it_is_for(widget: Any) -> None:
    widget.replace_chain(["n4", "window:brain", "register"])
    kinds = (QAbstractButton, QComboBox, QLineEdit, QAbstractSpinBox, QListWidget)
    silent = [
        f"{type(control).__name__} {getattr(control, 'text', str)()!r} in {type(control.parent()).__name__}"
        for kind in kinds
        for control in widget.findChildren(kind)
        if not control.toolTip() and not isinstance(control.parent(), QComboBox | QAbstractSpinBox)
    ]
    assert silent == []


# -- recipes -----------------------------------------------------------------------------------------------------------
def test_a_recipe_is_saved_loaded_and_taken_from_a_list(widget: Any, tmp_path: Path) -> None:
    widget.ready_made.activated.emit(widget.ready_made.findText("MR: even out the coil, then z-score"))
    assert kinds(widget) == ["n4", "zscore"]
    save(widget.chain, tmp_path / "recipe.yaml")
    chain = widget.chain
    widget.replace_chain(["crop"])
    widget.load(tmp_path / "recipe.yaml")
    assert widget.chain == chain == load(tmp_path / "recipe.yaml")


def test_a_file_that_is_no_recipe_changes_nothing(widget: Any, tmp_path: Path) -> None:
    widget.replace_chain(["crop"])
    (tmp_path / "recipe.yaml").write_text("- kind: zscore\n- kind: magic\n")
    with pytest.raises(ms.MedseqError, match="magic"):
        widget.load(tmp_path / "recipe.yaml")
    assert kinds(widget) == ["crop"]


# -- the preview -------------------------------------------------------------------------------------------------------
@pytest.fixture
def seen(make_napari_viewer: Any, ball_study: Path, wait: Wait) -> Any:
    """The widget in a window that is shown."""
    viewer = make_napari_viewer(show=True)
    verbs.open_path(viewer, ball_study)
    widget = docked(viewer, PreprocessWidget, wait)
    widget.layer.choose(viewer.layers[SECOND])
    return widget


def test_the_preview_follows_the_form_and_the_slider(seen: Any, wait: Wait) -> None:
    seen.replace_chain(["percentile"])
    wait(lambda: seen.preview.view.picture is not None)
    first = seen.preview.view.picture
    seen.steps.entries[0].form["lower"].value = 40.0
    assert seen.preview.view.stale
    wait(lambda: seen.preview.view.picture is not first)
    second = seen.preview.view.picture
    assert (first.after != second.after).any()
    np.testing.assert_array_equal(first.before, second.before)
    seen.viewer.dims.set_current_step(1, 3)
    wait(lambda: seen.preview.view.picture is not second)
    assert (seen.preview.view.picture.before != second.before).any()
    wait(lambda: "The whole takes" in seen.preview.time.text())
    # nobody looks: nothing is computed
    third = seen.preview.view.picture
    seen.preview.live.setChecked(False)
    seen.steps.entries[0].form["lower"].value = 10.0
    assert not seen.preview.busy
    assert seen.preview.view.picture is third


def test_a_preview_that_is_outdated_is_stopped_and_dropped(seen: Any, wait: Wait, endless: str) -> None:
    seen.replace_chain([endless])
    wait(lambda: seen.preview._pictures._worker is not None)
    seen.replace_chain(["percentile"])
    wait(lambda: seen.preview.view.picture is not None)
    assert not seen.preview.busy


def test_a_step_that_cannot_work_is_named_in_the_preview(seen: Any, wait: Wait) -> None:
    seen.replace_chain(["zscore", "register"])
    wait(lambda: "a target image" in seen.preview.view.message)
    assert seen.preview.view.message.startswith("Step 2, registration: ")
    seen.steps.entries[0].form["clip"].value = "wide"
    assert seen.preview.view.message.startswith("Step 1, Z-score: clip")


def test_the_line_between_before_and_after_is_dragged(seen: Any, qtbot: Any, wait: Wait) -> None:
    seen.replace_chain([{"kind": "window", "level": 60, "width": 100}])
    wait(lambda: seen.preview.view.picture is not None)
    view = seen.preview.view

    def shown(share: float) -> float:
        """Brightness of the middle of the picture."""
        at = QPoint(round(share * view.width()), view.height() // 2)
        qtbot.mousePress(view, Qt.LeftButton, pos=QPoint(view.width() // 2, view.height() // 2))
        qtbot.mouseMove(view, at)
        qtbot.mouseRelease(view, Qt.LeftButton, pos=at)
        return float(view.grab().toImage().pixelColor(view.width() // 2 - 20, view.height() // 2).lightness())

    before = shown(0.95)
    after = shown(0.05)
    assert view.share == pytest.approx(0.05, abs=0.02)
    assert after > before + 50  # the head is brighter than the window
    qtbot.keyClick(view, Qt.Key_Right)
    assert view.share == pytest.approx(0.1, abs=0.02)


# -- the job -----------------------------------------------------------------------------------------------------------
def test_apply_gives_what_a_script_gives(widget: Any, viewer: Any, qtbot: Any, wait: Wait) -> None:
    widget.replace_chain(["percentile", {"kind": "resample", "spacing": (3.0, 4.0, 4.0)}])
    click(qtbot, widget.apply_button)
    wait(lambda: not widget.work.busy)
    new = viewer.layers[f"{SECOND} (percentile, resample)"]
    wanted = ms.preprocess(verbs.to_sequence(viewer.layers[SECOND]), widget.chain)
    np.testing.assert_array_equal(verbs.to_sequence(new).data, wanted.data)
    np.testing.assert_allclose(new.scale, (1, 3, 4, 4), atol=1e-6)
    assert new.translate[0] == 1
    # the layer says how it was made, and gives its steps back
    widget.replace_chain(["crop"])
    widget.layer.choose(new)
    assert "Percentile clipping" in widget.made_by.text.text() or "percentile clipping" in widget.made_by.text.text()
    assert not widget.made_by.save_button.isEnabled()
    assert "not registered" in widget.made_by.save_button.toolTip()
    click(qtbot, widget.made_by.take_button)
    assert kinds(widget) == ["percentile", "resample"]


def test_masks_and_visits_are_ticked_and_done_together(widget: Any, viewer: Any, qtbot: Any, wait: Wait) -> None:
    widget.replace_chain(["percentile", "crop"])
    widget.also_section.button.setChecked(True)
    click(qtbot, widget.also.visits_button)
    click(qtbot, widget.also.masks_button)
    assert widget.apply_button.text() == "Apply to 4 layers"
    click(qtbot, widget.apply_button)
    wait(lambda: not widget.work.busy)
    for image, mask in ((FIRST, "sub-x ses-20200131 tumor"), (SECOND, "sub-x ses-20200504 tumor")):
        made = verbs.to_sequence(viewer.layers[f"{image} (percentile, crop)"])
        assert verbs.to_sequence(viewer.layers[f"{mask} (percentile, crop)"]).same_grid(made)


def test_a_mask_says_which_steps_it_gets(widget: Any, viewer: Any) -> None:
    widget.replace_chain(["zscore", "crop"])
    widget.layer.choose(viewer.layers["sub-x ses-20200504 tumor"])
    assert "only crop to the body, by nearest neighbour" in widget.notice.text()
    assert "left out" in widget.notice.text()


def test_registration_needs_another_layer_and_its_transform_is_kept(
    widget: Any, viewer: Any, qtbot: Any, wait: Wait, notices: list[Any], tmp_path: Path
) -> None:
    widget.add_step({"kind": "register", "transform": "translation"})
    click(qtbot, widget.apply_button)
    wait(lambda: not widget.work.busy)
    assert "a target image" in notices[-1][1]
    widget.reference.choose(viewer.layers[FIRST])
    click(qtbot, widget.apply_button)
    wait(lambda: not widget.work.busy)
    new = viewer.layers[f"{SECOND} (register)"]
    assert verbs.to_sequence(new).same_grid(verbs.to_sequence(viewer.layers[FIRST]))
    widget.layer.choose(new)
    assert widget.made_by.save_button.isEnabled()
    widget.made_by.save(str(tmp_path / "t.json"))
    assert (tmp_path / "t.json").is_file()
    chosen_from_menu(qtbot, widget.made_by.menu, "sub-x ses-20200504 tumor")
    brought = viewer.layers[f"sub-x ses-20200504 tumor on {new.name}"]
    assert verbs.to_sequence(brought).same_grid(verbs.to_sequence(new))


def test_a_job_is_cancelled_and_nothing_is_changed(
    widget: Any, viewer: Any, qtbot: Any, wait: Wait, notices: list[Any], endless: str
) -> None:
    before = list(viewer.layers)
    widget.preview.live.setChecked(False)
    widget.replace_chain(["percentile", endless])
    click(qtbot, widget.apply_button)
    wait(lambda: widget.work._worker is not None)
    assert not widget.apply_button.isEnabled()
    assert "runs already" in widget.apply_button.toolTip()
    click(qtbot, widget.work.cancel_button)
    wait(lambda: not widget.work.busy)
    assert "nothing was changed" in notices[-1][1]
    assert list(viewer.layers) == before


def test_a_job_stands_in_the_activities_of_napari_and_is_cancelled_there(
    seen: Any, qtbot: Any, wait: Wait, notices: list[Any], endless: str
) -> None:
    from napari._qt.widgets.qt_progress_bar import QtLabeledProgressBar

    seen.preview.live.setChecked(False)
    seen.replace_chain([endless])
    window = seen.window()
    click(qtbot, seen.apply_button)
    wait(lambda: seen.work._worker is not None)
    wait(lambda: bool(window.findChildren(QtLabeledProgressBar)))
    (bar,) = window.findChildren(QtLabeledProgressBar)
    assert "Preprocessing" in bar.description_label.text()
    seen.work.progressed.emit(3, 10, "slice 3")
    wait(lambda: bar.qt_progress_bar.value() == 3)
    assert bar.qt_progress_bar.maximum() == 10
    bar.cancel_button.click()
    wait(lambda: not seen.work.busy)
    assert "nothing was changed" in notices[-1][1]
    wait(lambda: not window.findChildren(QtLabeledProgressBar))
