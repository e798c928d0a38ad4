"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): an optimiser for kernels that goes equally far in
every direction, where Adam follows a few strong ones; networks learn the same from fewer windows.

`torch.optim.Muon` takes matrices only, and computes in bfloat16 on processors that have no units for it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import overload

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_ITERATIONS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the polynomial, as published: they bring singular values near 1 fast
#: learning rate of kernels, as a multiple of the one of AdamW: steps of either kind are then about equally long at a rate of 0.002
KERNELS = 10.0


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov's momentum, for kernels (output, …).

    Parameters
    ----------
    kernels : sequence of Parameter
    rate, weight_decay : float
    bfloat16 : bool
        Whether to compute the directions in it.
    """

    def __init__(self, kernels: Sequence[Tensor], *, rate: float, weight_decay: float, bfloat16: bool) -> None:
        super().__init__(kernels, {"lr": rate, "weight_decay": weight_decay})
        self.dtype = torch.bfloat16 if bfloat16 else torch.float32

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One change of the weights."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._change(p, p.grad, group["lr"], group["weight_decay"])
        return loss

    def _change(self, p: Tensor, grad: Tensor, rate: float, weight_decay: float) -> None:
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        momentum = state["momentum"].lerp_(grad, 1 - _MOMENTUM)
        direction = orthogonal(grad.lerp(momentum, _MOMENTUM).flatten(1), self.dtype)
        rows, columns = direction.shape
        p.mul_(1 - rate * weight_decay)
        p.add_(direction.reshape(p.shape), alpha=-rate * max(1.0, rows / columns) ** 0.5)


def optimisers(
    network: nn.Module, *, rate: float, weight_decay: float, adamw: Iterable[Tensor], bfloat16: bool
) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for a network's kernels, at `KERNELS` times the rate, and AdamW for all else.

    Parameters
    ----------
    network : Module
    rate, weight_decay : float
        Biases and norms do not decay.
    adamw : iterable of Parameter
        The kernels of the first layer and of the heads, which are for AdamW, too, as Muon's authors advise.
    bfloat16 : bool
        Whether Muon computes in it.
    """
    apart = {id(p) for p in adamw}
    kernels, others, flat = list[Tensor](), list[Tensor](), list[Tensor]()
    for p in network.parameters():
        (flat if p.ndim < 2 else others if id(p) in apart else kernels).append(p)
    muon = Muon(kernels, rate=KERNELS * rate, weight_decay=weight_decay, bfloat16=bfloat16)
    groups = [{"params": others, "weight_decay": weight_decay}, {"params": flat, "weight_decay": 0.0}]
    return muon, torch.optim.AdamW(groups, rate, fused=True)


def orthogonal(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """A matrix with the singular vectors of `matrix` and singular values between about 0.7 and 1.2, by Newton–Schulz iteration.

    Parameters
    ----------
    matrix : Tensor, shape (row, column)
    dtype : torch.dtype
        What it computes in; the answer has the type of `matrix`.
    """
    wide = len(matrix) <= matrix.shape[1]
    x = (matrix if wide else matrix.T).to(dtype)
    x = x / (x.norm() + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    found: Tensor = x if wide else x.T
    return found.to(matrix.dtype)
