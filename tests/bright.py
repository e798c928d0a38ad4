"""A real, tiny network that knows the answer: what is bright is a lesion. As a bundle it goes through all of inference."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from napari_medseq.models.registry import register
from napari_medseq.models.stepwise import Stepwise
from tests.tiny import write_segmentation_bundle


@register("BrightForTests")
class Bright(Stepwise):
    """Labels voxels that are brighter than a limit, in robust units of the scan (`inference.inputs.intensity`); one step at a time."""

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
    said = "What is bright is a lesion"
    return write_segmentation_bundle(folder, {"_target_": "BrightForTests"}, Bright(), said, storage="float32")
