"""A U-Net over slabs of neighbouring steps: 3D convolutions, and optionally a gated recurrence along the steps.

Its strides follow the voxel spacing: where steps lie far apart, the first levels downsample rows and columns only
(Isensee et al. 2021, nnU-Net, doi:10.1038/s41592-020-01008-z).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fusion

from napari_medseq.errors import ModelError
from napari_medseq.models.gated_scan import GatedMixer
from napari_medseq.models.registry import register
from napari_medseq.models.slab_convolution import Enlargement, PointConvolution, SlabConvolution, Triple
from napari_medseq.models.stepwise import Stepwise

Norm = Literal["instance", "batch"]

#: name of the kernel that sees the image
FIRST_KERNEL = "down.0.convs.0.weight"
_SLOPE = 0.01  # slope of the leaky rectifier
_EPSILON = 1e-4  # added to variances
_HEADS = 3  # levels with a head of their own, for deep supervision
_SMALLEST_STATE = 4  # least channels of a mixer's state


class InstanceNorm(nn.Module):
    """Mean 0 and spread 1 of each channel of each slab, then a learned scale and offset.

    As `torch.nn.InstanceNorm3d`, but by the kernel of batch norm, sample by sample: half the time on a CPU with channels last.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channel, step, y, x), the same shape back."""
        if x[0, 0].numel() < 2:  # one voxel has no spread
            return x * 0 + self.bias.to(x.dtype)[:, None, None, None]
        each = [functional.batch_norm(s, None, None, self.weight, self.bias, True, 0.0, _EPSILON) for s in x.split(1)]
        return each[0] if len(each) == 1 else torch.cat(each)

    def as_torch(self) -> nn.InstanceNorm3d:
        """The same by `torch.nn.InstanceNorm3d`, for programs that support no other."""
        norm = nn.InstanceNorm3d(len(self.weight), eps=_EPSILON, affine=True)
        norm.load_state_dict(self.state_dict())
        return norm


def _norm(kind: Norm, width: int) -> nn.Module:
    return InstanceNorm(width) if kind == "instance" else nn.BatchNorm3d(width, momentum=0.05)


class SlabBlock(nn.Module):
    """Convolutions with norm and leaky rectifier; the first one's output is added to the last one's."""

    def __init__(
        self, channels: int, width: int, *, stride: Triple, convs: int, kernel: int, norm: Norm, dropout: float
    ) -> None:
        super().__init__()
        padding = (kernel // 2, 1, 1)
        strides: list[Triple] = [stride, *[(1, 1, 1)] * (convs - 1)]
        inputs = [channels, *[width] * (convs - 1)]
        self.convs = nn.ModuleList(
            SlabConvolution(c, width, (kernel, 3, 3), s, padding, bias=False)
            for c, s in zip(inputs, strides, strict=True)
        )
        self.norms = nn.ModuleList(_norm(norm, width) for _ in range(convs))
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channel, step, y, x) to (n, width, step, y, x), smaller by the stride."""
        first = None
        for k, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            if first is not None and k == len(self.convs) - 1:
                x = x + first
            x = functional.leaky_relu(x, _SLOPE, inplace=True)
            first = x if k == 0 else first
        out: Tensor = self.dropout(x)
        return out


