"""The memory that a segmentation will need, estimated before it starts from the shapes and the network alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from napari_medseq.inference.inputs.frame import Framing
from napari_medseq.inference.resources.tuning import Plan
from napari_medseq.inference.settings import InferenceSettings
from napari_medseq.memory import is_large
from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.models.stepwise import Stepwise

#: activations of the finest level that are there at once: a block's input, output, shortcut and cuDNN's or oneDNN's copy
AT_ONCE = 4
#: under so many pixels times steps nothing is estimated: it takes longer than it is worth
_SMALL = 1 << 23
_NUMBER = 4  # bytes of a float32


def segmentation_bytes(
    framing: Framing, network: nn.Module, settings: InferenceSettings, plan: Plan, outputs: Sequence[str]
) -> int:
    """Bytes that segmenting one image takes at its peak, in addition to the image and the network, on the CPU.

    Parameters
    ----------
    framing : Framing
    network : torch.nn.Module
        A `Stepwise`; of another only the answer's arrays are counted.
    settings : InferenceSettings
    plan : Plan
    outputs : sequence of str
        As for `segment`.
    """
    return answer_bytes(framing, settings, outputs) + network_bytes(framing, network, settings, plan)


def answer_bytes(framing: Framing, settings: InferenceSettings, outputs: Sequence[str]) -> int:
    """Bytes of the answer's arrays: labels as they come, cleaned, and on the image's axes; and what else was asked for, twice.

    Nothing of what is so large that it lies in a file (`napari_medseq.memory.zeros`).
    """
    steps, rows, columns = framing.whole
    voxels = steps * framing.thick * rows * columns
    each = [
        1,
        1,
        2 if settings.min_mean_probability > 0 else 0,
        *(_NUMBER for o in outputs if o != "labels" for _ in range(2)),
    ]
    whole = sum(voxels * size for size in each if not is_large(voxels * size))
    return whole + (voxels // steps if framing.axes[0] == "t" else voxels)  # frames are cleaned one by one


def network_bytes(framing: Framing, network: nn.Module, settings: InferenceSettings, plan: Plan) -> int:
    """Bytes of the features that wait and of the layers at work, in float32."""
    if not isinstance(network, Stepwise):
        return 0
    size = (framing.deep, *framing.padded) if network.volumes else framing.padded
    views = 2 if settings.mirror else 1
    together = 1 if isinstance(network, RecurrentUNet) else (network.slab or framing.steps)
    images = len(framing.intensity if framing.each is None else framing.each[0])
    kept_bytes, largest = layer_bytes(network, (1, together, images * (2 * network.neighbours + 1), *size))
    if not isinstance(network, RecurrentUNet):
        return views * (kept_bytes + AT_ONCE * largest)
    group = plan.together
    return views * ((network.ahead + group) * kept_bytes + group * AT_ONCE * largest)


def layer_bytes(network: nn.Module, shape: Sequence[int]) -> tuple[int, int]:
    """Bytes of the largest output at each resolution, together, and of the largest of all, for steps of this shape.

    Found by running the network on shapes alone (meta tensors); 0 for a network that cannot.
    """
    largest: dict[tuple[int, ...], int] = {}

    def note(_layer: nn.Module, _inputs: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor) and output.ndim > 3:
            place = tuple(output.shape[-2:])
            largest[place] = max(largest.get(place, 0), output.numel() * _NUMBER)

    handles = [layer.register_forward_hook(note) for layer in network.modules()]
    shapes = {k: torch.empty_like(v, device="meta") for k, v in [*network.named_parameters(), *network.named_buffers()]}
    try:
        with torch.inference_mode():
            torch.func.functional_call(network, shapes, (torch.empty(*shape, device="meta"),))
    except (NotImplementedError, RuntimeError):
        return 0, 0
    finally:
        for handle in handles:
            handle.remove()
    return sum(largest.values()), max(largest.values(), default=0)


def worth_estimating(framing: Framing) -> bool:
    """Whether an image is so large that its memory is estimated before the start."""
    steps, rows, columns = framing.whole
    return steps * framing.thick * rows * columns > _SMALL
