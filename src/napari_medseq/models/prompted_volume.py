"""A promptable 3D U-Net without recurrence: the baseline of the prompted network, with the same input and the same
training examples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medseq.models.prompted_unet import PromptedNetwork
from napari_medseq.models.prompting import CHANNELS
from napari_medseq.models.registry import register
from napari_medseq.models.slab_convolution import PointConvolution, SlabConvolution

_POOLS = ((1, 2, 2), (2, 2, 2), (2, 2, 2))


class VolumeBlock(nn.Module):
    """Two 3 × 3 × 3 convolutions with a batch norm between them, added to their input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = SlabConvolution(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm3d(outputs)
        self.second = SlabConvolution(outputs, outputs, 3, padding=1)
        self.skip: nn.Module = PointConvolution(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, step, y, x) to (n, outputs, step, y, x)."""
        return functional.relu(self.skip(x) + self.second(functional.relu(self.norm(self.first(x)))))


@register("PromptedVolumeUNet")
class PromptedVolumeUNet(PromptedNetwork):
    """A 3D U-Net whose levels halve y and x, the deeper two the steps as well.

    Parameters
    ----------
    inputs : int
    widths : sequence of int
        Channels of its four levels.
    """

    def __init__(self, *, inputs: int = CHANNELS, widths: Sequence[int] = (16, 32, 64, 96)) -> None:
        super().__init__()
        self.input_channels, self.stride = inputs, 2 ** (len(widths) - 1)
        self.encoder = nn.ModuleList(VolumeBlock(a, b) for a, b in zip((inputs, *widths[:-1]), widths, strict=True))
        self.decoder = nn.ModuleList(VolumeBlock(w, w) for w in widths[:-1])
        self.up = nn.ModuleList(PointConvolution(b, a, 1) for a, b in pairwise(widths))
        self.heads = nn.ModuleList(PointConvolution(w, 1, 1) for w in widths[:2])
        for head in self.heads:
            nn.init.zeros_(cast(nn.Conv3d, head).weight)
            nn.init.zeros_(cast(Tensor, head.bias))
        self.trust = nn.Parameter(torch.tensor([0.5]))

    def forward(self, x: Tensor, prior: Tensor, every_head: bool = False) -> list[Tensor]:
        """See `PromptedNetwork.forward`."""
        self.check_size(x)
        batch, steps = x.shape[:2]
        y = x.transpose(1, 2)
        if steps % 4:
            y = torch.cat([y, y[:, :, -1:].expand(-1, -1, 4 - steps % 4, -1, -1)], 2)
        features = []
        for level, block in enumerate(self.encoder):
            y = block(functional.max_pool3d(y, _POOLS[level - 1]) if level else y)
            features.append(y)
        logits = []
        for level in range(len(features) - 2, -1, -1):
            scale = tuple(float(v) for v in _POOLS[level])
            up = functional.interpolate(self.up[level](y), scale_factor=scale, mode="trilinear", align_corners=False)
            y = self.decoder[level](up + features[level])
            if level == 0 or (every_head and level < len(self.heads)):
                logit = self.heads[level](y)[:, 0, :steps].flatten(0, 1)
                logits.append(self.with_prior(logit, prior.flatten(0, 1), level).unflatten(0, (batch, steps)))
        return logits[::-1]
