"""The per-step encoders of classifiers and autoencoders: small blocks, one of MONAI's networks, or any registered
network.

An encoder takes independent steps (n, channel, y, x), or (n, channel, z, y, x), and gives a coarse map of features
(n, width, y', x'); a network that gives one vector per step gives a map of one cell. It states its `width` and its `stride`, of
which y and x must be multiples. Adding an encoder is one line in `ENCODERS`; a name from a file is only looked up there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from napari_medseq.errors import ModelError
from napari_medseq.models import registry
from napari_medseq.models.blocks import Plain as PlainBlock
from napari_medseq.models.blocks import encode, encoder
from napari_medseq.models.plain import Definition, Plain

# group norm, since a step's features must not depend on the other steps
_NORM = ("group", {"num_groups": 8})


class Encoder(nn.Module):
    """What every encoder states: the `width` of its features in channels, and the `stride` of which y and x must be multiples."""

    width: int
    stride: int


class BlockEncoder(nn.ModuleList, Encoder):
    """The encoder of `RecurrentUNet`, block by block, so that weights can be taken over from one.

    Parameters
    ----------
    in_channels : int
    widths : sequence of int
        Channels of the levels; each but the first halves y and x.
    dropout : float
    dimensions : {2, 3}
    coarse : bool
        The first level halves y and x too: several times as fast at the same pixels, and no longer the encoder of a `RecurrentUNet`.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int] = (16, 32, 64, 96),
        dropout: float = 0.0,
        dimensions: int = 2,
        coarse: bool = False,
    ) -> None:
        super().__init__(encoder(in_channels, widths, dropout, dimensions))
        self.width, self.stride = widths[-1], 2 ** (len(widths) - 1)
        if coarse:
            self[0] = PlainBlock(in_channels, widths[0], dimensions, halve=True)
            self.stride *= 2

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, width, y / stride, x / stride)."""
        return encode(self, x)[-1]


class DenseNetEncoder(Encoder):
    """MONAI's DenseNet (Huang et al. 2017, arXiv:1608.06993) up to its last features, with group norm.

    Parameters
    ----------
    in_channels : int
    block_config : sequence of int
        Layers of each dense block; the default is DenseNet-121.
    init_features, growth_rate : int
        Multiples of 8.
    dropout : float
    dimensions : {2, 3}
    """

    def __init__(
        self,
        in_channels: int,
        block_config: Sequence[int] = (6, 12, 24, 16),
        init_features: int = 64,
        growth_rate: int = 32,
        dropout: float = 0.0,
        dimensions: int = 2,
    ) -> None:
        from monai.networks.nets import DenseNet

        super().__init__()
        network = DenseNet(
            spatial_dims=dimensions,
            in_channels=in_channels,
            out_channels=1,
            init_features=init_features,
            growth_rate=growth_rate,
            block_config=tuple(block_config),
            norm=_NORM,
            dropout_prob=dropout,
        )
        self.features = network.features
        self.width, self.stride = init_features, 2 ** (len(block_config) + 1)
        for i, layers in enumerate(block_config):
            self.width += layers * growth_rate
            self.width //= 1 if i == len(block_config) - 1 else 2

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, width, y / stride, x / stride)."""
        return torch.relu(self.features(x))


class VectorEncoder(Encoder):
    """A network of MONAI's that gives one vector per step, as a map of one cell.

    Parameters
    ----------
    in_channels : int
    network : str
        A name in `VECTOR_NETWORKS`.
    width : int
        Length of the vector.
    dimensions : {2, 3}
    """

    def __init__(
        self, in_channels: int, network: str, width: int = 128, dropout: float = 0.0, dimensions: int = 2
    ) -> None:
        from monai.networks import nets

        super().__init__()
        if network not in VECTOR_NETWORKS:
            raise ModelError(f"encoder {network[:60]!r} is not one of {', '.join(VECTOR_NETWORKS)}; it is refused.")
        class_name, arguments = VECTOR_NETWORKS[network]
        keywords = {**arguments, "spatial_dims": dimensions}
        inputs = "n_input_channels" if class_name.startswith("resnet") else "in_channels"
        self.network = getattr(nets, class_name)(**keywords, **{inputs: in_channels}, num_classes=width)
        self.dropout = nn.Dropout(dropout)
        self.width, self.stride, self.dimensions = width, 32, dimensions

    def forward(self, x: Tensor) -> Tensor:
        """The vector as a map (n, width, 1, 1)."""
        v: Tensor = self.dropout(self.network(x))
        return v.reshape(*v.shape, *[1] * self.dimensions)


