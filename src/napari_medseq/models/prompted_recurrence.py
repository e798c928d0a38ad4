"""The recurrence of the prompted network: a minimal GRU over the steps in both directions, with the same weights.

What is painted on one step reaches those on both sides of it. The gates depend on the input alone (minGRU, Feng et al. 2024,
arXiv:2410.01201), so that a step costs two products; a convolutional GRU in its place learned more slowly and was no better.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LONGEST = 24.0  # steps that the slowest state remembers at first


class PromptRecurrence(nn.Module):
    """A minimal GRU over the steps in both directions, its answer added to its input.

    At first the states remember 1 to 24 steps (gate biases as Tallec and Ollivier 2018, arXiv:1804.11188) and nothing is added, so that
    training begins with the network without recurrence.

    Parameters
    ----------
    width : int
        Channels of its input and its answer.
    hidden : int
        Channels of the state, in each direction.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.seen = nn.Conv2d(width, 2 * hidden, 3, padding=1)
        self.merge = nn.Conv2d(2 * hidden, width, 3, padding=1)
        assert self.seen.bias is not None
        assert self.merge.bias is not None
        with torch.no_grad():
            self.seen.bias[:hidden] = torch.linspace(1.1, _LONGEST, hidden).sub(1).clamp_min(0.5).log()
        nn.init.zeros_(self.merge.weight)
        nn.init.zeros_(self.merge.bias)

    def forward(self, x: Tensor, batch: int) -> Tensor:
        """The steps of whole sequences, (batch · step, width, y, x)."""
        seen = self.seen(x).unflatten(0, (batch, -1)).transpose(0, 1)
        states = walk(torch.cat([seen, seen.flip(0)], 1))  # forwards and backwards together
        ahead, back = states.split(batch, 1)
        both = torch.cat([ahead, back.flip(0)], 2).transpose(0, 1).flatten(0, 1)
        out: Tensor = x + self.merge(both)
        return out


def walk(seen: Tensor, state: Tensor | None = None) -> Tensor:
    """States (step, batch, hidden, y, x) after each step, in the order of `seen`.

    Parameters
    ----------
    seen : Tensor, (step, batch, 2 · hidden, y, x)
        For each step the share of the state that is kept (before the sigmoid), and the new input.
    state : Tensor, optional
        Before the first step; zeros if None.
    """
    keep, new = gates(seen)
    state = torch.zeros_like(new[0]) if state is None else state
    states = []
    for decay, added in zip(keep.unbind(0), new.unbind(0), strict=True):
        state = torch.addcmul(added, decay, state)
        states.append(state)
    return torch.stack(states)


def gates(seen: Tensor) -> tuple[Tensor, Tensor]:
    """What is kept of the state at each step, and what is added to it, (step, batch, hidden, y, x); see `walk`."""
    keep, new = seen.chunk(2, 2)
    keep = torch.sigmoid(keep)
    return keep, (1 - keep) * torch.tanh(new.float()).to(keep.dtype)  # tanh of bfloat16 takes thrice as long
