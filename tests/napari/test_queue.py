"""Jobs wait for one another, and say so; what takes little, such as saving, waits for none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from qtpy.QtWidgets import QMainWindow, QVBoxLayout, QWidget

from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq.progress import check
from tests.napari.helpers import Wait

pytestmark = pytest.mark.viewer


@pytest.fixture
def bars(qtbot: Any) -> Iterator[list[WorkBar]]:
    """Of three docks of one window."""
    window = QMainWindow()
    window.setCentralWidget(QWidget())
    column = QVBoxLayout(window.centralWidget())
    bars = [WorkBar() for _ in range(3)]
    for bar in bars:
        column.addWidget(bar)
    qtbot.addWidget(window)
    yield bars
    window.close()


def job(until: threading.Event, what: str) -> Callable[..., str]:
    def run(_progress: Any, cancelled: Any) -> str:
        while not until.wait(0.005):
            check(cancelled)
        return what

    return run


def test_a_second_job_waits_says_for_what_and_begins_by_itself(bars: list[WorkBar], wait: Wait) -> None:
    first, second, _ = bars
    done: list[str] = []
    may_end = threading.Event()
    assert first.start("Training", job(may_end, "trained"), done.append)
    assert second.start("Segmenting", job(may_end, "segmented"), done.append)
    assert second.busy
    assert second.message.text() == "Segmenting: waits until training is done"
    may_end.set()
    wait(lambda: not first.busy and not second.busy)
    assert done == ["trained", "segmented"]


def test_a_job_that_waits_is_given_up_at_once(bars: list[WorkBar], wait: Wait, notices: list[Any]) -> None:
    first, second, third = bars
    done: list[str] = []
    may_end = threading.Event()
    for bar, what in zip(bars, ("one", "two", "three"), strict=True):
        assert bar.start(what.capitalize(), job(may_end, what), done.append)
    second.cancel_button.click()
    assert not second.busy
    assert notices == [("info", "Two: cancelled before it began.")]
    may_end.set()
    wait(lambda: not first.busy and not third.busy)
    assert done == ["one", "three"]


def test_saving_waits_for_no_job_and_lets_none_begin_early(bars: list[WorkBar], wait: Wait) -> None:
    training, waiting, saving = bars
    done: list[str] = []
    may_end, at_once = threading.Event(), threading.Event()
    training.start("Training", job(may_end, "trained"), done.append)
    waiting.start("Segmenting", job(may_end, "segmented"), done.append)
    saving.start("Saving", job(at_once, "saved"), done.append, at_once=True)
    assert saving.message.text() == "Saving"
    at_once.set()
    wait(lambda: not saving.busy)
    assert done == ["saved"]
    assert "waits" in waiting.message.text()
    may_end.set()
    wait(lambda: not waiting.busy)
    assert done == ["saved", "trained", "segmented"]


def test_what_was_written_before_cancel_was_noticed_is_said(
    bars: list[WorkBar], wait: Wait, notices: list[Any]
) -> None:
    done: list[str] = []
    for bar, writes in zip(bars, (True, False), strict=False):
        may_end = threading.Event()

        def job(_progress: Any, _cancelled: Any, may_end: threading.Event = may_end) -> str:
            may_end.wait(10)
            return "written"

        bar.start("Saving", job, done.append, at_once=True, writes=writes)
        bar.cancel()
        may_end.set()
        wait(lambda bar=bar: not bar.busy)
    assert done == ["written"]
    assert notices == [("info", "Saving: cancelled, nothing was changed.")]
