"""The prompted recurrent U-Net: what is painted on some steps of a sequence enters its state, and the recurrence carries it on.

Each step is encoded with the steps beside it; on the way up, at the coarse levels, a recurrence runs over the sequence in both
directions (`PromptRecurrence`). The head corrects the interpolated shape rather than starting from nothing. The network knows no classes:
what is painted is the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medseq.errors import ModelError
from napari_medseq.models.prompted_recurrence import PromptRecurrence
from napari_medseq.models.prompting import CHANNELS
from napari_medseq.models.registry import register
from napari_medseq.models.sequence_network import SequenceNetwork
from napari_medseq.models.slab_convolution import SlabConvolution

_CLAMP = 8.0  # pixels; beyond them the interpolated shape is as sure as it gets
_HEADS = 3  # levels with a head, in training


class PromptedNetwork(SequenceNetwork):
    """A network that carries a painted object along a sequence: `PromptedUNet`, and what it is compared with.

    Attributes
    ----------
    trust : Parameter
        How much the interpolated shape counts.
    """

    neighbours = 1
    trust: nn.Parameter

    def forward(self, x: Tensor, prior: Tensor, every_head: bool = False) -> list[Tensor]:
        """Logits (batch, step, y, x), finest first; with `every_head` the coarser ones after it, each at its own size.

        Parameters
        ----------
        x : Tensor, (batch, step, channel, y, x)
            `prompting.PromptedSequence.channels`; y and x are multiples of `stride`.
        prior : Tensor, (batch, step, y, x)
            Signed distance of the interpolated shape in pixels.
        every_head : bool

        Raises
        ------
        ModelError
            If the size is not a multiple of `stride`.
        """
        raise NotImplementedError

    def check_size(self, x: Tensor) -> None:
        """Raise `ModelError` if windows (…, y, x) do not fit."""
        if any(n % self.stride for n in x.shape[-2:]):
            raise ModelError(
                f"Windows of {tuple(x.shape[-2:])} do not fit this network; pad them to multiples of {self.stride}."
            )

    def with_prior(self, logit: Tensor, prior: Tensor, level: int) -> Tensor:
        """Logits (n, y, x) of a level corrected by the shape's signed distance (n, y, x) at full size."""
        base = prior if level == 0 else functional.avg_pool2d(prior, 2**level)
        return logit.float() + self.trust.float() * base.clamp(-_CLAMP, _CLAMP)


class PromptedBlock(nn.Module):
    """Two 3 × 3 convolutions with a batch norm between them, added to their input.

    The norm's statistics are fixed after training, so that a step's answer depends on no other step by it, and it can be folded away.

    Parameters
    ----------
    inputs, outputs : int
    slab : bool
        The first convolution looks at the step before and after, too (3 × 3 × 3).
    """

    def __init__(self, inputs: int, outputs: int, slab: bool) -> None:
        super().__init__()
        self.slab = slab
        first = SlabConvolution if slab else nn.Conv2d
        self.first: nn.Conv2d | nn.Conv3d = first(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip: nn.Module = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, batch: int) -> Tensor:
        """(batch · step, inputs, y, x) to (batch · step, outputs, y, x)."""
        seen = x.unflatten(0, (batch, -1)).transpose(1, 2) if self.slab else x
        first = self.first(seen)
        first = first.transpose(1, 2).flatten(0, 1) if self.slab else first
        return functional.relu(self.skip(x) + self.second(functional.relu(self.norm(first))))


@register("PromptedUNet")
class PromptedUNet(PromptedNetwork):
    """Logits of one object on every step, from the image and the steps on which it is painted.

    Parameters
    ----------
    inputs : int
        Channels per step; see `prompting.PromptedSequence.channels`.
    widths : sequence of int
        Channels per level; each level halves y and x.
    hidden : sequence of int
        Channels of the recurrent state per level; 0: no recurrence there.
    cell : {"minimal", "none"}
        What carries the sequence; "none" leaves it out: the network to compare with.
    slabs : sequence of int
        Levels whose first convolution is 3 × 3 × 3: `level` on the way down, −1 − `level` on the way up.
    """

    def __init__(
        self,
        *,
        inputs: int = CHANNELS,
        widths: Sequence[int] = (24, 48, 96, 144),
        hidden: Sequence[int] = (0, 0, 48, 64),
        cell: Literal["minimal", "none"] = "minimal",
        slabs: Sequence[int] = (0, 1, 2, 3, -1, -2, -3),
    ) -> None:
        super().__init__()
        if len(hidden) != len(widths):
            raise ModelError(f"{len(hidden)} hidden sizes for {len(widths)} levels; give one per level, 0 for none.")
        if cell not in ("minimal", "none"):
            raise ModelError(f"cell {cell!r} must be 'minimal' or 'none'.")
        self.input_channels, self.stride = inputs, 2 ** (len(widths) - 1)
        steps_in = enumerate(zip((inputs, *widths[:-1]), widths, strict=True))
        self.encoder = nn.ModuleList(PromptedBlock(a, b, level in slabs) for level, (a, b) in steps_in)
        self.decoder = nn.ModuleList(PromptedBlock(w, w, -1 - level in slabs) for level, w in enumerate(widths[:-1]))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.recurrences = nn.ModuleDict()
        if cell != "none":
            self.recurrences.update({str(v): PromptRecurrence(widths[v], n) for v, n in enumerate(hidden) if n})
        self.heads = prompt_heads(widths)
        self.trust = nn.Parameter(torch.tensor([0.5]))

    @property
    def levels(self) -> int:
        """Number of resolutions at which a step is processed."""
        return len(self.encoder)

    def recurrence(self, level: int) -> PromptRecurrence | None:
        """The recurrence of a level, which carries the sequence."""
        key = str(level)
        return cast(PromptRecurrence, self.recurrences[key]) if key in self.recurrences else None

    def forward(self, x: Tensor, prior: Tensor, every_head: bool = False) -> list[Tensor]:
        """See `PromptedNetwork.forward`."""
        self.check_size(x)
        batch, steps = x.shape[:2]
        features, y = [], x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        for level, block in enumerate(self.encoder):
            y = block(functional.max_pool2d(y, 2) if level else y, batch)
            features.append(y)
        logits = []
        for level in range(self.levels - 1, -1, -1):
            if level < self.levels - 1:
                y = self.decoder[level](risen(self.up[level](y)) + features[level], batch)
            carry = self.recurrence(level)
            y = y if carry is None else carry(y, batch)
            if level == 0 or (every_head and level < len(self.heads)):
                logit = self.with_prior(self.heads[level](y)[:, 0], prior.flatten(0, 1), level)
                logits.append(logit.unflatten(0, (batch, steps)))
        return logits[::-1]


def risen(y: Tensor) -> Tensor:
    """(n, channel, y, x) at twice the size."""
    return functional.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)


def prompt_heads(widths: Sequence[int]) -> nn.ModuleList:
    """One head per level, silent at first, so that an untrained network answers with the interpolated shape."""
    heads = nn.ModuleList(nn.Conv2d(w, 1, 1) for w in widths[:_HEADS])
    for head in heads:
        nn.init.zeros_(cast(nn.Conv2d, head).weight)
        nn.init.zeros_(cast(Tensor, head.bias))
    return heads
