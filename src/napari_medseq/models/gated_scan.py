"""A gated linear recurrence along the steps, in both directions at once, cheap enough for the finest level of a network.

The gates of all steps come from one matrix product, since they do not depend on the state (minGRU: Feng et al. 2024,
arXiv:2410.01201); what is left of the recurrence is ``h' = h + sigmoid(z) · (tanh(c) - h)``, step by step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional


class _StepByStep(torch.autograd.Function):
    """The recurrence of `gated_scan` on a CPU: one step at a time, so that the state stays in the processor's cache."""

    @staticmethod
    def forward(ctx: FunctionCtx, gates: Tensor) -> Tensor:
        four, n, steps, pixels = gates.shape
        quarter = four // 4
        half = 2 * quarter
        out = gates.new_empty(half, n, steps, pixels)
        z, c, state = (torch.zeros(half, n, pixels, dtype=_inner(gates)) for _ in range(3))
        for t in range(steps):
            _read(gates, t, z, c)
            torch.lerp(state, c.tanh_(), z.sigmoid_(), out=state)
            out[:quarter, :, t].copy_(state[:quarter])
            out[quarter:, :, steps - 1 - t].copy_(state[quarter:])
        ctx.save_for_backward(gates, out)
        return out

    @staticmethod
    def backward(ctx: FunctionCtx, d_out: Tensor) -> Tensor:
        gates, out = ctx.saved_tensors  # type: ignore[attr-defined]
        four, n, steps, pixels = gates.shape
        quarter = four // 4
        half = 2 * quarter
        grad = torch.empty_like(gates)
        z, c, g, d, before = (torch.zeros(half, n, pixels, dtype=_inner(gates)) for _ in range(5))
        for t in range(steps - 1, -1, -1):
            u = steps - 1 - t
            _read(gates, t, z, c)
            z.sigmoid_()
            c.tanh_()
            d[:quarter].copy_(d_out[:quarter, :, t])
            d[quarter:].copy_(d_out[quarter:, :, u])
            g.add_(d)
            if t:
                before[:quarter].copy_(out[:quarter, :, t - 1])
                before[quarter:].copy_(out[quarter:, :, u + 1])
            else:
                before.zero_()
            torch.mul(g, z, out=d)  # of tanh(c)
            g.sub_(d)  # what goes on to the step before
            # of z: g · sigmoid(z) · (1 - sigmoid(z)) · (tanh(c) - h)
            torch.sub(c, before, out=before)
            before.mul_(d)
            before.addcmul_(before, z, value=-1)
            c.square_()
            d.addcmul_(d, c, value=-1)
            grad[:quarter, :, t].copy_(before[:quarter])
            grad[quarter:half, :, u].copy_(before[quarter:])
            grad[half : half + quarter, :, t].copy_(d[:quarter])
            grad[half + quarter :, :, u].copy_(d[quarter:])
        return grad


def _inner(gates: Tensor) -> torch.dtype:
    """The precision of the state, which is never half precision."""
    return torch.float64 if gates.dtype == torch.float64 else torch.float32


def _read(gates: Tensor, t: int, z: Tensor, c: Tensor) -> None:
    """Gates and candidates that the two directions meet at their t-th step."""
    quarter, u = len(gates) // 4, gates.shape[2] - 1 - t
    z[:quarter].copy_(gates[:quarter, :, t])
    z[quarter:].copy_(gates[quarter : 2 * quarter, :, u])
    c[:quarter].copy_(gates[2 * quarter : 3 * quarter, :, t])
    c[quarter:].copy_(gates[3 * quarter :, :, u])


def scan_by_doubling(decay: Tensor, added: Tensor) -> Tensor:
    """``h[t] = decay[t] · h[t - 1] + added[t]`` along axis 2 in log2(steps) passes over all steps (Blelloch 1990), which suits a GPU."""
    steps, reach = decay.shape[2], 1
    while reach < steps:
        added = added + decay * functional.pad(added, (0, 0, reach, 0))[:, :, :steps]
        decay = decay * functional.pad(decay, (0, 0, reach, 0))[:, :, :steps]
        reach *= 2
    return added


def gated_scan(gates: Tensor) -> Tensor:
    """States of both directions at every step.

    Parameters
    ----------
    gates : Tensor, shape (4 · hidden, n, step, pixel)
        Update gates before the sigmoid of the first and of the second direction, then their candidates before the tanh.

    Returns
    -------
    Tensor, shape (2 · hidden, n, step, pixel)
        The first half saw the steps up to each, the second those from it on.
    """
    if gates.device.type == "cpu":
        out: Tensor = _StepByStep.apply(gates)  # type: ignore[no-untyped-call]
        return out
    z, c = gates.to(_inner(gates)).chunk(2)
    z = z.sigmoid()
    (decay, decay_back), (added, added_back) = (1 - z).chunk(2), (z * c.tanh()).chunk(2)
    back = scan_by_doubling(decay_back.flip(2), added_back.flip(2)).flip(2)
    return torch.cat([scan_by_doubling(decay, added), back]).to(gates.dtype)


class GatedMixer(nn.Module):
    """Adds to each pixel of each step what a gated recurrence in both directions carried there along the steps.

    At first it adds nothing: its output layer starts at zero, so that a network learns with it what it can without.

    Parameters
    ----------
    width : int
        Channels.
    hidden : int
        Channels of the state of each direction.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Linear(width, 4 * hidden)
        self.out = nn.Linear(2 * hidden, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():  # from a memory of about eight steps to one of less than two
            self.gates.bias[: 2 * hidden] = torch.linspace(-2, 1, hidden).repeat(2)

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, channel, step, y, x), the same shape back."""
        n, channels, steps, height, width = x.shape
        flat = x.permute(0, 2, 3, 4, 1).reshape(-1, channels)
        bias, weight = self.gates.bias.to(x.dtype), self.gates.weight.to(x.dtype)
        gates = torch.addmm(bias[:, None], weight, flat.t()).view(4 * self.hidden, n, steps, height * width)
        states = gated_scan(gates).reshape(2 * self.hidden, -1).t()
        out = torch.addmm(self.out.bias.to(x.dtype), states, self.out.weight.to(x.dtype).t())
        return x + out.view(n, steps, height, width, channels).permute(0, 4, 1, 2, 3)
