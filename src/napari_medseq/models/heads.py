"""Sequence models over the vectors of a sequence's steps, besides PyTorch's GRU and LSTM: a transformer and dense 1-D
convolution.

Each takes vectors (batch, step, width), the steps' positions (batch, step) and, where steps are missing, who is there
(batch, step), those first; and gives vectors of the same shape.
"""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import rnn

Head = Literal["gru", "lstm", "transformer", "dense"]


def read_recurrent(layer: nn.RNNBase, h: Tensor, present: Tensor | None) -> Tensor:
    """Outputs (batch, step, …) of PyTorch's recurrent layer, which passes over missing steps; zero there."""
    if present is None:
        return cast(Tensor, layer(h)[0])
    lengths = present.sum(1).clamp_min(1).cpu()
    packed = rnn.pack_padded_sequence(h, lengths, batch_first=True, enforce_sorted=False)
    out, _ = rnn.pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=h.shape[1])
    return out


class TransformerHead(nn.Module):
    """Self-attention over the steps (Vaswani et al. 2017, arXiv:1706.03762), norm first; true positions enter as sines.

    Parameters
    ----------
    width : int
        Even.
    layers, heads : int
        `heads` divides `width`.
    dropout : float
    """

    def __init__(self, width: int, layers: int = 2, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        rates = torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
        self.register_buffer("rates", rates, persistent=False)

    def forward(self, h: Tensor, position: Tensor, present: Tensor | None = None) -> Tensor:
        angles = position[..., None].to(h.dtype) * cast(Tensor, self.rates)
        waves = torch.cat([angles.sin(), angles.cos()], -1)
        out: Tensor = self.encoder(h + waves, src_key_padding_mask=None if present is None else ~present)
        return out


class DenseHead(nn.Module):
    """Dilated 1-D convolutions along the steps, each reading all before it (Huang et al. 2017, arXiv:1608.06993, eq. 2).

    Normalised per step, never along the sequence. Layer i is dilated by 2^i, so that `layers` of kernel 3 see
    2^(layers + 1) - 1 steps.

    Parameters
    ----------
    width : int
        Channels in and out.
    growth : int
        Channels that each layer adds.
    layers : int
    dropout : float
    """

    def __init__(self, width: int, growth: int = 32, layers: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        widths = [width + i * growth for i in range(layers)]
        self.norms = nn.ModuleList(nn.LayerNorm(n) for n in widths)
        self.convs = nn.ModuleList(nn.Conv1d(n, growth, 3, padding=2**i, dilation=2**i) for i, n in enumerate(widths))
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width + layers * growth, width)

    def forward(self, h: Tensor, position: Tensor, present: Tensor | None = None) -> Tensor:  # noqa: ARG002
        for norm, conv in zip(self.norms, self.convs, strict=True):
            seen = functional.silu(norm(h))
            if present is not None:  # as the zeros beyond the end of a sequence
                seen = seen * present[..., None].to(seen.dtype)
            h = torch.cat([h, self.dropout(conv(seen.transpose(1, 2)).transpose(1, 2))], -1)
        out: Tensor = self.out(h)
        return out
