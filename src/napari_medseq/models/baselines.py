"""MONAI's segmentation networks under the interface of this package: the baselines that the benchmarks compare with.

The 2D ones look at each step by itself (with neighbours as channels, if wanted), the 3D ones at the steps as the first axis of a
volume: at a whole training window, and in use through MONAI's sliding window. MONAI's networks need sizes that suit their strides;
here sequences of any length and size are padded by their edges and cut again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medseq.errors import ModelError
from napari_medseq.models.plain import Definition, Plain
from napari_medseq.models.registry import register
from napari_medseq.models.stepwise import Stepwise


def _dynunet(dimensions: int) -> dict[str, Plain]:
    """Five levels as nnU-Net would plan them for thick slices: the step axis is halved at the two deepest only."""
    if dimensions == 2:
        kernels: list[int] | list[list[int]] = [3] * 5
        strides: list[int] | list[list[int]] = [1, 2, 2, 2, 2]
    else:
        kernels = [[1, 3, 3], [1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]]
        strides = [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2]]
    return {
        "kernel_size": kernels,
        "strides": strides,
        "upsample_kernel_size": strides[1:],
        "filters": [32, 64, 128, 256, 320],
    }


def _list_of(arguments: Definition, name: str) -> Sequence[Plain]:
    value = arguments[name]
    if not isinstance(value, list | tuple):
        raise ModelError(f"{name} is {value!r:.80}; it must be a list.")
    return value


def _multiple(name: str, arguments: Definition, dimensions: int) -> tuple[int, ...]:
    """The number of which the size along each axis must be a multiple."""
    if name == "DynUNet":
        total = [1] * dimensions
        for stride in _list_of(arguments, "strides"):
            each = stride if isinstance(stride, list | tuple) else [stride] * dimensions
            total = [a * int(str(b)) for a, b in zip(total, each, strict=True)]
        return tuple(total)
    blocks = _list_of({"blocks_down": (1, 2, 2, 4), **arguments}, "blocks_down")
    halvings = {"BasicUNet": 4, "SegResNet": len(blocks) - 1, "SwinUNETR": 5}
    return (2 ** halvings[name],) * dimensions


NAMES = ("BasicUNet", "DynUNet", "SegResNet", "SwinUNETR")


class Baseline(Stepwise):
    """One of MONAI's networks for sequences.

    Parameters
    ----------
    network : {"BasicUNet", "DynUNet", "SegResNet", "SwinUNETR"}
    in_channels : int
        Image channels per step, before neighbours are added.
    classes : int
        Output classes with background.
    dimensions : {2, 3}
        Steps one by one, or together as a volume.
    neighbours : int
        Steps on either side that enter as channels; 0 in 3D.
    window : sequence of int, optional
        (step, y, x) that a 3D network sees at once in `side_by_side`; None: all.
    overlap : float
        Share of a window that the next one sees again.
    **arguments
        Of MONAI's class, where they are to differ from its defaults.

    Raises
    ------
    ModelError
        If MONAI cannot build the network, or lacks a package for it.
    """

    def __init__(
        self,
        network: str,
        in_channels: int = 1,
        classes: int = 2,
        dimensions: Literal[2, 3] = 2,
        neighbours: int = 0,
        window: Sequence[int] | None = None,
        overlap: float = 0.25,
        **arguments: Plain,
    ) -> None:
        super().__init__()
        if network not in NAMES or dimensions not in (2, 3):
            raise ModelError(f"{network!r} in {dimensions} dimensions is no baseline; choose from {', '.join(NAMES)}.")
        if dimensions == 3 and neighbours:
            raise ModelError("A 3D network sees the neighbours anyway; leave neighbours at 0.")
        if not 0 <= overlap < 1 or (window is not None and (len(window) != 3 or min(window) < 1)):
            raise ModelError(f"window {window} (step, y, x) with overlap {overlap} cannot be used.")
        settings = {**(_dynunet(dimensions) if network == "DynUNet" else {}), **arguments}
        self.dimensions, self.neighbours, self.classes = dimensions, neighbours, classes
        self.window, self.overlap = window, overlap
        self.multiple = _multiple(network, settings, dimensions)
        self.input_channels = in_channels * (2 * neighbours + 1)
        self.network = _build(network, dimensions, self.input_channels, classes, settings)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, step, class, y, x) of windows (batch, step, channel, y, x)."""
        if self.dimensions == 2:
            alone: Tensor = self._padded(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            return alone
        return self._padded(x.transpose(1, 2)).transpose(1, 2)

    @torch.inference_mode()
    def side_by_side(self, steps: Iterable[Tensor], times: Sequence[float] | None = None) -> Iterator[Tensor]:  # noqa: ARG002
        """Logits (n, class, y, x) of each step (n, channel, y, x, with its neighbours) of n sequences, in order.

        In 2D one after another; a 3D network must have all steps first, and holds the logits of the whole volume.
        """
        if self.dimensions == 2:
            for x in steps:
                yield self._padded(x)
            return
        volume = torch.stack(list(steps), 2)
        if self.window is None:
            logits = self._padded(volume)
        else:
            from monai.inferers import sliding_window_inference

            # a window reaches no further than the image: what is smaller is padded by its edges, as in training
            size = [min(a, b) for a, b in zip(self.window, volume.shape[2:], strict=True)]
            logits = sliding_window_inference(  # type: ignore[assignment]
                volume, size, 1, self._padded, overlap=self.overlap, mode="gaussian"
            )
        yield from logits.unbind(2)

    def _padded(self, x: Tensor) -> Tensor:
        """Logits of images or volumes of any size: padded by their edges to what the network takes, and cut again."""
        size = [-(-n // m) * m for n, m in zip(x.shape[2:], self.multiple, strict=True)]
        if size == list(self.multiple):  # an instance norm needs more than one pixel at the deepest level
            size[-1] *= 2
        pads = [p for n, whole in zip(reversed(x.shape[2:]), reversed(size), strict=True) for p in (0, whole - n)]
        out = self.network(functional.pad(x, pads, mode="replicate") if any(pads) else x)
        logits: Tensor = out[0] if isinstance(out, tuple | list) else out
        for axis, n in enumerate(x.shape[2:], 2):
            logits = logits.narrow(axis, 0, n)
        return logits


def _build(name: str, dimensions: int, inputs: int, classes: int, settings: Definition) -> nn.Module:
    from monai.networks import nets

    if name == "SwinUNETR" and find_spec("einops") is None:
        raise ModelError("MONAI's SwinUNETR needs the package einops; pip install einops.")
    try:
        return getattr(nets, name)(  # type: ignore[no-any-return]
            spatial_dims=dimensions, in_channels=inputs, out_channels=classes, **settings
        )
    except Exception as error:  # MONAI checks its arguments in many ways
        raise ModelError(f"MONAI's {name} cannot be built: {str(error)[:200]}") from None


for _name in NAMES:
    register(_name)(partial(Baseline, _name))
