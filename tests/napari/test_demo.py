"""`make demo` on a screen: the study, the tracked lesions and the widget stand in a real viewer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.cli import demo
from napari_medseq.errors import MedseqError
from tests.narrowing import some


@pytest.mark.viewer
@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_the_demo_fills_a_viewer(make_napari_viewer: Callable[[], Any], ball_study: Path, bright_bundle: Path) -> None:
    study = ms.read_study(ball_study)
    progression = ms.run(study, bright_bundle, register="none")
    viewer = make_napari_viewer()
    demo.fill(viewer, study, progression)
    shown = [layer for layer in viewer.layers if layer.metadata.get("napari-medseq") and "lesions" in layer.name]
    assert len(shown) == 2
    for layer, labels in zip(shown, progression.labels, strict=True):
        np.testing.assert_array_equal(np.squeeze(layer.data), np.asarray(some(labels).data))
    assert any("Progression" in name for name in viewer.window.dock_widgets)
    assert "Progression plot" in viewer.window.dock_widgets


def test_without_napari_the_demo_says_what_to_install(monkeypatch: pytest.MonkeyPatch, ball_study: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "napari", None)
    study = ms.read_study(ball_study)
    with pytest.raises(MedseqError, match=r"napari-medseq\[all\]"):
        demo.show(study, None)
