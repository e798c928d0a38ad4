"""Knowledge distillation: a smaller network learns from the labels and from the probabilities of the larger one it
was made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medseq.training.loops.losses import WithExtraInputs, Wrapper
from napari_medseq.training.loops.sequences import Loss


class _CapturedOutput(Wrapper):
    """A network that keeps its last output, so that two losses need only one forward pass."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.said: Any = None

    def forward(self, x: Tensor, **more: Any) -> Any:
        self.said = self.module(x, **more)
        return self.said


def with_teacher(teacher: nn.Module, share: float) -> Callable[[Loss], Loss]:
    """A function that adds to a loss the disagreement with the teacher's probabilities.

    Parameters
    ----------
    teacher : torch.nn.Module
        A segmentation network of the same classes, which takes the same windows.
    share : float
        Weight of the agreement with the teacher, 0 to 1; the labels have the rest (Hinton et al. 2015, arXiv:1503.02531, at
        temperature 1).
    """
    teacher = teacher.eval()

    def outer(loss: Loss) -> Loss:
        def both(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            captured = _CapturedOutput(network)
            own = loss(captured, x, y)
            with torch.no_grad():
                aim = teacher.to(x.device)(x, **(network.extra if isinstance(network, WithExtraInputs) else {}))
            student = captured.said[-1] if isinstance(captured.said, list | tuple) else captured.said
            return (1 - share) * own + share * disagreement(student, aim)

        return both

    return outer


def disagreement(student: Tensor, aim: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the classes per voxel, plus one minus the soft Dice of what is not background.

    Both are logits (batch, step, class, y, x). Lesions are few voxels: the first term alone would be content with background.
    """
    log_q, log_p = student.float().log_softmax(2), aim.float().log_softmax(2)
    q, p = log_q.exp(), log_p.exp()
    divergence = functional.kl_div(log_q, log_p, log_target=True, reduction="none").sum(2).mean()
    a, b = q[:, :, 1:], p[:, :, 1:]
    axes = [0, 1, *range(3, student.ndim)]
    dice = (2 * (a * b).sum(axes) + 1) / (a.square().sum(axes) + b.square().sum(axes) + 1)
    total: Tensor = divergence + (1 - dice).mean()
    return total
