"""Per-slice encoder, bidirectional GRU and additive attention: is there something in this slice, in this exam?

Each step is encoded to a vector by a small CNN, which also says where; a bidirectional GRU reads the vectors in order; one
head answers per step, and an attention-weighted mean answers for the exam. ``rnn="none"`` leaves the GRU out: the same
encoder, step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medseq.models.blocks import encode, encoder


class SequenceLogits(NamedTuple):
    """Logits of a sequence.

    `steps` (batch, step, class) and `exam` (batch, class); `attention` (batch, step) sums to one; `evidence`
    (batch, step, class, y, x) says where in each step, at the encoder's coarse resolution.
    """

    steps: Tensor
    exam: Tensor
    attention: Tensor
    evidence: Tensor


class SequenceClassifier(nn.Module):
    """CNN-RNN classifier of a sequence.

    The encoder's last features give a coarse map of evidence per class; each step's vector is made of the features'
    mean, of their mean where the evidence is, and of the strongest evidence. Where outlines are known in training the
    map is taught directly, which a small lesion in a large slice needs. The encoder is the segmentation network's, block by
    block, so that its weights can start from there.

    Parameters
    ----------
    in_channels, classes : int
        Image channels per step before neighbours; outputs (independent yes/no questions, sigmoid).
    widths : sequence of int
        Channels of the encoder's levels; each but the last halves y and x.
    neighbours : int
        Steps on either side that enter as channels.
    rnn : {"gru", "lstm", "none"}
    hidden : int
        State size per direction.
    dropout : float
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 1,
        widths: Sequence[int] = (16, 32, 64, 96),
        neighbours: int = 1,
        rnn: Literal["gru", "lstm", "none"] = "gru",
        hidden: int = 48,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.neighbours, self.rnn, self.classes, self.stride = neighbours, rnn, classes, 2 ** (len(widths) - 1)
        self.encoder = encoder(in_channels * (2 * neighbours + 1), widths, dropout)
        self.evidence = nn.Conv2d(widths[-1], classes, 1)
        self.dropout = nn.Dropout(dropout)
        self.embed = nn.Linear((1 + classes) * widths[-1] + classes, 2 * hidden)
        # called gru whichever it is, so that weights keep their names
        kinds: dict[str, Any] = {"gru": nn.GRU, "lstm": nn.LSTM, "none": None}
        kind = kinds[rnn]
        self.gru = kind(2 * hidden, hidden, batch_first=True, bidirectional=True) if kind is not None else None
        # additive attention, Bahdanau et al. 2015, arXiv:1409.0473, eq. in A.1.2
        self.attend = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.step_head = nn.Linear(2 * hidden, classes)
        self.exam_head = nn.Linear(2 * hidden, classes)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (n, 2 · hidden) and evidence (n, class, y, x) of independent steps (n, channel, y, x)."""
        return self.describe(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """The encoder's last features (n, feature, y, x) of independent steps (n, channel, y, x)."""
        return encode(self.encoder, x)[-1]

    def describe(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings and evidence, as `encode`, from the encoder's last features."""
        evidence = self.evidence(f)
        weights = evidence.flatten(2).softmax(2)
        there = torch.einsum("nkp,ncp->nkc", weights, f.flatten(2)).flatten(1)
        pooled = torch.cat([f.mean((2, 3)), there, evidence.amax((2, 3))], 1)
        return functional.silu(self.embed(self.dropout(pooled))), evidence

    def read(self, embeddings: Tensor, order: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Logits per step and per exam, and attention, from the embeddings (batch, step, 2 · hidden) of a whole exam.

        `order` (steps,) permutes the steps for the recurrence alone: the ablation that shuffles the sequence.
        """
        h = embeddings
        if self.gru is not None:
            seen = self.gru(h if order is None else h[:, order])[0]
            h = h + (seen if order is None else seen[:, torch.argsort(order)])
        attention = self.attend(h).squeeze(-1).softmax(1)
        exam = self.exam_head(self.dropout((attention[..., None] * h).sum(1)))
        return self.step_head(self.dropout(h)), exam, attention

    def forward(self, x: Tensor, order: Tensor | None = None) -> SequenceLogits:
        """Answers for whole exams (batch, step, channel, y, x)."""
        batch, steps = x.shape[:2]
        embeddings, evidence = self.encode(x.flatten(0, 1))
        step, exam, attention = self.read(embeddings.unflatten(0, (batch, steps)), order)
        return SequenceLogits(step, exam, attention, evidence.unflatten(0, (batch, steps)))
