"""`ConvGRU` and `ConvLSTM`: stacked, one- or two-way recurrent layers over sequences of feature maps, 2D or 3D.

They are for feature maps what `torch.nn.GRU` and `torch.nn.LSTM` are for vectors: the hidden state can be given and
is returned, padded or missing steps are skipped, and dropout uses one mask per sequence for all its steps (Gal &
Ghahramani 2016, arXiv:1512.05287, eq. 7).
"""

from __future__ import annotations

from typing import TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medseq.errors import ModelError
from napari_medseq.models.cells import CELLS, Cell, ConvGRUCell, ConvLSTMCell, scan


class ConvRNN(nn.Module):
    """Layers of convolutional recurrent cells.

    Parameters
    ----------
    cell : {"gru", "lstm"}
    channels, hidden : int
        Channels of the input and of each direction's output.
    layers : int
        Each layer reads the one before it.
    kernel : int
        Odd kernel size.
    dimensions : {2, 3}
        Whether a step is an image or a volume.
    bidirectional : bool
        A second set of cells reads from the last step to the first; its outputs follow as further channels.
    dropout : float
        Share of channels hidden from each layer, of its input and of its state, by one mask for all steps.
    """

    def __init__(
        self,
        cell: Cell,
        channels: int,
        hidden: int,
        layers: int = 1,
        *,
        kernel: int = 3,
        dimensions: int = 2,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0 or layers < 1 or not 0 <= dropout < 1:
            raise ModelError(
                f"kernel {kernel} must be odd, layers {layers} at least 1, and dropout {dropout} in [0, 1)."
            )
        self.hidden, self.layers, self.dropout = hidden, layers, dropout
        self.directions = 2 if bidirectional else 1
        inputs = [channels] + [self.directions * hidden] * (layers - 1)
        self.cells = nn.ModuleList(
            CELLS[cell](n, hidden, kernel, dimensions) for n in inputs for _ in range(self.directions)
        )

    def forward(self, x: Tensor, state: Tensor | None = None, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs of the last layer, and the state to go on with.

        Parameters
        ----------
        x : Tensor, shape (batch, step, channel, …)
        state : Tensor, shape (layers · directions, batch, state channel, …), optional
            As it came out of an earlier call; None is zero. For an LSTM h stands before c along the channels.
        present : Tensor of bool, shape (batch, step), optional
            False where a step is padding or missing: the state passes it unchanged and the output there is zero.

        Returns
        -------
        outputs : Tensor, shape (batch, step, directions · hidden, …)
        state : Tensor, shape (layers · directions, batch, state channel, …)
            After the last step; of the backward direction, after the first.

        Raises
        ------
        ModelError
            If the shapes do not belong together.
        """
        self._check(x, state, present)
        batch, steps = x.shape[:2]
        last: list[Tensor] = []
        for layer in range(self.layers):
            x = x * self._mask(x[:, 0])[:, None] if self._drops else x
            seen = []
            for direction in range(self.directions):
                k = layer * self.directions + direction
                cell = self.cells[k]
                assert isinstance(cell, ConvGRUCell | ConvLSTMCell)
                projected = cell.from_input(x.flatten(0, 1)).unflatten(0, (batch, steps))
                before = None if state is None else state[k]
                keep = self._mask(projected[:, 0, : self.hidden]) if self._drops else None
                states = scan(cell, projected, before, present=present, keep=keep, backwards=direction == 1)
                last.append(states[:, 0 if direction else -1])
                seen.append(cell.seen(states.flatten(0, 1)).unflatten(0, (batch, steps)))
            x = torch.cat(seen, 2)
            if present is not None:
                x = x * present.reshape(batch, steps, *[1] * (x.ndim - 2)).to(x.dtype)
        return x, torch.stack(last)

    @property
    def _drops(self) -> bool:
        return self.training and self.dropout > 0

    def _mask(self, like: Tensor) -> Tensor:
        """Zeros and 1 / (1 - p), per sequence and channel (batch, channel, 1, …)."""
        return functional.dropout(like.new_ones(*like.shape[:2], *[1] * (like.ndim - 2)), self.dropout)

    def _check(self, x: Tensor, state: Tensor | None, present: Tensor | None) -> None:
        cell = self.cells[0]
        assert isinstance(cell, ConvGRUCell | ConvLSTMCell)
        weight_shape = cell.from_input.weight.shape
        if x.ndim != len(weight_shape) + 1 or x.shape[2] != weight_shape[1] or x.shape[1] < 1:
            raise ModelError(
                f"The recurrent layer takes (batch, step, {weight_shape[1]} channels, {len(weight_shape) - 2} axes of space) and at "
                f"least one step, not {tuple(x.shape)}."
            )
        shape = (len(self.cells), x.shape[0], cell.state_channels, *x.shape[3:])
        if state is not None and tuple(state.shape) != shape:
            raise ModelError(f"The state has shape {tuple(state.shape)}, but for this input it must be {shape}.")
        if present is not None and (present.dtype != torch.bool or present.shape != x.shape[:2]):
            raise ModelError(f"present must be bool of shape {tuple(x.shape[:2])}, not {tuple(present.shape)}.")


class _Options(TypedDict, total=False):
    """The keywords of `ConvRNN`, once, for its two kinds."""

    kernel: int
    dimensions: int
    bidirectional: bool
    dropout: float


class ConvGRU(ConvRNN):
    """A `ConvRNN` of `ConvGRUCell`."""

    def __init__(self, channels: int, hidden: int, layers: int = 1, **options: Unpack[_Options]) -> None:
        super().__init__("gru", channels, hidden, layers, **options)


class ConvLSTM(ConvRNN):
    """A `ConvRNN` of `ConvLSTMCell`."""

    def __init__(self, channels: int, hidden: int, layers: int = 1, **options: Unpack[_Options]) -> None:
        super().__init__("lstm", channels, hidden, layers, **options)
