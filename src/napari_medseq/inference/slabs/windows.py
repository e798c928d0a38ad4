"""Windows of a working volume through a slab network, and the class probabilities of its steps, one step after the other.

Only the steps that later windows still contribute to are held, so that memory does not grow with the length of the
sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from napari_medseq.inference.doubts import Doubt
from napari_medseq.inference.inputs.working import PlaneAxis, Triple, Working
from napari_medseq.inference.resources.tuning import Version, has_bfloat16, placed, weights_version
from napari_medseq.inference.settings import BundleSettings
from napari_medseq.models.slab_unet import SlabUNet
from napari_medseq.progress import Cancelled, Progress, check

_WHOLE = 1.3  # an axis this many times as long as the window still goes through whole
_AXIS = {"step": -3, "row": -2, "column": -1}


class SlabSettings(BundleSettings):
    """The inference settings of a slab network.

    Attributes
    ----------
    kind : "slab"
    working : Working
        What an image is made into.
    window : (int, int, int)
        Steps, rows and columns that go through the network at once, as in training; larger images are covered by windows that
        overlap by half.
    mirrored : tuple of {"step", "row", "column"}
        Probabilities are averaged with those of the image mirrored along every choice of these.
    precision : {"float32", "bfloat16"}
        "bfloat16" where the processor has units for it.
    threshold : float
        Probability above which a voxel belongs to the class, if there is only one.
    min_volume_mm3, fill_holes
        As in `InferenceSettings`.
    keep_largest : bool
        Keep of each class in a volume one component: that which is largest if each voxel counts by how far its probability lies above
        one half.
    missing_channels : bool
        Whether the network was trained to do without some of its channels.
    doubt : Doubt or None
        As in `InferenceSettings`.
    """

    kind: Literal["slab"] = "slab"
    working: Working = Working()
    window: Triple
    mirrored: tuple[PlaneAxis, ...] = ()
    precision: Literal["float32", "bfloat16"] = "float32"
    threshold: float = Field(0.5, gt=0, lt=1)
    min_volume_mm3: float = Field(0.0, ge=0)
    keep_largest: bool = False
    fill_holes: bool = False
    missing_channels: bool = False
    doubt: Doubt | None = None


#: with the version of the weights that were folded
_FOLDED: WeakKeyDictionary[nn.Module, tuple[Version, SlabUNet]] = WeakKeyDictionary()


def folded(network: SlabUNet) -> SlabUNet:
    """The network with its batch norms folded, made once for its weights as they are."""
    if network.norm != "batch":
        return network
    version = weights_version(network)
    kept = _FOLDED.get(network)
    if kept is None or kept[0] != version:
        kept = _FOLDED[network] = version, network.folded()
    return kept[1]


def starts(length: int, window: int) -> tuple[list[int], int]:
    """First voxels of the windows that cover an axis, and their length there."""
    if length <= _WHOLE * window:
        return [0], length
    count = -(-(length - window) // max(1, window // 2)) + 1
    return [round(k * (length - window) / (count - 1)) for k in range(count)], window


def _ramp(length: int, whole: bool) -> Tensor:
    """Weights of a window along an axis: less towards its ends, where another one covers them."""
    up = torch.arange(1, length + 1, dtype=torch.float32)
    return torch.ones(length) if whole else torch.minimum(up, up.flip(0))


def places(size: Triple, window: Triple) -> list[tuple[slice, slice, slice]]:
    """Positions of the windows that cover a volume (step, row, column)."""
    plans = [starts(n, w) for n, w in zip(size, window, strict=True)]
    (steps, long), (rows, high), (columns, wide) = plans
    return [(slice(a, a + long), slice(b, b + high), slice(c, c + wide)) for a in steps for b in rows for c in columns]


def window_weights(size: Triple, window: Triple) -> Tensor:
    """Weight of each voxel of a window where windows overlap."""
    ramps = [_ramp(long, long == n) for n, (_, long) in zip(size, map(starts, size, window), strict=True)]
    return ramps[0][:, None, None] * ramps[1][:, None] * ramps[2]


def probabilities_of_steps(
    network: SlabUNet,
    volume: NDArray[np.float32],
    settings: SlabSettings,
    device: torch.device,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    message: str = "",
) -> Iterator[Tensor]:
    """Class probabilities (class, row, column) of each step of a working volume (channel, step, row, column), in order."""
    net = placed(folded(network.eval()), device)
    x = torch.from_numpy(volume).to(device)
    plans = [starts(n, w) for n, w in zip(x.shape[1:], settings.window, strict=True)]
    ramps = [_ramp(w, w == n).to(device) for (_, w), n in zip(plans, x.shape[1:], strict=True)]
    ramp = ramps[0][:, None, None] * ramps[1][:, None] * ramps[2]
    low = settings.precision == "bfloat16" and (device.type != "cpu" or has_bfloat16())
    places = [(b, c) for b in plans[1][0] for c in plans[2][0]]
    (first, *later), long = plans[0]
    sums = torch.zeros(network.classes, long, *x.shape[2:], device=device)
    weights = torch.zeros(long, *x.shape[2:], device=device)
    total, done = len(places) * (1 + len(later)), 0
    for start, following in zip([first, *later], [*later, x.shape[1]], strict=True):
        for place in places:
            check(cancelled)
            rows, columns = (slice(p, p + w) for p, (_, w) in zip(place, plans[1:], strict=True))
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=low):
                p = _mirrored(net, x[None, :, start : start + long, rows, columns], settings.mirrored)
            sums[:, :, rows, columns] += p * ramp
            weights[:, rows, columns] += ramp
            done += 1
            if progress is not None:
                progress(done, total, message)
        final = min(following - start, long)  # no later window adds to these
        for k in range(final):
            yield sums[:, k] / weights[k]
        for buffer in (sums, weights):
            steps = buffer.dim() - 3
            overlap = buffer.narrow(steps, final, long - final).clone()
            buffer.zero_()
            buffer.narrow(steps, 0, long - final).copy_(overlap)


def chosen_labels(p: Tensor, threshold: float) -> NDArray[np.uint8]:
    """Labels (row, column) of class probabilities (class, row, column): the likeliest class, or where a single one passes the threshold."""
    chosen = p[1] > threshold if len(p) == 2 else p.argmax(0)
    labels: NDArray[np.uint8] = chosen.to(torch.uint8).cpu().numpy()
    return labels


def _mirrored(net: SlabUNet, x: Tensor, axes: Sequence[PlaneAxis]) -> Tensor:
    """Probabilities (class, step, row, column), averaged over the mirrored views."""
    views = [tuple(_AXIS[a] for a in chosen) for n in range(len(axes) + 1) for chosen in combinations(axes, n)]
    total = torch.zeros(())
    for flips in views:
        p = net.label_volume(x.flip(flips) if flips else x).float().softmax(1)
        total = total.to(p.device) + (p.flip(flips) if flips else p)
    return total[0] / len(views)
