"""Streaming inference of recurrent networks: steps enter a few at a time, and each is finished k steps later.

Forward state is carried without bound; the look-ahead of each step needs the next k steps and no more. Each step is encoded and
decoded once, and the features of at most k + g steps are held, where g go through the encoder together. On the CPU g follows from the
steps' size alone, so that the answer cannot depend on how many steps are handed in; elsewhere it depends on it within rounding.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, pairwise

import torch
from torch import Tensor, nn

from napari_medseq.errors import ModelError
from napari_medseq.inference.resources.tuning import Plan
from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.models.stepwise import Stepwise


def neighbourhoods(steps: Iterable[Tensor], neighbours: int, axis: int = 0) -> Iterator[Tensor]:
    """From steps to steps with their neighbours as channels, which lie along `axis`.

    The ends repeat; 2 · neighbours + 1 steps are held.
    """
    buffered: deque[Tensor] = deque(maxlen=2 * neighbours + 1)
    last: Tensor | None = None
    for x in steps:
        if last is None:
            buffered.extend([x] * neighbours)
        buffered.append(x)
        last = x
        if len(buffered) == 2 * neighbours + 1:
            yield torch.cat(list(buffered), axis)
    if last is None:
        return
    for _ in range(neighbours):
        buffered.append(last)
        if len(buffered) == 2 * neighbours + 1:
            yield torch.cat(list(buffered), axis)


#: what is made of finished steps' mixed features, per level (n, channel, y, x): their logits, or an explanation of them
Finish = Callable[[RecurrentUNet, list[Tensor]], Tensor]


def decode(network: RecurrentUNet, features: list[Tensor]) -> Tensor:
    """Logits (n, class, y, x) of steps from their mixed features."""
    return network.decode(features)[-1]


def dropouts(network: nn.Module) -> list[nn.Module]:
    """The dropout layers that would drop something."""
    return [m for m in network.modules() if isinstance(m, nn.Dropout | nn.Dropout2d | nn.Dropout3d) and m.p > 0]


class _OwnDropout(nn.Module):
    """Dropout of numbers, or of whole channels, whose masks come from a generator of its own, in evaluation mode too."""

    def __init__(self, like: nn.Module, generators: dict[torch.device, torch.Generator]) -> None:
        super().__init__()
        self.kept = 1 - float(like.p)  # type: ignore[arg-type]
        self.channels, self.generators = not isinstance(like, nn.Dropout), generators

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:2], *[1] * (x.ndim - 2)) if self.channels else x.shape
        mask = x.new_empty(shape).bernoulli_(self.kept, generator=self.generators[x.device])
        return x * mask.div_(self.kept)


class _Sampled:
    """A network that encodes with dropout, every step with the mask of one seed.

    It shares the weights of the network, which stays in evaluation mode, and leaves torch's own generator alone: neither another job
    with the same network nor a training beside it can notice.
    """

    def __init__(self, network: RecurrentUNet, seed: int) -> None:
        shared: dict[int, object] = {id(t): t for t in (*network.parameters(), *network.buffers())}
        self.network, self.seed = copy.deepcopy(network, shared), seed
        self.generators: dict[torch.device, torch.Generator] = {}
        layers = set(dropouts(self.network))
        for module in list(self.network.modules()):
            for name, child in list(module.named_children()):
                if child in layers:
                    setattr(module, name, _OwnDropout(child, self.generators).eval())

    def encode(self, x: Tensor) -> list[Tensor]:
        """Features per level of a step (n, channel, y, x)."""
        generator = self.generators.setdefault(x.device, torch.Generator(x.device))
        generator.manual_seed(self.seed)  # before each step, so that all have one mask
        return self.network.encode(x)


@dataclass
class _Waiting:
    """An encoded step that waits for its future: features per level, forward state and look-ahead projection per mixer.

    `gap` (n,) is the time since the step before, where times are known.
    """

    features: list[Tensor]
    gap: Tensor | None = None
    carried: dict[int, Tensor] = field(default_factory=dict)
    projected: dict[int, Tensor] = field(default_factory=dict)


class SegmentationStream:
    """One sequence, or n of the same length side by side, on the way through a `RecurrentUNet`.

    Parameters
    ----------
    network : RecurrentUNet
        A network in evaluation mode.
    reset : bool
        Forget the state before every step: the ablation that shows what the sequence is worth.
    finish : callable
        What to make of finished steps' features.
    dropout : int, optional
        Encode with dropout, all steps with the mask of this seed: one Monte-Carlo sample.
    plan : Plan, optional
        Precision and memory layout; float32 and channels-last by default.
    times : sequence of float, optional
        When or where each step is, in the unit of the network's `gap_unit`; ascending.

    Raises
    ------
    ModelError
        If there are times that the network does not know of, or that descend.
    """

    def __init__(
        self,
        network: RecurrentUNet,
        *,
        reset: bool = False,
        finish: Finish = decode,
        dropout: int | None = None,
        plan: Plan | None = None,
        times: Sequence[float] | None = None,
    ) -> None:
        self.network, self.reset, self.finish = network, reset, finish
        self._sampled = None if dropout is None else _Sampled(network, dropout)
        self.plan = plan or Plan()
        # of the first step and of steps that stand alone the gap is none
        self.gaps = iter(() if times is None or reset else _gaps(network, times))
        self.states: dict[int, Tensor] = {}
        self.waiting: deque[_Waiting] = deque()
        self.ahead = 0 if reset or not network.recurrent else network.ahead

    @torch.inference_mode()
    def push(self, steps: list[Tensor]) -> Iterator[Tensor]:
        """Take steps (n, channel, y, x) with their neighbours; yield the logits (n, class, y, x) of each that is finished."""
        with self.plan.precision():
            # one mask for all steps: with dropout each step is encoded by itself
            for group in [steps] if self._sampled is None else [[x] for x in steps]:
                self._carry(self._encode(self.plan.to_memory_format(_joined(group))), len(group))
        ready = len(self.waiting) - self.ahead
        if ready > 0:
            yield from self._finish(ready)

    def _carry(self, features: list[Tensor], count: int) -> None:
        """Take the features per level of `count` steps, which lie one after another, into the line of those that wait."""
        deepest, n = features[-1], len(features[-1]) // count
        exact = torch.promote_types(deepest.dtype, torch.float32)
        added = []
        for k in range(count):
            gap = next(self.gaps, None)
            own = features if count == 1 else [f[k * n : (k + 1) * n] for f in features]
            added.append(_Waiting(list(own), None if gap is None else deepest.new_full((n,), gap, dtype=exact)))
        for level, mixer in self.network.recurrent:
            x = features[level]
            projected = mixer.forward_cell.from_input(x)
            ahead = None if mixer.ahead_cell is None else mixer.ahead_cell.from_input(x)
            for k, step in enumerate(added):
                own_part = slice(k * n, (k + 1) * n)
                before = None if self.reset else self.states.get(level)
                self.states[level] = step.carried[level] = mixer.advance(projected[own_part], before, step.gap)
                if ahead is not None:
                    step.projected[level] = ahead[own_part]
        self.waiting.extend(added)

    def _encode(self, x: Tensor) -> list[Tensor]:
        return self.network.encode(x) if self._sampled is None else self._sampled.encode(x)

    @torch.inference_mode()
    def flush(self) -> Iterator[Tensor]:
        """The sequence has ended: yield the steps that still waited."""
        if self.waiting:
            yield from self._finish(len(self.waiting))
        self.states.clear()

    def _finish(self, count: int) -> list[Tensor]:
        """The first `count` waiting steps, mixed with what comes after them and decoded, as many together as were encoded together."""
        results: list[Tensor] = []
        with self.plan.precision():
            while count > 0:
                available = min(count, self.plan.together)
                mixed = self._mixed(available)
                results += self.finish(self.network, mixed).chunk(available)
                count -= available
        return results

    def _mixed(self, count: int) -> list[Tensor]:
        """Features per level of the first `count` waiting steps, one after another, which wait no more."""
        future = list(islice(self.waiting, count + self.ahead))
        leaving = [self.waiting.popleft() for _ in range(count)]
        features = [_joined(list(level)) for level in zip(*(step.features for step in leaving), strict=True)]
        gaps = [w.gap for w in future[1:] if w.gap is not None]
        for level, mixer in self.network.recurrent:
            looked = None
            if mixer.ahead_cell is not None:
                # a sequence that is reset looks at each step alone
                seen = [w.projected[level] for w in (future if self.ahead else leaving)]
                looked = (
                    mixer.look(seen, gaps or None, count)
                    if self.ahead
                    else _joined([mixer.look([own]) for own in seen])
                )
            carried = _joined([step.carried[level] for step in leaving])
            features[level] = mixer.join(features[level], carried, looked)
        return features


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _gaps(network: RecurrentUNet, times: Sequence[float]) -> list[float]:
    if network.gap_unit is None:
        raise ModelError("This network does not use times; build it with gap_unit=, or leave the times out.")
    gaps = [0.0, *(b - a for a, b in pairwise(times))]
    if not all(g >= 0 for g in gaps):
        raise ModelError("The times of the steps must be finite and ascend.")
    return gaps


def stream_side_by_side(
    network: Stepwise,
    steps: Iterable[Tensor],
    *,
    reset: bool = False,
    finish: Finish = decode,
    dropout: int | None = None,
    plan: Plan | None = None,
    times: Sequence[float] | None = None,
) -> Iterator[Tensor]:
    """Logits (n, class, y, x) of each step (n, channel, y, x) of n sequences, in order, in a stream.

    A network that is no `RecurrentUNet` has its own way (`Stepwise.side_by_side`), and knows of no `reset`, `finish` or `dropout`.
    """
    if not isinstance(network, RecurrentUNet):
        plan = plan or Plan()
        own = network.side_by_side(neighbourhoods(steps, network.neighbours, axis=1), times)
        while True:
            with plan.precision():
                logits = next(own, None)
            if logits is None:
                return
            yield logits
    ready = neighbourhoods(steps, network.neighbours, axis=1)
    first = next(ready, None)
    if first is None:
        return
    ready = chain([first], ready)
    plan = (plan or Plan()).for_steps(first) if finish is decode else replace(plan or Plan(), together=1)
    sequence = SegmentationStream(network, reset=reset, finish=finish, dropout=dropout, plan=plan, times=times)
    while group := list(islice(ready, sequence.plan.together)):
        yield from sequence.push(group)
    yield from sequence.flush()


def stream(
    network: Stepwise,
    steps: Iterable[Tensor],
    *,
    reset: bool = False,
    finish: Finish = decode,
    dropout: int | None = None,
    plan: Plan | None = None,
    times: Sequence[float] | None = None,
) -> Iterator[Tensor]:
    """Logits (class, y, x) of each step (channel, y, x), in order, in a stream; or what `finish` makes of its features."""
    alone = (x[None] for x in steps)
    for out in stream_side_by_side(network, alone, reset=reset, finish=finish, dropout=dropout, plan=plan, times=times):
        yield out[0]
