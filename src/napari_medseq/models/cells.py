"""Convolutional GRU over a sequence of feature maps, written for streaming.

Neither PyTorch nor MONAI has one. Two directions, each with a stated memory:

* *forward*: hidden state is carried from step to step without bound, and from chunk to chunk by the caller;
* *look-ahead*: for each step i the cell starts from zero at step i + k and runs back to i, so that the answer at i depends on
  the next k steps only and never on where a chunk ends.

Shapes are (batch, step, channel, y, x) for sequences and (batch, channel, y, x) for one step.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


class ConvGRUCell(nn.Module):
    """One step of a convolutional GRU (Ballas et al. 2016, arXiv:1511.06432, eq. 5-8; reset gate as in Cho et al. 2014).

    ``z = σ(Wz*[x, h])``, ``r = σ(Wr*[x, h])``, ``n = tanh(Wx*x + Wn*(r ⊙ h))``, ``h' = (1 - z) ⊙ h + z ⊙ n``.

    Parameters
    ----------
    channels, hidden : int
        Channels of the input and of the state.
    kernel : int
        Odd kernel size.
    """

    def __init__(self, channels: int, hidden: int, kernel: int = 3) -> None:
        super().__init__()
        self.hidden = hidden
        # what depends on the input alone is one convolution over all steps at once; what depends on the state is per step
        self.from_input = nn.Conv2d(channels, 3 * hidden, kernel, padding=kernel // 2)
        self.gates = nn.Conv2d(hidden, 2 * hidden, kernel, padding=kernel // 2, bias=False)
        self.candidate = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, bias=False)

    def forward(self, projected: Tensor, state: Tensor | None) -> Tensor:
        """New state (batch, hidden, y, x) from ``from_input(x)`` and the state before; None is the zero state."""
        xz, xr, xn = projected.chunk(3, dim=1)
        if state is None:
            return torch.sigmoid(xz) * torch.tanh(xn)
        hz, hr = self.gates(state).chunk(2, dim=1)
        update = torch.sigmoid(xz + hz)
        new = torch.tanh(xn + self.candidate(torch.sigmoid(xr + hr) * state))
        return (1 - update) * state + update * new


class SequenceMixer(nn.Module):
    """Adds to each step what a ConvGRU carried from before and what a second one saw in the next `ahead` steps.

    The sum enters through a 1×1 convolution that starts at zero, so an untrained mixer is the identity and the network
    around it begins as the plain CNN.

    Parameters
    ----------
    channels : int
        Channels of the features, in and out.
    hidden : int
        Channels of each direction's state.
    ahead : int
        Look-ahead in steps (k of the bundle); 0 for a purely causal network.
    """

    def __init__(self, channels: int, hidden: int, ahead: int) -> None:
        super().__init__()
        self.ahead = ahead
        self.forward_cell = ConvGRUCell(channels, hidden)
        self.ahead_cell = ConvGRUCell(channels, hidden) if ahead > 0 else None
        self.out = nn.Conv2d(hidden * (2 if ahead > 0 else 1), channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias if self.out.bias is not None else torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Mix a whole sequence (batch, step, channel, y, x) → the same shape."""
        batch, steps = x.shape[:2]
        flat = x.flatten(0, 1)
        carried = self.forward_cell.from_input(flat).unflatten(0, (batch, steps))
        state: Tensor | None = None
        states = []
        for i in range(steps):
            state = self.forward_cell(carried[:, i], state)
            states.append(state)
        seen = torch.stack(states, 1).flatten(0, 1)
        if self.ahead_cell is not None:
            seen = torch.cat([seen, self._look_ahead_all(flat, batch, steps)], 1)
        out: Tensor = flat + self.out(seen)
        return cast(Tensor, out.unflatten(0, (batch, steps)))

    def _look_ahead_all(self, flat: Tensor, batch: int, steps: int) -> Tensor:
        """Look-ahead states of every step at once: k + 1 cell calls, each over all steps that still have that future."""
        assert self.ahead_cell is not None
        projected = self.ahead_cell.from_input(flat).unflatten(0, (batch, steps))
        state: Tensor | None = None
        for j in range(min(self.ahead, steps - 1), -1, -1):
            # steps whose future reaches j begin here with a zero state; the others go on
            reach = steps - j
            if state is not None and state.shape[1] < reach:
                state = torch.cat([state, state.new_zeros(batch, reach - state.shape[1], *state.shape[2:])], 1)
            flat_state = None if state is None else state.flatten(0, 1)
            state = self.ahead_cell(projected[:, j:].flatten(0, 1), flat_state).unflatten(0, (batch, reach))
        assert state is not None
        return state.flatten(0, 1)

    # -- streaming: the same arithmetic, one step at a time -----------------------------------------------------------
    def carry(self, x: Tensor, state: Tensor | None) -> Tensor:
        """Forward state after one step (batch, channel, y, x)."""
        new: Tensor = self.forward_cell(self.forward_cell.from_input(x), state)
        return new

    def look(self, projected: list[Tensor]) -> Tensor:
        """Look-ahead state at a step from the projections of it and of the (at most `ahead`) steps after it, in order."""
        assert self.ahead_cell is not None
        state: Tensor | None = None
        for p in reversed(projected):
            state = self.ahead_cell(p, state)
        assert state is not None
        return state

    def join(self, x: Tensor, carried: Tensor, looked: Tensor | None) -> Tensor:
        """The mixed features of one step."""
        seen = carried if looked is None else torch.cat([carried, looked], 1)
        out: Tensor = x + self.out(seen)
        return out
