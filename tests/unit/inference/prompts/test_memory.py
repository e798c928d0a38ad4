"""Bytes that `propagate` keeps per step, counted as torch and numpy allocate them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch.profiler import ProfilerActivity, profile

import napari_medseq as ms
from napari_medseq.inference.prompts import carrying, passes
from napari_medseq.inference.prompts.carrying import KEPT
from napari_medseq.models import Model
from napari_medseq.sequence import ImageSequence, affine_from
from tests.unit.models.prompted import prompted_model

SIDE = 40  # of the window, and of an object's part of the image
FEATURES = 4 * 8 / 16  # bytes of the coarsest level, per pixel of the window, which is what is kept of the features
# bytes of labels and probabilities per pixel of the image: objects fill (16 / 40)² of it
APART = 1 + 2 * (16 / SIDE) ** 2 * 1.5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    rules: dict[str, Any] = {"contrast": 3.0, "shape_gain": 0.1, "even_ends": True, "rounds": 2, "connected": True}
    made = prompted_model(tmp_path_factory.mktemp("m") / "plain", span=(8.0, 48.0), **rules)

    def run() -> None:
        ms.propagate(*tubes(10, 1), made, device="cpu")

    run()  # the first time other things are made, too: modules untraced, which is faster, the rest below
    most_at_once(run)
    return made


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
    """Tubes side by side, painted on three steps, of which the one in the middle is hidden in turn: the window is the whole sequence."""
    shown = np.zeros((steps, SIDE, SIDE * objects), np.uint8)
    for k in range(objects):
        shown[:, 12:28, SIDE * k + 12 : SIDE * k + 28] = k + 1
    noise = np.random.default_rng(0).normal(0, 0.3, shown.shape)
    image = ImageSequence(((shown > 0) * 3 + noise).astype(np.float32), ("z", "y", "x"), affine_from((1, 1, 1)))
    drawn = np.zeros_like(shown)
    there = [0, steps // 2, -1]
    drawn[there] = shown[there]
    return image, image.labels_like(drawn, name="painted", label_names={})


def per_step(model: Model, objects: int) -> float:
    """Bytes by which one more step raises the peak."""
    few, many = 24, 48
    found = []
    for steps in (few, many):
        image, labels = tubes(steps, objects)
        found.append(most_at_once(lambda: ms.propagate(image, labels, model, device="cpu")))  # noqa: B023
    return (found[1] - found[0]) / (many - few)


@pytest.mark.parametrize("objects", [1, 3, 5])
def test_a_long_sequence_keeps_no_more_per_step_than_is_stated(
    model: Model, monkeypatch: pytest.MonkeyPatch, objects: int
) -> None:
    monkeypatch.setattr(passes, "_ROOMY", 0)  # as long as that
    monkeypatch.setattr(carrying, "_HELD", 0)
    monkeypatch.setattr(carrying, "_TOGETHER_CPU", 0)
    labels = objects * (APART if objects > 1 else 1)
    bound = (FEATURES + KEPT + labels) * SIDE**2
    found = per_step(model, objects)
    assert bound / 3 < found < bound  # what is stated is of the size of what is kept
