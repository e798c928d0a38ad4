"""The memory that a model will need for an image, estimated from the image's size alone, without reading a voxel.

`memory` estimates it more exactly once the image has been measured, because empty borders are then left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from napari_medseq.inference.inputs.frame import Framing, across_axis, network_size, step_axes
from napari_medseq.inference.inputs.intensity import Intensity
from napari_medseq.inference.inputs.working import WorkingGrid
from napari_medseq.inference.resources import memory
from napari_medseq.inference.resources.tuning import Plan
from napari_medseq.inference.settings import inference_settings
from napari_medseq.inference.slabs.windows import SlabSettings, starts
from napari_medseq.inference.sliding import WindowSettings, window_settings
from napari_medseq.models import Model
from napari_medseq.models.slab_unet import SlabUNet
from napari_medseq.models.stepwise import Stepwise
from napari_medseq.sequence import ImageSequence

#: bytes per voxel and channel while a working volume is made: its float32, and a turned or resampled copy
_MAKING = 8
#: bytes per voxel of the labels, of those on the image's own grid, and of what cleaning them takes
_LABELS = 4
_NUMBER = 4  # bytes of a float32


def expected_bytes(channels: Sequence[ImageSequence], model: Model) -> int:
    """Bytes that segmenting an image takes at its peak, in addition to the image and the network, on the CPU, for labels alone.

    Parameters
    ----------
    channels : sequence of ImageSequence
        One per input channel; may be lazy.
    model : Model
        A segmentation model.
    """
    if isinstance(model.network, SlabUNet) and model.inference.get("kind") == "slab":
        return _of_slabs(channels, model.network, SlabSettings.model_validate(model.inference))
    if not isinstance(model.network, Stepwise):
        return _of_windows(channels[0], window_settings(model.inference, model.info.name), model)
    settings = inference_settings(model.inference, model.info.name)
    along = "slices" if settings.along == "visit" else settings.along
    framing = _framing(channels, along, settings.pixel_mm, model.network.stride)
    return memory.segmentation_bytes(framing, model.network, settings, Plan(), ("labels",))


def _framing(channels: Sequence[ImageSequence], along: str, pixel_mm: float | None, stride: int) -> Framing:
    """The framing of an image that is foreground to its borders."""
    first = channels[0]
    axes, across = step_axes(first, along), across_axis(first, along)
    size = (first.size(axes[1]), first.size(axes[2]))
    crop = (0, size[0], 0, size[1])
    inner = network_size(crop, first, axes, pixel_mm)
    thick = first.size(across) if across else 1
    return Framing(
        axes=axes,
        steps=first.size(axes[0]) if axes[0] else 1,
        size=size,
        crop=crop,
        inner=inner,
        padded=(max(2, -(-inner[0] // stride)) * stride, max(2, -(-inner[1] // stride)) * stride),
        intensity=(Intensity(0.0, 0.0, 1.0),) * len(channels),
        across=across,
        span=(0, thick),
        thick=thick,
        deep=-(-thick // stride) * stride,
    )


def _of_windows(image: ImageSequence, settings: WindowSettings, model: Model) -> int:
    """A plain network's answer for the whole image and its weights, in float32, and the labels."""
    voxels = math.prod(image.grid) * (image.size("t") if "t" in image.axes else 1)
    shape = (1, max(1, len(model.info.channels)), *settings.window)
    _, largest = memory.layer_bytes(model.network, shape)
    return voxels * (_NUMBER * (len(model.info.classes) + 2) + _LABELS) + memory.AT_ONCE * largest


def _of_slabs(channels: Sequence[ImageSequence], network: SlabUNet, settings: SlabSettings) -> int:
    """The working volume, the probabilities that are held, one window at work, and the labels."""
    grid = WorkingGrid.of(channels[0], settings.working)
    names = dict(zip(("x", "y", "z"), grid.size, strict=True)) | {
        "t": channels[0].size("t") if "t" in channels[0].axes else 1
    }
    shape = [names[a] for a in settings.working.axes]
    own, working = math.prod(channels[0].grid) * names["t"], math.prod(shape)
    plans = [starts(n, w) for n, w in zip(shape, settings.window, strict=True)]
    accumulated = _NUMBER * (network.classes + 1) * plans[0][1] * shape[1] * shape[2]
    inputs = len(settings.working.schemes) + (settings.working.position is not None)
    _, largest = memory.layer_bytes(network, (1, inputs, *(w for _, w in plans)))
    volume = _NUMBER * inputs * working
    return max(
        volume + _MAKING * max(own, working),
        volume + accumulated + memory.AT_ONCE * largest + _LABELS * max(own, working),
    )
