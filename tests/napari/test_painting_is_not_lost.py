"""No stroke is lost or misplaced: the seven ways in which it once was, each done as a person does it, in a real viewer."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QDesktopServices
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.progression_widget import ProgressionWidget
from napari_medseq._napari.teach_widget import TeachWidget
from napari_medseq.viewer.editing.model import editing_of
from tests.balls import AFFINES, SHAPE, write_ball_study
from tests.napari.helpers import Wait, as_plugins_see_it, click, docked
from tests.napari.person import at, button, key, open_folder, paint, stroke
from tests.narrowing import some

pytestmark = [pytest.mark.viewer, pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")]

#: indices (z, y, x) where no ball is, at either visit
EMPTY, EMPTY_TOO = (8, 40, 6), (3, 40, 6)


@pytest.fixture
def opened(make_napari_viewer: Callable[..., Any], ball_study: Path) -> Any:
    """A real viewer into which the study of balls was dropped."""
    viewer = make_napari_viewer(show=False)
    open_folder(viewer, ball_study)
    return viewer


@pytest.fixture
def followed(opened: Any, knows: Path, qtbot: Any, wait: Wait) -> ProgressionWidget:
    """The Progression widget with the lesions of the study followed."""
    assert knows.exists()
    widget: ProgressionWidget = docked(opened, ProgressionWidget, wait)
    click(qtbot, widget.run_button)
    wait(lambda: not widget.work.busy)
    return widget


def masks(viewer: Any, what: str) -> list[Any]:
    return [layer for layer in viewer.layers if what in layer.name]


# -- 1: into another visit's mask --------------------------------------------------------------------------------------
def test_a_stroke_goes_into_the_mask_of_the_visit_that_is_shown(opened: Any) -> None:
    first, last = masks(opened, "tumor")
    assert opened.dims.point[0] == 0
    active = opened.layers.selection.active
    before = np.array(first.data), np.array(last.data)
    active.mode, active.brush_size, active.selected_label = "paint", 4, 1
    stroke(opened, [at(active, opened.dims.current_step[1], *EMPTY[1:])])
    assert np.array_equal(last.data, before[1])
    assert (first.data != before[0]).any()


def test_the_layer_that_is_painted_in_follows_the_slider_brush_and_all(opened: Any) -> None:
    first, last = masks(opened, "tumor")
    opened.layers.selection.active = first
    first.mode, first.brush_size, first.selected_label = "paint", 7, 3
    opened.dims.set_point(0, 1)
    assert opened.layers.selection.active == last
    assert (str(last.mode), last.brush_size, last.selected_label) == ("paint", 7, 3)
    opened.dims.set_point(0, 0)
    assert opened.layers.selection.active == first


def test_strokes_elsewhere_are_refused_with_a_word(opened: Any, notices: list[Any]) -> None:
    layers = masks(opened, "tumor")
    for slider, other in enumerate(reversed(layers)):
        opened.dims.set_point(0, slider)
        opened.layers.selection.active = other  # chosen in the list of layers
        other.mode, other.brush_size = "paint", 4
        before = [np.array(layer.data) for layer in layers]
        stroke(opened, [at(layers[slider], *EMPTY), at(layers[slider], 8, 40, 9)])
        assert all(np.array_equal(a, layer.data) for a, layer in zip(before, layers, strict=True))
        assert f"is a mask of visit {2 - slider} of 2, and the slider shows visit {slider + 1}" in notices[-1][1]
        assert str(other.mode) == "paint"  # for the next stroke, where it belongs


# -- 2: a correction ---------------------------------------------------------------------------------------------------
def test_a_correction_keeps_what_was_painted_since(
    opened: Any, followed: ProgressionWidget, qtbot: Any, notices: list[Any]
) -> None:
    box, layer = followed.result.corrections, followed.result.layers[0]
    one, two = (int(v) for v in np.unique(layer.data)[1:])
    new = paint(opened, layer, EMPTY, label=9)
    grown = paint(opened, layer, tuple(np.argwhere(layer.data[0] == two)[0]), label=two, size=9)
    assert new.any()
    assert grown.any()
    followed.result.go_to(0, one)
    box.other.setCurrentIndex(box.other.findData(two))
    click(qtbot, box.merge_button)
    assert (layer.data[new] == 9).all()
    heir = int(np.unique(layer.data[layer.data != 9])[1])
    assert (layer.data[grown] == heir).all()  # painted as the lesion that was merged
    # and undo takes back the correction, then the strokes, one by one; redo brings all back
    painted = np.array(layer.data)
    for _ in range(3):
        key(opened, qtbot, Qt.Key_Z, Qt.ControlModifier)
    assert not layer.data[new].any()
    for _ in range(3):
        key(opened, qtbot, Qt.Key_Z, Qt.ControlModifier | Qt.ShiftModifier)
    assert np.array_equal(layer.data, painted)
    assert len(some(followed.result.progression).corrections) == 1
    # only with an excluded lesion goes what was painted of it, which is said
    followed.result.go_to(0, heir)
    click(qtbot, box.exclude_button)
    assert any("voxels painted as lesion" in text and "went out with that lesion" in text for _, text in notices)


# -- 3: files ----------------------------------------------------------------------------------------------------------
def test_save_and_report_are_of_the_masks_that_are_on_the_screen(
    opened: Any, followed: ProgressionWidget, qtbot: Any, wait: Wait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = followed.result.table.rowCount()
    new = paint(opened, followed.result.layers[1], EMPTY, label=9)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_a: (str(tmp_path / "r.html"), ""))
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda _url: True)
    click(qtbot, button(followed.result, "Report"))
    wait(lambda: (tmp_path / "r.html").exists() and not followed.work.busy and not followed.result.saving.busy)
    assert followed.result.table.rowCount() == count + 1
    again = paint(opened, followed.result.layers[1], EMPTY_TOO, label=10)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_a: str(tmp_path / "out"))
    click(qtbot, button(followed.result, "Save"))
    wait(
        lambda: (tmp_path / "out" / "run.json").exists() and not followed.work.busy and not followed.result.saving.busy
    )
    saved = ms.Progression.load(tmp_path / "out")
    voxels = int((np.asarray(some(saved.labels[1]).data) != 0).sum())
    assert voxels == int((followed.result.layers[1].data != 0).sum())
    assert (np.asarray(verbs.to_sequence(followed.result.layers[1]).data) == some(saved.labels[1]).data).all()
    assert (followed.result.layers[1].data[new | again] != 0).all()
    assert followed.result.table.rowCount() == count + 2


def test_what_is_painted_and_corrected_while_a_result_is_saved_is_neither_lost_nor_mixed_in(
    opened: Any, followed: ProgressionWidget, qtbot: Any, wait: Wait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    notices: list[Any],
) -> None:  # fmt: skip
    result, editing = followed.result, editing_of(opened)
    result.save_button.setFocus()
    verbs.correct(opened, "exclude", 2, 0)  # so that something is unsaved
    before, corrections = [np.array(layer.data) for layer in result.layers], list(some(result.progression).corrections)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_a: str(tmp_path / "out"))
    click(qtbot, result.save_button)
    assert result.saving.busy  # the window lives on; another Save waits for this one, and says so
    assert not result.save_button.isEnabled()
    assert "being written" in result.report_button.toolTip()
    assert paint(opened, result.layers[1], EMPTY, label=9).any()
    verbs.correct(opened, "exclude", 1)
    wait(lambda: not result.saving.busy)
    saved = ms.Progression.load(tmp_path / "out")
    shown = [np.asarray(verbs.to_sequence(layer).data) for layer in result.layers]
    for seq, then, now in zip(saved.labels, before, shown, strict=True):
        assert seq is not None
        assert np.array_equal(np.asarray(seq.data), then.reshape(now.shape))
    assert saved.corrections == corrections
    assert "what changed since is not in it" in notices[-1][1]
    assert set(result.layers) <= set(editing.unsaved)  # each was changed by the second correction
    assert len(some(result.progression).corrections) == len(corrections) + 1
    assert sum(editing.pending(result.layers).values()) > 0
    assert result.save_button.isEnabled()


# -- 4: Run ------------------------------------------------------------------------------------------------------------
def test_run_changes_no_voxel_that_was_painted(
    opened: Any, followed: ProgressionWidget, qtbot: Any, wait: Wait
) -> None:
    layer = followed.result.layers[0]
    lesion = int(layer.data.max())
    inside = np.argwhere(layer.data[0] == lesion)
    new = paint(opened, layer, EMPTY, label=lesion)
    erased = paint(opened, layer, tuple(inside[len(inside) // 2]), label=lesion, mode="erase", size=3)
    later = np.array(followed.result.layers[1].data)
    click(qtbot, followed.run_button)
    wait(lambda: not followed.work.busy)
    layer = followed.result.layers[0]
    assert np.array_equal(followed.result.layers[1].data, later)  # nobody is renamed by what is new at an earlier visit
    assert (layer.data[new & ~erased] != 0).all()
    assert not layer.data[erased].any()
    # unless told
    followed.overwrite.setChecked(True)
    click(qtbot, followed.run_button)
    wait(lambda: not followed.work.busy)
    assert not layer.data[new & ~erased].any()
    assert layer.data[erased].all()


# -- 6 and 7: two patients ---------------------------------------------------------------------------------------------
@pytest.fixture
def another(tmp_path: Path) -> Path:
    """Another patient, of the same grids and dates."""
    folder = tmp_path / "sub-y"
    for file in write_ball_study(folder).rglob("*.nii.gz"):
        file.rename(file.with_name(file.name.replace("sub-x", "sub-y")))
    return folder


def test_masks_of_two_patients_are_not_followed_as_one(
    opened: Any, another: Path, qtbot: Any, wait: Wait, notices: list[Any]
) -> None:
    widget = docked(opened, ProgressionWidget, wait)
    open_folder(opened, another)
    widget.by_labels.setChecked(True)
    theirs = masks(opened, "tumor")
    widget.labels.tick([theirs[0], theirs[3]])
    click(qtbot, widget.run_button)
    wait(lambda: not widget.work.busy)
    assert widget.result.progression is None
    assert "different patients" in notices[-1][1]
    assert "sub-x" in notices[-1][1]
    assert "sub-y" in notices[-1][1]


def test_masks_from_single_files_are_told_apart_by_their_names(
    make_napari_viewer: Callable[..., Any], tmp_path: Path
) -> None:
    viewer = make_napari_viewer(show=False)
    for patient in ("sub-01", "sub-02"):
        file = tmp_path / f"{patient}_{date(2020, 1, 1):%Y%m%d}_mask.nii.gz"
        nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINES[0]), file)
        viewer.open(str(file), plugin="napari-medseq")
    with pytest.raises(ms.MedseqError, match="different patients"):
        verbs.track_layers(viewer, list(viewer.layers))


def test_a_result_is_shown_with_its_own_patient_only(opened: Any, another: Path, followed: ProgressionWidget) -> None:
    assert "sub-x" in followed.result.title()
    assert not followed.result.isHidden()
    open_folder(opened, another)
    assert followed.study.study == "sub-y"
    assert followed.result.isHidden()
    assert followed.result.progression is None
    assert not followed.result.plot.ready
    followed.study.setCurrentText("sub-x")
    assert not followed.result.isHidden()
    shown: ms.Progression | None = followed.result.progression
    assert shown is not None
    assert followed.result.table.rowCount() == len(shown.lesions)


def test_what_a_job_found_waits_until_the_stroke_is_done(
    make_napari_viewer: Callable[..., Any], ball_study: Path, wait: Wait
) -> None:
    opened = make_napari_viewer(show=True)
    open_folder(opened, ball_study)
    window = opened.window._qt_window
    canvas = opened.window._qt_viewer.canvas
    mask = masks(opened, "tumor")[0]
    opened.layers.selection.active = mask
    opened.dims.set_point(0, 0)
    opened.reset_view()
    mask.mode, mask.brush_size, mask.selected_label = "paint", 3, 1
    before = np.array(mask.data)
    bar = WorkBar(window)
    middle = canvas.native.mapTo(window, QPoint(canvas.native.width() // 2, canvas.native.height() // 2))
    handle = window.windowHandle()
    QTest.mousePress(handle, Qt.LeftButton, Qt.NoModifier, middle)
    QTest.mouseMove(handle, middle + QPoint(10, 0))
    found: list[object] = []

    def show(result: object) -> None:
        found.append(result)
        opened.add_labels(np.zeros(mask.data.shape, np.uint8))

    bar.start("Job", lambda _progress, _cancelled: "found", show)
    end = time.monotonic() + 0.4
    wait(lambda: time.monotonic() > end)
    assert not found
    QTest.mouseMove(handle, middle + QPoint(60, 0))
    QTest.mouseRelease(handle, Qt.LeftButton, Qt.NoModifier, middle + QPoint(60, 0))
    wait(lambda: bool(found))
    changed = mask.data != before
    assert np.ptp(np.nonzero(changed)[-1]) > 2  # the whole stroke, not only its beginning
    assert np.array_equal(editing_of(opened).marks(mask).painted, changed)


# -- 5: Teach ----------------------------------------------------------------------------------------------------------
def test_teach_takes_over_what_was_corrected_in_its_answer(
    opened: Any, knows: Path, qtbot: Any, wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons: list[tuple[Any, dict[str, Any]]] = []

    def taught(_image: Any, labels: Any, settings: dict[str, Any], **_options: Any) -> Any:
        lessons.append((labels, dict(settings)))
        return SimpleNamespace(model=ms.load_model(knows), curve=pd.DataFrame({"iteration": [500]}))

    monkeypatch.setattr(ms, "teach", taught, raising=False)
    widget = TeachWidget(as_plugins_see_it(opened))
    opened.window.add_dock_widget(widget, name="Teach")
    widget.lesson.judge.setChecked(False)
    widget.image.choose(opened.layers["sub-x ses-20200504 T1post"])
    click(qtbot, widget.new_button)
    painted = some(widget.labels.layer)
    paint(opened, painted, (5, 30, 12), label=1)
    click(qtbot, widget.lesson.run_button)
    wait(lambda: not widget.work.busy)
    answer = next(layer for layer in opened.layers if layer == widget.answer)
    ball = np.argwhere(answer.data[0])
    erased = paint(opened, answer, tuple(ball[len(ball) // 2]), label=1, mode="erase", size=3)
    added = paint(opened, answer, (9, 40, 6), label=1)
    click(qtbot, widget.lesson.run_button)
    wait(lambda: not widget.work.busy)
    assert answer in opened.layers
    assert answer == widget.answer
    assert answer.data[added].all()
    assert not answer.data[erased].any()
    # and they were taught
    labels = verbs.to_sequence(painted).data
    assert np.array_equal(lessons[1][0].data, labels)
    assert painted.data[added].all()
    corrected = painted.data[:, ball[len(ball) // 2][0]]
    assert corrected.any()  # the whole slice is right, not only what was painted in it
    assert not painted.data[erased].any()
