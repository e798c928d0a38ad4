"""A convolutional autoencoder: pre-training without labels, and the removal of noise step by step.

Its encoder is one of `encoders`, DenseNet-121 by default, under the same name and with the same weights as in a
`SequenceClassifier` of the same encoder: a classifier that starts from an autoencoder's bundle begins with what it has learned.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medseq.errors import ModelError
from napari_medseq.models.blocks import Block, Plain, convolution, upsampling
from napari_medseq.models.encoders import build_encoder
from napari_medseq.models.plain import Definition
from napari_medseq.models.registry import register
from napari_medseq.models.sequence_network import SequenceNetwork


@register("ConvAutoencoder")
class ConvAutoencoder(SequenceNetwork):
    """Encoder and decoder per step, without skips: all that comes out went through the encoder's coarse features.

    Parameters
    ----------
    in_channels : int
        Image channels per step, before neighbours are added; as many come out.
    neighbours : int
        Steps on either side that enter as channels.
    encoder : str or mapping
        See `encoders.build_encoder`.
    code : int, optional
        Channels of the code between encoder and decoder; None: those of the encoder.
    width : int
        Channels of the decoder at full size; they double with each coarser level, up to eight times.
    hide : float
        Share of the image's squares (of the encoder's stride) that is hidden in training, so that the network must learn what
        belongs there (Pathak et al. 2016, arXiv:1604.07379; He et al. 2022, arXiv:2111.06377).
    dropout : float
    dimensions : {2, 3}
        Whether a step is an image or a volume.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        neighbours: int = 0,
        encoder: str | Definition = "DenseNet121",
        code: int | None = None,
        width: int = 16,
        hide: float = 0.0,
        dropout: float = 0.0,
        dimensions: Literal[2, 3] = 2,
    ) -> None:
        super().__init__()
        if not 0 <= hide < 1:
            raise ModelError(f"hide is {hide}; it is a share from 0 to less than 1.")
        self.neighbours, self.hide, self.volumes = neighbours, hide, dimensions == 3
        self.input_channels = in_channels * (2 * neighbours + 1)
        self.encoder = build_encoder(encoder, self.input_channels, dropout, dimensions)
        features, self.stride = self.encoder.width, self.encoder.stride
        conv = convolution(dimensions)
        self.code = nn.Identity() if code is None else conv(features, code, 1)
        widths = [features if code is None else code]
        widths += [width * min(8, 2**level) for level in range(self.stride.bit_length() - 2, -1, -1)]
        pairs = list(pairwise(widths))
        self.up = nn.ModuleList(upsampling(dimensions)(a, b, 2, stride=2) for a, b in pairs)
        self.decoder = nn.ModuleList(
            Plain(b, b, dimensions) if k == len(pairs) - 1 else Block(b, b, dimensions=dimensions)
            for k, (_, b) in enumerate(pairs)
        )
        self.out = conv(widths[-1], in_channels, 1)

    def encode(self, x: Tensor) -> Tensor:
        """Code (n, code, y / stride, x / stride) of independent steps (n, channel, y, x)."""
        code: Tensor = self.code(self.encoder(x))
        return code

    def decode(self, code: Tensor) -> Tensor:
        """Images (n, channel, y, x) from their codes."""
        x = code
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(up(x))
        image: Tensor = self.out(x)
        return image

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, step, channel, y, x) again, from steps (batch, step, channel · (2 · neighbours + 1), y, x).

        Raises
        ------
        ModelError
            If the size is not a multiple of `stride`, or the encoder gives no map.
        """
        if any(n % self.stride for n in x.shape[3:]):
            raise ModelError(
                f"Steps of size {tuple(x.shape[3:])} do not fit this network; pad them to multiples of {self.stride}."
            )
        steps = x.flatten(0, 1)
        if self.training and self.hide > 0:
            steps = self._hidden(steps)
        images = self.decode(self.encode(steps))
        if images.shape[2:] != x.shape[3:]:
            raise ModelError("The encoder gives one vector per step, not a map; an autoencoder needs another one.")
        restored: Tensor = images.unflatten(0, x.shape[:2])
        return restored

    def _hidden(self, x: Tensor) -> Tensor:
        """Steps with squares set to 0, the middle of the intensities; another set for each step."""
        cells = torch.rand(len(x), 1, *[n // self.stride for n in x.shape[2:]], device=x.device) >= self.hide
        return x * functional.interpolate(cells.to(x.dtype), scale_factor=float(self.stride), mode="nearest")
