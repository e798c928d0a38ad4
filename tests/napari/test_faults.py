"""What goes wrong around a person: memory, a layer, a folder or the window goes. Each is said once, and nothing is lost."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_medseq import files
from napari_medseq import viewer as verbs
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.progression_widget import ProgressionWidget
from napari_medseq._napari.study_widget import StudyWidget
from napari_medseq.progress import check
from tests.balls import write_ball_study
from tests.napari.helpers import Wait, as_plugins_see_it, docked

pytestmark = [pytest.mark.viewer, pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")]


def bar_in(viewer: Any) -> WorkBar:
    """A bar in a dock."""
    widget = QWidget()
    bar = WorkBar()
    QVBoxLayout(widget).addWidget(bar)
    viewer.window.add_dock_widget(widget, name="Work")
    return bar


def errors(notices: list[tuple[str, str]]) -> list[str]:
    return [text for kind, text in notices if kind == "error"]


def test_where_memory_or_a_folder_is_not_there_one_notice_says_what_to_do(
    make_napari_viewer: Callable[..., Any], wait: Wait, notices: list[Any]
) -> None:
    bar = bar_in(make_napari_viewer(show=False))
    done: list[object] = []

    def out_of_memory(_progress: Any, _cancelled: Any) -> object:
        return np.ones((1 << 62,), np.uint8)  # more than any computer has

    def gone(_progress: Any, _cancelled: Any) -> object:
        return Path("/nowhere/at/all.nii").read_bytes()

    for job in (out_of_memory, gone):
        assert bar.start("Segmenting", job, done.append)
        wait(lambda: not bar.busy)
    assert not done
    memory, folder = errors(notices)
    assert memory.startswith("Segmenting: there is not enough memory; nothing was changed.")
    assert folder.startswith("Segmenting: /nowhere/at/all.nii: No such file or directory.")
    assert not any("report" in text for text in (memory, folder))


def test_a_graphics_card_that_goes_is_one_notice_and_nothing_painted_is_lost(
    make_napari_viewer: Callable[..., Any], ball_study: Path, knows: Path, wait: Wait, notices: list[Any]
) -> None:
    import torch

    assert knows.exists()
    viewer = make_napari_viewer(show=False)
    verbs.open_path(viewer, ball_study)
    widget = docked(viewer, ProgressionWidget, wait)
    mask = next(layer for layer in viewer.layers if "tumor" in layer.name)
    mask.paint((0, 8, 40, 6), 5)
    before, count = np.array(mask.data), len(viewer.layers)
    widget.register.setCurrentText("none")
    calls: list[object] = []

    def lost(_module: torch.nn.Module, _inputs: object) -> None:
        calls.append(None)
        if len(calls) > 20:  # in the middle of the network
            raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA.")

    hook = torch.nn.modules.module.register_module_forward_pre_hook(lost)
    try:
        widget.run()
        wait(lambda: not widget.work.busy)
    finally:
        hook.remove()
    (told,) = errors(notices)
    assert "the graphics card failed (CUDA error: unspecified launch failure)" in told
    assert "Choose cpu" in told
    assert "\n" not in told
    assert widget.result.progression is None
    assert len(viewer.layers) == count
    assert np.array_equal(mask.data, before)
    assert sum(verbs.editing_of(viewer).pending([mask]).values()) > 0
    assert verbs.editing_of(viewer).is_unsaved
    widget.run()  # on the CPU it goes on
    wait(lambda: not widget.work.busy)
    assert widget.result.progression is not None


def test_a_layer_that_goes_while_its_lesions_are_followed_is_no_harm(
    make_napari_viewer: Callable[..., Any], ball_study: Path, wait: Wait, notices: list[Any]
) -> None:
    viewer = make_napari_viewer(show=False)
    verbs.open_path(viewer, ball_study)
    widget = ProgressionWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name="Progression")
    verbs.track_layers(viewer)
    widget.result.show_result(verbs.result_of(viewer))
    first, second = verbs.result_of(viewer).layers
    second.paint((0, 8, 40, 6), 1)
    painted = int(verbs.editing_of(viewer).marks(second).painted.sum())
    widget.follow_again()
    assert widget.work.busy
    viewer.layers.remove(first)
    wait(lambda: not widget.work.busy)
    assert not [text for text in errors(notices) if "report" in text]
    assert second in viewer.layers
    assert int(verbs.editing_of(viewer).marks(second).painted.sum()) == painted > 0


def test_a_folder_that_goes_between_listing_and_loading_is_said(
    make_napari_viewer: Callable[..., Any], tmp_path: Path, wait: Wait, notices: list[Any]
) -> None:
    viewer = make_napari_viewer(show=False)
    widget = StudyWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name="Study")
    folder = write_ball_study(tmp_path / "network" / "sub-x")
    widget.look_into(str(folder))
    wait(lambda: not widget.work.busy)
    shutil.rmtree(folder)
    widget.load()
    wait(lambda: not widget.work.busy)
    assert len(viewer.layers) == 0
    (said,) = errors(notices)
    assert "sub-x" in said
    assert "report" not in said
    assert widget.load_button.isEnabled()  # it can be tried again when the folder is back
    write_ball_study(folder)
    widget.load()
    wait(lambda: not widget.work.busy and len(viewer.layers) == 4)


def test_a_window_that_is_closed_while_a_file_is_written_leaves_the_old_one(
    make_napari_viewer: Callable[..., Any], tmp_path: Path, wait: Wait
) -> None:
    viewer = make_napari_viewer(show=False)
    bar = bar_in(viewer)
    path = tmp_path / "mask.txt"
    path.write_text("what was there")
    writing, ended = threading.Event(), threading.Event()

    def write(_progress: Any, cancelled: Any) -> None:
        try:
            with files.replacing(path) as temporary:
                temporary.write_text("half of it")
                writing.set()
                for _ in range(2000):
                    threading.Event().wait(0.01)
                    check(cancelled)
        finally:
            ended.set()

    bar.start("Saving", write, lambda _found: None)
    wait(writing.is_set)
    viewer.close()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    wait(ended.is_set, 30)
    assert path.read_text() == "what was there"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["mask.txt"]
