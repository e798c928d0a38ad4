"""Attention from every place of a sequence to the steps on which an object is painted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

#: annotated steps that are read at most; of more, evenly spread ones are
MOST_STEPS = 8


@dataclass(frozen=True)
class Memory:
    """What the annotated steps show: keys (batch, head, place, size) and values of the same shape."""

    keys: Tensor
    values: Tensor


class Readout(nn.Module):
    """Adds to each place what the annotated steps show where they look alike.

    Keys come from the image alone, values from all features. Near places count more: a learned Gaussian in y, x and the steps
    between, whose exponent is written into the keys, so that the attention stays a plain product (Vaswani et al. 2017).

    Parameters
    ----------
    looks : int
        Channels of the features that keys come from.
    width : int
        Channels of the features that are read and answered.
    heads, size : int
        Heads and channels per head; four of these hold the place.
    """

    def __init__(self, looks: int, width: int, heads: int = 2, size: int = 32) -> None:
        super().__init__()
        self.heads, self.size = heads, size
        self.key = nn.Conv2d(looks, heads * (size - 4), 1)
        self.value = nn.Conv2d(width, heads * size, 1)
        self.out = nn.Conv2d(heads * size, width, 1)
        self.reach = nn.Parameter(torch.tensor([[8.0, 8.0], [2.5, 6.0]][:heads] + [[4.0, 6.0]] * (heads - 2)).log())
        self.sharpness = nn.Parameter(torch.full((heads,), 1.0))

    def memory(self, looks: Tensor, x: Tensor, steps: Tensor, use: Tensor) -> Memory:
        """Keys and values of annotated steps.

        Parameters
        ----------
        looks, x : Tensor, (batch, annotated, channel, y, x)
        steps : Tensor, (batch, annotated)
            The numbers of these steps, from any common zero.
        use : Tensor of bool, (batch, annotated)
            False where a sequence has fewer annotated steps than others of its batch.
        """
        batch = len(x)
        value = self.value(x.flatten(0, 1)).unflatten(0, (batch, -1)).unflatten(2, (self.heads, self.size))
        keys = self._placed(self._key(looks, batch), steps.float(), use)
        return Memory(keys, value.float().permute(0, 2, 1, 4, 5, 3).flatten(2, 4))

    def forward(self, looks: Tensor, x: Tensor, steps: Tensor, memory: Memory) -> Tensor:
        """`x` (batch, step, channel, y, x) with what is read for it; `steps` (batch, step) numbers its steps."""
        batch, count, _, height, width = x.shape
        # the products of places are differences of large numbers: they need float32
        strength = 8.0 * self.sharpness.exp() ** 0.5
        query = self._placed(self._key(looks, batch) * strength.view(1, 1, -1, 1, 1, 1), steps.float(), None)
        root = float(self.size) ** 0.5
        with torch.autocast(x.device.type, enabled=False):
            read = functional.scaled_dot_product_attention(query * root**0.5, memory.keys * root**0.5, memory.values)
        read = read.unflatten(2, (count, height, width)).permute(0, 2, 1, 5, 3, 4).flatten(2, 3).flatten(0, 1)
        out: Tensor = x + self.out(read.to(x.dtype).contiguous()).unflatten(0, (batch, count))
        return out

    def _key(self, looks: Tensor, batch: int) -> Tensor:
        key = self.key(looks.flatten(0, 1)).unflatten(1, (self.heads, -1)).float()
        unit: Tensor = functional.normalize(key, dim=2).unflatten(0, (batch, -1))
        return unit

    def _placed(self, key: Tensor, step: Tensor, use: Tensor | None) -> Tensor:
        """Adds four channels whose products give −distance² / (2 · reach²), up to a term that is the same for all keys."""
        batch, steps, heads, _, height, width = key.shape
        reach = self.reach.float().exp()
        y = torch.linspace(-(height - 1) / 2, (height - 1) / 2, height, device=key.device)
        x = torch.linspace(-(width - 1) / 2, (width - 1) / 2, width, device=key.device)
        near = reach[:, 0].view(1, 1, -1, 1, 1)
        whole = (batch, steps, heads, height, width)
        rows = (y[:, None] / near).expand(whole)
        columns = (x / near).expand(whole)
        along = (step[:, :, None, None, None] / reach[:, 1].view(1, 1, -1, 1, 1)).expand(whole)
        last = torch.ones_like(along)
        if use is not None:
            unused = 1e4 * (~use[:, :, None, None, None]).float()
            last = -(rows.square() + columns.square() + along.square()) / 2 - unused
        grid = torch.stack([rows, columns, along, last], 3)
        return torch.cat([key, grid], 3).permute(0, 2, 1, 4, 5, 3).flatten(2, 4)


def spread_steps(annotated: Tensor, most: int = MOST_STEPS) -> tuple[Tensor, Tensor]:
    """Numbers (batch, count) of the annotated steps, at most `most` evenly spread ones, and which of them are real.

    Parameters
    ----------
    annotated : Tensor of bool, (batch, step)
    most : int
    """
    count = int(annotated.sum(1).max().clamp(1, most))
    order = torch.argsort((~annotated).to(torch.int8), dim=1, stable=True)
    total = annotated.sum(1)
    place = torch.arange(count, device=annotated.device).expand(len(annotated), -1)
    spread = (place * (total[:, None] - 1).clamp_min(0)) // max(count - 1, 1)
    place = torch.where(total[:, None] > count, spread, place)
    return order.gather(1, place), place < total[:, None]
