"""Doubts are heard by the job that issued them, whatever another job does to Python's warnings meanwhile."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.errors import heard, unheard, warn
from napari_medseq.io.parallel import in_threads
from tests.unit.progression.masks import A, B, mask


def _image(**facts: object) -> ms.ImageSequence:
    voxels = np.random.default_rng(0).normal(size=(8, 24, 24)).astype(np.float32)
    return ms.ImageSequence(voxels, ("z", "y", "x"), np.eye(4), **facts)  # type: ignore[arg-type]


def _of_a_file(folder: Path) -> None:
    ms.write(_image(oriented=False), folder / "a.nii")
    ms.read(folder / "a.nii")


def _of_a_step(_folder: Path) -> None:
    voxels = _image().data.copy()
    voxels[0, 0, 0] = np.nan
    ms.preprocess(_image().replace(data=voxels), ["zscore"])


def _of_masks(_folder: Path) -> None:
    inverted = mask((0, 20, 0, 40, 0, 40))
    ms.track([inverted, mask(A)])


def _of_a_registration(_folder: Path) -> None:
    other = _image().replace(data=_image().data[::-1])
    ms.register(other, _image(), on_failure="warn")


def _of_visits(folder: Path) -> None:
    for name, labels in (("a", mask(A)), ("b", mask(A, B))):
        ms.write(labels, folder / f"visit {name}" / "lesion_mask.nii.gz")
    ms.read_study(folder)


@pytest.mark.parametrize("job", [_of_a_file, _of_a_step, _of_masks, _of_a_registration, _of_visits])
def test_a_doubt_points_at_the_line_of_the_script(job: Callable[[Path], None], tmp_path: Path) -> None:
    with pytest.warns(ms.MedseqWarning) as doubts:
        job(tmp_path)
    last = job.__code__.co_firstlineno + sum(1 for _ in job.__code__.co_lines()) - 1
    for doubt in doubts:
        assert doubt.filename == __file__
        assert job.__code__.co_firstlineno < doubt.lineno <= last


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
