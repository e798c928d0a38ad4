"""Convolution blocks and the per-step encoder that the segmentation and classification networks share.

Normalisation is per step (group norm), never over the sequence, so that a step's features depend on that step alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medseq.errors import ModelError

_MOST_LEVELS = 10  # each halves y and x, so that an image must have 2^9 pixels for the deepest one


def _are_volumes(dimensions: int) -> bool:
    if dimensions not in (2, 3):
        raise ModelError(f"dimensions is {dimensions}; a step is an image (2) or a volume (3).")
    return dimensions == 3


def convolution(dimensions: int) -> type[nn.Conv2d] | type[nn.Conv3d]:
    """The convolution class of images (2) or volumes (3)."""
    return nn.Conv3d if _are_volumes(dimensions) else nn.Conv2d


def upsampling(dimensions: int) -> type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]:
    """The transposed convolution class of images (2) or volumes (3)."""
    return nn.ConvTranspose3d if _are_volumes(dimensions) else nn.ConvTranspose2d


class Plain(nn.Module):
    """One 3×3 convolution with group norm: all that the full-size level can afford; or a 4×4 one that halves the image."""

    def __init__(self, channels: int, width: int, dimensions: int = 2, *, halve: bool = False) -> None:
        super().__init__()
        kernel, stride = (4, 2) if halve else (3, 1)
        self.conv = convolution(dimensions)(channels, width, kernel, stride, padding=1, bias=False)
        self.norm = nn.GroupNorm(min(8, width), width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.norm(self.conv(x)), inplace=True)


class Block(nn.Module):
    """Two 3×3 convolutions with group norm and a residual path."""

    def __init__(self, channels: int, width: int, dropout: float = 0.0, dimensions: int = 2) -> None:
        super().__init__()
        conv = convolution(dimensions)
        self.conv1 = conv(channels, width, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(min(8, width), width)
        self.conv2 = conv(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(min(8, width), width)
        self.skip = conv(channels, width, 1, bias=False) if channels != width else nn.Identity()
        self.dropout = (nn.Dropout3d if _are_volumes(dimensions) else nn.Dropout2d)(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.silu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(self.dropout(y)))
        return functional.silu(added(y, self.skip(x)), inplace=True)


def added(x: Tensor, y: Tensor) -> Tensor:
    """``x + y``; where no gradient is wanted x is overwritten, which saves a pass over fresh memory."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


def halved(x: Tensor) -> Tensor:
    """The largest of each 2×2 (or 2×2×2) cell of (n, channel, [z,] y, x)."""
    if x.ndim == 5:
        return functional.max_pool3d(x, 2)
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return functional.max_pool2d(x, 2)
    # the same, several times as fast: without a gradient nobody asks where the largest was
    height, width = (n // 2 * 2 for n in x.shape[-2:])
    rows = torch.maximum(x[..., :height:2, :width], x[..., 1:height:2, :width])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


def encoder(channels: int, widths: Sequence[int], dropout: float, dimensions: int = 2) -> nn.ModuleList:
    """Blocks of an encoder, one per level; channel dropout in the two deepest."""
    if not 2 <= len(widths) <= _MOST_LEVELS:
        raise ModelError(f"There are {len(widths)} widths; an encoder has 2 to {_MOST_LEVELS} levels.")
    inputs = [channels, *widths[:-1]]
    deep = len(widths) - 2
    return nn.ModuleList(
        Block(a, b, dropout if level >= deep else 0.0, dimensions) if level else Plain(a, b, dimensions)
        for level, (a, b) in enumerate(zip(inputs, widths, strict=True))
    )


def encode(blocks: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """Features per level of independent steps (n, channel, [z,] y, x); each level but the first halves z, y and x."""
    features: list[Tensor] = []
    for block in blocks:
        if features:
            x = halved(x)
        x = block(x)
        features.append(x)
    return features
