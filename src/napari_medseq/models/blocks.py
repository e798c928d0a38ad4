"""Convolution blocks and the per-step encoder that the segmentation and classification networks share.

Normalisation is per step (group norm), never over the sequence, so that a step's features depend on that step alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn
from torch.nn import functional


class Plain(nn.Module):
    """One 3×3 convolution with group norm: all that the full-size level can afford."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(min(8, width), width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.norm(self.conv(x)), inplace=True)


class Block(nn.Module):
    """Two 3×3 convolutions with group norm and a residual path."""

    def __init__(self, channels: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(min(8, width), width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(min(8, width), width)
        self.skip = nn.Conv2d(channels, width, 1, bias=False) if channels != width else nn.Identity()
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.silu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(self.dropout(y)))
        return functional.silu(y + self.skip(x), inplace=True)


def encoder(channels: int, widths: Sequence[int], dropout: float) -> nn.ModuleList:
    """Blocks of an encoder, one per level; channel dropout in the two deepest."""
    inputs = [channels, *widths[:-1]]
    deep = len(widths) - 2
    return nn.ModuleList(
        Block(a, b, dropout if level >= deep else 0.0) if level else Plain(a, b)
        for level, (a, b) in enumerate(zip(inputs, widths, strict=True))
    )


def encode(blocks: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """Features per level of independent steps (n, channel, y, x); each level but the first halves y and x."""
    features: list[Tensor] = []
    for block in blocks:
        x = block(functional.max_pool2d(x, 2) if features else x)
        features.append(x)
    return features