@register("SlabUNet")
class SlabUNet(Stepwise):
    """Labels the steps of a slab, or of a whole sequence at once.

    Parameters
    ----------
    channels, classes : int
        Number of channels of the images; number of classes, with background.
    widths : sequence of int
        Channels of each level, the finest first.
    strides : sequence of (step, row, column)
        The factors by which each level after the first is smaller than the one before.
    kernel : {1, 3}
        Steps that a convolution reaches over; 1: the network sees other steps by its recurrence alone.
    norm : {"instance", "batch"}
        "batch" is folded into the convolutions when it is used, see `folded`.
    mix_levels : sequence of int
        Levels with a gated recurrence along the steps, in both directions; the finest is 0.
    hidden : float
        Channels of the recurrence's state, as a share of the level's.
    dropout : float
        Share of channels that are dropped in the two coarsest levels.

    Raises
    ------
    ModelError
        If widths, strides and levels do not fit together.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 2,
        *,
        widths: Sequence[int] = (16, 32, 64, 96),
        strides: Sequence[Sequence[int]] = ((1, 2, 2), (1, 2, 2), (1, 2, 2)),
        kernel: int = 3,
        norm: Norm = "instance",
        mix_levels: Sequence[int] = (),
        hidden: float = 0.25,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        levels = len(widths)
        if levels < 2 or len(strides) != levels - 1 or any(len(s) != 3 or min(s) < 1 for s in strides):
            raise ModelError(
                f"widths {list(widths)} need {max(levels - 1, 1)} strides of three numbers, not {list(strides)}."
            )
        if kernel not in (1, 3) or norm not in ("instance", "batch"):
            raise ModelError(f"kernel is {kernel} and norm {norm!r}; they are 1 or 3, and 'instance' or 'batch'.")
        if any(not 0 <= level < levels for level in mix_levels):
            raise ModelError(f"mix_levels is {list(mix_levels)}; the levels are 0 to {levels - 1}.")
        self.classes, self.norm, self.input_channels = classes, norm, channels
        whole: Triple = (1, 1, 1)
        fine = (1, *[2] * (levels - 1))  # convolutions of each level: the finest is the dearest
        shrink: list[Triple] = [(int(a), int(b), int(c)) for a, b, c in strides]
        self.multiple = tuple(math.prod(s[k] for s in shrink) for k in range(3))
        self.down = nn.ModuleList(
            SlabBlock(
                widths[k - 1] if k else channels,
                widths[k],
                stride=shrink[k - 1] if k else whole,
                convs=fine[k],
                kernel=kernel,
                norm=norm,
                dropout=dropout if k >= levels - 2 else 0.0,
            )
            for k in range(levels)
        )
        self.mix = nn.ModuleDict(
            {str(k): GatedMixer(widths[k], max(_SMALLEST_STATE, int(hidden * widths[k]))) for k in mix_levels}
        )
        self.up = nn.ModuleList(Enlargement(widths[k + 1], widths[k], s) for k, s in enumerate(shrink))
        self.dec = nn.ModuleList(
            SlabBlock(w, w, stride=whole, convs=1, kernel=kernel, norm=norm, dropout=0.0) for w in widths[:-1]
        )
        self.heads = nn.ModuleList(PointConvolution(w, classes, 1) for w in widths[: min(_HEADS, levels - 1)])
        for module in self.modules():
            if isinstance(module, SlabConvolution):
                nn.init.kaiming_normal_(module.weight, _SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, step, class, y, x) of steps (batch, step, channel, y, x) of any size."""
        return self.label_volume(x.transpose(1, 2)).transpose(1, 2)

    def label_volume(self, x: Tensor) -> Tensor:
        """Logits (n, class, step, y, x) of volumes (n, channel, step, y, x) of any size, whose borders are repeated to fit."""
        x, (steps, rows, columns) = self.fitted(x)
        return self.at_levels(x, 1)[0][:, :, steps, rows, columns]

    def fitted(self, x: Tensor) -> tuple[Tensor, tuple[slice, slice, slice]]:
        """Volumes (n, channel, step, y, x) with their borders repeated up to multiples of `multiple`, and where they lie in that."""
        size = x.shape[2:]
        extra = [-n % m for n, m in zip(size, self.multiple, strict=True)]
        before = [e // 2 for e in extra]
        if any(extra):
            pairs = [(b, e - b) for b, e in zip(before, extra, strict=True)]
            x = functional.pad(x, [v for pair in reversed(pairs) for v in pair], mode="replicate")
        steps, rows, columns = (slice(b, b + n) for b, n in zip(before, size, strict=True))
        return x.contiguous(memory_format=torch.channels_last_3d), (steps, rows, columns)

    def at_levels(self, x: Tensor, levels: int | None = None) -> list[Tensor]:
        """Logits of volumes (n, channel, step, y, x) at the finest levels, the finest first; sizes are multiples of `multiple`.

        Parameters
        ----------
        x : Tensor, shape (n, channel, step, y, x)
        levels : int, optional
            How many; all that have a head otherwise, for deep supervision (Lee et al. 2015, arXiv:1409.5185).
        """
        return self.decode(self.features(x), levels)

    def features(self, x: Tensor) -> list[Tensor]:
        """Features (n, width, step, y, x) of volumes as in `at_levels`, level by level, the finest first."""
        levels: list[Tensor] = []
        for k, block in enumerate(self.down):
            x = block(x)
            if str(k) in self.mix:
                x = self.mix[str(k)](x)
            levels.append(x)
        return levels

    def decode(self, features: Sequence[Tensor], levels: int | None = None) -> list[Tensor]:
        """Logits as in `at_levels`, from the features of all levels."""
        x, outputs = features[-1], list[Tensor]()
        for k in reversed(range(len(self.up))):
            x = self.dec[k](self.up[k](x) + features[k])
            if k < min(len(self.heads), levels or len(self.heads)):
                outputs.append(self.heads[k](x))
        return outputs[::-1]

    def folded(self) -> SlabUNet:
        """A copy for inference in which batch norms are part of the convolutions before them; the same answer, in less time."""
        network = copy.deepcopy(self).eval()
        for block in (m for m in network.modules() if isinstance(m, SlabBlock)):
            for k, norm in enumerate(block.norms):
                if isinstance(norm, nn.BatchNorm3d):
                    conv = block.convs[k]
                    assert isinstance(conv, SlabConvolution)
                    block.convs[k] = fusion.fuse_conv_bn_eval(conv, norm)
                    block.norms[k] = nn.Identity()
        return network
