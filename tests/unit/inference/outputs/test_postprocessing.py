"""Gaps, holes and pieces, each by its definition, and never at another class's cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import napari_medseq as ms
from napari_medseq.errors import ModelError
from napari_medseq.inference.outputs.postprocessing import postprocess
from napari_medseq.inference.settings import InferenceSettings, inference_settings
from napari_medseq.inference.slabs.windows import SlabSettings
from napari_medseq.masks import fill_holes, keep_largest
from tests.unit.training.small import blob, model

INF = float("inf")


def test_holes_are_filled_but_not_with_what_is_another_class() -> None:
    labels = np.zeros((5, 9, 9), np.uint8)
    labels[:, 1:8, 1:8] = 1
    labels[2, 3, 3] = 0
    labels[2, 5, 5] = 2
    labels[0, 6, 6] = 0  # open to the edge in z? no: the volume's border is not a way out
    out = postprocess(labels, (1, 1, 1), InferenceSettings(fill_holes=True))
    assert out[2, 3, 3] == 1
    assert out[2, 5, 5] == 2
    flat = postprocess(labels[2:3], (INF, 1, 1), InferenceSettings(fill_holes=True))
    assert flat[0, 3, 3] == 1


def test_the_largest_piece_of_each_class_stays() -> None:
    labels = np.zeros((3, 12, 12), np.uint8)
    labels[:, 1:4, 1:4], labels[1, 8, 8], labels[0, 6:9, 1:3], labels[2, 11, 11] = 1, 1, 2, 2
    out = postprocess(labels, (3, 1, 1), InferenceSettings(keep_largest=True))
    assert out[1, 8, 8] == out[2, 11, 11] == 0
    assert (out == 1).sum() == 27
    assert (out == 2).sum() == 6
    # frames are not connected: each keeps its own
    frames = postprocess(labels, (INF, 1, 1), InferenceSettings(keep_largest=True))
    assert (frames[2] == 2).sum() == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 1.5, 2.0]))
def test_closing_is_scipys_closing_by_a_ball(seed: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random((5, 9, 8)) > 0.8).astype(np.uint8)
    out = postprocess(labels, (1, 1, 1), InferenceSettings(closing_mm=radius))
    n = int(np.ceil(radius)) + 2
    at = np.stack(np.meshgrid(*[np.arange(-n, n + 1)] * 3, indexing="ij"))
    ball = (at**2).sum(0) <= radius**2
    room = np.pad(labels > 0, 2 * n)
    expected = ndimage.binary_erosion(ndimage.binary_dilation(room, ball), ball)[(slice(2 * n, -2 * n),) * 3]
    assert np.array_equal(out > 0, expected | (labels > 0))


def test_closing_goes_by_millimetres() -> None:
    labels = np.zeros((5, 5, 9), np.uint8)
    labels[1, :, 4] = labels[3, :, 4] = 1  # lines 10 mm apart
    labels[1, :, 6] = 1  # 2 mm from the first
    out = postprocess(labels, (5, 1, 1), InferenceSettings(closing_mm=1.0))
    assert out[1, 2, 5] == 1
    assert out[2, 2, 4] == 0


def test_nothing_asked_nothing_done_and_a_bundle_can_ask(tmp_path: Path) -> None:
    labels = np.ones((2, 3, 3), np.uint8)
    assert postprocess(labels, (1, 1, 1), InferenceSettings()) is labels
    seq = blob()
    plain = ms.segment(seq, model(tmp_path / "a", threshold=0.45)).labels.data
    kept = ms.segment(seq, model(tmp_path / "b", threshold=0.45, keep_largest=True)).labels.data
    pieces, n = ndimage.label(plain, np.ones((3, 3, 3)))
    assert n > 1
    assert np.array_equal(kept > 0, pieces == np.bincount(pieces.ravel())[1:].argmax() + 1)


def test_bundles_with_former_names_are_read_and_present_ones_written() -> None:
    former = inference_settings({"smallest_mm3": 40.0, "least_mean": 0.75}, "old")
    assert former == InferenceSettings(min_volume_mm3=40.0, min_mean_probability=0.75)
    assert not {"smallest_mm3", "least_mean"} & set(former.model_dump())
    assert SlabSettings.model_validate({"window": (1, 8, 8), "smallest_mm3": 3.0}).min_volume_mm3 == 3.0
    with pytest.raises(ModelError, match="smallest_mm3 and min_volume_mm3 are one setting"):
        inference_settings({"smallest_mm3": 40.0, "min_volume_mm3": 1.0}, "both")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, INF]), st.integers(1, 3))
def test_each_class_is_changed_in_its_box_as_it_is_in_the_whole(seed: int, step: float, steps: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 0, 0, 1, 2, 9], np.uint8), (steps, 7, 8))
    wanted = labels.copy()
    for value in (1, 2, 9):
        for part in [wanted] if step == 1 else [wanted[k : k + 1] for k in range(steps)]:
            mask = fill_holes(part == value)
            part[mask & (part == 0)] = value
            part[(part == value) & ~keep_largest(part == value)] = 0
    found = postprocess(labels, (step, 1, 1), InferenceSettings(fill_holes=True, keep_largest=True))
    np.testing.assert_array_equal(found, wanted)
