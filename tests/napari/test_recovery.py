"""Autosave: what is painted and not saved survives a crash, and is offered again."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QMessageBox

from napari_medseq import viewer as verbs
from napari_medseq._napari.window.services import accompany
from napari_medseq.viewer.editing.model import editing_of
from tests.napari.at_work import at_work
from tests.napari.helpers import Wait, masks, saved_mask
from tests.napari.person import paint

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")

_KILLED = """
import sys
from pathlib import Path
from tests.napari.at_work import at_work
from napari_medseq import viewer as verbs
viewer = at_work(Path(sys.argv[1]))
verbs.autosave(viewer)
print("saved", flush=True)
sys.stdin.read()
"""


def test_what_was_painted_survives_a_kill(ball_study: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _KILLED, str(ball_study)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "saved\n"
        assert verbs.recoverable() == []  # it is alive
        process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    (left,) = verbs.recoverable()
    assert any("lesions" in name for name in left.names)
    viewer = ViewerModel()
    verbs.recover(viewer, left)
    expected = at_work(ball_study)
    for layer in verbs.result_of(expected).layers:
        assert np.array_equal(viewer.layers[layer.name].data, layer.data)
    assert verbs.painted(viewer) == verbs.painted(expected)
    assert viewer.title.endswith("not saved")
    assert verbs.recoverable() == []  # it is this viewer's own now
    verbs.save_session(viewer, left.folder.parent / "saved")
    assert verbs.autosave(viewer) is None
    assert [p.name for p in verbs.recovery_folder().iterdir()] == ["saved"]


def test_work_is_offered_although_another_process_has_the_number_of_the_one_that_ended(ball_study: Path) -> None:
    left = verbs.autosave(at_work(ball_study))  # the viewer is gone, and this process, whose number it has, is not
    gc.collect()
    assert left is not None
    unfinished = left.with_name("1-unfinished") / "files-1"  # of a process that ended while it wrote for the first time
    unfinished.mkdir(parents=True)
    assert [one.folder for one in verbs.recoverable()] == [left]
    assert not unfinished.exists()


def test_work_that_is_recovered_beside_own_work_is_in_one_folder_with_it(ball_study: Path) -> None:
    first = verbs.autosave(at_work(ball_study))
    gc.collect()
    viewer = at_work(ball_study)
    own = verbs.autosave(viewer)
    assert first is not None
    assert own is not None
    verbs.recover(viewer, verbs.recoverable()[0])
    assert own.exists()  # until its content is written again
    names = {layer.name for layer in editing_of(viewer).unsaved}
    assert verbs.autosave(viewer) == first
    assert sorted(p.name for p in verbs.recovery_folder().iterdir()) == [first.name, f"{first.name}.lock"]
    del viewer
    gc.collect()
    (again,) = verbs.recoverable()
    assert names <= set(again.names)
    assert len({name.partition(" ses-")[0] for name in names}) == 2  # both patients
    verbs.discard(again)
    assert not list(verbs.recovery_folder().iterdir())


def test_work_of_which_a_mask_cannot_be_opened_is_kept_as_it_is(ball_study: Path) -> None:
    left = verbs.autosave(at_work(ball_study))
    gc.collect()
    assert left is not None
    damaged = next(left.rglob("labels-*.npz"))
    damaged.write_bytes(b"")
    before = {file for file in left.rglob("*") if file.is_file()}
    viewer = ViewerModel()
    with pytest.warns(UserWarning, match="Not everything"):
        verbs.recover(viewer, verbs.recoverable()[0])
    own = verbs.autosave(viewer)
    assert own is not None
    assert own != left
    assert {file for file in left.rglob("*") if file.is_file()} == before
    assert [one.folder for one in verbs.recoverable()] == [left]


def test_masks_that_were_only_open_come_back_too_and_are_not_unsaved(ball_study: Path) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    first, second = masks(viewer)
    editing_of(viewer).paint(first, np.arange(7), np.ones(7, int), "a stroke")
    verbs.autosave(viewer)
    names = [layer.name for layer in viewer.layers]
    untouched = np.array(second.data)
    del viewer, first, second
    gc.collect()
    (left,) = verbs.recoverable()
    assert left.names == (names[1],)
    again = ViewerModel()
    verbs.recover(again, left)
    assert [
        layer.name for layer in again.layers
    ] == names  # else the second visit would be followed as one without lesions
    assert np.array_equal(again.layers[names[3]].data, untouched)
    assert {layer.name for layer in editing_of(again).unsaved} == {names[1]}


def test_nothing_is_written_while_nothing_is_unsaved(ball_study: Path) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    assert verbs.autosave(viewer) is None
    assert not verbs.recovery_folder().exists()


@pytest.mark.viewer
@pytest.mark.parametrize("answer", [QMessageBox.Open, QMessageBox.Discard, QMessageBox.Cancel])
def test_the_next_window_offers_what_a_crash_left_behind(
    make_napari_viewer: Callable[..., Any], wait: Wait, ball_study: Path, answer: Any
) -> None:
    left = verbs.autosave(at_work(ball_study))
    assert left is not None
    left.rename(left.with_name("999999999-dead"))  # no process has that number
    viewer = make_napari_viewer(show=False)
    guardian = accompany(viewer)
    assert guardian is not None
    assert guardian.offer is not None
    assert "sub-x ses-20200131 lesions" in guardian.offer.text()
    guardian.offer.button(answer).click()
    assert guardian.offer is None
    assert len(viewer.layers) == 0  # it is read by a worker, with bar and Cancel
    if answer == QMessageBox.Open:
        wait(lambda: guardian.opener.work.busy)
        assert guardian.opener.work.title == "Opening unsaved work"
        wait(lambda: not guardian.opener.work.busy)
        assert viewer.title.endswith("not saved")
    assert bool(verbs.painted(viewer)) == (answer == QMessageBox.Open)
    assert len(verbs.recoverable()) == (answer == QMessageBox.Cancel)


@pytest.mark.viewer
def test_a_recovery_that_is_cancelled_or_damaged_is_offered_again(
    make_napari_viewer: Callable[..., Any], wait: Wait, ball_study: Path, notices: list[Any]
) -> None:
    left = verbs.autosave(at_work(ball_study))
    assert left is not None
    left = left.rename(left.with_name("999999999-dead"))
    viewer = make_napari_viewer(show=False)
    guardian = accompany(viewer)
    assert guardian is not None
    assert guardian.offer is not None
    cancel = lambda _event: guardian.opener.work.cancel()  # noqa: E731
    viewer.layers.events.inserted.connect(cancel)
    guardian.offer.button(QMessageBox.Open).click()
    wait(lambda: guardian.opener.work.busy)
    wait(lambda: not guardian.opener.work.busy)
    viewer.layers.events.inserted.disconnect(cancel)
    assert len(viewer.layers) == 0
    (again,) = verbs.recoverable()
    facts = json.loads((left / "session.json").read_text())
    (left / "session.json").write_text(json.dumps({**facts, "format": 99}))
    guardian.opener.recover(again)
    wait(lambda: any("another version" in text for _, text in notices))
    assert len(verbs.recoverable()) == 1


@pytest.mark.viewer
def test_autosave_is_written_by_a_thread_and_waits_for_the_stroke(
    viewer: Any, wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    guardian = accompany(viewer)
    assert guardian is not None
    assert paint(viewer, viewer.layers[1], (8, 30, 30), label=5).any()
    held = [True]
    monkeypatch.setattr("napari_medseq._napari.window.saving.mouse_is_held", lambda: held[0])
    guardian.autosaver.begin()
    assert not verbs.recovery_folder().exists()
    held[0] = False
    wait(lambda: len(list(verbs.recovery_folder().glob("*/session.json"))) == 1)
    (folder,) = (file.parent for file in verbs.recovery_folder().glob("*/session.json"))
    assert np.array_equal(saved_mask(folder, viewer.layers[1].name), viewer.layers[1].data)
    editing_of(viewer).saved()
    guardian.autosaver.finish()
    assert not folder.exists()


def test_recovered_masks_are_seen_although_an_answer_that_was_saved_hid_them(ball_study: Path) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    image = next(layer for layer in viewer.layers if layer.metadata["napari-medseq"]["kind"] == "image")
    labels = verbs.new_labels(viewer, image)
    verbs.editing_of(viewer).paint(labels, np.arange(7), np.ones(7, int), "a stroke")
    labels.visible = False
    verbs.autosave(viewer)
    name = labels.name
    del viewer, image, labels
    gc.collect()
    again = ViewerModel()
    (left,) = verbs.recoverable()
    verbs.recover(again, left)
    assert again.layers[name].data.any()
    assert again.layers[name].visible
