"""Doubts are heard by the job that issued them, whatever another job does to Python's warnings meanwhile."""

from __future__ import annotations

import warnings
from threading import Event, Thread

from napari_medseq.errors import MedseqWarning, heard, unheard
from napari_medseq.io.parallel import in_threads


def warn(text: str) -> None:
    warnings.warn(text, MedseqWarning, stacklevel=2)


def recorded(job: object) -> list[str]:
    """What a job beside another hears, both with Python's recorder on, as the viewer's jobs have it."""
    with heard() as doubts, warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        job()  # type: ignore[operator]
    return doubts


def test_two_jobs_at_once_hear_their_own_doubts_and_lose_none() -> None:
    inside, ended = Event(), Event()
    of_second: list[str] = []

    def second() -> None:
        def job() -> None:
            inside.set()
            warn("of the second, early")
            ended.wait(10)
            warn("of the second, late")

        of_second.extend(recorded(job))

    other = Thread(target=second)

    def first() -> None:
        warn("of the first, early")
        other.start()
        inside.wait(10)
        warn("of the first, late")
        warn("of the first, late")

    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as outside of tests, where a warning is not an error
        of_first = recorded(first)
        ended.set()
        other.join()
    assert of_first == ["of the first, early", "of the first, late"]
    assert of_second == ["of the second, early", "of the second, late"]


def test_what_is_reported_elsewhere_is_not_heard_and_helping_threads_are() -> None:
    with heard() as outer, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with unheard(), heard() as inner:
            warn("inside")
        list(in_threads(warn, ["from a thread", "from another"], 2))
    assert inner == ["inside"]
    assert sorted(outer) == ["from a thread", "from another"]
