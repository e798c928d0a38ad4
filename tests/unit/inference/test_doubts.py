"""An answer is doubted where the network itself expects much of it to be wrong, the field of view is another, or nothing is found."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.errors import MedseqWarning
from napari_medseq.inference.doubts import Doubt
from napari_medseq.models import Model
from napari_medseq.sequence import ImageSequence, affine_from
from tests.unit.training.small import blob, model, slab


def test_the_share_of_expected_wrong_voxels_decides() -> None:
    doubt = Doubt(above=0.2)
    assert doubt.of(20, 100, "scan", "net") is None
    text = doubt.of(50, 100, "scan", "net") or ""
    assert "scan" in text
    assert "net is much less sure" in text
    assert "50% as many wrong voxels" in text
    assert "at most 20%" in text


def test_an_empty_answer_is_doubted_of_what_is_always_there_alone() -> None:
    assert Doubt(above=0.2).of(50, 0, "scan", "net") is None
    assert "found nothing" in (Doubt(always_there=True).of(0, 0, "scan", "net") or "")


@pytest.mark.parametrize(("side", "doubted"), [(99, True), (100, False), (200, False), (201, True)])
def test_the_longer_side_of_a_slice_decides_and_not_the_number_of_slices(side: int, doubted: bool) -> None:
    doubt = Doubt(field_mm=(100, 200))
    seq = ImageSequence(np.zeros((400, 4, side)), ("z", "y", "x"), affine_from((1, 1, 1)))
    assert (doubt.of_field(seq, "net") is not None) == doubted
    assert doubt.of_field(seq.replace(oriented=False), "net") is None


@pytest.mark.parametrize(
    ("scale", "shift", "doubted"), [(1, 0, False), (5.5, -1000, True), (1 / 255, 0, True), (16, 0, True)]
)
def test_values_of_another_scale_are_doubted(scale: float, shift: float, doubted: bool) -> None:
    values = np.random.default_rng(0).integers(0, 256, (4, 9, 9)).astype(np.float32) * scale + shift
    values[0, 0, 0] = np.nan
    seq = ImageSequence(values, ("z", "y", "x"), np.eye(4), name="crop")
    text = Doubt(low=(-10, 40), high=(100, 260)).of_values(seq, "net")
    assert (text is not None) == doubted
    assert Doubt().of_values(seq, "net") is None
    assert Doubt(low=(0, 1), high=(0, 1)).of_values(seq.replace(data=np.full((1, 2, 2), np.nan)), "net") is None


def with_doubt(of: Model, **fields: Any) -> Model:
    return dataclasses.replace(of, inference={**of.inference, "doubt": fields})


@pytest.mark.parametrize("kind", ["slab", "steps"])
def test_segment_warns_and_the_labels_tell(kind: str, tmp_path: Path) -> None:
    net = slab() if kind == "slab" else model(tmp_path / "steps", threshold=0.45)
    seq = blob()
    answer = ms.segment(seq, net, outputs=("labels", "probability"), device="cpu")
    assert answer.probability is not None
    p, n = np.asarray(answer.probability.data, float), np.count_nonzero(answer.labels.data)
    share = np.minimum(p, 1 - p).sum() / n
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sure = ms.segment(seq, with_doubt(net, above=share * 1.02, field_mm=(30, 40)), device="cpu")
    assert not sure.labels.warnings
    with pytest.warns(MedseqWarning, match="much less sure"):
        unsure = ms.segment(seq, with_doubt(net, above=share * 0.98), device="cpu")
    with pytest.warns(MedseqWarning, match="36 mm wide"):
        other = ms.segment(seq, with_doubt(net, field_mm=(100, 200)), device="cpu")
    assert "much less sure" in unsure.labels.warnings[-1]
    assert "36 mm wide" in other.labels.warnings[-1]
    assert np.array_equal(unsure.labels.data, sure.labels.data)
