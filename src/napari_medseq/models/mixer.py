"""The layer that lets information flow between the steps of a network: recurrence in two directions, each with a
stated reach.

* *forward*: hidden state is carried from step to step without bound, and from chunk to chunk by the caller;
* *look-ahead*: for each step i the cell starts from zero at step i + k and runs back to i, so that the answer at i depends on
  the next k steps only and never on where a chunk ends.

Where steps are unevenly spaced in time or space, the gap between them is an input of the gates. A missing step is
skipped, so that all that remains of it is the longer gap; in streaming it is never pushed.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from napari_medseq.errors import ModelError
from napari_medseq.models.blocks import convolution
from napari_medseq.models.cells import CELLS, Cell, scan
from napari_medseq.models.steps import gaps_before, present_first, take


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
    gap_unit : float, optional
        Makes the gaps between steps an input of the cells, as ``log(1 + gap / gap_unit)`` with one weight per gate and
        channel that starts at zero. A gap that is typical of the sequences (90 days, say) is a good unit.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        ahead: int,
        cell: Cell = "gru",
        dimensions: int = 2,
        gap_unit: float | None = None,
    ) -> None:
        super().__init__()
        if gap_unit is not None and not gap_unit > 0:
            raise ModelError(f"gap_unit is {gap_unit}; it is a time or distance above 0, or None.")
        self.ahead, self.gap_unit = ahead, gap_unit
        self.forward_cell = CELLS[cell](channels, hidden, dimensions=dimensions)
        self.ahead_cell = CELLS[cell](channels, hidden, dimensions=dimensions) if ahead > 0 else None
        self.out = convolution(dimensions)(hidden * (2 if ahead > 0 else 1), channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias if self.out.bias is not None else torch.zeros(1))
        gates = self.forward_cell.from_input.weight.shape[0]
        self.forward_gap = _gap_weights(gates) if gap_unit is not None else None
        self.ahead_gap = _gap_weights(gates) if gap_unit is not None and ahead > 0 else None

    def forward(self, x: Tensor, times: Tensor | None = None, present: Tensor | None = None) -> Tensor:
        """Mix a whole sequence.

        Parameters
        ----------
        x : Tensor, shape (batch, step, channel, …)
        times : Tensor, shape (batch, step), optional
            When (or where) each step is, ascending over the steps that are there, in the unit of `gap_unit`.
        present : Tensor of bool, shape (batch, step), optional
            False where a step is missing: the others are mixed as if it did not exist, and it is given back as it is.

        Returns
        -------
        Tensor, shape (batch, step, channel, …)

        Raises
        ------
        ModelError
            If there are times, but the mixer was made without `gap_unit`.
        """
        if times is not None and self.gap_unit is None:
            raise ModelError("This network does not use times; build it with gap_unit=, or leave the times out.")
        if present is None:
            return self._mix(x, times, None)
        order, back = present_first(present)
        mixed = self._mix(take(x, order), None if times is None else take(times, order), take(present, order))
        is_present = present.reshape(*present.shape, *[1] * (x.ndim - 2))
        return torch.where(is_present, take(mixed, back), x)

    def _mix(self, x: Tensor, times: Tensor | None, present: Tensor | None) -> Tensor:
        """Mix a sequence whose missing steps all stand at its end."""
        batch, steps = x.shape[:2]
        gaps = None if times is None else gaps_before(times, present)
        flat = x.flatten(0, 1)
        carried = self.forward_cell.from_input(flat).unflatten(0, (batch, steps))
        states = scan(self.forward_cell, self._with_gap(carried, gaps, self.forward_gap))
        seen = self.forward_cell.seen(states.flatten(0, 1))
        if self.ahead_cell is not None:
            seen = torch.cat([seen, self._look_ahead_all(flat, batch, steps, gaps, present)], 1)
        out: Tensor = flat + self.out(seen)
        return cast(Tensor, out.unflatten(0, (batch, steps)))

    def _look_ahead_all(
        self, flat: Tensor, batch: int, steps: int, gaps: Tensor | None, present: Tensor | None
    ) -> Tensor:
        """Look-ahead states of every step at once: k + 1 cell calls, each over all steps that still have that future."""
        assert self.ahead_cell is not None
        projected = self.ahead_cell.from_input(flat).unflatten(0, (batch, steps))
        # the gap that matters here is the one to the next step; there is none where a look-ahead begins
        after = None if gaps is None else torch.cat([gaps[:, 1:], torch.zeros_like(gaps[:, :1])], 1)
        started = self._with_gap(projected, after, self.ahead_gap)
        state: Tensor | None = None
        for j in range(min(self.ahead, steps - 1), -1, -1):
            # steps whose future reaches j begin here with a zero state; the others go on
            reach = steps - j
            if state is not None and state.shape[1] < reach:
                state = torch.cat([state, state.new_zeros(batch, reach - state.shape[1], *state.shape[2:])], 1)
            flat_state = None if state is None else state.flatten(0, 1)
            source = projected if j == self.ahead else started
            state = self.ahead_cell(source[:, j:].flatten(0, 1), flat_state).unflatten(0, (batch, reach))
            if present is not None:
                is_present = present[:, j:].reshape(batch, reach, *[1] * (state.ndim - 2))
                # not a product: what is missing may be NaN
                state = torch.where(is_present, state, torch.zeros_like(state))
        assert state is not None
        return self.ahead_cell.seen(state.flatten(0, 1))

    def _with_gap(self, projected: Tensor, gap: Tensor | None, weights: nn.Linear | None) -> Tensor:
        """Projections (…, gate, y, x) with the gap (…,) before or after each step added to the gates."""
        if gap is None or weights is None or self.gap_unit is None:
            return projected
        added: Tensor = weights(torch.log1p(gap / self.gap_unit)[..., None].to(projected.dtype))
        return projected + added.reshape(*added.shape, *[1] * (projected.ndim - added.ndim))

    # -- streaming: the same arithmetic, one step at a time, or some steps together where none needs another -----------
    def carry(self, x: Tensor, state: Tensor | None, gap: Tensor | None = None) -> Tensor:
        """Forward state after one step (batch, channel, y, x); `gap` (batch,) is the one since the step before."""
        return self.advance(self.forward_cell.from_input(x), state, gap)

    def advance(self, projected: Tensor, state: Tensor | None, gap: Tensor | None = None) -> Tensor:
        """The same from ``forward_cell.from_input`` of the step."""
        new: Tensor = self.forward_cell(self._with_gap(projected, gap, self.forward_gap), state)
        return new

    def look(self, projected: list[Tensor], gaps: list[Tensor] | None = None, count: int = 1) -> Tensor:
        """Look-ahead states (count · batch, state, y, x) of the first `count` steps, one step after another.

        Parameters
        ----------
        projected : list of Tensor
            ``ahead_cell.from_input`` of these steps and of the (at most `ahead`) steps after the last of them, in order.
        gaps : list of Tensor, shape (batch,), optional
            The gaps between these steps, one fewer than there are steps.
        count : int
        """
        assert self.ahead_cell is not None
        last, batch = len(projected) - 1, len(projected[0])
        state: Tensor | None = None
        for j in range(min(self.ahead, last), -1, -1):
            # the cell is j steps after each of the first `reach`; where it has just begun the state is zero, and there is no gap
            reach = min(count, last + 1 - j)
            seen = _joined(projected[j : j + reach])
            if gaps and j < self.ahead:
                after = [gaps[i] if i < last else torch.zeros_like(gaps[0]) for i in range(j, j + reach)]
                seen = self._with_gap(seen, _joined(after), self.ahead_gap)
            if state is not None and len(state) < reach * batch:
                state = torch.cat([state, state.new_zeros(reach * batch - len(state), *state.shape[1:])])
            state = self.ahead_cell(seen, state)
        assert state is not None
        return state

    def join(self, x: Tensor, carried: Tensor, looked: Tensor | None) -> Tensor:
        """The mixed features of steps (n, channel, y, x)."""
        seen = self.forward_cell.seen(carried)
        if looked is not None and self.ahead_cell is not None:
            seen = torch.cat([seen, self.ahead_cell.seen(looked)], 1)
        out: Tensor = x + self.out(seen)
        return out


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _gap_weights(gates: int) -> nn.Linear:
    linear = nn.Linear(1, gates, bias=False)
    nn.init.zeros_(linear.weight)
    return linear
