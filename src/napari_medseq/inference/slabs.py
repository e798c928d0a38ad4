"""`segment` for slab networks: an image becomes a working volume, windows of it go through the network, labels come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from napari_medseq import geometry
from napari_medseq.errors import MedseqError, ModelError
from napari_medseq.inference import memory
from napari_medseq.inference.answers import check_finite
from napari_medseq.inference.frame import Region
from napari_medseq.inference.images import Images, exams
from napari_medseq.inference.postprocessing import postprocess
from napari_medseq.inference.prediction import Segmentation, remove_small_objects
from napari_medseq.inference.settings import InferenceSettings
from napari_medseq.inference.tuning import has_bfloat16
from napari_medseq.inference.working import PlaneAxis, Triple, Working, WorkingGrid, grey_channels, working_volume
from napari_medseq.models import Model
from napari_medseq.models.slab_unet import SlabUNet
from napari_medseq.progress import Cancelled, Progress, check, part
from napari_medseq.sequence import ImageSequence
from napari_medseq.settings import Settings, checked

Probabilities = NDArray[np.float32]

_WHOLE = 1.3  # an axis this many times as long as the window still goes through whole
_AXIS = {"step": -3, "row": -2, "column": -1}


class SlabSettings(Settings):
    """How a bundle's slab network is used.

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
        Of a single class.
    smallest_mm3, keep_largest, fill_holes
        As in `InferenceSettings`.
    missing_channels : bool
        Whether the network was trained to do without some of its channels.
    """

    kind: Literal["slab"] = "slab"
    working: Working = Working()
    window: Triple
    mirrored: tuple[PlaneAxis, ...] = ()
    precision: Literal["float32", "bfloat16"] = "float32"
    threshold: float = Field(0.5, gt=0, lt=1)
    smallest_mm3: float = Field(0.0, ge=0)
    keep_largest: bool = False
    fill_holes: bool = False
    missing_channels: bool = False


_FOLDED: WeakKeyDictionary[nn.Module, SlabUNet] = WeakKeyDictionary()


def folded(network: SlabUNet) -> SlabUNet:
    """The network with its batch norms folded, made once."""
    if network.norm != "batch":
        return network
    if network not in _FOLDED:
        _FOLDED[network] = network.folded()
    return _FOLDED[network]


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


@torch.inference_mode()
def label_working_volume(
    network: SlabUNet,
    volume: NDArray[np.float32],
    settings: SlabSettings,
    device: torch.device,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    message: str = "",
) -> NDArray[np.float32]:
    """Class probabilities (class, step, row, column) of a working volume (channel, step, row, column)."""
    net = folded(network.eval()).to(device)
    x = torch.from_numpy(volume).to(device)
    plans = [starts(n, w) for n, w in zip(x.shape[1:], settings.window, strict=True)]
    ramps = [_ramp(w, w == n).to(device) for (_, w), n in zip(plans, x.shape[1:], strict=True)]
    ramp = ramps[0][:, None, None] * ramps[1][:, None] * ramps[2]
    sums = torch.zeros(network.classes, *x.shape[1:], device=device)
    weights = torch.zeros(x.shape[1:], device=device)
    places = [(a, b, c) for a in plans[0][0] for b in plans[1][0] for c in plans[2][0]]
    low = settings.precision == "bfloat16" and (device.type != "cpu" or has_bfloat16())
    for done, place in enumerate(places):
        check(cancelled)
        inner = tuple(slice(p, p + w) for p, (_, w) in zip(place, plans, strict=True))
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            p = _mirrored(net, x[(slice(None), *inner)][None], settings.mirrored)
        sums[(slice(None), *inner)] += p * ramp
        weights[inner] += ramp
        if progress is not None:
            progress(done + 1, len(places), message)
    return (sums / weights).cpu().numpy()


def _mirrored(net: SlabUNet, x: Tensor, axes: Sequence[PlaneAxis]) -> Tensor:
    """Probabilities (class, step, row, column), averaged over the mirrored views."""
    views = [tuple(_AXIS[a] for a in chosen) for n in range(len(axes) + 1) for chosen in combinations(axes, n)]
    total = torch.zeros(())
    for flips in views:
        p = net.label_volume(x.flip(flips) if flips else x).float().softmax(1)
        total = total.to(p.device) + (p.flip(flips) if flips else p)
    return total[0] / len(views)


def is_slab(model: Model) -> bool:
    """Whether a model is a slab network that works on working volumes."""
    return isinstance(model.network, SlabUNet) and model.inference.get("kind") == "slab"


def refuse(model: Model, outputs: Sequence[str], *, samples: int, views: int, transforms: bool) -> None:
    """Refuse what `segment` offers and a slab network does not.

    Raises
    ------
    MedseqError
    """
    unknown = sorted(set(outputs) - {"labels", "probability", "uncertainty"})
    if unknown:
        raise MedseqError(f"outputs {unknown} are not known; choose from labels, probability and uncertainty.")
    if samples or views:
        raise ModelError(
            f"{model.info.name} is a slab network: its uncertainty is that of its probabilities; use samples=0 and views=0, or "
            "give several models, which are averaged."
        )
    if transforms:
        raise MedseqError(f"transforms are for a model along visits; {model.info.name} looks at each image by itself.")


def segment_slabs(
    images: Images,
    models: Sequence[Model],
    *,
    device: torch.device,
    outputs: Sequence[str],
    steps: Sequence[int] | None,
    keep: ImageSequence | None,
    region: Region | None,
    force: bool,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> list[Segmentation]:
    """What `segment` answers for slab networks, whose probabilities are averaged, one per exam; see there for the parameters.

    Raises
    ------
    ModelError
        If the images do not fit the models, or these not each other.
    """
    settings = [_settings(m) for m in models]
    first, one = models[0], settings[0]
    for other, two in zip(models[1:], settings[1:], strict=True):
        same = two.working == one.working and (other.info.channels, other.info.classes) == (
            first.info.channels,
            first.info.classes,
        )
        if not same:
            raise ModelError(
                f"{other.info.name} cannot be averaged with {first.info.name}: channels, classes or spacing differ."
            )
    results = []
    for channels in _channels(images, first, one, force):
        volume, grid = working_volume(channels, first.info.channels, one.working)
        inner = tuple(slice(0, n) for n in volume.shape)
        if len(channels) < len(first.info.channels):
            volume, inner = _within_nothing(volume, one.window)
        said = f"segmenting {grid.image.name}"
        # the sums and their copy, and those of the other models
        memory.warn_if_short((2 + (len(models) > 1)) * _network(first).classes * volume[0].nbytes, grid.image.name)
        total: Probabilities = np.zeros(1, np.float32)
        for k, (model, own) in enumerate(zip(models, settings, strict=True)):
            shown = part(progress, k / len(models), (k + 1) / len(models))
            total = total + label_working_volume(_network(model), volume, own, device, shown, cancelled, said)
        p: Probabilities = np.asarray(total / len(models), dtype=np.float32)[(slice(None), *inner[1:])]
        check_finite(torch.from_numpy(p), first, f"one of the steps of {grid.image.name}")
        results.append(_answer(p, grid, first, one, outputs, steps, keep, region))
    return results


def _within_nothing(volume: Probabilities, window: Triple) -> tuple[Probabilities, tuple[slice, ...]]:
    """A volume in the middle of a larger one of zeros, at least as large as the window, and where it lies there.

    A channel alone is smaller than the image that training saw it in, with nothing around it: a network whose norms see the whole
    window has to see that nothing too.
    """
    more = [0, *(max(0, w - n) for w, n in zip(window, volume.shape[1:], strict=True))]
    pairs = [(m // 2, m - m // 2) for m in more]
    return np.pad(volume, pairs), tuple(slice(b, b + n) for (b, _), n in zip(pairs, volume.shape, strict=True))


def _answer(
    p: Probabilities,
    grid: WorkingGrid,
    model: Model,
    settings: SlabSettings,
    outputs: Sequence[str],
    steps: Sequence[int] | None,
    keep: ImageSequence | None,
    region: Region | None,
) -> Segmentation:
    """Labels and what else is wanted, on the image's own grid."""
    image = grid.image
    axes = tuple(a for a in image.axes if a != "c")
    chosen = (p[1] > settings.threshold).astype(np.uint8) if len(p) == 2 else p.argmax(0).astype(np.uint8)
    labels = _cleaned(np.asarray(grid.back(chosen, labels=True), np.uint8), image, settings)
    labels = _only(labels, image, steps, region, settings.working.axis)
    if keep is not None:
        labels = _kept(labels, keep, image)
    name = f"{image.name}_{model.info.name}"
    named = image.like(labels, axes=axes, name=name, kind="labels", label_names=dict(model.info.classes), modality=None)
    made: dict[str, ImageSequence] = {}
    for kind in ("probability", "uncertainty"):
        if kind in outputs:
            map_ = 1 - p[0] if kind == "probability" else -(p * np.log(np.clip(p, 1e-12, 1))).sum(0) / np.log(len(p))
            own = np.asarray(grid.back(map_.astype(np.float32), labels=False), np.float32)
            made[kind] = image.like(own, axes=axes, name=f"{image.name}_{kind}", kind="image", modality=None)
    return Segmentation(
        named, made.get("probability"), made.get("uncertainty"), f"{model.info.name} {model.info.version}"
    )


