"""The passes of a network over one exam: the plain pass, which gives the answer, and those that estimate its
uncertainty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import tee
from typing import NamedTuple

import torch
from torch import Tensor

from napari_medseq.inference.inputs.frame import Framing
from napari_medseq.inference.resources.tuning import Plan
from napari_medseq.inference.settings import InferenceSettings
from napari_medseq.inference.streaming import stream, stream_side_by_side
from napari_medseq.models.sequence_network import SequenceNetwork
from napari_medseq.models.stepwise import Stepwise
from napari_medseq.sequence import ImageSequence


class View(NamedTuple):
    """Another view of a step: mirrored along axes, and with another contrast (in robust units)."""

    mirrored: tuple[int, ...] = ()
    contrast: float = 1.0

    def of(self, x: Tensor) -> Tensor:
        """A step (…, y, x) in this view."""
        return (x.flip(self.mirrored) if self.mirrored else x) * self.contrast

    def back(self, p: Tensor) -> Tensor:
        """Transform the result of a view back to the step's own pixels."""
        return p.flip(self.mirrored) if self.mirrored else p


#: in this order: left-right first, which anatomy allows best
VIEWS = (
    View((-1,)),
    View((), 1.1),
    View((), 0.9),
    View((-2,)),
    View((-1, -2)),
    View((-1,), 1.1),
    View((-1,), 0.9),
)


def steps_of(
    framing: Framing, channels: Sequence[ImageSequence], device: torch.device, position: int | None = 0
) -> Iterator[Tensor]:
    """The steps (channel, y, x) of an exam, one at a time, at one position across; or (channel, z, y, x), at all (None)."""
    if position is None:
        return (framing.read_volume(channels, i).to(device) for i in range(framing.steps))
    return (framing.read(channels, i, position).to(device) for i in range(framing.steps))


def known_times(network: SequenceNetwork, framing: Framing) -> tuple[float, ...] | None:
    """The times of an exam's steps, where the network uses them."""
    return framing.times if network.gap_unit is not None else None


def probabilities(
    network: Stepwise,
    steps: Iterator[Tensor],
    settings: InferenceSettings,
    plan: Plan,
    times: Sequence[float] | None = None,
) -> Iterator[Tensor]:
    """Class probabilities (class, y, x) of each step, at the network's resolution; (class, z, y, x) where it is a volume."""
    views = [View(), View((-1,))] if settings.mirror else [View()]
    return _mean_over(network, steps, views, plan, times)


def _mean_over(
    network: Stepwise, steps: Iterator[Tensor], views: Sequence[View], plan: Plan, times: Sequence[float] | None
) -> Iterator[Tensor]:
    """Class probabilities (class, y, x) of each step, averaged over views, which run side by side."""
    seen = (torch.stack([v.of(x) for v in views]) for x in steps)
    for logits in stream_side_by_side(network, seen, plan=plan, times=times):
        p = logits.float().softmax(1)
        yield torch.stack([v.back(q) for v, q in zip(views, p, strict=True)]).mean(0).cpu()


def averaged(passes: Sequence[Iterator[Tensor]]) -> Iterator[Tensor]:
    """The mean of several passes' answers for each step."""
    if len(passes) == 1:
        return passes[0]
    return (torch.stack(several).mean(0) for several in zip(*passes, strict=True))


def varied(
    network: Stepwise,
    steps: Iterator[Tensor],
    plan: Plan,
    *,
    samples: int,
    views: int,
    times: Sequence[float] | None = None,
) -> Iterator[Tensor] | None:
    """Class probabilities of each step, averaged over passes with dropout and over other views; None without any.

    Parameters
    ----------
    network : Stepwise
    steps : iterator of Tensor, shape (channel, y, x)
        Read once for all passes.
    plan : Plan
    samples : int
        Passes with dropout.
    views : int
        Test-time augmentations; the plain view is one more.
    times : sequence of float, optional
        Times of the steps, for a network that uses them.
    """
    if samples == 0 and views == 0:
        return None

    def mean() -> Iterator[Tensor]:
        copies = tee(steps, samples + (views > 0))
        passes = [
            (x.float().softmax(0).cpu() for x in stream(network, own, dropout=seed, plan=plan, times=times))
            for seed, own in enumerate(copies[:samples])
        ]
        weights = [1.0] * samples
        if views:
            passes.append(p for p in _mean_over(network, copies[-1], [View(), *VIEWS[:views]], plan, times))
            weights.append(1.0 + views)
        for several in zip(*passes, strict=True):
            yield sum((w * p for w, p in zip(weights, several, strict=True)), torch.zeros(())) / sum(weights)

    return mean()
