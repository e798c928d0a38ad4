"""Fixtures of the viewer's tests: a segmenter that knows the answer, and waiting for workers."""

from __future__ import annotations

import functools
import gc
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from napari_medseq import viewer as verbs
from napari_medseq.models import library


@pytest.fixture(scope="module", autouse=True)
def _spare_the_processor() -> None:
    """What napari does again and again in each window and no test looks at.

    It collects garbage at every layer that goes: what modules hold for ever need not be walked each time. Each welcome screen, there or
    gone, writes its shortcuts anew for every shortcut of every window. Each window parses the manifests of all plugins, and each canvas
    the text of the same few shaders.
    """
    from napari._qt.widgets import qt_welcome
    from npe2.manifest import _bases
    from vispy.visuals.shaders.function import Function

    qt_welcome.WELCOME_SHORTCUTS = ()
    qt_welcome.NAPARI_TIPS = ("Welcome.",)
    if _bases._load_yaml_no_duplicates is not _manifest:
        _parsers.append(_bases._load_yaml_no_duplicates)
        _bases._load_yaml_no_duplicates = _manifest
        clean = functools.cache(functools.partial(Function._clean_code, None))
        Function._clean_code = lambda _self, code: clean(code)
    gc.collect()
    gc.freeze()


_parsers: list[Callable[[str], Any]] = []


@functools.cache
def _parsed(text: str) -> bytes:
    return pickle.dumps(_parsers[0](text))


def _manifest(stream: IO[str]) -> Any:
    """A manifest as npe2 reads it, parsed once; its own copy each time."""
    return pickle.loads(_parsed(stream.read()))


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
