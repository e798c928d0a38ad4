"""Index operations for steps that are unevenly spaced or missing, shared by all networks along a sequence.

A missing step is moved behind the others, where a network can pass over it as padding; what is left of it is the longer gap
between those that are there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_medseq.errors import ModelError


def take(x: Tensor, order: Tensor) -> Tensor:
    """Steps of each sequence (batch, step, …) in its own order (batch, step)."""
    return torch.take_along_dim(x, order.reshape(*order.shape, *[1] * (x.ndim - 2)), dim=1)


def present_first(present: Tensor) -> tuple[Tensor, Tensor]:
    """Orders (batch, step) for `take`: there, with the steps that are present first and in their order, and back."""
    order = torch.argsort((~present).to(torch.int8), dim=1, stable=True)
    return order, torch.argsort(order, dim=1)


def gaps_before(times: Tensor, present: Tensor | None = None) -> Tensor:
    """Time since the step before (batch, step); 0 at the first step, and at those that are missing.

    Parameters
    ----------
    times : Tensor, shape (batch, step)
        Missing steps, whose times mean nothing, stand at the end.
    present : Tensor of bool, shape (batch, step), optional

    Raises
    ------
    ModelError
        If times descend or are not finite.
    """
    gaps = torch.cat([torch.zeros_like(times[:, :1]), times.diff(dim=1)], 1)
    if present is not None:
        gaps = torch.where(present, gaps, torch.zeros_like(gaps))
    if not (gaps.is_meta or torch.compiler.is_compiling()) and not bool((gaps >= 0).all()):
        raise ModelError("The times of the steps must be finite and ascend.")
    return gaps