def _network(model: Model) -> SlabUNet:
    if not isinstance(model.network, SlabUNet):
        raise ModelError(f"{model.info.name} is no slab network, so it cannot be averaged with one.")
    return model.network


def _settings(model: Model) -> SlabSettings:
    """A model's settings, checked; its schemes must be as many as its channels."""
    _network(model)
    settings = checked(
        SlabSettings, model.inference, where=f"the inference settings of {model.info.name}", error=ModelError
    )
    if len(settings.working.schemes) != len(model.info.channels):
        raise ModelError(
            f"{model.info.name} has {len(model.info.channels)} channels but {len(settings.working.schemes)} schemes."
        )
    return settings


def _channels(images: Images, model: Model, settings: SlabSettings, force: bool) -> list[dict[str, ImageSequence]]:
    """Each exam's channels by name; of those that a model can do without, the ones that are there."""
    names = model.info.channels
    if isinstance(images, Mapping) and settings.missing_channels and len(names) > 1:
        unknown = sorted(set(images) - set(names))
        there = {n: images[n] for n in names if n in images}
        if unknown or not there:
            raise ModelError(
                f"{model.info.name} takes the channels {', '.join(names)}, of which some may be missing, not {unknown}."
            )
        return [there]
    if isinstance(images, ImageSequence) and "c" in images.axes and names == ("red", "green", "blue"):
        return [grey_channels(images)]
    return [dict(zip(names, found, strict=True)) for found in exams(images, model, force=force)]


