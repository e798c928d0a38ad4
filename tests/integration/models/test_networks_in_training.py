"""The networks through `train`, their bundles and the verbs: pre-training without labels, grades, and MONAI's baselines."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import napari_medseq as ms
from tests.integration.training.folders import config, weights, write
from tests.unit.training.small import blob

ENCODER = {"_target_": "DenseNet", "block_config": [1, 1], "init_features": 16, "growth_rate": 16}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("study"))


def test_a_classifier_of_grades_starts_from_an_autoencoder(study: Path, tmp_path: Path) -> None:
    network = {"_target_": "ConvAutoencoder", "encoder": ENCODER, "neighbours": 1, "width": 4, "hide": 0.3}
    auto = ms.train(config(study, tmp_path / "a", task="autoencoder", network=network))
    table = tmp_path / "grades.csv"
    table.write_text("patient,class\nsub-0,low\nsub-1,middle\nsub-2,high\n")
    graded = ms.train(
        config(
            study,
            tmp_path / "g",
            task="classification",
            network={"_target_": "SequenceClassifier", "encoder": ENCODER, "hidden": 4, "target": "ordinal"},
            classes={0: "low", 1: "middle", 2: "high"},
            targets=str(table),
            start_from=str(tmp_path / "a"),
            loop={"encoder_rate": 0.0, "iterations": 2},
        )
    )
    before, after = weights(auto), weights(graded)
    encoder = [k for k in before if k.startswith("encoder.")]
    assert len(encoder) > 10
    assert all(torch.equal(before[k], after[k]) for k in encoder)
    found = ms.classify(blob(modality=None), graded.model, device="cpu").probabilities
    assert list(found) == ["low", "middle", "high"]
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)


def test_a_3d_baseline_learns_and_segments(study: Path, tmp_path: Path) -> None:
    small = {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}
    network = {"_target_": "SegResNet", "dimensions": 3, "window": [4, 32, 32], **small}
    loop = {"iterations": 25, "rate": 2e-2, "steps": 4, "average": 0.5, "lesion_share": 1.0}
    result = ms.train(config(study, tmp_path / "b", network=network, loop=loop))
    assert result.curve["loss"].tail(5).mean() < 0.8 * result.curve["loss"].head(5).mean()
    assert ms.segment(blob(modality=None), result.model, device="cpu").labels.sizes == blob().sizes
