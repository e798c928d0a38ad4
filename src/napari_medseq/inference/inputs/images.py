"""The `images` argument of all verbs, brought to one form: a list of exams, each with one image per channel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_medseq import memory
from napari_medseq.errors import ModelError, warn
from napari_medseq.inference.inputs.working import grey_channels
from napari_medseq.models import Model, why_unsuitable
from napari_medseq.models.choosing import choose_image
from napari_medseq.models.info import COLOURS, takes_colours
from napari_medseq.sequence import ImageSequence, Visit, kind_of, way_out
from napari_medseq.unread import UnreadVoxels
from napari_medseq.wording import how_many

Number = TypeVar("Number", bound=np.generic)
Images = ImageSequence | Mapping[str, ImageSequence] | Sequence[Visit]


def exams(images: Images, model: Model, *, force: bool = False) -> list[list[ImageSequence]]:
    """The images as exams, each a list with one image per channel.

    Parameters
    ----------
    images : ImageSequence, mapping of channel to ImageSequence, or sequence of Visit
        For each visit the image that `choosing` picks: by the model's name patterns, or its only one that fits.
    model : Model
    force : bool
        Use an image of another modality all the same.

    Raises
    ------
    ModelError
        If the number of channels, a channel's name or the modality does not fit, or a visit leaves a choice.
    """
    if isinstance(images, ImageSequence):
        exam_list = [_of_one(images, model)]
    elif isinstance(images, Mapping):
        exam_list = [_by_channel(images, model)]
    elif isinstance(images, Sequence) and images and all(isinstance(v, Visit) for v in images):
        exam_list = [_channels(choose_image(v.images, model.info, where=v.name, force=force)) for v in images]
    else:
        raise ModelError(
            f"images is {kind_of(images)}; give an ImageSequence, a mapping of channel to ImageSequence, or a list of Visits"
            f"{way_out(images)}."
        )
    for channels in exam_list:
        if len(channels) != len(model.info.channels):
            raise ModelError(
                f"{model.info.name} needs {how_many(len(model.info.channels), 'channel')} ({', '.join(model.info.channels)}), "
                f"not {len(channels)}; give a mapping of channel name to image."
            )
        for seq in channels:
            _fits(seq, model, force)
    return exam_list


def _of_one(image: ImageSequence, model: Model) -> list[ImageSequence]:
    """One image as the channels of a model: for one of colours its colours, which in a grey picture are alike."""
    if not takes_colours(model.info) or ("c" not in image.axes and image.oriented):
        return [image]
    colours = grey_channels(image)
    return [colours.get(name, image) for name in COLOURS]


def to_image_axes(array: NDArray[Number], axes: Sequence[str], image: ImageSequence) -> NDArray[Number]:
    """An array whose axes are named by `axes` in the order of the image's own; an axis without a name is dropped."""
    whole: NDArray[Number] = array[tuple(slice(None) if a else 0 for a in axes)]
    named = [a for a in axes if a]
    turned = whole.transpose([named.index(a) for a in image.axes])
    if turned.flags.c_contiguous:
        return turned
    out = memory.zeros(turned.shape, turned.dtype)
    for number, block in enumerate(turned):
        out[number] = block
    return out


def at_hand(image: ImageSequence) -> ImageSequence:
    """A series of volumes whose slices, along its slice axis, can be read one by one, as often as is wished.

    In memory, or, where it is large, in its own file if each slice lies there for itself; else in a temporary file, for which each
    frame is read once.
    """
    if isinstance(image.data, np.ndarray):
        return image
    size = math.prod(image.data.shape) * int(image.data.dtype.itemsize)
    if not memory.is_large(size):
        return image.compute()
    across = image.axis(image.slice_axis)
    volume = image.data[tuple(0 if k in (0, across) else slice(None) for k in range(image.data.ndim))]
    if isinstance(volume, UnreadVoxels) and volume.is_one_step:
        return image
    shape = list(image.data.shape)
    shape.insert(1, shape.pop(across))  # a slice in one piece
    voxels = np.moveaxis(memory.zeros(shape, image.data.dtype), 1, across)
    for number in range(len(voxels)):
        frame = image.data[number]
        # by planes, without dask, whose graphs hold blocks until the collector runs
        if isinstance(frame, UnreadVoxels):
            for at in range(len(frame)):
                voxels[number, at] = np.asarray(frame[at])
        else:
            voxels[number] = np.asarray(frame)
    return image.replace(data=voxels)


def _fits(seq: ImageSequence, model: Model, force: bool) -> None:
    reason = why_unsuitable(model.info, seq)
    if reason is None and seq.is_dynamic and model.info.sequence_axis != "t":
        reason = f"{seq.name} has a time axis, which {model.info.name} does not take here: choose a frame"
    if reason and not (
        force
        and seq.modality
        and model.info.modality
        and why_unsuitable(model.info, seq.replace(modality=None)) is None
    ):
        raise ModelError(
            f"{reason}. Choose another image or model" + (", or pass force=True." if seq.modality else ".")
        )
    if model.info.modality and seq.modality is None:
        text = (
            f"{seq.name}: the file does not say its modality; {model.info.name} was trained on {model.info.modality}."
        )
        warn(text)


def _by_channel(images: Mapping[str, ImageSequence], model: Model) -> list[ImageSequence]:
    missing = [c for c in model.info.channels if c not in images]
    if missing:
        raise ModelError(
            f"{model.info.name} needs {how_many(len(missing), 'more channel')} ({', '.join(missing)}), but the images are named "
            f"{', '.join(images)}."
        )
    return [images[c] for c in model.info.channels]


def _channels(chosen: ImageSequence | Mapping[str, ImageSequence]) -> list[ImageSequence]:
    return [chosen] if isinstance(chosen, ImageSequence) else list(chosen.values())
