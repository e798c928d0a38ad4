"""Convolutional GRU and LSTM over a sequence of feature maps, written for streaming.

Neither PyTorch nor MONAI has them. Two directions, each with a stated memory:

* *forward*: hidden state is carried from step to step without bound, and from chunk to chunk by the caller;
* *look-ahead*: for each step i the cell starts from zero at step i + k and runs back to i, so that the answer at i depends on
  the next k steps only and never on where a chunk ends.

Shapes are (batch, step, channel, y, x) for sequences and (batch, channel, y, x) for one step; with ``dimensions=3``, for
sequences of volumes, (z, y, x) stands in the place of (y, x). A state is one tensor, whatever the cell keeps in it.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

Cell = Literal["gru", "lstm"]


def _convolution(dimensions: int) -> Any:
    if dimensions not in (2, 3):
        raise ValueError(f"dimensions is {dimensions}; a step is an image (2) or a volume (3)")
    return nn.Conv2d if dimensions == 2 else nn.Conv3d


class ConvGRUCell(nn.Module):
    """One step of a convolutional GRU (Ballas et al. 2016, arXiv:1511.06432, eq. 5-8; reset gate as in Cho et al. 2014).

    ``z = σ(Wz*[x, h])``, ``r = σ(Wr*[x, h])``, ``n = tanh(Wx*x + Wn*(r ⊙ h))``, ``h' = (1 - z) ⊙ h + z ⊙ n``.

    Parameters
    ----------
    channels, hidden : int
        Channels of the input and of the state.
    kernel : int
        Odd kernel size.
    dimensions : {2, 3}
        Whether a step is an image or a volume.
    """

    def __init__(self, channels: int, hidden: int, kernel: int = 3, dimensions: int = 2) -> None:
        super().__init__()
        self.hidden = hidden
        convolution = _convolution(dimensions)
        # what depends on the input alone is one convolution over all steps at once; what depends on the state is per step
        self.from_input = convolution(channels, 3 * hidden, kernel, padding=kernel // 2)
        self.gates = convolution(hidden, 2 * hidden, kernel, padding=kernel // 2, bias=False)
        self.candidate = convolution(hidden, hidden, kernel, padding=kernel // 2, bias=False)

    def forward(self, projected: Tensor, state: Tensor | None) -> Tensor:
        """New state (batch, hidden, y, x) from ``from_input(x)`` and the state before; None is the zero state."""
        xz, xr, xn = projected.chunk(3, dim=1)
        if state is None:
            return torch.sigmoid(xz) * torch.tanh(xn)
        hz, hr = self.gates(state).chunk(2, dim=1)
        update = torch.sigmoid(xz + hz)
        new = torch.tanh(xn + self.candidate(torch.sigmoid(xr + hr) * state))
        return (1 - update) * state + update * new

    def seen(self, state: Tensor) -> Tensor:
        """What the network sees of a state: all of it."""
        return state


class ConvLSTMCell(nn.Module):
    """One step of a convolutional LSTM (Shi et al. 2015, arXiv:1506.04214, eq. 3, without the peepholes ``W_c ∘ c``).

    ``i = σ(Wi*[x, h])``, ``f = σ(Wf*[x, h])``, ``g = tanh(Wg*[x, h])``, ``o = σ(Wo*[x, h])``, ``c' = f ⊙ c + i ⊙ g``,
    ``h' = o ⊙ tanh(c')``. The bias of f starts at one, so that an untrained cell remembers (Jozefowicz et al. 2015).

    Parameters
    ----------
    channels, hidden : int
        Channels of the input, and of h and of c.
    kernel : int
        Odd kernel size.
    dimensions : {2, 3}
        Whether a step is an image or a volume.
    """

    def __init__(self, channels: int, hidden: int, kernel: int = 3, dimensions: int = 2) -> None:
        super().__init__()
        self.hidden = hidden
        convolution = _convolution(dimensions)
        self.from_input = convolution(channels, 4 * hidden, kernel, padding=kernel // 2)
        self.gates = convolution(hidden, 4 * hidden, kernel, padding=kernel // 2, bias=False)
        with torch.no_grad():
            self.from_input.bias[hidden : 2 * hidden] = 1

    def forward(self, projected: Tensor, state: Tensor | None) -> Tensor:
        """New state (batch, 2 · hidden, y, x), h before c, from ``from_input(x)`` and the state before; None is zero."""
        if state is not None:
            h, c = state.chunk(2, dim=1)
            projected = projected + self.gates(h)
        i, f, g, o = projected.chunk(4, dim=1)
        new = torch.sigmoid(i) * torch.tanh(g)
        if state is not None:
            new = new + torch.sigmoid(f) * c
        return torch.cat([torch.sigmoid(o) * torch.tanh(new), new], 1)

    def seen(self, state: Tensor) -> Tensor:
        """What the network sees of a state: h (batch, hidden, y, x)."""
        return state[:, : self.hidden]


CELLS: dict[Cell, type[ConvGRUCell] | type[ConvLSTMCell]] = {"gru": ConvGRUCell, "lstm": ConvLSTMCell}


class SequenceMixer(nn.Module):
    """Adds to each step what a cell carried from before and what a second one saw in the next `ahead` steps.

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
    cell : {"gru", "lstm"}
    dimensions : {2, 3}
        Whether a step is an image or a volume.
    """

    def __init__(self, channels: int, hidden: int, ahead: int, cell: Cell = "gru", dimensions: int = 2) -> None:
        super().__init__()
        self.ahead = ahead
        self.forward_cell = CELLS[cell](channels, hidden, dimensions=dimensions)
        self.ahead_cell = CELLS[cell](channels, hidden, dimensions=dimensions) if ahead > 0 else None
        self.out = _convolution(dimensions)(hidden * (2 if ahead > 0 else 1), channels, 1)
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
        seen = self.forward_cell.seen(torch.stack(states, 1).flatten(0, 1))
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
        return self.ahead_cell.seen(state.flatten(0, 1))

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
        seen = self.forward_cell.seen(carried)
        if looked is not None and self.ahead_cell is not None:
            seen = torch.cat([seen, self.ahead_cell.seen(looked)], 1)
        out: Tensor = x + self.out(seen)
        return out
