"""`segment` for slab networks: an image becomes a working volume, windows of it go through the network, labels come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.errors import ModelError
from napari_medseq.inference.inputs.frame import Region
from napari_medseq.inference.inputs.images import Images, exams
from napari_medseq.inference.inputs.working import Triple, WorkingGrid, grey_channels, working_volume
from napari_medseq.inference.options import SegmentOptions
from napari_medseq.inference.outputs.ensemble import model_names
from napari_medseq.inference.outputs.finite import check_finite
from napari_medseq.inference.outputs.postprocessing import postprocess
from napari_medseq.inference.outputs.prediction import Segmentation, remove_small_objects, with_warnings
from napari_medseq.inference.resources import devices
from napari_medseq.inference.settings import InferenceSettings
from napari_medseq.inference.slabs.answer import Plane, Planes
from napari_medseq.inference.slabs.windows import SlabSettings, probabilities_of_steps, starts
from napari_medseq.memory import warn_if_short
from napari_medseq.models import Model
from napari_medseq.models.slab_unet import SlabUNet
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.sequence import ImageSequence
from napari_medseq.settings import checked


def is_slab(model: Model) -> bool:
    """Whether a model is a slab network that works on working volumes."""
    return isinstance(model.network, SlabUNet) and model.inference.get("kind") == "slab"


def refuse_slab(model: Model, verb: str, instead: str) -> None:
    """Refuse a slab network in a verb for networks that go step by step; `instead` says what there is.

    Raises
    ------
    ModelError
    """
    if is_slab(model):
        raise ModelError(
            f"{model.info.name} is a slab network, which looks at many steps at once: {verb} does not know it. {instead}"
        )


def segment_slabs(
    images: Images,
    models: Sequence[Model],
    *,
    options: SegmentOptions,
    device: torch.device,
    force: bool,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> list[Segmentation]:
    """The results of `segment` for slab networks, whose probabilities are averaged, one per exam; see there for the
    parameters.

    Raises
    ------
    ModelError
        If the images do not fit the models, or these not each other.
    DeviceError
        If the memory of the computer itself does not suffice.
    """
    settings = [slab_settings(m) for m in models]
    first, first_settings = models[0], settings[0]
    for other, two in zip(models[1:], settings[1:], strict=True):
        compatible = two.working == first_settings.working and (other.info.channels, other.info.classes) == (
            first.info.channels,
            first.info.classes,
        )
        if not compatible:
            raise ModelError(
                f"{other.info.name} cannot be averaged with {first.info.name}: channels, classes or spacing differ."
            )
    answers = []
    for channels in slab_channels(images, first, first_settings, force):

        def run(where: torch.device, _: int | None, channels: Mapping[str, ImageSequence] = channels) -> Segmentation:
            return _of_volume(channels, models, settings, where, options, progress, cancelled)

        name = next(iter(channels.values())).name
        answer, notes = devices.within_memory(run, device, 1, name)  # windows have one size: with less memory the CPU
        answers.append(with_warnings(answer, notes))
    return answers


def _of_volume(
    channels: Mapping[str, ImageSequence],
    models: Sequence[Model],
    settings: Sequence[SlabSettings],
    device: torch.device,
    options: SegmentOptions,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> Segmentation:
    """A volume, a picture, or frames as steps."""
    first, first_settings = models[0], settings[0]
    volume, grid = working_volume(channels, first.info.channels, first_settings.working)
    inner = tuple(slice(0, n) for n in volume.shape)
    if len(channels) < len(first.info.channels):
        volume, inner = within_nothing(volume, first_settings.window)
    held = sum(_held(m, own, volume.shape) for m, own in zip(models, settings, strict=True))
    warn_if_short(held + 2 * volume[0].size, grid.image.name)
    streams = [
        probabilities_of_steps(
            slab_network(m),
            volume,
            own,
            device,
            progress if k == 0 else None,
            cancelled,
            f"segmenting {grid.image.name}",
        )
        for k, (m, own) in enumerate(zip(models, settings, strict=True))
    ]
    of_one_piece = first_settings.keep_largest and _is_cleaned(grid.image)
    made = Planes.of(options.outputs, [i.stop - i.start for i in inner[1:]], certain=of_one_piece)
    for step, of_models in enumerate(zip(*streams, strict=True)):
        p = sum(of_models[1:], of_models[0]) / len(of_models)
        check_finite(p, first, f"step {step + 1} of {grid.image.name}")
        if inner[1].start <= step < inner[1].stop:
            made.add(step - inner[1].start, p[:, inner[2], inner[3]], first_settings.threshold)
    if of_one_piece:
        made.keep_surest()
    answer = _answer(made, grid, models, first_settings, options)
    if first_settings.doubt is None:
        return answer
    labelled = int(np.count_nonzero(made.labels))
    notes = first_settings.doubt.notes(made.wrong, labelled, grid.seen, model_names(models), averaged=grid.averaged)
    return with_warnings(answer, notes)


def _held(model: Model, settings: SlabSettings, shape: Sequence[int]) -> int:
    """Bytes of the probabilities that are held at once."""
    _, steps, rows, columns = shape
    _, long = starts(steps, settings.window[0])
    return 4 * slab_network(model).classes * long * rows * columns


def within_nothing(volume: Plane, window: Triple) -> tuple[Plane, tuple[slice, ...]]:
    """A volume in the middle of a larger one of zeros, at least as large as the window, and where it lies there.

    A channel alone is smaller than the image that training saw it in, with nothing around it: a network whose norms see the whole
    window has to see that nothing too.
    """
    missing = [0, *(max(0, w - n) for w, n in zip(window, volume.shape[1:], strict=True))]
    pairs = [(m // 2, m - m // 2) for m in missing]
    return np.pad(volume, pairs), tuple(slice(b, b + n) for (b, _), n in zip(pairs, volume.shape, strict=True))


def _answer(
    planes: Planes,
    grid: WorkingGrid,
    models: Sequence[Model],
    settings: SlabSettings,
    options: SegmentOptions,
) -> Segmentation:
    """Labels, and the maps that are asked for, on the image's own grid."""
    model, image = models[0], grid.image
    axes = tuple(a for a in image.axes if a != "c")
    labels = _cleaned(np.asarray(grid.back(planes.labels, labels=True), np.uint8), image, settings)
    labels = _only(labels, image, options.steps, options.region, settings.working.axis)
    name = f"{image.name}_{model.info.name}"
    named = image.like(labels, axes=axes, name=name, kind="labels", label_names=dict(model.info.classes), modality=None)
    maps: dict[str, ImageSequence] = {}
    for kind, map_ in planes.maps.items():
        own = np.asarray(grid.back(map_, labels=False), np.float32)
        maps[kind] = image.like(own, axes=axes, name=f"{image.name}_{kind}", kind="image", modality=None)
    answer = Segmentation(named, maps.get("probability"), maps.get("uncertainty"), model_names(models))
    return answer.keeping(options.keep)