#: MONAI's constructors, and what they are called with
VECTOR_NETWORKS: dict[str, tuple[str, dict[str, object]]] = {
    "ResNet10": ("resnet10", {"norm": _NORM}),
    "ResNet18": ("resnet18", {"norm": _NORM}),
    "ResNet50": ("resnet50", {"norm": _NORM}),
    "EfficientNet-B0": ("EfficientNetBN", {"model_name": "efficientnet-b0", "pretrained": False, "norm": _NORM}),
}


@runtime_checkable
class PerStepEncoder(Protocol):
    """A network that can be asked for the features of steps alone."""

    stride: int

    def encode(self, x: Tensor) -> Tensor | list[Tensor]:
        """The deepest features, or those of each level."""


class RegisteredEncoder(Encoder):
    """The ``encode`` of any network in `registry.NETWORKS` that has one: its deepest features.

    Parameters
    ----------
    in_channels : int
        Channels per step, with neighbours; the network is built without neighbours of its own.
    network : mapping
        ``{"_target_": name, **arguments}``.
    """

    def __init__(self, in_channels: int, network: Definition, dropout: float = 0.0, dimensions: int = 2) -> None:
        super().__init__()
        definition: dict[str, Plain] = {**network, "in_channels": in_channels, "neighbours": 0}
        definition |= {} if dimensions == 2 else {"dimensions": dimensions}
        built = registry.build(definition)
        if not isinstance(built, PerStepEncoder):
            raise ModelError(f"{network.get('_target_')} has no per-step encoder; use another network as encoder.")
        self.network, self.dropout, self.stride = built, nn.Dropout(dropout), int(built.stride)
        self.network.eval()  # two cells, and no training: norms need more than one value to learn from
        with torch.no_grad():
            self.width = int(self._deepest(torch.zeros(1, in_channels, *[2 * self.stride] * dimensions)).shape[1])
        self.network.train()

    def _deepest(self, x: Tensor) -> Tensor:
        out = self.network.encode(x)
        deepest: Tensor = out[-1] if isinstance(out, list) else out
        return deepest

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, width, y / stride, x / stride)."""
        embedding: Tensor = self.dropout(self._deepest(x))
        return embedding


#: the encoders by name: the allow-list, as `registry.NETWORKS` is for networks
ENCODERS: dict[str, Callable[..., Encoder]] = {
    "Blocks": BlockEncoder,
    "DenseNet": DenseNetEncoder,
    "DenseNet121": DenseNetEncoder,
    "Registered": RegisteredEncoder,
    "Vector": VectorEncoder,
}


def build_encoder(definition: str | Definition, in_channels: int, dropout: float = 0.0, dimensions: int = 2) -> Encoder:
    """An encoder from its name, or from ``{"_target_": name, **arguments}``.

    A name in `VECTOR_NETWORKS` or of a registered network may be given directly.

    Raises
    ------
    ModelError
        If the name is in no table or the arguments do not fit.
    """
    arguments: dict[str, Plain] = {"_target_": definition} if isinstance(definition, str) else dict(definition)
    name = str(arguments.pop("_target_", ""))
    if name in VECTOR_NETWORKS:
        name, arguments = "Vector", {**arguments, "network": name}
    elif name in registry.NETWORKS:
        name, arguments = "Registered", {"network": {"_target_": name, **arguments}}
    if name not in ENCODERS:
        choices = ", ".join(sorted([*ENCODERS, *VECTOR_NETWORKS, *registry.NETWORKS]))
        raise ModelError(f"encoder {name[:80]!r} is not one of {choices}; the model is refused.")
    try:
        return ENCODERS[name](in_channels, **{"dropout": dropout, "dimensions": dimensions, **arguments})
    except (TypeError, ValueError, AttributeError, IndexError, KeyError, RuntimeError) as error:
        raise ModelError(f"The encoder {name} cannot be built from its arguments: {str(error)[:200]}") from None
