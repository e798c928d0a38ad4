"""The menu beside a list of models: install from a file and an address, check, remove; a misfit is overruled knowingly."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMainWindow, QMessageBox

import napari_medseq as ms
from napari_medseq._napari.controls.model_box import ModelBox
from tests.napari.helpers import Wait
from tests.narrowing import some

pytestmark = pytest.mark.viewer


@pytest.fixture
def lists(
    qtbot: Any, wait: Wait, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[ModelBox]]:
    """Two lists of models, as two docks have them; "tiny" is shipped, and no other is installed."""
    monkeypatch.setattr("napari_medseq.models.library.SHIPPED", tiny_bundle.parent)
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(tmp_path / "models"))
    window = QMainWindow()
    boxes = [ModelBox(["segmentation"]) for _ in range(2)]
    for box in boxes:
        window.addToolBar("dock").addWidget(box)
    qtbot.addWidget(window)
    for box in boxes:
        wait(box.box.isEnabled)
    yield boxes
    window.close()


@pytest.fixture
def zipped(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A model as a publisher offers it."""
    folder = shutil.copytree(tiny_bundle, tmp_path / "other")
    file = folder / "configs" / "metadata.json"
    facts = json.loads(file.read_text())
    facts["napari_medseq"]["name"] = "other"
    file.write_text(json.dumps(facts))
    return Path(shutil.make_archive(str(tmp_path / "offered" / "other"), "zip", folder))


@pytest.fixture
def server(zipped: Path) -> Iterator[str]:
    """Its address."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(zipped.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/{zipped.name}"
        running.shutdown()


def entry(box: ModelBox, text: str) -> Any:
    """The menu's entry that begins so, as it is when the menu opens."""
    menu = box.folder_button.menu()
    menu.aboutToShow.emit()
    return next(action for action in menu.actions() if action.text().startswith(text))


def names(box: ModelBox) -> list[str]:
    return [box.box.itemText(k) for k in range(box.box.count())]


def answers(*given: Any) -> Callable[..., Any]:
    """A dialog that a person answers so, one after another."""
    waiting = list(given)
    return lambda *_args, **_more: waiting.pop(0)


def test_a_model_is_installed_from_a_file_checked_and_removed_in_every_list(
    lists: list[ModelBox], zipped: Path, wait: Wait, monkeypatch: pytest.MonkeyPatch, notices: list[Any]
) -> None:
    box, other = lists
    monkeypatch.setattr(QFileDialog, "getOpenFileName", answers((str(zipped), "")))
    entry(box, "Install from a file").trigger()
    wait(lambda: not box.work.busy)
    assert notices == [("info", "The model other is installed.")]
    assert names(box) == names(other) == ["tiny", "other"]
    # what ships stays, and the entry says so
    assert not entry(box, "Remove").isEnabled()
    assert "ships with the package" in entry(box, "Remove").toolTip()
    box.choose("other")
    entry(box, "Check").trigger()
    wait(lambda: not box.work.busy)
    assert notices[-1] == ("info", "other is whole: it loads, and no file has changed.")
    card = next(Path(some(box.info).folder).rglob("metadata.json"))
    card.write_text(card.read_text() + " ")
    entry(box, "Check").trigger()
    wait(lambda: not box.work.busy)
    assert notices[-1][0] == "error"
    assert "metadata.json" in notices[-1][1]
    monkeypatch.setattr(QMessageBox, "question", answers(QMessageBox.No, QMessageBox.Yes))
    entry(box, "Remove").trigger()
    assert names(other) == ["tiny", "other"]
    folder = Path(some(box.info).folder)
    entry(box, "Remove").trigger()
    assert names(box) == names(other) == ["tiny"]
    assert not folder.exists()


def test_a_model_from_the_internet_needs_the_sum_that_its_publisher_states(
    lists: list[ModelBox], zipped: Path, server: str, wait: Wait, monkeypatch: pytest.MonkeyPatch, notices: list[Any]
) -> None:
    box, other = lists
    sha = hashlib.sha256(zipped.read_bytes()).hexdigest()
    for given in ("0" * 64, sha):
        monkeypatch.setattr(QInputDialog, "getText", answers((server, True), (given, True)))
        entry(box, "Install from the internet").trigger()
        wait(lambda: not box.work.busy)
        if given != sha:
            assert notices[-1][0] == "error"
            assert sha in notices[-1][1]
            assert names(other) == ["tiny"]
    assert notices[-1] == ("info", "The model other is installed.")
    assert names(box) == names(other) == ["tiny", "other"]


def test_a_model_that_does_not_fit_is_used_only_when_that_is_overruled(lists: list[ModelBox]) -> None:
    box = lists[0]
    image = ms.ImageSequence(np.zeros((4, 8, 8), np.float32), ("z", "y", "x"), np.eye(4), name="scan", modality="CT")
    box.fit_to([image])
    assert "tiny" in box.misfits.text()
    assert "CT" in box.misfits.text()
    assert not box.box.model().item(0).isEnabled()
    assert [box.force, box.overrule.isHidden()] == [False, False]
    box.overrule.click()
    assert box.box.model().item(0).isEnabled()
    assert box.force
    box.fit_to([image.replace(modality="MR", name="T1post")])
    assert box.misfits.isHidden()


def test_the_model_whose_images_are_called_so_is_chosen_until_the_user_chooses(qtbot: Any, wait: Wait) -> None:
    box = ModelBox(["segmentation"])
    qtbot.addWidget(box)
    wait(box.box.isEnabled)
    assert box.box.currentText() == "brain-tumor"
    image = ms.ImageSequence(np.zeros((4, 5, 6), np.float32), ("z", "y", "x"), np.eye(4), name="hippocampus_007")
    box.fit_to([image])
    assert box.box.currentText() == "hippocampus"
    channels = [image.replace(name=name) for name in ("CT_image", "PET_image", "MR_T1_image")] * 2
    box.fit_to(channels)
    assert box.box.currentText() == "sarcoma"
    box.fit_to(channels[:2])  # no MR: nothing is known to be meant
    assert box.box.currentText() == "sarcoma"
    box.fit_to([image.replace(name="T1"), image.replace(name="cine_sax")])
    assert box.box.currentText() == "left-ventricle"
    box.choose("lung-nodule")
    box.fit_to([image])
    assert box.box.currentText() == "lung-nodule"
    box.fit_to([image.replace(modality="MR")])  # which it does not fit
    assert box.box.currentText() == "hippocampus"