def slab_network(model: Model) -> SlabUNet:
    """A model's network, which must be a slab network."""
    if not isinstance(model.network, SlabUNet):
        raise ModelError(f"{model.info.name} is not a slab network, so it cannot be averaged with one.")
    return model.network


def slab_settings(model: Model) -> SlabSettings:
    """A model's settings, checked; its schemes must be as many as its channels."""
    slab_network(model)
    settings = checked(
        SlabSettings, model.inference, where=f"the inference settings of {model.info.name}", error=ModelError
    )
    if len(settings.working.schemes) != len(model.info.channels):
        raise ModelError(
            f"{model.info.name} has {len(model.info.channels)} channels but {len(settings.working.schemes)} schemes."
        )
    return settings


def slab_channels(images: Images, model: Model, settings: SlabSettings, force: bool) -> list[dict[str, ImageSequence]]:
    """Each exam's channels by name; of those that a model can do without, the ones that are there."""
    names = model.info.channels
    if isinstance(images, Mapping) and settings.missing_channels and len(names) > 1:
        unknown = sorted(set(images) - set(names))
        present = {n: images[n] for n in names if n in images}
        if unknown or not present:
            raise ModelError(
                f"{model.info.name} takes the channels {', '.join(names)}, of which some may be missing, not {unknown}."
            )
        return [present]
    if isinstance(images, ImageSequence) and "c" in images.axes and names == ("red", "green", "blue"):
        return [grey_channels(images)]
    return [dict(zip(names, exam, strict=True)) for exam in exams(images, model, force=force)]


def _is_cleaned(image: ImageSequence) -> bool:
    """Whether labels of an image are post-processed."""
    return "z" in image.axes and "t" not in image.axes


def _cleaned(labels: NDArray[np.uint8], image: ImageSequence, settings: SlabSettings) -> NDArray[np.uint8]:
    """The labels after post-processing in the whole volume; frames are not post-processed."""
    if not _is_cleaned(image):
        return labels
    if settings.min_volume_mm3 > 0:
        labels = remove_small_objects(labels, settings.min_volume_mm3 / geometry.voxel_volume_mm3(image.affine))
    after = InferenceSettings(keep_largest=settings.keep_largest, fill_holes=settings.fill_holes)
    return postprocess(labels, [image.spacing[a] for a in ("z", "y", "x")], after)


def _only(
    labels: NDArray[np.uint8], image: ImageSequence, steps: Sequence[int] | None, region: Region | None, axis: str
) -> NDArray[np.uint8]:
    """Labels restricted to the steps and the region that were asked for."""
    axes = [a for a in image.axes if a != "c"]
    along = "t" if axis == "t" else image.slice_axis
    if steps is not None and along in axes:
        size = labels.shape[axes.index(along)]
        bad = [i for i in steps if not 0 <= i < size]
        if bad:
            raise ModelError(f"{image.name} has steps 0 to {size - 1}, not {bad}.")
        is_asked = np.isin(np.arange(size), list(steps))
        labels = labels * is_asked.reshape([-1 if a == along else 1 for a in axes])
    for name, (start, stop) in (region or {}).items():
        if name in axes:
            inside = np.zeros(labels.shape[axes.index(name)], np.uint8)
            inside[max(0, start) : stop] = 1
            labels = labels * inside.reshape([-1 if a == name else 1 for a in axes])
    return labels.astype(np.uint8)
