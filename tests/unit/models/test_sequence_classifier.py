"""The classifier: shapes, attention, and who sees whom."""

from __future__ import annotations

from functools import partial
from typing import Literal

import pytest
import torch

from napari_medseq.models.sequence_classifier import SequenceClassifier

small = partial(SequenceClassifier, widths=(4, 8), hidden=4, classes=2)


def test_shapes_and_attention_sums_to_one() -> None:
    logits = small()(torch.randn(2, 5, 3, 16, 16))
    assert logits.steps.shape == (2, 5, 2)
    assert logits.exam.shape == (2, 2)
    assert torch.allclose(logits.attention.sum(1), torch.ones(2))


@pytest.mark.parametrize("rnn", ["gru", "none"])
def test_a_step_answers_from_its_neighbours_only_with_the_rnn(rnn: Literal["gru", "none"]) -> None:
    torch.manual_seed(0)
    network = small(rnn=rnn).eval()
    x = torch.randn(1, 5, 3, 16, 16)
    changed = x.clone()
    changed[:, 0] = 3 * torch.rand(3, 16, 16)
    moved = (network(x).steps - network(changed).steps).abs().amax(2)[0]
    assert moved[0] > 1e-5
    assert (moved[4] > 1e-7) == (rnn == "gru")


def test_batch_of_exams_equals_one_alone() -> None:
    network = small().eval()
    x = torch.randn(3, 4, 3, 16, 16)
    assert torch.allclose(network(x).exam[1], network(x[1:2]).exam[0], atol=1e-5)
