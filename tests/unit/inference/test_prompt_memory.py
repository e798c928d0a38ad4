"""Bytes that `propagate` keeps per step, counted as torch and numpy allocate them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from torch.profiler import ProfilerActivity, profile

import napari_medseq as ms
from napari_medseq.inference import prompt_passes
from napari_medseq.inference.prompt_carrying import KEPT
from napari_medseq.models import Model
from napari_medseq.sequence import ImageSequence, affine_from
from tests.unit.models.prompted import prompted_model

SIDE = 40  # of the image; the window is as large, for what is painted fills most of it


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return prompted_model(tmp_path_factory.mktemp("m") / "plain")


def most_at_once(run: Callable[[], object]) -> int:
    """Bytes that are there at once, at most: torch's by its profiler, numpy's by tracemalloc."""
    tracemalloc.start()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        run()
    numpy_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    events = watched.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return numpy_bytes + int(np.cumsum([n for _, n in changes]).max())


def tubes(steps: int, objects: int) -> tuple[ImageSequence, ImageSequence]:
    """Tubes side by side, painted on the first and the last step: the window is the whole sequence at once."""
    shown = np.zeros((steps, SIDE, SIDE * objects), np.uint8)
    for k in range(objects):
        shown[:, 6:34, SIDE * k + 6 : SIDE * k + 34] = k + 1
    noise = np.random.default_rng(0).normal(0, 0.3, shown.shape)
    image = ImageSequence(((shown > 0) * 3 + noise).astype(np.float32), ("z", "y", "x"), affine_from((1, 1, 1)))
    drawn = np.zeros_like(shown)
    drawn[[0, -1]] = shown[[0, -1]]
    return image, image.labels_like(drawn, name="painted", label_names={})


def per_step(model: Model, objects: int) -> float:
    """Bytes by which one more step raises the peak."""
    few, many = 24, 48
    found = []
    for steps in (few, few, many):  # the first time other things are made, too
        image, labels = tubes(steps, objects)
        found.append(most_at_once(lambda: ms.propagate(image, labels, model, device="cpu")))  # noqa: B023
    return (found[2] - found[1]) / (many - few)


def test_a_long_sequence_keeps_no_more_per_step_than_is_stated(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_passes, "_ROOMY", 0)  # as long as that
    coarsest = 4 * 8 / 16  # bytes of the features per pixel of the window
    bound = (coarsest + KEPT + 1) * SIDE**2  # and the labels
    found = per_step(model, 1)
    assert bound / 3 < found < bound  # what is stated is of the size of what is kept
