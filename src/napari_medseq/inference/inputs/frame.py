"""Framing: how an image on its own grid becomes the steps of a network, and how labels return to that grid.

The network takes (step, channel, y, x) at a fixed pixel size, cropped to the foreground, in robust units; the user
needs labels on the grid of the input. A `Framing` holds what both directions need.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_medseq.errors import MedseqError
from napari_medseq.inference.inputs.intensity import Intensity, measure
from napari_medseq.sequence import ImageSequence, check_same_grid

#: axis name → (start, stop) in voxels
Region = Mapping[str, tuple[int, int]]

_MARGIN = 4  # pixels around the foreground
#: share of a row's or column's pixels that must be brighter than the median of the foreground less its spread, for it to be kept;
#: a quarter of the share up to which no expert mask of 94 real images lost a voxel (benchmarks/foreground.py)
_FOREGROUND_SHARE = 0.04
_SAME_PIXEL = 0.02  # relative difference of pixel sizes under which nothing is resampled


def step_axes(seq: ImageSequence, along: str) -> tuple[str, str, str]:
    """Names of the (step, row, column) axes when `seq` is walked `along` "z", "t" or "slices" (its own slice axis).

    Raises
    ------
    MedseqError
        If the sequence has an axis that the walk leaves over, or lacks the one it needs.
    """
    if along == "visit":
        raise MedseqError(f"{seq.name} is one visit, but this model walks along a patient's visits.")
    step = seq.slice_axis if along == "slices" else along
    across = across_axis(seq, along)
    others = [a for a in ("z", "y", "x") if a not in (step, across) and (a in seq.axes)]
    if step == "z" and "z" not in seq.axes:
        step = ""  # a 2D image is a sequence of one step
    elif step not in seq.axes:
        raise MedseqError(f"{seq.name} has axes {seq.axes}, but this model walks along {step!r}.")
    remaining = set(seq.axes) - {step, across, *others[-2:]}
    if len(others) != 2 or remaining:
        raise MedseqError(
            f"{seq.name} has axes {seq.axes}; a model along {along!r} takes one volume. Choose one frame or convert to grey."
        )
    return step, others[0], others[1]


def across_axis(seq: ImageSequence, along: str) -> str:
    """The axis whose positions are sequences of their own: the slices of frames, where these are volumes; else ""."""
    return seq.slice_axis if along == "t" and "z" in seq.axes else ""


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How one image's slices, or the slices of its frames, become network steps.

    Attributes
    ----------
    axes : (step, row, column) axis names.
    steps : number of steps.
    size : rows and columns of the image.
    crop : (row, row end, column, column end) of the foreground in image pixels.
    inner : rows and columns of the crop at the network's pixel size.
    padded : the same, made a multiple of the network's stride, and no smaller than what it learned from.
    intensity : one per channel.
    outside : steps left out before and after; the others are counted from 0.
    across : name of the axis whose positions are sequences of their own, or "".
    span : first and last but one of these positions that are looked at.
    thick : positions of the image along `across`.
    deep : positions that a network for volumes sees, a multiple of its stride; the last one repeats.
    each : intensities per step and channel, where each step is a scan of its own.
    times : where (mm) or when (s, days) each step is; None where unknown.
    edges : whether the padding repeats the edges, as in windows of a training; otherwise it is dark.
    """

    axes: tuple[str, str, str]
    steps: int
    size: tuple[int, int]
    crop: tuple[int, int, int, int]
    inner: tuple[int, int]
    padded: tuple[int, int]
    intensity: tuple[Intensity, ...]
    outside: tuple[int, int] = (0, 0)
    across: str = ""
    span: tuple[int, int] = (0, 1)
    thick: int = 1
    deep: int = 1
    each: tuple[tuple[Intensity, ...], ...] | None = None
    times: tuple[float, ...] | None = None
    edges: bool = False

    @property
    def positions(self) -> range:
        """The positions along `across` that are processed."""
        return range(*self.span)

    @property
    def whole(self) -> tuple[int, int, int]:
        """Steps, rows and columns of the image."""
        return (self.outside[0] + self.steps + self.outside[1], *self.size)

    def read(self, channels: Sequence[ImageSequence], index: int, position: int = 0) -> Tensor:
        """One step (channel, y, x) at one position, in robust units at the network's size."""
        r0, r1, c0, c1 = self.crop
        at = self.outside[0] + index
        planes = []
        for seq, stats in zip(channels, self.each[at] if self.each is not None else self.intensity, strict=True):
            plane = take(seq, self.axes, at, self.across, position)[r0:r1, c0:c1]
            planes.append(torch.from_numpy(stats.normalise(plane)))
        x = torch.stack(planes)
        if tuple(x.shape[-2:]) != self.inner:
            x = functional.interpolate(x[None], size=self.inner, mode="bilinear", antialias=True)[0]
        pad = (0, self.padded[1] - self.inner[1], 0, self.padded[0] - self.inner[0])
        if not any(pad):
            return x
        return functional.pad(x, pad, "replicate") if self.edges else functional.pad(x, pad, value=float(x.min()))

    def read_volume(self, channels: Sequence[ImageSequence], index: int) -> Tensor:
        """One step (channel, z, y, x) whole, as `read` gives its positions."""
        first, stop = self.span
        planes = [self.read(channels, index, p) for p in self.positions]
        return torch.stack([planes[min(k, stop - first - 1)] for k in range(self.deep)], 1)

    def uncrop(self, plane: Tensor, *, labels: bool) -> NDArray[np.generic]:
        """A network plane (y, x) back to the image's rows and columns: nearest for labels, linear else; 0 outside."""
        r0, r1, c0, c1 = self.crop
        inner = plane[: self.inner[0], : self.inner[1]]
        if tuple(inner.shape) != (r1 - r0, c1 - c0):
            mode = "nearest-exact" if labels else "bilinear"
            inner = functional.interpolate(inner[None, None].float(), size=(r1 - r0, c1 - c0), mode=mode)[0, 0]
        out = np.zeros(self.size, dtype=np.uint8 if labels else np.float32)
        out[r0:r1, c0:c1] = inner.numpy()
        return out


