"""How good a lesson is said to be, and why it ended: each painted slice is judged by a model that did not see it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from napari_medseq.errors import SettingsError
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.training import lesson_quality
from napari_medseq.training.lesson_quality import LessonQuality, Pace, judge_lesson, why_it_ended
from napari_medseq.training.trainer import TrainingResult

SHAPE = (7, 6, 6)


@pytest.fixture
def lesson() -> tuple[ImageSequence, ImageSequence]:
    """Slices 1, 2, 4 and 6 are painted, slice k with k pixels."""
    image = ImageSequence(
        np.zeros(SHAPE, np.float32), ("z", "y", "x"), affine_from((1, 1, 1)), name="T1", modality="MR"
    )
    data = np.zeros(SHAPE, np.uint8)
    for k in (1, 2, 4, 6):
        data[k, 0, :k] = 1
    return image, image.labels_like(data, name="painted", label_names={1: "lesion"})


def test_each_painted_slice_is_judged_by_a_model_that_did_not_see_it(
    lesson: tuple[ImageSequence, ImageSequence], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, labels = lesson
    lessons: list[Any] = []

    def teach(_image: ImageSequence, given: ImageSequence, settings: Any, **_: object) -> Any:
        shown = np.flatnonzero(np.asarray(given.data).any(axis=(1, 2))).tolist()
        lessons.append((shown, settings.steps, settings.minutes))
        return SimpleNamespace(model=shown)

    def segment(image: ImageSequence, model: list[int], **_: object) -> Any:
        """Knows what it was shown, and takes everything else for one pixel."""
        data = np.zeros(SHAPE, np.uint8)
        data[:, 0, 0] = 1
        for k in model:
            data[k] = np.asarray(labels.data)[k]
        return SimpleNamespace(labels=image.labels_like(data, name="found", label_names={1: "lesion"}))

    monkeypatch.setattr(lesson_quality, "teach", teach)
    monkeypatch.setattr(lesson_quality, "segment", segment)
    found = judge_lesson(image, labels, {"out": "unused", "minutes": 3.0, "steps": (0, 1, 2, 4, 6)})
    # one pixel where k are painted: 2 / (k + 1)
    assert found.dice == pytest.approx({k: 2 / (k + 1) for k in (1, 2, 4, 6)})
    assert found.worst == 6
    assert found.folds == len(lessons) == 3
    for shown, steps, minutes in lessons:
        assert set(steps) == {0, *shown}  # the empty slice that was looked at is always there
        assert minutes == 1.0
    assert "slice 7" in str(found)
    assert "third" in str(found)


def test_one_painted_slice_cannot_be_judged(lesson: tuple[ImageSequence, ImageSequence]) -> None:
    image, labels = lesson
    data = np.array(labels.data)
    data[2:] = 0
    with pytest.raises(SettingsError, match="two painted slices"):
        judge_lesson(image, labels.replace(data=data), {"out": "unused"})


def _result(iterations: int) -> TrainingResult:
    curve = pd.DataFrame({"iteration": [iterations]})
    model: Any = None
    return TrainingResult(Path("unused"), curve, model)


@pytest.mark.parametrize(
    ("done", "said"), [(500, "all of its 500 rounds"), (312, "its 2 minutes were over, after 312 of 500")]
)
def test_why_training_ended_is_said(done: int, said: str) -> None:
    assert said in why_it_ended(_result(done), {"out": "unused", "iterations": 500, "minutes": 2.0})


def test_a_process_that_got_no_processor_time_is_starved() -> None:
    settings: Mapping[str, object] = {"out": "unused"}
    asleep = Pace(wall=time.monotonic() - 100, cpu=time.process_time())
    assert asleep.is_starved
    assert "kept the processor busy" in why_it_ended(_result(500), settings, asleep)
    awake = Pace(wall=time.monotonic() - 100, cpu=time.process_time() - 99)
    assert not awake.is_starved
    assert "processor" not in why_it_ended(_result(500), settings, awake)


def test_the_mean_is_that_of_the_slices() -> None:
    assert LessonQuality({1: 0.5, 4: 1.0}, 2).mean == 0.75
