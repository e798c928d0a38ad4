"""`classify`: named probabilities, one answer per step, independent of how the image is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import napari_medseq as ms
from napari_medseq.errors import OperationCancelled
from napari_medseq.inference.resources import tuning
from napari_medseq.models import networks
from napari_medseq.sequence import Visit
from tests.unit.training.small import CLASSIFIER, blob, model


def test_shapes_names_and_range(tmp_path: Path) -> None:
    out = ms.classify(blob(), model(tmp_path / "c", CLASSIFIER))
    assert out.classes == ["lesion"]
    assert set(out.probabilities) == {"lesion"}
    assert out.per_step.shape == (7, 1)
    assert ((out.per_step > 0) & (out.per_step < 1)).all()
    assert out.attention.sum() == pytest.approx(1, abs=1e-5)
    assert out.step_axis == "z"
    assert out.extent == int((out.per_step[:, 0] >= 0.5).sum())


def test_visits_and_lazy_images_give_the_same(tmp_path: Path) -> None:
    import dask.array as da

    m, seq = model(tmp_path / "c", CLASSIFIER), blob()
    alone = ms.classify(seq, m)
    lazy = ms.classify(seq.replace(data=da.from_array(seq.data, chunks=(1, -1, -1))), m)
    (visit,) = ms.classify([Visit(None, (seq,), name="v")], m)
    for other in (lazy, visit):
        assert np.array_equal(alone.per_step, other.per_step)
        assert alone.probabilities == other.probabilities


def test_a_small_image_is_continued_to_the_size_that_the_network_learned_from(tmp_path: Path) -> None:
    m = model(tmp_path / "c", CLASSIFIER, size=[64, 80])
    seen: list[tuple[int, int]] = []
    m.network.get_submodule("encoder.0").register_forward_pre_hook(
        lambda _, inputs: seen.append(tuple(inputs[0].shape[-2:]))
    )
    ms.classify(blob(), m)
    ms.explain(blob(), m)
    assert set(seen) == {(64, 80)}


def test_cancel_stops_within_a_step(tmp_path: Path) -> None:
    seen: list[int] = []
    with pytest.raises(OperationCancelled):
        ms.classify(
            blob(),
            model(tmp_path / "c", CLASSIFIER),
            progress=lambda d, *_: seen.append(d),
            cancelled=lambda: len(seen) >= 2,
        )
    assert seen == [1, 2]


def test_the_measurement_on_a_gpu_knows_the_channels_of_all_modalities() -> None:
    network = networks.build({**CLASSIFIER, "in_channels": 2, "modalities": 2, "fusion": "attention"}).eval()
    assert len(tuning.measure(network, torch.device("cpu"), lower=False)) == 2
