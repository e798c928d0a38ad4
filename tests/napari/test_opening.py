"""What is dropped on the window opens as a job: the call returns at once, layers come one by one, Cancel leaves nothing behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent

import napari_medseq as ms
from napari_medseq._napari.window import accompany
from napari_medseq._napari.work import WorkBar
from napari_medseq.viewer.opening import layer_data_of_all
from napari_medseq.viewer.preference import PATTERNS
from tests.napari.helpers import Wait


def drop(viewer: Any, paths: Sequence[Path]) -> None:
    """Drop files on the canvas, as from the desktop."""
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    event = QDropEvent(QPointF(50, 50), Qt.CopyAction, mime, Qt.LeftButton, Qt.NoModifier)
    viewer.window._qt_viewer.dropEvent(event)


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    """An empty viewer that opens everything with us, as `doctor --prefer` settles it."""
    from napari.settings import get_settings

    viewer = make_napari_viewer(show=False)
    get_settings().plugins.extension2reader = dict.fromkeys(PATTERNS, "napari-medseq")
    return viewer


@pytest.mark.viewer
def test_a_dropped_folder_opens_in_a_job(viewer: Any, ball_study: Path, wait: Wait, notices: Any) -> None:
    drop(viewer, [ball_study])
    assert len(viewer.layers) == 0  # nobody waits for it
    opener = accompany(viewer).opener
    wait(lambda: opener.work.busy)
    wait(lambda: not opener.work.busy)
    assert [layer.name for layer in viewer.layers] == [item[1]["name"] for item in layer_data_of_all([ball_study])]
    assert viewer.layers[0].visible
    assert len(notices) == len(set(notices))  # no doubt is told twice


@pytest.mark.viewer
def test_slices_dropped_together_are_one_job(viewer: Any, two_images: list[Path], wait: Wait) -> None:
    drop(viewer, two_images)
    opener = accompany(viewer).opener
    wait(lambda: len(viewer.layers) == 2 and not opener.work.busy)


@pytest.mark.viewer
def test_cancel_takes_out_what_came_already(viewer: Any, ball_study: Path, wait: Wait) -> None:
    opener = accompany(viewer).opener
    seen: list[int] = []

    def cancel(_event: object) -> None:
        seen.append(len(viewer.layers))
        opener.work.cancel()

    viewer.layers.events.inserted.connect(cancel)
    drop(viewer, [ball_study])
    wait(lambda: opener.work.busy)
    wait(lambda: not opener.work.busy)
    viewer.layers.events.inserted.disconnect(cancel)
    assert seen == [1]
    assert len(viewer.layers) == 0


@pytest.mark.viewer
def test_a_script_has_its_layers_when_the_call_returns(viewer: Any, ball_study: Path) -> None:
    assert len(viewer.open(str(ball_study), plugin="napari-medseq")) == len(viewer.layers) > 0


def test_each_does_one_item_in_a_turn_of_the_event_loop(qtbot: Any) -> None:
    work = WorkBar()
    qtbot.addWidget(work)
    done: list[int] = []
    ended: list[bool] = []
    work.each("Counting", range(3), done.append, ended.append)
    assert not done
    assert work.busy
    qtbot.waitUntil(lambda: ended == [False])
    assert done == [0, 1, 2]
    assert not work.busy


@pytest.fixture
def two_images(tmp_path: Path) -> list[Path]:
    """Two volumes."""
    paths = [tmp_path / "one.nii.gz", tmp_path / "two.nii.gz"]
    for path in paths:
        seq = ms.ImageSequence(
            np.random.default_rng(0).normal(size=(4, 6, 5)).astype(np.float32), ("z", "y", "x"), np.eye(4)
        )
        ms.write(seq, path)
    return paths
