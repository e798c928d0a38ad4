"""A 2.5D U-Net per step with convolutional GRUs or LSTMs along the sequence: the segmentation network of the package.

Each step is encoded once, with its neighbours as channels; at chosen levels a `SequenceMixer` adds what the sequence says;
each step is decoded once. Normalisation is per step (group norm), never over the sequence, so that the answer does not depend on
how the sequence is cut into chunks. ``rnn="none"`` is the same network with the mixers left out: the plain CNN to compare with.

A step is a slice of a volume, a frame, or a visit (one slice of each visit, or with ``dimensions=3`` the whole volume).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from napari_medseq.errors import ModelError
from napari_medseq.models.blocks import Block, Plain, added, convolution, encode, encoder, upsampling
from napari_medseq.models.mixer import SequenceMixer
from napari_medseq.models.registry import register
from napari_medseq.models.stepwise import Stepwise


@register("RecurrentUNet")
class RecurrentUNet(Stepwise):
    """Encoder-decoder per step, recurrent at chosen levels.

    Parameters
    ----------
    in_channels : int
        Image channels per step, before neighbours are added.
    classes : int
        Output classes with background.
    widths : sequence of int
        Channels per level; each level halves y and x (and z, where a step is a volume).
    neighbours : int
        Steps on either side that enter as channels (2.5D).
    rnn : {"gru", "lstm", "none"}
        Cell that carries the sequence; "none" leaves it out and has the same weights elsewhere.
    rnn_levels : sequence of int
        Levels with a `SequenceMixer`: the last is the bottleneck, the others are skips.
    hidden : int
        Channels of each recurrent state.
    ahead : int
        Look-ahead in steps.
    dropout : float
        Channel dropout in the two deepest levels.
    dimensions : {2, 3}
        Whether a step is an image or a volume.
    gap_unit : float, optional
        Lets the gaps between steps enter the recurrence, measured in this unit; see `SequenceMixer`.
    """

    extra_inputs = ("times", "present")
    deep_supervision = True

    def __init__(
        self,
        *,
        in_channels: int = 1,
        classes: int = 2,
        widths: Sequence[int] = (16, 32, 64, 96, 128),
        neighbours: int = 1,
        rnn: Literal["gru", "lstm", "none"] = "gru",
        rnn_levels: Sequence[int] = (3, 4),
        hidden: int = 48,
        ahead: int = 3,
        dropout: float = 0.1,
        dimensions: Literal[2, 3] = 2,
        gap_unit: float | None = None,
    ) -> None:
        super().__init__()
        self.neighbours, self.rnn, self.ahead, self.classes = neighbours, rnn, ahead, classes
        self.dimensions, self.gap_unit, self.volumes = dimensions, gap_unit, dimensions == 3
        self.stride = 2 ** (len(widths) - 1)
        depth = len(widths)
        self.input_channels = in_channels * (2 * neighbours + 1)
        self.encoder = encoder(self.input_channels, widths, dropout, dimensions)
        self.mixers = nn.ModuleDict()
        if rnn != "none":
            self.mixers.update(
                {str(v): SequenceMixer(widths[v], hidden, ahead, rnn, dimensions, gap_unit) for v in rnn_levels}
            )
        upwards = range(depth - 2, -1, -1)
        self.up = nn.ModuleList(upsampling(dimensions)(widths[v + 1], widths[v], 2, stride=2) for v in upwards)
        self.decoder = nn.ModuleList(
            Block(widths[v], widths[v], dimensions=dimensions) if v else Plain(widths[0], widths[0], dimensions)
            for v in upwards
        )
        self.heads = nn.ModuleList(convolution(dimensions)(widths[v], classes, 1) for v in upwards[-3:])

    @property
    def recurrent(self) -> list[tuple[int, SequenceMixer]]:
        """The recurrent levels and their mixers; empty for the plain CNN."""
        return [(int(level), cast(SequenceMixer, mixer)) for level, mixer in self.mixers.items()]

    @torch.no_grad()
    def silence(self, classes: Sequence[int]) -> None:
        """Make outputs that are not a class negative, at every head."""
        for head in self.heads:
            cast(Tensor, head.weight)[list(classes)] = 0.0
            cast(Tensor, head.bias)[list(classes)] = -20.0

    # -- per step: (n, channel, y, x) ------------------------------------------------------------------------------
    def encode(self, x: Tensor) -> list[Tensor]:
        """Features per level of steps that are independent of each other."""
        return encode(self.encoder, x)

    def decode(self, features: list[Tensor], every_head: bool = False) -> list[Tensor]:
        """Logits (n, class, y, x) at full size; with `every_head` coarser ones before it, for deep supervision."""
        x = features[-1]
        logits = []
        first = len(self.decoder) - len(self.heads)
        for i, (up, block) in enumerate(zip(self.up, self.decoder, strict=True)):
            x = block(added(up(x), features[len(self.decoder) - 1 - i]))
            if i >= first and (every_head or i == len(self.decoder) - 1):
                logits.append(self.heads[i - first](x))
        return logits

    # -- whole sequence: (batch, step, channel, y, x) --------------------------------------------------------------
    def forward(
        self,
        x: Tensor,
        every_head: bool = False,
        order: Tensor | None = None,
        times: Tensor | None = None,
        present: Tensor | None = None,
    ) -> Tensor | list[Tensor]:
        """Logits of a whole sequence.

        Parameters
        ----------
        x : Tensor, shape (batch, step, channel, y, x), or (batch, step, channel, z, y, x)
            y and x (and z) must be multiples of `stride`.
        every_head : bool
            Give a list of logits, coarse to fine, for deep supervision.
        order : Tensor, shape (steps,), optional
            Permutes the steps for the recurrence alone: the ablation that shuffles the sequence.
        times : Tensor, shape (batch, step), optional
            When or where each step is; needs `gap_unit`.
        present : Tensor of bool, shape (batch, step), optional
            False where a step (a visit) is missing: the others are segmented as if it did not exist, and what is answered for
            it means nothing.

        Raises
        ------
        ModelError
            If the size is not a multiple of `stride`, or times do not fit.
        """
        batch, steps = x.shape[:2]
        if any(n % self.stride for n in x.shape[3:]):
            raise ModelError(
                f"Steps of size {tuple(x.shape[3:])} do not fit this network; pad them to multiples of {self.stride}."
            )
        if present is not None:  # a missing step may be NaN, of which not even the gradient may hear
            x = torch.where(present.reshape(batch, steps, *[1] * (x.ndim - 2)), x, torch.zeros_like(x))
        features = self.encode(x.flatten(0, 1))
        for level, mixer in self.recurrent:
            f = features[level].unflatten(0, (batch, steps))
            if order is None:
                f = mixer(f, times, present)
            else:
                f = mixer(f[:, order], times, None if present is None else present[:, order])[:, torch.argsort(order)]
            features[level] = f.flatten(0, 1)
        logits = [y.unflatten(0, (batch, steps)) for y in self.decode(features, every_head)]
        return logits if every_head else logits[-1]


def with_neighbours(steps: Tensor, neighbours: int) -> Tensor:
    """Stack each step (step, channel, y, x) with its neighbours as channels; the ends repeat the outermost step."""
    n = steps.shape[0]
    at = torch.arange(n)
    parts = [steps[(at + d).clamp(0, n - 1)] for d in range(-neighbours, neighbours + 1)]
    return torch.cat(parts, dim=1)
