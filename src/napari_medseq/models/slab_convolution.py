"""Convolutions over slabs (n, channel, step, y, x) that train in bfloat16 on a CPU, safely and without waste.

oneDNN up to 3.12 (torch 2.13) writes out of bounds in the bfloat16 weight gradient of 3D convolutions on processors with AMX
where there are fewer than about ten steps of 96 rows or more, which ends the process. The weight gradient does not mind how its sum
is arranged: here the samples are laid end to end along the steps, with steps of zeros between them, so that there are always
enough. Convolutions that look at one voxel, and those that enlarge without overlap, are matrix products, and computed as such.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

#: steps from which the gradient was never seen to fail (benchmarks/slab_convolution.py)
SAFE_STEPS = 16

Triple = tuple[int, int, int]


class _LaidEndToEnd(torch.autograd.Function):
    """A convolution without bias whose weight gradient is computed over samples that lie end to end along the steps."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, stride: Triple, padding: Triple) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding  # type: ignore[attr-defined]
        return functional.conv3d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        stride, padding = ctx.stride, ctx.padding  # type: ignore[attr-defined]
        wants_x, wants_weight = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
        of_x = _gradients(grad, x, weight, stride, padding, of_weight=False) if wants_x else None
        of_weight = None
        if wants_weight:
            joined, joined_grad = end_to_end(x, grad, stride[0])
            of_weight = _gradients(joined_grad, joined, weight, stride, padding, of_weight=True)
        return of_x, of_weight, None, None


def _gradients(grad: Tensor, x: Tensor, weight: Tensor, stride: Triple, padding: Triple, *, of_weight: bool) -> Tensor:
    mask = [not of_weight, of_weight, False]
    of_x, of_w, _ = torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, padding, [1, 1, 1], False, [0, 0, 0], 1, mask
    )
    gradient: Tensor = of_w if of_weight else of_x
    return gradient


def end_to_end(x: Tensor, grad: Tensor, step_stride: int) -> tuple[Tensor, Tensor]:
    """One sample whose weight gradient is that of all samples: they lie end to end along the steps, with zeros between.

    Parameters
    ----------
    x : Tensor, shape (n, channel, step, y, x)
    grad : Tensor, shape (n, channel, step, y, x)
        Gradient with respect to the convolution's output.
    step_stride : int
        Stride of the convolution along the steps.

    Returns
    -------
    x, grad : Tensor, shape (1, channel, step, y, x)
        At least `SAFE_STEPS` steps of the output.
    """
    n, _, steps = x.shape[:3]
    block = grad.shape[2] + 1
    x = functional.pad(x, (0, 0, 0, 0, 0, block * step_stride - steps))
    grad = functional.pad(grad, (0, 0, 0, 0, 0, 1))
    x, grad = (a.transpose(0, 1).flatten(1, 2)[None] for a in (x, grad))
    missing = max(0, SAFE_STEPS - n * block)
    if missing:
        x = functional.pad(x, (0, 0, 0, 0, 0, missing * step_stride))
        grad = functional.pad(grad, (0, 0, 0, 0, 0, missing))
    layout = torch.channels_last_3d
    return x.contiguous(memory_format=layout), grad.contiguous(memory_format=layout)


class SlabConvolution(nn.Conv3d):
    """`torch.nn.Conv3d`, the same numbers, computed in the way that is safe and fast where it is."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, channel, step, y, x) as `torch.nn.Conv3d`."""
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        if x.shape[2] == 1 and (self.kernel_size[0], self.padding[0]) == (3, 1):
            return self._of_one_step(x)
        if self.in_channels == 1 and (self.kernel_size[0], self.stride[0], self.padding[0]) == (3, 1, 1):
            return self._of_one_channel(x)
        if torch.is_grad_enabled() and x.shape[2] < SAFE_STEPS * self.stride[0]:
            low = torch.get_autocast_dtype("cpu")
            stride, padding = _triple(self.stride), _triple(self.padding)
            out: Tensor = _LaidEndToEnd.apply(x.to(low), self.weight.to(low), stride, padding)  # type: ignore[no-untyped-call]
            return out if self.bias is None else out + self.bias.to(low)[:, None, None, None]
        return super().forward(x)

    def _of_one_step(self, x: Tensor) -> Tensor:
        """One step has no neighbours, so that the kernel's middle is all of it; oneDNN reads past such a volume, which gives NaN."""
        stride, padding = _triple(self.stride)[1:], _triple(self.padding)[1:]
        image = x[:, :, 0].contiguous(memory_format=torch.channels_last)
        return functional.conv2d(image, self.weight[:, :, 1], self.bias, stride, padding)[:, :, None]

    def _of_one_channel(self, x: Tensor) -> Tensor:
        """A grey image's neighbouring steps as the channels of images: three times as fast as one channel of a volume."""
        n, _, steps, height, width = x.shape
        wide = functional.pad(x[:, 0], (0, 0, 0, 0, 1, 1))
        near = torch.stack([wide[:, d : d + steps] for d in range(3)], 2).reshape(n * steps, 3, height, width)
        near = near.contiguous(memory_format=torch.channels_last)
        stride, padding = _triple(self.stride)[1:], _triple(self.padding)[1:]
        y = functional.conv2d(near, self.weight[:, 0], self.bias, stride, padding)
        out: Tensor = y.unflatten(0, (n, steps)).transpose(1, 2)
        return out


class PointConvolution(nn.Conv3d):
    """`torch.nn.Conv3d` of one voxel; while it trains in bfloat16 on a CPU a matrix product, whose gradient stays inside its memory."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, channel, step, y, x) as `torch.nn.Conv3d`."""
        if not _trains_low(x):
            return super().forward(x)
        y = functional.linear(x.permute(0, 2, 3, 4, 1), self.weight.flatten(1), self.bias)
        return y.permute(0, 4, 1, 2, 3)


class Enlargement(nn.ConvTranspose3d):
    """`torch.nn.ConvTranspose3d` whose kernel is its stride; a matrix product where `PointConvolution` is one."""

    def __init__(self, channels: int, width: int, stride: Triple) -> None:
        super().__init__(channels, width, stride, stride)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(n, channel, step, y, x) as `torch.nn.ConvTranspose3d`."""
        if output_size is not None or not _trains_low(x):
            return super().forward(x, output_size)
        a, b, c = _triple(self.stride)
        n, _, steps, rows, columns = x.shape
        spread = self.weight.permute(2, 3, 4, 1, 0).flatten(0, 3)
        bias = None if self.bias is None else self.bias.repeat(a * b * c)
        y = functional.linear(x.permute(0, 2, 3, 4, 1), spread, bias).view(n, steps, rows, columns, a, b, c, -1)
        y = y.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(n, steps * a, rows * b, columns * c, -1)
        return y.permute(0, 4, 1, 2, 3)


def _trains_low(x: Tensor) -> bool:
    """Whether this is a training step in lower precision on a CPU."""
    return x.device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")


def _triple(value: object) -> Triple:
    assert isinstance(value, tuple)
    a, b, c = (int(v) for v in value)
    return a, b, c
