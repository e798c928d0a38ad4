"""Networks without recurrence, run over an image by MONAI's sliding window: for bundles made by others.

The network gets the image as such networks are trained on it: float32 values as they are, axes (x, y, z) running to the
patient's right, anterior and superior (RAS). Values and spacing are the caller's to prepare, as the bundle's card says, since
the bundle's own preprocessing is a program that is not run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from napari_medseq.errors import ModelError, warn
from napari_medseq.inference.inputs.frame import Framing
from napari_medseq.progress import Cancelled, check
from napari_medseq.sequence import ImageSequence, check_same_grid
from napari_medseq.settings import Settings, checked


class WindowSettings(Settings):
    """How a plain network is slid over an image.

    Attributes
    ----------
    kind : "window"
    dimensions : {2, 3}
    window : tuple of int
        Voxels along (x, y, z) or (x, y).
    overlap : float
        Share of a window that the next one sees again.
    """

    kind: Literal["window"]
    dimensions: Literal[2, 3]
    window: tuple[int, ...]
    overlap: float = Field(0.25, ge=0, lt=1)


def window_settings(values: Mapping[str, object], name: str) -> WindowSettings:
    """Check the settings of a plain network.

    Raises
    ------
    ModelError
        If a setting is unknown or out of range.
    """
    settings = checked(WindowSettings, values, where=f"The inference settings of {name}", error=ModelError)
    if len(settings.window) != settings.dimensions or min(settings.window) < 1:
        raise ModelError(f"The window {settings.window} of {name} does not fit its {settings.dimensions} dimensions.")
    return settings


def window_framing(channels: Sequence[ImageSequence]) -> Framing:
    """The framing that changes nothing: every z slice whole, at the image's own pixels.

    Raises
    ------
    GeometryError
        If the channels are not on one grid.
    """
    first = channels[0]
    check_same_grid(first, *channels[1:])
    size = (first.size("y"), first.size("x"))
    axes = ("z" if "z" in first.axes else "", "y", "x")
    return Framing(
        axes=axes,
        steps=first.size("z"),
        size=size,
        crop=(0, size[0], 0, size[1]),
        inner=size,
        padded=size,
        intensity=(),
    )


@torch.inference_mode()
def window_probabilities(
    network: nn.Module,
    channels: Sequence[ImageSequence],
    settings: WindowSettings,
    device: torch.device,
    cancelled: Cancelled | None = None,
) -> Iterator[Tensor]:
    """Class probabilities (class, y, x) of each z slice.

    A network with one output is taken to mean a sigmoid; one with more a softmax. A 3D network's logits are held for the
    whole volume, which is what such networks cost.
    """
    from monai.inferers import SlidingWindowInferer

    def predict(patch: Tensor) -> Tensor:
        check(cancelled)
        return _answer(network(patch)).float()

    infer = SlidingWindowInferer(settings.window, sw_batch_size=1, overlap=settings.overlap, mode="gaussian")
    if settings.dimensions == 3:
        volume = torch.from_numpy(np.stack([_to_ras(c.volume_zyx()) for c in channels]))
        logits = _whole(infer(volume[None].to(device), predict))[0].cpu()
        for k in range(logits.shape[-1]):
            yield _probabilities(logits[..., k])
    else:
        volumes = [c.data for c in channels] if "z" in channels[0].axes else [c.data[None] for c in channels]
        for k in range(channels[0].size("z")):
            plane = torch.from_numpy(np.stack([_to_ras(np.asarray(v[k])[None])[..., 0] for v in volumes]))
            yield _probabilities(_whole(infer(plane[None].to(device), predict))[0].cpu())


def _answer(out: Tensor | tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    """The logits among what a network gives: the first of a tuple (`SegResNetVAE` adds its loss), the last of a list (`BasicUNetPlusPlus`
    gives the answer of each of its depths, the deepest one last)."""
    return out if isinstance(out, Tensor) else out[0] if isinstance(out, tuple) else out[-1]


def _whole(value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return value


def _to_ras(volume: NDArray[np.generic]) -> NDArray[np.float32]:
    """(z, y, x) to Superior, Posterior, Left → (x, y, z) to Right, Anterior, Superior."""
    values = np.nan_to_num(volume.astype(np.float32), posinf=0, neginf=0)
    return np.ascontiguousarray(values.transpose(2, 1, 0)[::-1, ::-1])


def _probabilities(logits: Tensor) -> Tensor:
    """(class, x, y) in RAS → probabilities (class, y, x) in our order."""
    logits = logits.flip(1, 2).transpose(1, 2)
    if logits.shape[0] == 1:
        p = logits.sigmoid()
        return torch.cat([1 - p, p])
    return logits.softmax(0)


def warn_of_preprocessing(name: str) -> None:
    """Tell the user once per place that the bundle's own preprocessing is not run."""
    warn(
        f"{name} is a foreign bundle, whose own preprocessing is a program and is not run: give it an image whose "
        "spacing and values are as its card says (ms.preprocess)."
    )
