"""The recurrence of the prompted network: a GRU over the steps in both directions, with the same weights.

What is painted on one step reaches those on both sides of it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

#: "conv": the gates see the state through a 3 × 3 convolution; "minimal": they depend on the input alone; "none": no recurrence
PromptCell = Literal["conv", "minimal", "none"]


class PromptRecurrence(nn.Module):
    """A GRU over the steps in both directions, its answer added to its input.

    ``cell="conv"`` is the convolutional GRU of Ballas et al. 2016 (arXiv:1511.06432), the reset gate applied after the product;
    ``cell="minimal"`` the minGRU of Feng et al. 2024 (arXiv:2410.01201), whose step costs two products.

    Parameters
    ----------
    width : int
        Channels of its input and its answer.
    hidden : int
        Channels of the state, in each direction.
    cell : {"conv", "minimal"}
    """

    def __init__(self, width: int, hidden: int, cell: PromptCell) -> None:
        super().__init__()
        self.cell: PromptCell = cell
        self.hidden = hidden
        gates = 3 if cell == "conv" else 2
        self.seen = nn.Conv2d(width, gates * hidden, 3, padding=1)
        if cell == "conv":
            self.carried = nn.Conv2d(hidden, gates * hidden, 3, padding=1)
        self.merge = nn.Conv2d(2 * hidden, width, 3, padding=1)
        assert self.merge.bias is not None
        nn.init.zeros_(self.merge.bias)

    def forward(self, x: Tensor, batch: int) -> Tensor:
        """The steps of whole sequences, (batch · step, width, y, x)."""
        seen = self.seen(x).unflatten(0, (batch, -1)).transpose(0, 1)
        states = self.walk(torch.cat([seen, seen.flip(0)], 1))  # forwards and backwards together
        ahead, back = states.split(batch, 1)
        both = torch.cat([ahead, back.flip(0)], 2).transpose(0, 1).flatten(0, 1)
        return self.joined(x, both)

    def walk(self, seen: Tensor, state: Tensor | None = None) -> Tensor:
        """States (step, batch, hidden, y, x) after each step, in the order of `seen`, from `state` on (zeros if None)."""
        return self._walk_conv(seen, state) if self.cell == "conv" else self._walk_minimal(seen, state)

    def joined(self, x: Tensor, both: Tensor) -> Tensor:
        """The input with what both directions (n, 2 · hidden, y, x) say of it."""
        out: Tensor = x + self.merge(both)
        return out

    def _walk_conv(self, seen: Tensor, state: Tensor | None) -> Tensor:
        n = self.hidden
        gates, news = seen[:, :, : 2 * n], seen[:, :, 2 * n :]
        state = torch.zeros_like(news[0]) if state is None else state
        found = []
        for gate, new in zip(gates.unbind(0), news.unbind(0), strict=True):
            carried = self.carried(state)
            keep, reset = torch.sigmoid(gate + carried[:, : 2 * n]).chunk(2, 1)
            state = torch.lerp(torch.tanh(new + reset * carried[:, 2 * n :]), state, keep)
            found.append(state)
        return torch.stack(found)

    def _walk_minimal(self, seen: Tensor, state: Tensor | None) -> Tensor:
        keep, new = seen.chunk(2, 2)
        keep = torch.sigmoid(keep)
        new = (1 - keep) * torch.tanh(new)
        state = torch.zeros_like(new[0]) if state is None else state
        found = []
        for kept, added in zip(keep.unbind(0), new.unbind(0), strict=True):
            state = torch.addcmul(added, kept, state)
            found.append(state)
        return torch.stack(found)
