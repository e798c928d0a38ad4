"""The exponential moving average of a network's weights that both training loops keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged_model(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of the network whose weights and buffers follow the network's as an exponential moving average.

    The decay starts at 0.18 and rises to `decay` as ``(1 + n) / (10 + n)`` after n updates (as TensorFlow's
    ``ExponentialMovingAverage`` with ``num_updates``), so that a short run forgets its random start too. Whole numbers are copied.
    """
    return AveragedModel(network, multi_avg_fn=_warmed_up(decay), use_buffers=True)


def _warmed_up(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    @torch.no_grad()
    def update(averages: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor | int) -> None:
        weight = min(decay, (1 + int(updates)) / (10 + int(updates)))
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), 1 - weight)
            else:
                average.copy_(value)

    return update
