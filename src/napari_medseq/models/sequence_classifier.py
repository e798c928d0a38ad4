"""Per-slice encoder, bidirectional GRU and additive attention: is there something in this slice, in this exam?

Each step is encoded to a vector by a small CNN; a bidirectional GRU reads the vectors in order; one head answers per step, and
an attention-weighted mean answers for the exam. ``rnn="none"`` leaves the GRU out: the same encoder, step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class SequenceLogits(NamedTuple):
    """Logits per step (batch, step, class), per exam (batch, class) and attention (batch, step), which sums to one."""

    steps: Tensor
    exam: Tensor
    attention: Tensor


class _Down(nn.Module):
    """3×3 convolution, group norm, halving by max pooling."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(min(8, width), width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(functional.silu(self.norm(self.conv(x)), inplace=True), 2)


class SequenceClassifier(nn.Module):
    """CNN-RNN classifier of a sequence.

    Parameters
    ----------
    in_channels, classes : int
        Image channels per step before neighbours; outputs (independent yes/no questions, sigmoid).
    widths : sequence of int
        Channels of the encoder's levels.
    neighbours : int
        Steps on either side that enter as channels.
    rnn : {"gru", "none"}
    hidden : int
        State size per direction.
    dropout : float
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 1,
        widths: Sequence[int] = (16, 32, 64, 96, 128),
        neighbours: int = 1,
        rnn: Literal["gru", "none"] = "gru",
        hidden: int = 64,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.neighbours, self.rnn, self.classes, self.stride = neighbours, rnn, classes, 2 ** len(widths)
        inputs = [in_channels * (2 * neighbours + 1), *widths[:-1]]
        self.encoder = nn.Sequential(*(_Down(a, b) for a, b in zip(inputs, widths, strict=True)))
        self.dropout = nn.Dropout(dropout)
        # mean and maximum: how much of it there is, and whether there is any
        self.embed = nn.Linear(2 * widths[-1], 2 * hidden)
        self.gru = nn.GRU(2 * hidden, hidden, batch_first=True, bidirectional=True) if rnn == "gru" else None
        # additive attention, Bahdanau et al. 2015, arXiv:1409.0473, eq. in A.1.2
        self.attend = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.step_head = nn.Linear(2 * hidden, classes)
        self.exam_head = nn.Linear(2 * hidden, classes)

    def encode(self, x: Tensor) -> Tensor:
        """Embeddings (n, 2 · hidden) of independent steps (n, channel, y, x)."""
        f = self.encoder(x)
        pooled = torch.cat([f.mean((2, 3)), f.amax((2, 3))], 1)
        out: Tensor = functional.silu(self.embed(self.dropout(pooled)))
        return out

    def read(self, embeddings: Tensor, order: Tensor | None = None) -> SequenceLogits:
        """Answers from the embeddings (batch, step, 2 · hidden) of a whole exam.

        `order` (steps,) permutes the steps for the recurrence alone: the ablation that shuffles the sequence.
        """
        h = embeddings
        if self.gru is not None:
            seen = self.gru(h if order is None else h[:, order])[0]
            h = h + (seen if order is None else seen[:, torch.argsort(order)])
        attention = self.attend(h).squeeze(-1).softmax(1)
        exam = self.exam_head(self.dropout((attention[..., None] * h).sum(1)))
        return SequenceLogits(self.step_head(self.dropout(h)), exam, attention)

    def forward(self, x: Tensor) -> SequenceLogits:
        """Answers for whole exams (batch, step, channel, y, x)."""
        batch, steps = x.shape[:2]
        return self.read(self.encode(x.flatten(0, 1)).unflatten(0, (batch, steps)))
