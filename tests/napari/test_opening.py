"""What is dropped on the window opens as a job: the call returns at once, layers come one by one, Cancel leaves nothing behind."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from PIL import Image
from qtpy.QtCore import QMimeData, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDropEvent, QGuiApplication

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.progression_widget import ProgressionWidget
from napari_medseq._napari.window import opening
from napari_medseq._napari.window.services import accompany
from napari_medseq.errors import OperationCancelled
from napari_medseq.viewer.layers.studies import facts_of
from napari_medseq.viewer.opening import layer_data_of_all
from napari_medseq.viewer.preference import PATTERNS
from tests.balls import write_ball_study
from tests.napari.helpers import Wait, as_plugins_see_it
from tests.narrowing import some


def drop(viewer: Any, paths: Sequence[Path]) -> None:
    """Drop files on the canvas, as from the desktop."""
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    event = QDropEvent(QPointF(50, 50), Qt.CopyAction, mime, Qt.LeftButton, Qt.NoModifier)
    assert not QGuiApplication.keyboardModifiers(), "with Alt held napari asks for a reader, and nobody answers"
    viewer.window._qt_viewer.dropEvent(event)


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    """An empty viewer that opens everything with us, as `doctor --prefer` settles it."""
    from napari.settings import get_settings

    viewer = make_napari_viewer(show=False)
    get_settings().plugins.extension2reader = dict.fromkeys(PATTERNS, "napari-medseq")
    return viewer


@pytest.mark.viewer
def test_a_dropped_folder_opens_in_a_job(
    viewer: Any, ball_study: Path, wait: Wait, notices: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead: list[threading.Thread] = []
    monkeypatch.setattr(opening, "_load_ahead", lambda: ahead.append(threading.current_thread()))
    drop(viewer, [ball_study])
    assert len(viewer.layers) == 0  # nobody waits for it
    opener = some(accompany(viewer)).opener
    wait(lambda: opener.work.busy)
    wait(lambda: not opener.work.busy)
    assert [layer.name for layer in viewer.layers] == [item[1]["name"] for item in layer_data_of_all([ball_study])]
    assert viewer.layers[0].visible
    assert len(notices) == len(set(notices))  # no doubt is told twice
    # what napari loads with its first layers is loaded by the worker, which does not hold the window
    assert [thread is threading.main_thread() for thread in ahead] == [False]


def cancelled_at_each_layer(viewer: Any, path: Path, wait: Wait) -> list[int]:
    """Drop it, press Cancel whenever a layer comes, and wait for the end; how many layers there were each time."""
    opener = some(accompany(viewer)).opener
    seen: list[int] = []

    def cancel(_event: object) -> None:
        seen.append(len(viewer.layers))
        opener.work.cancel()

    viewer.layers.events.inserted.connect(cancel)
    drop(viewer, [path])
    wait(lambda: opener.work.busy)
    wait(lambda: not opener.work.busy)
    viewer.layers.events.inserted.disconnect(cancel)
    return seen


@pytest.mark.viewer
def test_slices_dropped_together_are_one_job(viewer: Any, two_images: list[Path], wait: Wait) -> None:
    drop(viewer, two_images)
    opener = some(accompany(viewer)).opener
    wait(lambda: len(viewer.layers) == 2 and not opener.work.busy)


@pytest.mark.viewer
def test_cancel_takes_out_what_came_already(viewer: Any, ball_study: Path, wait: Wait) -> None:
    assert cancelled_at_each_layer(viewer, ball_study, wait) == [1]
    assert len(viewer.layers) == 0


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """A session with painting that is not followed and a result."""
    work = ViewerModel()
    verbs.open_path(work, write_ball_study(tmp_path / "sub-x"))
    verbs.track_layers(work)
    verbs.result_of(work).layers[1].paint((0, 8, 40, 6), 1)
    work.dims.set_point(0, 1)
    return verbs.save_session(work, tmp_path / "work.medseq")


@pytest.mark.viewer
def test_a_dropped_session_opens_in_a_job_beside_what_was_dropped_with_it(
    viewer: Any, session: Path, two_images: list[Path], wait: Wait
) -> None:
    drop(viewer, [two_images[0], session])
    assert len(viewer.layers) == 0
    opener = some(accompany(viewer)).opener
    wait(lambda: len(viewer.layers) == 7 and not opener.work.busy)
    whole = ViewerModel()
    verbs.open_session(whole, session)
    assert verbs.painted(viewer) == verbs.painted(whole) != {}
    for layer in whole.layers:
        assert np.array_equal(viewer.layers[layer.name].data, layer.data)
    assert verbs.result_of(viewer).progression.lesions.equals(verbs.result_of(whole).progression.lesions)


@pytest.mark.viewer
def test_a_session_that_is_cancelled_leaves_nothing_and_one_without_its_images_says_so(
    viewer: Any, session: Path, wait: Wait, notices: list[Any]
) -> None:
    cancelled_at_each_layer(viewer, session, wait)
    assert len(viewer.layers) == 0
    assert not verbs.results_of(viewer)
    next((session.parent / "sub-x").rglob("*_T1post.nii.gz")).unlink()
    drop(viewer, [session])
    wait(lambda: len(viewer.layers) == 5 and not some(accompany(viewer)).opener.work.busy)
    assert any("Not everything of work.medseq could be opened" in text for _, text in notices)
    assert verbs.results_of(viewer)


def test_reading_a_session_can_be_cancelled_at_each_layer(session: Path) -> None:
    steps: list[str] = []
    content = verbs.read_session(session, progress=lambda _done, _whole, what: steps.append(what))
    assert len(content.layers) == 6
    assert [step.split()[0] for step in steps] == ["sub-x"] * 6 + ["result"]
    with pytest.raises(OperationCancelled):
        verbs.read_session(
            session, progress=lambda done, *_: steps.append(str(done)), cancelled=lambda: steps[-1] == "3"
        )
    assert steps[-1] == "3"


@pytest.fixture
def result(session: Path) -> Path:
    """The folder of a result, whose patient is not open."""
    work = ViewerModel()
    verbs.open_session(work, session)
    verbs.follow_again(work)
    return verbs.write_result(work, verbs.result_of(work), session.parent / "result")


@pytest.mark.viewer
def test_a_dropped_result_opens_in_a_job_with_the_images_that_its_record_names(
    viewer: Any, result: Path, wait: Wait
) -> None:
    drop(viewer, [result])
    assert len(viewer.layers) == 0  # nobody waits for it
    opener = some(accompany(viewer)).opener
    counts: list[int] = []
    viewer.layers.events.inserted.connect(lambda _event: counts.append(len(viewer.layers)))
    wait(lambda: opener.work.busy)
    wait(lambda: not opener.work.busy)
    assert counts == [1, 2, 3, 4]  # two images and the lesions of two visits, one in each turn
    whole = ViewerModel()
    verbs.open_result(whole, result)
    assert [layer.name for layer in viewer.layers] == [layer.name for layer in whole.layers]
    for layer in whole.layers:
        assert np.array_equal(viewer.layers[layer.name].data, layer.data)
    found = verbs.result_of(viewer, "sub-x")
    assert found.progression.lesions.equals(verbs.result_of(whole).progression.lesions)
    assert not verbs.editing_of(viewer).is_unsaved
    found.layers[0].data[0, 0, 0, 0] = 7  # what is painted on the screen is not the result's own
    assert not any((np.asarray(seq.data) == 7).any() for _, seq in found.shown)


@pytest.mark.viewer
def test_a_result_that_is_cancelled_leaves_nothing_and_over_open_images_only_its_lesions_come(
    viewer: Any, result: Path, wait: Wait
) -> None:
    cancelled_at_each_layer(viewer, result, wait)
    assert (len(viewer.layers), verbs.results_of(viewer)) == (0, {})
    verbs.open_path(viewer, result.parent / "sub-x")
    before = len(viewer.layers)
    widget = ProgressionWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name="Progression")
    for _ in range(2):  # opened again, its lesions are not doubled
        widget.open_saved(str(result))
        assert widget.work.busy
        wait(lambda: not widget.work.busy)
        assert len(viewer.layers) == before + 2
    assert widget.result.progression is verbs.result_of(viewer).progression
    # a dock that is opened after the result shows it at once
    later = ProgressionWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(later, name="Progression later")
    assert later.result.progression is widget.result.progression
    assert later.result.table.rowCount() == widget.result.table.rowCount() > 0


def test_reading_a_result_can_be_cancelled_at_each_visit(result: Path) -> None:
    steps: list[str] = []
    content = verbs.read_result(result, progress=lambda done, whole, _what: steps.append(f"{done} of {whole}"))
    assert steps == ["1 of 3", "2 of 3", "3 of 3"]
    assert len(content.layers) == 4
    with pytest.raises(OperationCancelled):
        verbs.read_result(result, progress=lambda done, *_: steps.append(str(done)), cancelled=lambda: steps[-1] == "2")
    assert steps[-1] == "2"


@pytest.mark.viewer
def test_texts_of_a_first_image_come_one_by_one_and_the_next_image_waits_for_them(
    viewer: Any, ball_study: Path, wait: Wait
) -> None:
    accompany(viewer)
    turns, made = [0], list[int]()
    timer = QTimer()
    timer.timeout.connect(lambda: turns.append(turns[-1] + 1))
    timer.start(0)  # once in each turn of the event loop
    viewer.canvas.overlays.events.added.connect(lambda _event: made.append(turns[-1]))
    layers: list[int] = []
    viewer.layers.events.inserted.connect(lambda _event: layers.append(len(made)))
    drop(viewer, [ball_study])
    opener = some(accompany(viewer)).opener
    wait(lambda: opener.work.busy)
    wait(lambda: not opener.work.busy)
    assert layers[:2] == [0, len(made)]
    assert len(made) == len(set(made)) >= 5  # the window lived between any two of them
    assert viewer.canvas.overlays["medseq identity"].text.startswith("sub-x")


@pytest.mark.viewer
def test_a_script_has_its_layers_when_the_call_returns(viewer: Any, ball_study: Path) -> None:
    assert len(viewer.open(str(ball_study), plugin="napari-medseq")) == len(viewer.layers) > 0


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")
def test_a_folder_of_labels_beside_a_video_is_no_patient_and_can_be_given_to_the_one_there_is(tmp_path: Path) -> None:
    for name in ("frames", "labels"):
        (tmp_path / "seq1" / name).mkdir(parents=True)
        for k in range(3):
            picture = np.full((8, 9), k, np.uint8) if name == "labels" else np.full((8, 9, 3), 40 * k, np.uint8)
            Image.fromarray(picture).save(tmp_path / "seq1" / name / f"{k:04}.png")
    viewer = ViewerModel()
    data = layer_data_of_all([tmp_path / "seq1" / "frames", tmp_path / "seq1" / "labels"])
    video, mask = verbs.add_layers(viewer, data)
    assert [facts_of(layer).get("study") for layer in (video, mask)] == ["frames", None]
    assert verbs.patient_in_front(viewer) == "frames"
    assert video.visible
    assert mask.data.shape == video.data.shape[:3] == (3, 8, 9)
    mine = verbs.assign_visit(viewer, mask, "frames", 0)
    assert (facts_of(mine)["study"], mine.data.shape) == ("frames", (3, 8, 9))
    assert verbs.assign_visit(viewer, mine, "frames", 0) == mine
    assert len(viewer.layers) == 2
    (seq,) = verbs.study_of(viewer).visits[0].labels
    assert seq.axes == ("t", "y", "x")


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
