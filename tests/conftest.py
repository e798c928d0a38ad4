"""Fixtures for every test: a small study on disk, a small network as a bundle, and quiet, headless libraries."""

from __future__ import annotations

import gc
import itertools
import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.balls import write_ball_study
from tests.tiny import write_tiny_bundle

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("NAPARI_ASYNC", "0")
# How long an example takes says something of the machine, not of the code. The suite tries the same examples each time, so that a change
# is judged by itself; `--hypothesis-profile=explore` draws new ones, which the nightly run does.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, derandomize=False)
settings.load_profile("same")

_tests = itertools.count()


def pytest_collection_finish() -> None:
    """Modules and thousands of collected tests stay to the end: no collection of garbage has to walk them again and again.

    What a window or a network makes is collected in larger heaps, too: after each 700 new objects there is hardly ever any garbage.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True)
def _own_models_only(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the models that the person at this machine has installed, nor what the viewer left to recover.

    The folders are names until something is written there: most tests write nothing, and thousands of empty folders take their time.
    """
    base = tmp_path_factory.getbasetemp()
    key = base / "pseudonyms.key"
    if not key.exists():
        key.write_bytes(b"the key of the tests, the same in each run")
    own = base / f"own-{next(_tests)}"
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(own / "no-models"))
    monkeypatch.setenv("NAPARI_MEDSEQ_STATE", str(own / "state"))
    monkeypatch.setenv("NAPARI_MEDSEQ_PSEUDONYMS", str(key))


@pytest.fixture(scope="session")
def ball_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two visits of balls: one grows, one vanishes, one is new. Do not write into it."""
    return write_ball_study(tmp_path_factory.mktemp("study") / "sub-x")


@pytest.fixture(scope="session")
def bright_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real network that is right about the balls; called as the untrained one."""
    pytest.importorskip("torch")
    from tests.bright import write_bright_bundle

    return write_bright_bundle(tmp_path_factory.mktemp("right") / "tiny")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained recurrent network with fixed weights, as a segmentation bundle for T1post MR images."""
    pytest.importorskip("torch")
    return write_tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")
