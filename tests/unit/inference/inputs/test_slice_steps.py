"""Thin slices are averaged to the distance that a network learned from, and its probabilities return to the image's own slices."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import napari_medseq as ms
from napari_medseq.errors import MedseqWarning
from napari_medseq.inference.inputs.frame import frame
from napari_medseq.inference.inputs.slice_steps import SliceSteps, rows_of_steps
from napari_medseq.inference.settings import InferenceSettings
from napari_medseq.inference.streaming import neighbourhoods
from napari_medseq.models import Model
from napari_medseq.models.recurrent_unet import RecurrentUNet, with_neighbours
from napari_medseq.models.sequence_classifier import SequenceClassifier
from napari_medseq.sequence import ImageSequence, affine_from
from tests.narrowing import of
from tests.unit.training.small import CLASSIFIER, UNET, blob, model

THIN_MM = 1.5  # a quarter of 6 mm


def thin(slices: int = 16, mm: float = THIN_MM, **changes: Any) -> ImageSequence:
    return blob(shape=(slices, 40, 36), affine=affine_from((0.9, 0.9, mm)), **changes)


def rows(image: ImageSequence, step_mm: float | None, along: Any = "slices") -> tuple[SliceSteps, ...]:
    framing = frame([image], along=along, pixel_mm=None, stride=4)
    return rows_of_steps(image, framing, InferenceSettings(along=along, step_mm=step_mm))


def with_step(plain: Model, step_mm: float | None) -> Model:
    return dataclasses.replace(plain, inference={**plain.inference, "step_mm": step_mm})


@pytest.mark.parametrize("slices", [1, 2, 3, 7, 16, 23])
@pytest.mark.parametrize("step_mm", [2.3, 3.0, 6.5, 40.0])
def test_each_slice_counts_the_same_in_the_first_row_and_shares_sum_to_one(slices: int, step_mm: float) -> None:
    for number, row in enumerate(rows(thin(slices), step_mm)):
        counted = np.zeros(slices)
        for step in range(row.steps):
            first, shares = row.weights(step)
            assert shares.sum() == pytest.approx(1)
            assert (shares > 0).all()
            counted[first : first + len(shares)] += shares
        if number == 0:
            assert counted == pytest.approx(row.steps / slices)
        assert counted.min() > 0


def test_a_ramp_along_the_slices_stays_one_away_from_the_ends() -> None:
    ramp = torch.arange(40.0)
    for row in rows(thin(40), 6.5):
        back = torch.stack(list(row.interpolated(row.averaged(ramp))))
        inner = slice(int(row.width) + 1, -int(row.width) - 1)
        assert torch.allclose(back[inner], ramp[inner], atol=0.03)


def test_no_more_slices_are_read_than_the_next_step_needs() -> None:
    read: list[int] = []

    def slices() -> Iterator[Tensor]:
        for k in range(40):
            read.append(k)
            yield torch.tensor(float(k))

    row = rows(thin(40), 6.0)[0]
    steps = row.averaged(slices())
    for number in range(3):
        next(steps)
        assert len(read) == 4 * (number + 1)
    answer = row.interpolated(row.averaged(slices()))
    read.clear()
    next(answer)
    assert len(read) == 8  # two steps


def test_slices_are_taken_as_they_are_where_nothing_is_known_or_the_distance_is_alike() -> None:
    assert len(rows(thin(), 6.5)) == 2
    assert rows(thin(), None) == ()
    assert rows(thin(oriented=False), 6.5) == ()
    assert rows(thin(mm=5.2), 6.5) == ()
    assert rows(thin(mm=13.0), 6.5) == ()
    times = np.arange(5.0)
    film = ImageSequence(
        np.random.default_rng(0).random((5, 16, 16), np.float32), ("t", "y", "x"), affine_from((1, 1, 1)), times=times
    )
    assert rows(film, 6.5, "t") == ()


def test_an_image_of_the_trained_distance_is_segmented_bit_by_bit_as_before(tmp_path: Path) -> None:
    plain, image = model(tmp_path / "net"), thin(7, mm=6.0)
    outputs: Any = ("labels", "probability")
    a, b = (ms.segment(image, m, device="cpu", outputs=outputs) for m in (plain, with_step(plain, 6.5)))
    assert np.array_equal(a.labels.data, b.labels.data)
    assert a.probability is not None
    assert b.probability is not None
    assert np.array_equal(a.probability.data, b.probability.data)


def test_thin_slices_answer_as_two_rows_of_averages_interpolated(tmp_path: Path) -> None:
    plain, image = model(tmp_path / "net"), thin()
    found = ms.segment(image, with_step(plain, 6.0), device="cpu", outputs=("labels", "probability"))
    network = of(RecurrentUNet, plain.network)
    framing = frame([image], along="slices", pixel_mm=None, stride=network.stride)
    x = torch.stack([framing.read([image], k) for k in range(16)])
    groups = [x.split(4), (x[:2], *x[2:14].split(4), x[14:])]
    expected: NDArray[np.float64] = np.zeros((16, *framing.size))
    for seen, centres in zip(groups, ([1.5, 5.5, 9.5, 13.5], [-0.5, 3.5, 7.5, 11.5, 15.5]), strict=True):
        steps = torch.stack([g.mean(0) for g in seen])
        with torch.inference_mode():
            p = network(with_neighbours(steps, network.neighbours)[None])[0].softmax(1)
        planes = np.stack([framing.uncrop(1 - q[0], labels=False) for q in p])
        for at in np.ndindex(*framing.size):
            expected[(slice(None), *at)] += np.interp(np.arange(16), centres, planes[(slice(None), *at)]) / 2
    assert found.probability is not None
    assert found.probability.data == pytest.approx(expected, abs=1e-4)
    assert found.labels.data.shape == image.data.shape


def test_the_answer_on_thin_slices_does_not_depend_on_the_chunk_and_covers_a_region(tmp_path: Path) -> None:
    thin_model, image = with_step(model(tmp_path / "net"), 6.0), thin()
    outputs: Any = ("labels", "uncertainty")
    one, four = (ms.segment(image, thin_model, device="cpu", chunk=c, outputs=outputs, samples=2) for c in (1, 4))
    assert np.array_equal(one.labels.data, four.labels.data)
    assert one.uncertainty is not None
    assert four.uncertainty is not None
    assert np.array_equal(one.uncertainty.data, four.uncertainty.data)
    part = ms.segment(image, thin_model, device="cpu", region={"z": (3, 12)}, steps=[4, 9])
    assert set(np.flatnonzero(np.asarray(part.labels.data).any((1, 2))).tolist()) <= {4, 9}
    assert part.labels.data.shape == image.data.shape


def test_places_of_the_steps_are_the_means_of_their_slices() -> None:
    row = rows(thin(8), 6.0)[0]
    assert row.times([k * THIN_MM for k in range(8)]) == pytest.approx((2.25, 8.25))


def test_the_doubt_of_thin_slices_says_that_they_were_averaged(tmp_path: Path) -> None:
    plain = model(tmp_path / "net", doubt={"step_mm": [5.0, 8.5]})
    for step_mm, told in ((None, False), (6.5, True)):
        with pytest.warns(MedseqWarning, match="slices lie 1.5 mm apart") as found:
            ms.segment(thin(), with_step(plain, step_mm), device="cpu")
        assert any("saw averages of them" in str(w.message) for w in found) == told


def test_classify_sees_averages_of_thin_slices_and_answers_for_each(tmp_path: Path) -> None:
    plain, image = model(tmp_path / "net", CLASSIFIER, doubt={"step_mm": [5.0, 8.5]}), thin()
    with pytest.warns(MedseqWarning, match="saw averages of them"):
        found = ms.classify(image, with_step(plain, 6.0), device="cpu")
    assert found.per_step.shape == (16, 1)
    assert found.attention.sum() == pytest.approx(1)
    assert "averages" in found.warnings[0]
    framing = frame([image], along="slices", pixel_mm=None, stride=2)
    network = of(SequenceClassifier, plain.network)
    slices, exams, per_step = [framing.read([image], k) for k in range(16)], [], []
    for row in rows(image, 6.0):
        with torch.inference_mode():
            seen = neighbourhoods(row.averaged(slices), network.neighbours)
            embedded = torch.cat([network.encode(x[None])[0] for x in seen])[None]
            steps, exam, _ = network.read(embedded)
        exams.append(float(exam.sigmoid()))
        per_step.append(torch.stack(list(row.interpolated(steps[0].sigmoid()))))
    assert found.probabilities["lesion"] == pytest.approx(np.mean(exams), abs=1e-5)
    assert np.allclose(found.per_step, (per_step[0] + per_step[1]) / 2, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "network"), [("grad-cam", UNET), ("attention", CLASSIFIER), ("occlusion", CLASSIFIER)]
)
def test_explain_sees_averages_of_thin_slices_and_answers_for_each(
    method: Any, network: dict[str, Any], tmp_path: Path
) -> None:
    plain, image = model(tmp_path / "net", network), thin(8)
    found, other = (ms.explain(image, with_step(plain, s), method=method, device="cpu") for s in (6.0, None))
    assert found.data.shape == (8, 40, 36)
    assert not np.allclose(found.data, other.data)


def test_locate_sees_averages_of_thin_slices(tmp_path: Path) -> None:
    plain, image = model(tmp_path / "net", CLASSIFIER, doubt={"step_mm": [5.0, 8.5]}), thin()
    with pytest.warns(MedseqWarning, match="saw averages of them"):
        found = ms.locate(image, with_step(plain, 6.0), min_score=0.01, device="cpu")
    assert len(found)
    with pytest.warns(MedseqWarning, match=r"1\.5 mm apart; those"):
        other = ms.locate(image, plain, min_score=0.01, device="cpu")
    assert found.found[0].score != other.found[0].score
