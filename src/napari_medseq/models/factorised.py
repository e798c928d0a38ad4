"""Low-rank factorisation: chosen convolutions of a network are replaced by two thinner ones.

A convolution's kernel, as a matrix (output, input · rows · columns), is cut to its first singular vectors: a convolution to
`rank` channels, then a 1×1 one (Zhang et al. 2016, TPAMI, arXiv:1505.06798, sec. 3.1, without its data-driven part).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from napari_medseq.errors import ModelError
from napari_medseq.models.plain import Definition
from napari_medseq.models.registry import build, register


def low_rank(conv: nn.Conv2d, rank: int) -> nn.Sequential:
    """The best approximation of `conv` by two convolutions over `rank` channels (Eckart-Young)."""
    if not 1 <= rank <= min(conv.out_channels, conv.weight[0].numel()):
        raise ValueError(f"rank {rank} does not fit a convolution of shape {tuple(conv.weight.shape)}")
    first = nn.Conv2d(
        conv.in_channels,
        rank,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        bias=False,
        padding_mode=conv.padding_mode,
    )
    second = nn.Conv2d(rank, conv.out_channels, 1, bias=conv.bias is not None)
    if not conv.weight.is_meta:
        u, s, v = torch.linalg.svd(conv.weight.detach().double().flatten(1), full_matrices=False)
        root = s[:rank].sqrt()
        with torch.no_grad():
            first.weight.copy_((root[:, None] * v[:rank]).reshape(first.weight.shape))
            second.weight.copy_((u[:, :rank] * root)[..., None, None])
            if conv.bias is not None and second.bias is not None:
                second.bias.copy_(conv.bias)
    return nn.Sequential(first, second)


def suitable(conv: nn.Module) -> bool:
    """Whether a module is a convolution that `low_rank` can thin."""
    return isinstance(conv, nn.Conv2d) and conv.groups == 1 and max(conv.kernel_size) > 1


def rank_for(weight: Tensor, error: float) -> int:
    """Smallest rank whose relative squared error is at most `error`."""
    energy = torch.linalg.svdvals(weight.detach().double().flatten(1)) ** 2
    lost_energy = 1 - energy.cumsum(0) / energy.sum().clamp_min(1e-300)
    return min(int((lost_energy > error).sum()) + 1, len(energy))


def replace(network: nn.Module, ranks: Mapping[str, int]) -> nn.Module:
    """Replace the convolutions named in `ranks`, in place.

    Raises
    ------
    ModelError
        If a name is not a convolution of the network that can be thinned.
    """
    for name, rank in ranks.items():
        parent_name, _, last = name.rpartition(".")
        try:
            parent = network.get_submodule(parent_name)
            conv = parent.get_submodule(last)
        except AttributeError:
            raise ModelError(f"The network has no convolution {name[:80]!r}; the bundle does not fit it.") from None
        if not isinstance(conv, nn.Conv2d) or not suitable(conv):
            raise ModelError(
                f"{name} is not a convolution that can be factorised; the bundle does not fit its network."
            )
        parent.add_module(last, low_rank(conv, int(rank)))
    return network


@register("Factorised")
def factorised(network: Definition, ranks: Mapping[str, int]) -> nn.Module:
    """The registry's network `network` with low-rank convolutions: name in the network → rank."""
    return replace(build(network), ranks)
