"""What is painted is painted on the image that is seen: hidden images are shown, and those that cover them are hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.preprocess_widget import PreprocessWidget
from napari_medseq._napari.teach_widget import TeachWidget
from napari_medseq.viewer.visibility import set_visible
from tests.narrowing import some


@pytest.fixture
def phases(tmp_path: Path) -> Path:
    """A patient with two phases of the heart, of which the second is opened hidden."""
    folder = tmp_path / "patient1"
    for name in ("ED", "ES"):
        volume = np.arange(6 * 8 * 9, dtype=np.float32).reshape(6, 8, 9)
        ms.write(
            ms.ImageSequence(volume, ("z", "y", "x"), np.diag([-1, -1, 3, 1.0]), name=name), folder / f"{name}.nii.gz"
        )
    return folder


def shown(viewer: Any) -> dict[str, bool]:
    return {str(layer.name).removeprefix("patient1 "): bool(layer.visible) for layer in viewer.layers}


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
@pytest.mark.parametrize("kind", [TeachWidget, PreprocessWidget])
def test_a_dock_begins_with_an_image_that_is_shown(kind: Any, phases: Path, qtbot: Any) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, phases)
    assert shown(viewer) == {"ED": True, "ES": False}
    viewer.layers.selection.active = viewer.layers["patient1 ES"]  # as napari leaves it
    widget = kind(viewer)
    qtbot.addWidget(widget)
    box = widget.image if kind is TeachWidget else widget.layer
    assert some(box.layer).name == "patient1 ED"


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_the_image_that_is_chosen_is_seen(phases: Path, qtbot: Any) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, phases)
    widget = TeachWidget(viewer)
    qtbot.addWidget(widget)
    for key, seen in ((Qt.Key_Down, "ES"), (Qt.Key_Up, "ED")):
        qtbot.keyClick(widget.image, key)
        assert some(widget.image.layer).name == f"patient1 {seen}"
        assert {name for name, visible in shown(viewer).items() if visible} >= {seen}
        assert shown(viewer)["ES"] == (seen == "ES")  # ES lies above


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_new_labels_on_a_hidden_image_show_it_and_leave_what_does_not_cover_it(phases: Path) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, phases)
    first, second = viewer.layers
    glow = viewer.add_image(np.zeros((6, 8, 9)), scale=first.scale, translate=first.translate, blending="additive")
    verbs.new_labels(viewer, second)
    assert (first.visible, second.visible, glow.visible) == (True, True, True)
    verbs.new_labels(viewer, first)
    assert (first.visible, second.visible, glow.visible) == (True, False, True)
    second.blending, second.visible = "additive", True  # as PET over CT
    verbs.new_labels(viewer, first)
    assert second.visible


def test_showing_what_is_shown_leaves_the_tool_in_hand() -> None:
    labels = ViewerModel().add_labels(np.zeros((4, 5), np.uint8))
    labels.mode = "erase"
    set_visible(labels, True)
    assert str(labels.mode) == "erase"
    set_visible(labels, False)
    set_visible(labels, False)
    set_visible(labels, True)
    assert str(labels.mode) == "erase"