def _cleaned(labels: NDArray[np.uint8], image: ImageSequence, settings: SlabSettings) -> NDArray[np.uint8]:
    """The labels after what the bundle asks for, in the whole volume; of frames nothing is asked."""
    if "z" not in image.axes or "t" in image.axes:
        return labels
    if settings.smallest_mm3 > 0:
        labels = remove_small_objects(labels, settings.smallest_mm3 / geometry.voxel_volume_mm3(image.affine))
    after = InferenceSettings(keep_largest=settings.keep_largest, fill_holes=settings.fill_holes)
    return postprocess(labels, [image.spacing[a] for a in ("z", "y", "x")], after)


def _only(
    labels: NDArray[np.uint8], image: ImageSequence, steps: Sequence[int] | None, region: Region | None, axis: str
) -> NDArray[np.uint8]:
    """Nothing outside the steps and the region that are wanted."""
    axes = [a for a in image.axes if a != "c"]
    along = "t" if axis == "t" else image.slice_axis
    if steps is not None and along in axes:
        size = labels.shape[axes.index(along)]
        bad = [i for i in steps if not 0 <= i < size]
        if bad:
            raise ModelError(f"{image.name} has steps 0 to {size - 1}, not {bad}.")
        wanted = np.isin(np.arange(size), list(steps))
        labels = labels * wanted.reshape([-1 if a == along else 1 for a in axes])
    for name, (start, stop) in (region or {}).items():
        if name in axes:
            inside = np.zeros(labels.shape[axes.index(name)], np.uint8)
            inside[max(0, start) : stop] = 1
            labels = labels * inside.reshape([-1 if a == name else 1 for a in axes])
    return labels.astype(np.uint8)


def _kept(labels: NDArray[np.uint8], keep: ImageSequence, image: ImageSequence) -> NDArray[np.uint8]:
    if not keep.same_grid(image) or np.shape(keep.data) != labels.shape:
        raise ModelError(f"keep ({keep.name}) is not on the grid of {image.name}; locked labels must be.")
    locked = np.asarray(keep.data)
    return np.where(locked != 0, locked, labels.astype(np.promote_types(locked.dtype, labels.dtype)))
