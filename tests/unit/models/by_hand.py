"""Recurrent steps written out from the literature's equations."""

from __future__ import annotations

from typing import Any

import torch


def gru_step(cell: Any, x: torch.Tensor, state: Any, conv: Any) -> Any:
    n, (h,) = cell.hidden, state
    w, b = cell.from_input.weight, cell.from_input.bias
    z = torch.sigmoid(conv(x, w[:n], b[:n]) + conv(h, cell.gates.weight[:n]))
    r = torch.sigmoid(conv(x, w[n : 2 * n], b[n : 2 * n]) + conv(h, cell.gates.weight[n:]))
    return ((1 - z) * h + z * torch.tanh(conv(x, w[2 * n :], b[2 * n :]) + conv(r * h, cell.candidate.weight)),)


def lstm_step(cell: Any, x: torch.Tensor, state: Any, conv: Any) -> Any:
    """Shi et al. 2015, gate by gate with its own slices of the weights."""
    n, (h, c) = cell.hidden, state
    w, b, u = cell.from_input.weight, cell.from_input.bias, cell.gates.weight
    i, f, g, o = (conv(x, w[k : k + n], b[k : k + n]) + conv(h, u[k : k + n]) for k in range(0, 4 * n, n))
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c
