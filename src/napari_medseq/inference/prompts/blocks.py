"""The blocks of a prompted network as they are run: batch norms folded away, and as few passes over memory as the processor allows.

On a CPU more time goes into reading and writing features than into products. So sums and ReLUs are left to the convolution before
them where oneDNN can do that, and maxima and gates are taken in the form that is fastest for bfloat16. The answers are those of the
plain operations within rounding.
"""

from __future__ import annotations

import copy
from functools import cache
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_medseq.models.prompted_unet import PromptedBlock

_ONE = [1, 1]  # stride, dilation
_PACKED: WeakKeyDictionary[nn.Conv2d, Tensor] = WeakKeyDictionary()  # weights that do not change any more


class StreamedBlock(nn.Module):
    """A `PromptedBlock` for steps that come first in their tensor, (step · batch, channel, y, x)."""

    def __init__(self, block: PromptedBlock) -> None:
        super().__init__()
        folded = fuse_conv_bn_eval(copy.deepcopy(block.first).eval(), copy.deepcopy(block.norm).eval())
        self.slab = block.slab
        weight = folded.weight.detach()
        if block.slab:  # (out, in, step, y, x) to (out, step · in, y, x)
            weight = weight.transpose(1, 2).flatten(1, 2)
        self.first = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
        self.first.weight.data, bias = weight.contiguous(), folded.bias
        assert bias is not None
        assert self.first.bias is not None
        self.first.bias.data = bias.detach().clone()
        self.second, self.skip = copy.deepcopy(block.second), copy.deepcopy(block.skip)

    def forward(self, x: Tensor, before: Tensor | None, after: Tensor | None, batch: int) -> Tensor:
        """`before` and `after` are the steps beside those of `x`, (batch, channel, y, x); None where the sequence ends."""
        first = convolved(self.first, _three_steps(x, before, after, batch) if self.slab else x)
        skipped = plainly(self.skip, x) if isinstance(self.skip, nn.Conv2d) else x
        return convolved(self.second, first, skipped)


def convolved(conv: nn.Conv2d, x: Tensor, added: Tensor | None = None) -> Tensor:
    """The ReLU of a convolution of odd size and stride 1, and of what is added to it.

    Parameters
    ----------
    conv : Conv2d
    x : Tensor, (n, channel, y, x)
    added : Tensor, optional
        Summand of the size of the result.
    """
    if x.device.type == "cpu" and _has_sums_in_convolutions():
        arguments = (_packed(conv, x), conv.bias, list(conv.padding), _ONE, _ONE, 1)
        out: Tensor
        if added is None:
            out = torch.ops.mkldnn._convolution_pointwise(x, *arguments, "relu", [], "")
        else:
            sums = torch.ops.mkldnn._convolution_pointwise.binary
            out = sums(x, added, *arguments, "add", 1.0, "relu", [], "")
        return out
    plain: Tensor = conv(x)
    return (plain if added is None else plain.add_(added)).relu_()


def plainly(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution of stride 1 and nothing else.

    Parameters
    ----------
    conv : Conv2d
    x : Tensor, (n, channel, y, x)
    """
    out: Tensor
    if x.device.type == "cpu" and _has_sums_in_convolutions():
        arguments = (_packed(conv, x), conv.bias, list(conv.padding), _ONE, _ONE, 1)
        out = torch.ops.mkldnn._convolution_pointwise(x, *arguments, "none", [], "")
    else:
        out = conv(x)
    return out


def _packed(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The weights in the order in which oneDNN wants them, which it would bring them into at every call."""
    packed = _PACKED.get(conv)
    if packed is None or packed.dtype != conv.weight.dtype:
        weight = conv.weight.detach()
        packed = torch.ops.mkldnn._reorder_convolution_weight(weight, list(conv.padding), _ONE, _ONE, 1, list(x.shape))
        _PACKED[conv] = packed
    return packed


@cache
def _has_sums_in_convolutions() -> bool:
    """Whether oneDNN adds and takes ReLUs within its convolutions here, as torch's own compiler has it do."""
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    return there and torch.backends.cpu.get_cpu_capability().startswith("AVX")


def halved(x: Tensor) -> Tensor:
    """Maxima of 2 × 2 pixels of features (n, channel, y, x) of even sizes."""
    if x.device.type != "cpu":
        return functional.max_pool2d(x, 2)
    rows = torch.maximum(x[:, :, 0::2], x[:, :, 1::2])
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])


def _three_steps(x: Tensor, before: Tensor | None, after: Tensor | None, batch: int) -> Tensor:
    """The channels of the step before, of the step itself, and of the step after it; see `StreamedBlock.forward`."""
    none = torch.zeros_like(x[:batch])
    longer = torch.cat([none if before is None else before, x, none if after is None else after])
    seen = torch.cat([longer[: -2 * batch], x, longer[2 * batch :]], 1)
    return seen.contiguous(memory_format=torch.channels_last)
