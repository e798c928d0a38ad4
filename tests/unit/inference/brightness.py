"""A classifier that knows the answer: how bright a step is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_medseq.models import Model
from tests.narrowing import of


def brightness(m: Model) -> Model:
    """The model with weights that hand brightness through: its answer comes from the brightest place by construction."""
    network = m.network
    for block in [*network.modules()]:
        for name, layer in block.named_children():
            if isinstance(layer, nn.GroupNorm):
                setattr(block, name, nn.Identity())
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.weight.zero_()
                if layer.bias is not None:
                    layer.bias.zero_()
                middle = layer.kernel_size[0] // 2 if isinstance(layer, nn.Conv2d) else slice(None)
                layer.weight[:, :, middle, middle] = 1 / layer.weight.shape[1]
        if m.info.task == "segmentation":
            for mixer in of(nn.ModuleDict, network.mixers).values():
                of(Tensor, of(nn.Module, mixer.out).weight).zero_()
            for head in of(nn.ModuleList, network.heads):
                of(Tensor, head.weight)[0] = -1
                of(Tensor, head.weight)[1] = 1
        else:
            for layer in network.modules():
                if isinstance(layer, nn.Linear):
                    layer.weight.fill_(0.01)
                    layer.bias.zero_()
                elif isinstance(layer, nn.GRU):
                    for p in layer.parameters():
                        p.zero_()
    return m
