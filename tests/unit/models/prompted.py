"""A small prompted network with random weights, and windows for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from napari_medseq.models import Model
from napari_medseq.models.prompted_unet import PromptedUNet
from napari_medseq.models.prompting import PromptedSequence
from tests.unit.training.small import written

SMALL: dict[str, Any] = {"widths": (8, 8, 8), "hidden": (4, 4, 4), "slabs": (0, 1, 2, -2)}


def prompted_network(**changes: Any) -> PromptedUNet:
    """Random weights, heads and statistics included, so that everything has a say."""
    generator = torch.Generator().manual_seed(0)
    network = PromptedUNet(**{**SMALL, **changes}).eval()
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim >= 4:
                value.copy_(torch.randn(value.shape, generator=generator) * (1.5 / value[0].numel() ** 0.5))
            elif name.endswith("bias"):
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
        for name, buffer in network.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
            elif name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
    return network


def windows(batch: int = 2, steps: int = 7) -> PromptedSequence:
    """A bright box that moves, painted on two steps."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(batch, steps, 32, 40, dtype=torch.bool)
    for b in range(batch):
        for s in range(steps):
            mask[b, s, 8 + s : 20 + s, 10 + 2 * b : 26] = True
    annotated = torch.zeros(batch, steps, dtype=torch.bool)
    annotated[:, [2, 5]] = True
    image = mask.float() * 2 + torch.randn(mask.shape, generator=generator)
    return PromptedSequence.of(image, mask, annotated, torch.ones(batch))


def prompted_model(folder: Path, network: PromptedUNet | None = None, **inference: Any) -> Model:
    """A bundle of a small network, untrained if none is given: it then answers with the interpolated shape."""
    net = PromptedUNet(**SMALL) if network is None else network
    definition = {"_target_": "PromptedUNet", **{k: list(v) if isinstance(v, tuple) else v for k, v in SMALL.items()}}
    return written(folder, {"name": folder.name, "task": "propagation"}, definition, inference, net)
