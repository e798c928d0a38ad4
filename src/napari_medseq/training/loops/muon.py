"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): an optimiser for kernels that goes equally far in
every direction, where Adam follows a few strong ones; networks learn the same from fewer windows.

`torch.optim.Muon` takes matrices only, and computes in bfloat16 on processors that have no units for it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

Kind = Literal["adamw", "muon"]

_MOMENTUM = 0.95
_ITERATIONS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the polynomial, as published: they bring singular values near 1 fast
# learning rate of kernels, as a multiple of that of AdamW: the steps of either are then about equally long
_KERNELS = 10.0


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov's momentum, for kernels (output, …).

    Parameters
    ----------
    groups : sequence of dict
        Groups of kernels, as for other optimisers.
    rate, weight_decay : float
    bfloat16 : bool
        Whether to compute the directions in it.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], *, rate: float, weight_decay: float, bfloat16: bool) -> None:
        super().__init__(groups, {"lr": rate, "weight_decay": weight_decay})
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
    network: nn.Module,
    *,
    kind: Kind,
    rate: float,
    weight_decay: float,
    not_kernels: Iterable[Tensor],
    bfloat16: bool,
) -> tuple[torch.optim.Optimizer, ...]:
    """AdamW for a whole network, or Muon for its kernels and AdamW for all else; ``factor`` in their groups multiplies the rate.

    Parameters
    ----------
    network : Module
    kind : {"adamw", "muon"}
    rate, weight_decay : float
        Biases and norms do not decay.
    not_kernels : iterable of Parameter
        The weights of the first layer and of the heads, which are for AdamW in either case, as Muon's authors advise.
    bfloat16 : bool
        Whether Muon computes in it.
    """
    apart = {id(p) for p in not_kernels}
    kernels, others, flat = list[Tensor](), list[Tensor](), list[Tensor]()
    for p in network.parameters():
        (flat if p.ndim < 2 else others if kind == "adamw" or id(p) in apart else kernels).append(p)
    groups = [{"params": others, "weight_decay": weight_decay}, {"params": flat, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW([g | {"factor": 1.0} for g in groups], rate, fused=True)
    if kind == "adamw":
        return (adamw,)
    muon = Muon(
        [{"params": kernels, "factor": _KERNELS}], rate=_KERNELS * rate, weight_decay=weight_decay, bfloat16=bfloat16
    )
    return muon, adamw


def set_rate(each: Iterable[torch.optim.Optimizer], rate: float) -> None:
    """Set the learning rate of optimisers: `rate` times the ``factor`` of each group, where it has one."""
    for optimiser in each:
        for group in optimiser.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)


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
