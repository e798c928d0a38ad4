"""Fixtures of the viewer's tests: a segmenter that knows the answer, and waiting for workers."""

from __future__ import annotations

import copy
import functools
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, MethodType, SimpleNamespace
from typing import Any

import pytest

from napari_medseq import viewer as verbs
from napari_medseq.models import library


@pytest.fixture(scope="module", autouse=True)
def _spare_the_processor() -> None:
    """What napari does again and again in each window and no test looks at.

    It collects garbage at every layer that goes (for one driver of Windows): what modules hold for ever need not be walked each time, and
    the end of each test collects anyway. Each welcome screen, there or gone, writes its shortcuts anew for every shortcut of every window.
    Each window looks through all installed packages for plugins, each canvas through the text of the same few shaders, and each connection
    of an event through the parameters of the same few functions. Settings are written at each change, into the person's own file.
    """
    from napari._qt.widgets import qt_welcome
    from napari._vispy import canvas
    from napari.utils.events.event import EventEmitter
    from npe2 import PluginManifest
    from vispy.visuals.shaders.function import Function

    from napari import settings

    qt_welcome.WELCOME_SHORTCUTS = ()
    qt_welcome.NAPARI_TIPS = ("Welcome.",)
    settings._SETTINGS = settings.NapariSettings(config_path=None)
    if not _done:
        _done.append(True)
        PluginManifest.discover = _Discovered(PluginManifest.discover)
        clean = functools.cache(functools.partial(Function._clean_code, None))
        Function._clean_code = lambda _self, code: clean(code)
        EventEmitter._check_signature = staticmethod(_Signatures(EventEmitter._check_signature))
        canvas.gc = SimpleNamespace(collect=lambda: None)
    gc.collect()
    gc.freeze()


_done: list[bool] = []


class _Discovered:
    """The manifests of the installed plugins, looked for once; copies of their own each time."""

    def __init__(self, discover: Callable[[], Iterator[Any]]) -> None:
        self._found = functools.cache(lambda: list(discover()))

    def __call__(self, paths: Sequence[str] = ()) -> Iterator[Any]:
        assert not paths
        for each in self._found():
            yield each._replace(manifest=copy.deepcopy(each.manifest))


class _Signatures:
    """Whether a function takes an event, asked once for all methods of one code."""

    def __init__(self, check: Callable[[Callable[..., object]], bool]) -> None:
        self._check = check
        self._known: dict[CodeType, bool] = {}

    def __call__(self, function: Callable[..., object]) -> bool:
        if not isinstance(function, MethodType) or hasattr(function, "__wrapped__"):
            return self._check(function)
        code = getattr(function.__func__, "__code__", None)
        if code is None:
            return self._check(function)
        if code not in self._known:
            self._known[code] = self._check(function)
        return self._known[code]


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