def take(
    seq: ImageSequence, axes: tuple[str, str, str], index: int, across: str = "", position: int = 0
) -> NDArray[np.generic]:
    """One step of `seq` as a numpy (row, column) plane, at one position across; reads only that of a lazy sequence."""
    step, row, column = axes
    places = {step: index, across: position}
    plane = np.asarray(seq.data[tuple(places.get(a, slice(None)) for a in seq.axes)])
    return plane if seq.axes.index(row) < seq.axes.index(column) else plane.T


def _planes(seq: ImageSequence, axes: tuple[str, str, str], across: str) -> Iterator[NDArray[np.generic]]:
    sizes = [seq.size(a) if a else 1 for a in (axes[0], across)]
    return (take(seq, axes, i, across, p) for i in range(sizes[0]) for p in range(sizes[1]))


def frame(
    channels: Sequence[ImageSequence],
    *,
    along: str,
    pixel_mm: float | None,
    stride: int,
    region: Region | None = None,
    each: Sequence[Sequence[Intensity]] | None = None,
    times: Sequence[float] | None = None,
    least: tuple[int, int] | None = None,
) -> Framing:
    """Measure the channels in a streamed pass and decide how their slices become network steps.

    Along "t" the slices of frames that are volumes are sequences of their own, each along its slice axis.

    Parameters
    ----------
    channels : sequence of ImageSequence
        One per input channel, all on one grid.
    along : {"slices", "z", "t"}
    pixel_mm : float or None
        The network's pixel size in mm; None keeps the image's own pixels.
    stride : int
        Rows and columns are padded to a multiple of this.
    region : mapping of axis name to (start, stop), optional
        Voxels to which steps, rows and columns are confined, rounded out to the network's cells; the intensities are measured
        on the whole image all the same.
    each : sequence of sequence of Intensity, optional
        Per step and channel, measured already, where each step is a scan of its own: visits as the frames of one image.
    times : sequence of float, optional
        Times of the steps, if they are not the image's own.
    least : (int, int), optional
        The least rows and columns that the network sees: edges are repeated up to that size. For a network whose answer for the whole image
        depends on how much of it is background, and that learned from windows of this size.

    Raises
    ------
    MedseqError
        If the channels are not on one grid, an image is empty or constant, or the axes do not fit.
    """
    first = channels[0]
    check_same_grid(first, *channels[1:])
    axes, across = step_axes(first, along), across_axis(first, along)
    steps = first.size(axes[0]) if axes[0] else 1
    thick = first.size(across) if across else 1
    stats = () if each is not None else tuple(measure(_planes(c, axes, across), c.name) for c in channels)
    of_step = [stats[0]] * steps if each is None else [own[0] for own in each]
    crop = _foreground(first, axes, across, of_step)
    outside, span = (0, 0), (0, thick)
    if region is not None:
        crop = _crop_to_region(crop, first, axes, region, stride)
        begin, end = _within((0, steps), region.get(axes[0]), steps)
        outside, steps = (begin, steps - end), end - begin
        span = _within(span, region.get(across), thick)
    inner = network_size(crop, first, axes, pixel_mm)
    rows, columns = (max(pair) for pair in zip(inner, least or (0, 0), strict=True))
    if times is None and each is None:
        times = _own_times(first, axes[0])
    return Framing(
        axes=axes,
        steps=steps,
        size=(first.size(axes[1]), first.size(axes[2])),
        crop=crop,
        inner=inner,
        padded=(max(2, -(-rows // stride)) * stride, max(2, -(-columns // stride)) * stride),
        intensity=stats,
        outside=outside,
        across=across,
        span=span,
        thick=thick,
        deep=-(-(span[1] - span[0]) // stride) * stride,
        each=None if each is None else tuple(tuple(e) for e in each),
        times=None if times is None else tuple(float(t) for t in times[outside[0] : outside[0] + steps]),
        edges=least is not None,
    )


def _foreground(
    image: ImageSequence, axes: tuple[str, str, str], across: str, intensity: Sequence[Intensity]
) -> tuple[int, int, int, int]:
    """Rows and columns (row, row end, column, column end) that hold the foreground of any step, with a margin.

    A row of the head holds many bright pixels; ghosts and noise outside it few, and these do not move the crop.
    """
    size = (image.size(axes[1]), image.size(axes[2]))
    thick = image.size(across) if across else 1
    rows, columns = np.zeros(size[0], bool), np.zeros(size[1], bool)
    for number, plane in enumerate(_planes(image, axes, across)):
        own = intensity[number // thick]
        inside = np.asarray(plane, np.float32) > own.centre - own.scale
        rows |= inside.sum(1) > _FOREGROUND_SHARE * size[1]
        columns |= inside.sum(0) > _FOREGROUND_SHARE * size[0]
    return (*_span(rows), *_span(columns))


def _crop_to_region(
    crop: tuple[int, int, int, int],
    image: ImageSequence,
    axes: tuple[str, str, str],
    region: Region,
    stride: int,
) -> tuple[int, int, int, int]:
    """The part of a crop that lies in a region, rounded outwards, so that the network's cells lie as they do on the whole image."""
    ends: list[int] = []
    for axis, span in ((axes[1], crop[0:2]), (axes[2], crop[2:4])):
        start, stop = _within(span, region.get(axis), image.size(axis))
        ends += [max(0, span[0] + (start - span[0]) // stride * stride), stop]
    return ends[0], ends[1], ends[2], ends[3]


def network_size(
    crop: tuple[int, int, int, int], image: ImageSequence, axes: tuple[str, str, str], pixel_mm: float | None
) -> tuple[int, int]:
    """Rows and columns of a crop at the network's pixel size; nothing is resampled where the pixels are nearly of that size."""
    rows, columns = crop[1] - crop[0], crop[3] - crop[2]
    own = [image.spacing[a] for a in axes[1:]]
    if pixel_mm is None or all(abs(s / pixel_mm - 1) <= _SAME_PIXEL for s in own):
        return rows, columns
    return max(1, round(rows * own[0] / pixel_mm)), max(1, round(columns * own[1] / pixel_mm))


def _own_times(seq: ImageSequence, step: str) -> Sequence[float]:
    """Seconds of the frames, or millimetres of the slices."""
    if step == "t":
        assert seq.times is not None
        return [float(t) for t in seq.times]
    return [i * seq.spacing[step] for i in range(seq.size(step))] if step else [0.0]


def _within(span: tuple[int, int], span_wanted: tuple[int, int] | None, size: int) -> tuple[int, int]:
    """The part of a span that is wanted; what is wanted, where they do not meet."""
    if span_wanted is None:
        return span
    start, stop = max(0, span_wanted[0]), min(size, span_wanted[1])
    if stop <= start:
        raise MedseqError(
            f"The region {span_wanted} holds no voxel of an axis of {size}; give (start, stop) on the image's grid."
        )
    inner = max(span[0], start), min(span[1], stop)
    return inner if inner[0] < inner[1] else (start, stop)


def _span(used: NDArray[np.bool_]) -> tuple[int, int]:
    at = np.flatnonzero(used)
    if at.size == 0:
        return 0, used.size
    return max(0, int(at[0]) - _MARGIN), min(used.size, int(at[-1]) + 1 + _MARGIN)
