"""Fixtures of the viewer's tests: a segmenter that knows the answer, and waiting for workers."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from napari.components import ViewerModel

from napari_medseq import viewer as verbs
from napari_medseq.models import library
from tests.napari.spared import spare_windows


@pytest.fixture(scope="module", autouse=True)
def _spare_the_processor() -> None:
    """What is the same in every window is worked out once, and what modules hold for ever is not walked at each collection of garbage.

    Nor does any test write into the settings of the person at this machine.
    """
    from napari import settings

    spare_windows()
    settings._SETTINGS = settings.NapariSettings(config_path=None)
    gc.collect()
    gc.freeze()


@pytest.fixture
def knows(monkeypatch: pytest.MonkeyPatch, bright_bundle: Path) -> Path:
    """The only model there is: "tiny", a real network that is right about the balls."""
    monkeypatch.setattr(library, "SHIPPED", bright_bundle.parent)
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(bright_bundle.parent))
    return bright_bundle


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


@pytest.fixture
def opened(ball_study: Path) -> ViewerModel:
    """A viewer model with the study of balls: two visits, on different grids."""
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    return viewer
