"""Fixtures of the viewer's tests: a segmenter that knows the answer, and waiting for workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq.inference import Segmentation
from napari_medseq.progress import check

Wait = Callable[..., None]


def bright(image: Any, _model: Any, **options: Any) -> Any:
    """The balls of the study are brighter than 300; steps through the slices as the engine does."""
    seq = next(iter(image.values())) if isinstance(image, dict) else image
    n = seq.size("z")
    for k in range(n):
        check(options.get("cancelled"))
        if options.get("progress"):
            options["progress"](k + 1, n, "bright")
    labels = (np.asarray(seq.data) > 300).astype(np.uint8)
    found = seq.labels_like(labels, name="found", label_names={1: "lesion"})
    shade = seq.like(labels.astype(np.float32)) if "uncertainty" in options.get("outputs", ()) else None
    return Segmentation(found, None, shade, "bright 1")


@pytest.fixture
def knows(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> Path:
    """The only model there is: "tiny", a segmenter that is right about the balls."""
    monkeypatch.setattr("napari_medseq.models.library.SHIPPED", tiny_bundle.parent)
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(tiny_bundle.parent))
    # this one first: looked up for the first time after the other it would be "bright", and stay so when all is undone
    monkeypatch.setattr(ms, "segment", bright, raising=False)
    monkeypatch.setattr("napari_medseq.inference.segment", bright)
    return tiny_bundle


def as_plugins_see_it(viewer: Any) -> Any:
    """The proxy of a viewer that napari gives to plugins: another object for the same layer at each look."""
    from napari.utils._proxies import PublicOnlyProxy

    return PublicOnlyProxy(viewer)


@pytest.fixture
def notices() -> Any:
    """What the user was told: (severity, message) of each notification."""
    from napari.utils.notifications import notification_manager

    told: list[tuple[str, str]] = []

    def hear(notice: Any) -> None:
        told.append((str(notice.severity), str(notice.message)))

    notification_manager.notification_ready.connect(hear)
    yield told
    notification_manager.notification_ready.disconnect(hear)


@pytest.fixture
def wait(qtbot: Any) -> Callable[..., None]:
    """Wait until something is true, while the GUI lives on."""

    def until(true: Callable[[], bool], seconds: float = 250) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "waited too long"
            qtbot.wait(10)

    return until


@pytest.fixture
def viewer(make_napari_viewer: Any, ball_study: Path) -> Any:
    """A viewer with the study of balls open in it."""
    viewer = make_napari_viewer(show=False)
    verbs.open_path(viewer, ball_study)
    return viewer


def click(qtbot: Any, button: Any) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.LeftButton)


def docked(viewer: Any, kind: type, wait: Wait) -> Any:
    """A widget in the viewer's dock, as the plugin's menu makes it, when its models are known."""
    widget = kind(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name=kind.__name__)
    if hasattr(widget, "model"):
        wait(widget.model.box.isEnabled)
    return widget
