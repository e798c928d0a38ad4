"""One step of a convolutional GRU and of a convolutional LSTM, which neither PyTorch nor MONAI has.

Shapes are (batch, channel, y, x) for a step; with ``dimensions=3``, for sequences of volumes, (z, y, x) stands in the place of
(y, x). A state is one tensor, whatever the cell keeps in it. A step is taken in two parts, ``cell(cell.from_input(x), state)``: what
depends on the input alone is one convolution over all steps at once, what depends on the state is done step by step. `layers` stacks
cells into a whole recurrent network, `mixer` puts them into another network.
"""

from __future__ import annotations

from typing import Literal, Optional, cast

import torch
from torch import Tensor, nn

from napari_medseq.models.blocks import convolution

Cell = Literal["gru", "lstm"]


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
        self.hidden, self.state_channels = hidden, hidden
        conv = convolution(dimensions)
        self.from_input = conv(channels, 3 * hidden, kernel, padding=kernel // 2)
        self.gates = conv(hidden, 2 * hidden, kernel, padding=kernel // 2, bias=False)
        self.candidate = conv(hidden, hidden, kernel, padding=kernel // 2, bias=False)

    # Optional, not "| None": TorchScript reads these annotations
    def forward(self, projected: Tensor, state: Optional[Tensor], keep: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        """New state (batch, hidden, y, x) from ``from_input(x)`` and the state before; None is the zero state.

        `keep` (batch, hidden, 1, 1) multiplies what the gates see of the state: dropout with one mask for all steps.
        """
        xz, xr, xn = projected.chunk(3, dim=1)
        if state is None:
            return torch.sigmoid(xz) * torch.tanh(xn)
        masked = state if keep is None else state * keep
        hz, hr = self.gates(masked).chunk(2, dim=1)
        update = torch.sigmoid(xz + hz)
        new = torch.tanh(xn + self.candidate(torch.sigmoid(xr + hr) * masked))
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
        self.hidden, self.state_channels = hidden, 2 * hidden
        conv = convolution(dimensions)
        self.from_input = conv(channels, 4 * hidden, kernel, padding=kernel // 2)
        self.gates = conv(hidden, 4 * hidden, kernel, padding=kernel // 2, bias=False)
        with torch.no_grad():
            cast(Tensor, self.from_input.bias)[hidden : 2 * hidden] = 1

    def forward(self, projected: Tensor, state: Optional[Tensor], keep: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        """New state (batch, 2 · hidden, y, x), h before c, from ``from_input(x)`` and the state before; None is zero.

        `keep` (batch, hidden, 1, 1) multiplies what the gates see of h: dropout with one mask for all steps.
        """
        if state is None:
            i, _, g, o = projected.chunk(4, dim=1)
            new = torch.sigmoid(i) * torch.tanh(g)
        else:
            h, c = state.chunk(2, dim=1)
            i, f, g, o = (projected + self.gates(h if keep is None else h * keep)).chunk(4, dim=1)
            new = torch.sigmoid(i) * torch.tanh(g) + torch.sigmoid(f) * c
        return torch.cat([torch.sigmoid(o) * torch.tanh(new), new], 1)

    def seen(self, state: Tensor) -> Tensor:
        """What the network sees of a state: h (batch, hidden, y, x)."""
        return state[:, : self.hidden]


CELLS: dict[Cell, type[ConvGRUCell] | type[ConvLSTMCell]] = {"gru": ConvGRUCell, "lstm": ConvLSTMCell}


def scan(
    cell: ConvGRUCell | ConvLSTMCell,
    projected: Tensor,
    state: Tensor | None = None,
    *,
    present: Tensor | None = None,
    keep: Tensor | None = None,
    backwards: bool = False,
) -> Tensor:
    """The state after each step, in the order of the steps.

    Parameters
    ----------
    cell : ConvGRUCell or ConvLSTMCell
    projected : Tensor, shape (batch, step, channel, …)
        ``from_input`` of the steps.
    state : Tensor, shape (batch, state channel, …), optional
        The state to begin with; None is zero.
    present : Tensor of bool, shape (batch, step), optional
        False where a step is padding or missing: the state passes it unchanged.
    keep : Tensor, shape (batch, hidden, 1, …), optional
        The dropout mask of the state, the same at every step.
    backwards : bool
        Run from the last step to the first.

    Returns
    -------
    Tensor, shape (batch, step, state channel, …)
    """
    steps = projected.shape[1]
    states: list[Tensor] = []
    for i in range(steps - 1, -1, -1) if backwards else range(steps):
        new: Tensor = cell(projected[:, i], state, keep)
        if present is not None:
            is_present = present[:, i].reshape(-1, *[1] * (new.ndim - 1))
            new = torch.where(is_present, new, torch.zeros_like(new) if state is None else state)
        state = new
        states.append(new)
    return torch.stack(states[::-1] if backwards else states, 1)
