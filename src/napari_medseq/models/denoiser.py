"""A recurrent denoiser: the segmentation network with a residual image as its output, which is added to the input."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from napari_medseq.errors import ModelError
from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.models.registry import register


@register("RecurrentDenoiser")
class RecurrentDenoiser(RecurrentUNet):
    """Takes the noise out of a sequence of slices or frames, step by step, with what the other steps show.

    What `RecurrentUNet` says for each pixel is added to the step itself (residual learning; Zhang et al. 2017,
    arXiv:1608.03981). The last layer starts at zero, so that an untrained network gives back what it gets. It streams as the
    segmentation network does.

    Parameters
    ----------
    in_channels : int
        Image channels per step; as many come out.
    **arguments
        The options of `RecurrentUNet`, except the number of classes.
    """

    def __init__(self, *, in_channels: int = 1, **arguments: Any) -> None:
        if "classes" in arguments:
            raise ModelError("A denoiser gives an image and has no classes; leave classes out.")
        super().__init__(in_channels=in_channels, classes=in_channels, **arguments)
        self.heads = nn.ModuleList([self.heads[-1]])
        for p in self.heads.parameters():
            nn.init.zeros_(p)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Features per level of independent steps, and after them the steps themselves without their neighbours."""
        first = self.neighbours * self.classes
        return [*super().encode(x), x[:, first : first + self.classes]]

    def decode(self, features: list[Tensor], every_head: bool = False) -> list[Tensor]:  # noqa: ARG002
        """The corrected steps (n, channel, y, x), in a list of one."""
        return [features[-1] + super().decode(features[:-1])[-1]]
