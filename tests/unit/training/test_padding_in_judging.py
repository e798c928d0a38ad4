"""A case whose size is not a multiple of the network's stride is padded in judging as an image is in use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import napari_medseq as ms
from napari_medseq.models.sequence_classifier import SequenceClassifier
from napari_medseq.training.cases import make_case
from napari_medseq.training.tasks import whole
from tests.unit.training.small import CLASSIFIER, blob, model


def test_each_step_is_padded_with_its_own_darkest_value(tmp_path: Path) -> None:
    m, image = model(tmp_path / "c", {**CLASSIFIER, "widths": [4, 8, 8]}), blob(shape=(5, 41, 35))
    network = m.network
    assert isinstance(network, SequenceClassifier)
    brighter = image.replace(data=np.asarray(image.data) + np.arange(5, dtype=np.float32)[:, None, None] * 200)
    case = make_case("p", [brighter], None)
    with torch.no_grad():
        judged = network.probabilities(whole(network, case).steps[0])
    # the case holds half precision
    assert judged.numpy() == pytest.approx(ms.classify(brighter, m).per_step, abs=5e-4)
