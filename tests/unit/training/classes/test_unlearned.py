"""The doubt about a classifier that learned nothing: against the loss of an answer that knows no image."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor

from napari_medseq.errors import MedseqWarning
from napari_medseq.models.sequence_classifier import SequenceLogits
from napari_medseq.models.sequence_network import SequenceNetwork
from napari_medseq.models.targets import Target
from napari_medseq.training.classes.unlearned import loss_of_shares, unlearned_of_steps, warn_if_unlearned
from napari_medseq.training.loops.losses import classification_loss, loss_of_steps


class Constant(SequenceNetwork):
    """A network that answers every exam and each of its three steps alike."""

    def __init__(self, logits: Tensor, target: Target) -> None:
        super().__init__()
        self.logits, self.target = logits, target

    def forward(self, x: Tensor) -> SequenceLogits:
        n, classes = len(x), len(self.logits)
        exam = self.logits.expand(n, -1)
        return SequenceLogits(
            exam[:, None].expand(-1, 3, -1), exam, torch.ones(n, 3) / 3, torch.zeros(n, 3, classes, 1, 1)
        )


def test_the_reference_is_the_loss_of_the_best_answer_without_images() -> None:
    one_of = torch.eye(3)[[0, 0, 0, 0, 1, 1, 2, 2]]
    shares = torch.tensor([0.5, 0.25, 0.25])
    loss = classification_loss(Constant(shares.log(), "exclusive"), torch.zeros(8, 3, 1, 4, 4), one_of)
    assert loss_of_shares(one_of, torch.ones(8), "exclusive") == pytest.approx(float(loss))
    equally = torch.tensor([1.0, 1, 1, 1, 2, 2, 2, 2])  # each class as often as the others
    assert loss_of_shares(one_of, equally, "exclusive") == pytest.approx(1.5 * math.log(3))
    several = torch.tensor([[1.0, 0], [1, 1], [0, 0], [1, 0]])
    logits = torch.tensor([0.75, 0.25]).logit()
    loss = classification_loss(Constant(logits, "multilabel"), torch.zeros(4, 3, 1, 4, 4), several)
    assert loss_of_shares(several, torch.ones(4), "multilabel") == pytest.approx(float(loss))
    unknown = torch.cat([several, torch.full((1, 2), math.nan)])
    assert loss_of_shares(unknown, torch.ones(5), "multilabel") == pytest.approx(float(loss))


def test_a_loss_that_hardly_falls_is_said() -> None:
    reference = 1.5 * math.log(2)
    with pytest.warns(
        MedseqWarning, match=r"ended at 1\.03, and answering with the shares of the classes gives 1\.04.*; give more"
    ):
        warn_if_unlearned([1.3, 1.1, *[1.03] * 20], reference, "give more minutes")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_unlearned([*[1.04] * 20, 0.7, 0.7, 0.7, 0.7, 0.7], reference, "")
        warn_if_unlearned([], reference, "")
        warn_if_unlearned([0.0], 0.0, "")


def test_the_reference_of_steps_is_the_loss_of_the_best_answer_without_images() -> None:
    nothing = torch.full((2,), math.nan)
    ill, well = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    of_steps = torch.stack([torch.stack([ill, well, nothing]), torch.stack([well, well, well])])
    shares = of_steps.nanmean(1)
    alike = Constant(torch.zeros(2), "exclusive")
    counts = torch.tensor([1.0, 4.0])
    loss = loss_of_steps(counts.sum() / (2 * counts))(alike, torch.zeros(2, 3, 1, 4, 4), of_steps)
    assert float(loss) == pytest.approx(1.5 * math.log(2))  # the exam's answer is no mean share, but one half
    assert unlearned_of_steps(shares, torch.ones(2)) == pytest.approx(
        math.log(2) - 0.5 * (0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    )
    unknown = loss_of_steps(torch.ones(2))(alike, torch.zeros(1, 3, 1, 4, 4), torch.full((1, 3, 2), math.nan))
    assert float(unknown) == 0
