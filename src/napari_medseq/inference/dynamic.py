"""Volumes over time, segmented frame by frame by models that look at one volume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ModelError
from napari_medseq.inference.inputs.images import Images
from napari_medseq.inference.options import SegmentOptions
from napari_medseq.inference.outputs.prediction import Segmentation
from napari_medseq.memory import zeros
from napari_medseq.models import ModelInfo
from napari_medseq.progress import Progress, part
from napari_medseq.sequence import ImageSequence

#: segments one frame, given as the whole series was
SegmentFrame = Callable[[ImageSequence | Mapping[str, ImageSequence], SegmentOptions, Progress | None], Segmentation]


def series_of(images: Images, info: ModelInfo) -> ImageSequence | None:
    """The image with volumes over time, if the model works on one volume; None if there is none."""
    if info.sequence_axis in ("t", "visit"):
        return None
    several = images.values() if isinstance(images, Mapping) else [images]
    return next((i for i in several if isinstance(i, ImageSequence) and i.is_dynamic), None)


def segment_frames(
    images: ImageSequence | Mapping[str, ImageSequence],
    series: ImageSequence,
    segment_frame: SegmentFrame,
    options: SegmentOptions,
    progress: Progress | None,
) -> Segmentation:
    """Segment each frame by itself.

    Parameters
    ----------
    images : ImageSequence, or mapping of channel to ImageSequence
        A channel without time is the same in each frame.
    series : ImageSequence
        What `series_of` returned.
    segment_frame : callable
    options : SegmentOptions
        Options for the whole series; the region may name frames.
    progress : callable or None

    Raises
    ------
    ModelError
        If what is to be kept is on another grid, or the region leaves no frame.
    """
    count, keep, within = series.size("t"), options.keep, dict(options.region or {})
    first, last = within.pop("t", (0, count))
    if keep is not None and (not keep.same_grid(series) or keep.data.shape != series.data.shape):
        raise ModelError(f"keep ({keep.name}) is not on the grid of {series.name}; locked labels must be.")
    frames = range(count)[max(0, first) : last]
    if not frames:
        raise ModelError(f"region leaves no frame of {series.name}, which has {count}.")

    def at(image: ImageSequence, k: int) -> ImageSequence:
        return image.frame(k) if "t" in image.axes else image

    axes = tuple(a for a in series.axes if a != "c")
    shape = [series.size(a) for a in axes]
    maps: dict[str, NDArray[np.generic]] = {}
    for done, k in enumerate(frames):
        answer = segment_frame(
            {n: at(i, k) for n, i in images.items()} if isinstance(images, Mapping) else at(series, k),
            replace(options, keep=None if keep is None else keep.frame(k), region=within or None),
            part(progress, done / len(frames), (done + 1) / len(frames), f"frame {k + 1}: "),
        )
        for name in dict.fromkeys(("labels", *options.outputs)):
            data = getattr(answer, name).data
            maps.setdefault(name, zeros(shape, data.dtype))[k] = data
    if keep is not None:
        rest = np.isin(np.arange(count), frames, invert=True)
        maps["labels"][rest] = keep.data[rest]

    def whole(frame_map: ImageSequence | None, name: str) -> ImageSequence | None:
        return None if frame_map is None else frame_map.replace(data=maps[name], axes=axes, times=series.times)

    labels = whole(answer.labels, "labels")
    assert labels is not None
    return Segmentation(
        labels, whole(answer.probability, "probability"), whole(answer.uncertainty, "uncertainty"), answer.model
    )
