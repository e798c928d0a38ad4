"""A real, tiny network that knows the answer: what is bright is a lesion. As a bundle it goes through all of inference."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from napari_medseq.models import bundle
from napari_medseq.models.registry import register
from napari_medseq.models.stepwise import Stepwise


@register("BrightForTests")
class Bright(Stepwise):
    """Labels voxels that are brighter than a limit, in robust units of the scan (`inference.intensity`); one step at a time."""

    def __init__(self, limit: float = 6.0) -> None:
        super().__init__()
        self.classes = 2
        self.slab = 1
        self.limit = nn.Parameter(torch.tensor(limit))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, step, class, y, x) of images (batch, step, channel, y, x)."""
        above = x[:, :, :1] - self.limit
        return torch.cat([-above, above], 2)


def write_bright_bundle(folder: Path) -> Path:
    """Write the bundle for T1post MR images, under the name of the untrained one (`tests.tiny`); returns its folder."""
    network = Bright()
    return bundle.write_bundle(
        folder,
        facts={
            "name": "tiny",
            "task": "segmentation",
            "modality": "MR",
            "name_patterns": ["*T1post*"],
            "channels": ["T1post"],
            "classes": {1: "lesion"},
        },
        network={"_target_": "BrightForTests"},
        inference={"along": "slices"},
        weights=network.state_dict(),
        card="# tiny\n\nWhat is bright is a lesion, for tests.\n",
        licence_text="CC0",
        description="for tests",
        licence="CC0-1.0",
        version="0.0.1",
        storage="float32",
    )
