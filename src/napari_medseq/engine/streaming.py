"""Streaming recurrence: steps in, one at a time; finished steps out, k steps later.

Forward state is carried without bound; the look-ahead of each step needs the next k steps and no more. Each step is encoded and decoded
once, at most k + 1 steps' features are held, and since steps go through the network one by one the answer cannot depend on how
many are handed in together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from napari_medseq.models.recurrent_unet import RecurrentUNet


def neighbourhoods(steps: Iterable[Tensor], neighbours: int) -> Iterator[Tensor]:
    """From steps (channel, y, x) to steps with their neighbours as channels; the ends repeat; holds 2 · neighbours + 1 steps."""
    held: deque[Tensor] = deque(maxlen=2 * neighbours + 1)
    last: Tensor | None = None
    for x in steps:
        if last is None:
            held.extend([x] * neighbours)
        held.append(x)
        last = x
        if len(held) == 2 * neighbours + 1:
            yield torch.cat(list(held))
    if last is None:
        return
    for _ in range(neighbours):
        held.append(last)
        if len(held) == 2 * neighbours + 1:
            yield torch.cat(list(held))


#: what is made of a finished step's mixed features, per level: its logits, or an explanation of them
Finish = Callable[[RecurrentUNet, list[Tensor]], Tensor]


def decode(network: RecurrentUNet, features: list[Tensor]) -> Tensor:
    """Logits (class, y, x) of one step from its mixed features."""
    return network.decode(features)[-1][0]


def dropouts(network: nn.Module) -> list[nn.Module]:
    """The dropout layers that would drop something."""
    return [m for m in network.modules() if isinstance(m, nn.Dropout | nn.Dropout2d) and m.p > 0]


@dataclass
class _Waiting:
    """An encoded step that waits for its future: features per level, forward state and look-ahead projection per mixer."""

    features: list[Tensor]
    carried: dict[int, Tensor] = field(default_factory=dict)
    projected: dict[int, Tensor] = field(default_factory=dict)


class SegmentationStream:
    """One sequence on its way through a `RecurrentUNet`.

    Parameters
    ----------
    network : RecurrentUNet
        In evaluation mode.
    reset : bool
        Forget the state before every step: the ablation that shows what the sequence is worth.
    finish : callable
        What to make of a finished step's features.
    dropout : int, optional
        Encode with dropout, all steps with the mask of this seed: one Monte-Carlo sample.
    """

    def __init__(
        self, network: RecurrentUNet, *, reset: bool = False, finish: Finish = decode, dropout: int | None = None
    ) -> None:
        self.network, self.reset, self.finish, self.dropout = network, reset, finish, dropout
        self.states: dict[int, Tensor] = {}
        self.waiting: deque[_Waiting] = deque()
        self.ahead = 0 if reset or not network.recurrent else network.ahead

    @torch.inference_mode()
    def push(self, step: Tensor) -> Iterator[Tensor]:
        """Take a step (channel, y, x) with its neighbours; yield the logits (class, y, x) of each step that is finished."""
        waiting = _Waiting(self._encode(step[None].contiguous(memory_format=torch.channels_last)))
        for level, mixer in self.network.recurrent:
            x = waiting.features[level]
            before = None if self.reset else self.states.get(level)
            self.states[level] = waiting.carried[level] = mixer.carry(x, before)
            if mixer.ahead_cell is not None:
                waiting.projected[level] = mixer.ahead_cell.from_input(x)
        self.waiting.append(waiting)
        if len(self.waiting) > self.ahead:
            yield self._finish()

    def _encode(self, x: Tensor) -> list[Tensor]:
        if self.dropout is None:
            return self.network.encode(x)
        layers = dropouts(self.network)
        # the same seed before each step gives each step the same mask, whatever runs in between
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
            torch.manual_seed(self.dropout)
            try:
                for layer in layers:
                    layer.train()
                return self.network.encode(x)
            finally:
                for layer in layers:
                    layer.eval()

    @torch.inference_mode()
    def flush(self) -> Iterator[Tensor]:
        """The sequence has ended: yield the steps that still waited."""
        while self.waiting:
            yield self._finish()
        self.states.clear()

    def _finish(self) -> Tensor:
        future = list(self.waiting)[: self.ahead + 1]
        step = self.waiting.popleft()
        for level, mixer in self.network.recurrent:
            looked = mixer.look([w.projected[level] for w in future]) if mixer.ahead_cell is not None else None
            step.features[level] = mixer.join(step.features[level], step.carried[level], looked)
        return self.finish(self.network, step.features)


def stream(
    network: RecurrentUNet,
    steps: Iterable[Tensor],
    *,
    reset: bool = False,
    finish: Finish = decode,
    dropout: int | None = None,
) -> Iterator[Tensor]:
    """Logits (class, y, x) of each step (channel, y, x), in order, in a stream; or what `finish` makes of its features."""
    sequence = SegmentationStream(network, reset=reset, finish=finish, dropout=dropout)
    for x in neighbourhoods(steps, network.neighbours):
        yield from sequence.push(x)
    yield from sequence.flush()
