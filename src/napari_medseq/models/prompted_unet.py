"""The prompted recurrent U-Net: what is painted on some steps of a sequence enters its state, and the recurrence carries it on.

Each step is encoded once; on the way up, at every level, a GRU runs over the sequence in both directions (`PromptRecurrence`). A
readout compares each place with the annotated steps. The head corrects the interpolated shape rather than starting from nothing.
The network knows no classes: what is painted is the object.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_medseq.errors import ModelError
from napari_medseq.models.prompt_readout import Readout, spread_steps
from napari_medseq.models.prompted_recurrence import PromptCell, PromptRecurrence
from napari_medseq.models.prompting import CHANNELS
from napari_medseq.models.registry import register
from napari_medseq.models.sequence_network import SequenceNetwork

Norm = Literal["batch", "group"]
_LOOKS = (16, 32, 48)  # channels of the features that say whether places look alike
_CLAMP = 8.0  # pixels; beyond them the interpolated shape is as sure as it gets


class PromptedBlock(nn.Module):
    """Two 3 × 3 convolutions with a norm between them, added to their input.

    With ``norm="batch"`` the statistics are fixed after training, so that a step's answer depends on no other step, and the norm
    can be folded into the convolution before it.
    """

    def __init__(self, inputs: int, outputs: int, norm: Norm) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm: nn.Module = (
            nn.BatchNorm2d(outputs) if norm == "batch" else nn.GroupNorm(max(1, outputs // 8), outputs)
        )
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip: nn.Module = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, y, x) to (n, outputs, y, x)."""
        return functional.relu(self.skip(x) + self.second(functional.relu(self.norm(self.first(x)))))

    def fold(self) -> None:
        """Let the first convolution do what the norm does."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.first = fuse_conv_bn_eval(self.first, self.norm)
            self.norm = nn.Identity()


@register("PromptedUNet")
class PromptedUNet(SequenceNetwork):
    """Logits of one object on every step, from the image and the steps on which it is painted.

    Parameters
    ----------
    inputs : int
        Channels per step; see `prompting.PromptedSequence.channels`.
    widths : sequence of int
        Channels per level; each level halves y and x.
    hidden : sequence of int
        Channels of the recurrent state per level; 0: no recurrence there.
    cell : {"conv", "minimal", "none"}
        What carries the sequence; "none" leaves it out: the plain CNN to compare with.
    readout : int
        Level of the readout from annotated steps, 1 to 3; −1: none.
    norm : {"batch", "group"}
        See `PromptedBlock`.
    """

    neighbours = 1

    def __init__(
        self,
        *,
        inputs: int = CHANNELS,
        widths: Sequence[int] = (24, 48, 80, 112),
        hidden: Sequence[int] = (8, 24, 32, 48),
        cell: PromptCell = "conv",
        readout: int = 2,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        if len(hidden) != len(widths):
            raise ModelError(f"{len(hidden)} hidden sizes for {len(widths)} levels; give one per level, 0 for none.")
        if readout >= min(len(widths), len(_LOOKS) + 1) or readout == 0:
            raise ModelError(f"readout is at level {readout}; it can be at 1 to {min(len(widths) - 1, 3)}, or −1.")
        self.stride = 2 ** (len(widths) - 1)
        self.readout_level = readout
        self.encoder = nn.ModuleList(
            PromptedBlock(a, b, norm) for a, b in zip((inputs, *widths[:-1]), widths, strict=True)
        )
        self.decoder = nn.ModuleList(PromptedBlock(w, w, norm) for w in widths[:-1])
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.recurrences = nn.ModuleDict()
        if cell != "none":
            self.recurrences.update({str(v): PromptRecurrence(widths[v], n, cell) for v, n in enumerate(hidden) if n})
        self.heads = nn.ModuleList(nn.Conv2d(w, 1, 1) for w in widths[:3])
        for head in self.heads:
            nn.init.zeros_(cast(nn.Conv2d, head).weight)
            nn.init.zeros_(cast(Tensor, head.bias))
        self.trust = nn.Parameter(torch.tensor([0.5]))
        if readout > 0:
            self.looks = _image_features(readout)
            self.readout = Readout(_LOOKS[-1], widths[readout])

    @property
    def levels(self) -> int:
        """How many sizes a step is looked at in."""
        return len(self.encoder)

    def recurrence(self, level: int) -> PromptRecurrence | None:
        """What carries the sequence at a level."""
        key = str(level)
        return cast(PromptRecurrence, self.recurrences[key]) if key in self.recurrences else None

    def down(self, level: int, y: Tensor) -> Tensor:
        """Features (n, channel, y, x) of a level from those of the level before it, or from the input."""
        out: Tensor = self.encoder[level](functional.max_pool2d(y, 2) if level else y)
        return out

    def rise(self, level: int, y: Tensor, skip: Tensor) -> Tensor:
        """Decoded features of a level from those of the level under it, and the encoder's own."""
        risen = functional.interpolate(self.up[level](y), scale_factor=2.0, mode="bilinear", align_corners=False)
        out: Tensor = self.decoder[level](risen + skip)
        return out

    def logit(self, level: int, y: Tensor, prior: Tensor) -> Tensor:
        """Logits (n, y, x) of a level; `prior` (n, y, x) is the interpolated shape's signed distance at full size."""
        base = prior if level == 0 else functional.avg_pool2d(prior, 2**level)
        out: Tensor = self.heads[level](y)[:, 0].float() + self.trust.float() * base.clamp(-_CLAMP, _CLAMP)
        return out

    def forward(self, x: Tensor, prior: Tensor, annotated: Tensor, every_head: bool = False) -> list[Tensor]:
        """Logits (batch, step, y, x), finest first; with `every_head` the coarser ones after it, each at its own size.

        Parameters
        ----------
        x : Tensor, (batch, step, channel, y, x)
            y and x are multiples of `stride`.
        prior : Tensor, (batch, step, y, x)
            Signed distance of the interpolated shape in pixels.
        annotated : Tensor of bool, (batch, step)
            At least one per sequence.
        every_head : bool

        Raises
        ------
        ModelError
            If the size is no multiple of `stride`.
        """
        if any(n % self.stride for n in x.shape[3:]):
            raise ModelError(
                f"Windows of {tuple(x.shape[3:])} do not fit this network; pad them to multiples of {self.stride}."
            )
        batch, steps = x.shape[:2]
        flat = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features, y = [], flat
        for level in range(self.levels):
            y = self.down(level, y)
            if level == self.readout_level:
                y = self._read(flat, y.unflatten(0, (batch, steps)), annotated).flatten(0, 1)
            features.append(y)
        logits = []
        for level in range(self.levels - 1, -1, -1):
            y = features[level] if level == self.levels - 1 else self.rise(level, y, features[level])
            carry = self.recurrence(level)
            y = y if carry is None else carry(y, batch)
            if level == 0 or (every_head and level < len(self.heads)):
                logits.append(self.logit(level, y, prior.flatten(0, 1)).unflatten(0, (batch, steps)))
        return logits[::-1]

    def _read(self, flat: Tensor, y: Tensor, annotated: Tensor) -> Tensor:
        batch, steps = annotated.shape
        looks = self.looks(flat[:, :3]).unflatten(0, (batch, steps))
        index, use = spread_steps(annotated)
        row = torch.arange(batch, device=flat.device)[:, None]
        middle = steps // 2
        memory = self.readout.memory(looks[row, index], y[row, index], index - middle, use)
        numbers = torch.arange(steps, device=flat.device).expand(batch, -1) - middle
        out: Tensor = self.readout(looks, y, numbers, memory)
        return out

    def folded(self) -> PromptedUNet:
        """A copy for inference whose batch norms are folded into the convolutions before them; the answer is the same."""
        twin = copy.deepcopy(self).eval().requires_grad_(False)
        for block in (*twin.encoder, *twin.decoder):
            cast(PromptedBlock, block).fold()
        return twin


def _image_features(level: int) -> nn.Sequential:
    """From the image and its two neighbours to features at a level."""
    layers: list[nn.Module] = []
    for a, b in zip((3, *_LOOKS[:-1]), _LOOKS[:level], strict=False):
        first = a == 3
        layers += [nn.Conv2d(a, b, 5 if first else 3, stride=2, padding=2 if first else 1), nn.ReLU()]
    layers.append(nn.Conv2d(_LOOKS[level - 1], _LOOKS[-1], 3, padding=1))
    return nn.Sequential(*layers)
