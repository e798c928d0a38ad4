"""From an image on its own grid to the working volume of a slab network, and labels back again; training uses the same.

A working volume is a (channel, step, row, column) array in nibabel's closest canonical orientation (RAS+), at the spacing that the
plan chose, in the units that its schemes give. Frames stay in the order of time, and their planes stay planes; see `canonical_turn`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_medseq import geometry
from napari_medseq.errors import MedseqError
from napari_medseq.geometry import Affine
from napari_medseq.inference.inputs.slice_steps import THIN
from napari_medseq.models.info import COLOURS
from napari_medseq.sequence import ImageSequence
from napari_medseq.settings import Settings
from napari_medseq.volumes.grid import resample_volume
from napari_medseq.volumes.trimming import placed_back, trimmed

StepAxis = Literal["z", "y", "x", "t"]
PlaneAxis = Literal["step", "row", "column"]
Triple = tuple[int, int, int]
Scalar = TypeVar("Scalar", bound=np.generic)

_RAS = ("R", "A", "S")
#: the apex of the heart lies to the left and to the front of its base; files without true orientation begin at the base
_TO_APEX = ("L", "A", "S")
FARTHEST = 3.0  # largest value of the channel of positions
_SAME = 0.02  # relative difference of spacings under which nothing is resampled


class Scheme(Settings):
    """How the values of a channel become a network's.

    Attributes
    ----------
    kind : {"robust", "fixed"}
        "robust": from each image's own foreground (above its mean): median 0, interquartile range / 1.349 is 1.
        "fixed": the same for every image, as the units mean something (HU, SUV).
    centre, scale : float
        Parameters of "fixed": (value - centre) / scale.
    low, high : float
        Bounds of the result.
    """

    kind: Literal["robust", "fixed"] = "robust"
    centre: float = 0.0
    scale: float = Field(1.0, gt=0)
    low: float = -6.0
    high: float = 12.0

    def of(self, values: NDArray[np.generic], measured: NDArray[np.floating] | None = None) -> NDArray[np.float32]:
        """Values in network units, measured on others where these are given; NaN and −∞ become the lowest, +∞ the highest."""
        finite: NDArray[np.generic] = values if measured is None else measured
        is_finite = np.isfinite(finite)
        if not is_finite.all():
            finite = finite[is_finite]
        if finite.size == 0:
            raise MedseqError("There is no finite voxel; the file may be damaged.")
        del is_finite
        centre, scale = (self.centre, self.scale) if self.kind == "fixed" else _measured(finite)
        out: NDArray[np.float32] = values.astype(np.float32)  # one copy, changed in place: volumes may be large
        out -= np.float32(centre)
        out /= np.float32(scale)
        np.nan_to_num(out, copy=False, nan=self.low, posinf=self.high, neginf=self.low)
        return np.clip(out, self.low, self.high, out=out)


def _measured(finite: NDArray[np.generic]) -> tuple[float, float]:
    """Median and robust spread of what lies above the mean."""
    above = finite[finite > finite.mean()]
    if above.size == 0:  # one value everywhere
        return float(finite.flat[0]), 1.0
    low, middle, high = (float(v) for v in np.percentile(above, (25, 50, 75), overwrite_input=True))
    scale = (high - low) / 1.349
    return middle, scale if scale > 0 else float(finite.std())


class Working(Settings):
    """How an image becomes the working volume of a slab network.

    Attributes
    ----------
    axis : {"z", "y", "x", "t"}
        Along which the steps run: of the canonical orientation, or frames.
    spacing_mm : tuple of (float or None)
        Spacing of step, row and column; None: the image's own.
    schemes : tuple of Scheme
        One per channel.
    focus : tuple of (int or None)
        Working voxels about the image's middle that are looked at, of step, row, column; None: all. What lies outside is background.
    position : (float, float, float) or None
        Adds a channel that tells how far a voxel lies from the image's middle; it is 1 so many working voxels from there along step,
        row and column. For images whose middle says what is meant, such as crops about a lesion.
    own_slices : bool
        The steps are the image's own slices, in whichever direction of the body they were acquired, and `axis` is "z": for stacks
        that follow an organ, such as short-axis slices of the heart, whose slices lie nearest to another axis of the body in each
        patient. They are counted towards the patient's left, front or head; those of a heart towards its apex.
    trimmed : bool
        Borders of one value alone are left out first: padding changes neither units nor the middle.
    step_mm : float or None
        Distance of the slices that the network learned from, where `spacing_mm` keeps the image's own; None: any. Slices less than two
        thirds of it apart are averaged to that distance, as `InferenceSettings.step_mm` says.
    """

    axis: StepAxis = "z"
    spacing_mm: tuple[float | None, float | None, float | None] = (None, None, None)
    schemes: tuple[Scheme, ...] = (Scheme(),)
    focus: tuple[int | None, int | None, int | None] = (None, None, None)
    position: tuple[float, float, float] | None = None
    own_slices: bool = False
    trimmed: bool = False
    step_mm: float | None = Field(None, gt=0)

    @property
    def axes(self) -> tuple[str, str, str]:
        """Names of (step, row, column)."""
        others = [a for a in ("z", "y", "x") if a != self.axis][-2:]
        return self.axis, others[0], others[1]


@dataclass(frozen=True, eq=False)
class WorkingGrid:
    """The grid of a working volume: a canonical grid (x, y, z), and the image that it was made for.

    Attributes
    ----------
    image : ImageSequence
        The image on whose grid answers are given.
    seen : ImageSequence
        The part of it that the working volume shows.
    working, affine, size
        What was wished, and the grid.
    averaged : bool
        Whether its steps are averages of the image's own slices.
    """

    image: ImageSequence
    seen: ImageSequence
    working: Working
    affine: Affine
    size: Triple
    averaged: bool = False

    @classmethod
    def of(cls, image: ImageSequence, working: Working, seen: ImageSequence | None = None) -> WorkingGrid:
        """The grid for an image, or for a part of it that has the same voxels.

        Raises
        ------
        MedseqError
            If the image has frames where a volume is wanted, or the other way round.
        """
        frames = "t" in image.axes
        if frames != (working.axis == "t") or (frames and "z" in image.axes and image.size("z") > 1):
            raise MedseqError(
                f"{image.name} has axes {image.axes}, but steps run along {working.axis}; choose a frame or a slice."
            )
        part = image if seen is None else seen
        turn = canonical_turn(part, own_slices=working.own_slices)
        affine = turn.apply_affine(part.affine, part.grid)
        own = geometry.spacing(affine)
        size = [part.grid[k] for k in turn.order]
        target_spacing = dict(zip(working.axes, working.spacing_mm, strict=True))
        scale, averaged = np.ones(3), False
        for k, name in enumerate("xyz"):
            goal = target_spacing.get(name)
            if goal is None and name == working.axis and part.oriented and working.step_mm is not None:
                averaged = working.step_mm >= THIN * own[k]
                goal = working.step_mm if averaged else None
            if goal is not None and abs(own[k] / goal - 1) > _SAME:
                new = max(1, round(size[k] * own[k] / goal))
                scale[k], size[k] = size[k] / new, new
        affine = _scaled(affine, scale)
        extents = dict(zip(working.axes, working.focus, strict=True))
        first = np.zeros(3)
        for k, name in enumerate("xyz"):
            most = extents.get(name)
            if most is not None and most < size[k]:
                first[k], size[k] = (size[k] - most) // 2, most
        affine[:3, 3] += affine[:3, :3] @ first
        return cls(image, part, working, affine, (size[0], size[1], size[2]), averaged)

    def read(self, seq: ImageSequence, scheme: Scheme) -> NDArray[np.float32]:
        """A channel as (step, row, column) in network units; 0 where it has no voxel."""
        volumes = _volumes(seq)
        if len(volumes) == 1:  # a volume is not copied for being one
            return self._ordered(self._volume(volumes[0], seq, scheme)[None])
        return self._ordered(np.stack([self._volume(v, seq, scheme) for v in volumes]))

    def read_labels(self, labels: ImageSequence) -> NDArray[np.generic]:
        """Labels as (step, row, column); 0 where they have no voxel."""
        planes = []
        for volume in _volumes(labels):
            if self._same_voxels(labels):
                planes.append(self._canonical(volume, labels))
            else:
                planes.append(resample_volume(volume, labels.affine, self.affine, self.size, interpolation="label"))
        return self._ordered(planes[0][None] if len(planes) == 1 else np.stack(planes))

    def back(self, array: NDArray[np.generic], *, labels: bool) -> NDArray[np.generic]:
        """An array (step, row, column) on the image's own grid, in the order of its axes."""
        names = list(self.working.axes)
        order = [names.index(a) for a in ("t", "z", "y", "x") if a in names]
        volumes = array.transpose(order)
        volumes = volumes[:, None] if self.working.axis == "t" else volumes[None]
        image, turned = self.seen, []
        turn = self._turn(image)
        for volume in volumes:
            if self._same_voxels(image):
                turned.append(np.ascontiguousarray(turn.inverse.apply_zyx(volume)))
            else:
                how: Literal["label", "linear"] = "label" if labels else "linear"
                turned.append(resample_volume(volume, self.affine, image.affine, image.grid, interpolation=how))
        out = np.stack(turned)
        axes = [a for a in image.axes if a != "c"]
        for at, name in ((1, "z"), (0, "t")):
            if name not in axes:
                out = out.take(0, axis=at)
        return placed_back(out, image, self.image)

    def _volume(self, volume: NDArray[np.generic], seq: ImageSequence, scheme: Scheme) -> NDArray[np.float32]:
        if self._same_voxels(seq):
            return self._canonical(scheme.of(volume), seq)
        values = scheme.of(volume, self._in_focus(volume, seq) if scheme.kind == "robust" else None)
        return resample_volume(values, seq.affine, self.affine, self.size, antialias=True).astype(np.float32)

    def _in_focus(self, volume: NDArray[np.generic], seq: ImageSequence) -> NDArray[np.float32] | None:
        """The part of an image from which intensity units are estimated, if only its centre is used."""
        if self.working.focus == (None, None, None):
            return None
        resampled = resample_volume(
            volume.astype(np.float32), seq.affine, self.affine, self.size, antialias=True, fill=np.nan
        )
        values: NDArray[np.float32] = resampled.astype(np.float32)
        return values if np.isfinite(values).any() else None

    def _same_voxels(self, seq: ImageSequence) -> bool:
        turn = self._turn(seq)
        size = tuple(seq.grid[k] for k in turn.order)
        return size == self.size and np.allclose(turn.apply_affine(seq.affine, seq.grid), self.affine, atol=1e-2)

    def _turn(self, seq: ImageSequence) -> geometry.Reorientation:
        return canonical_turn(seq, own_slices=self.working.own_slices)

    def _canonical(self, volume: NDArray[Scalar], seq: ImageSequence) -> NDArray[Scalar]:
        return np.ascontiguousarray(self._turn(seq).apply_zyx(volume), dtype=volume.dtype)

    def _ordered(self, frames: NDArray[Scalar]) -> NDArray[Scalar]:
        """(t, z, y, x) to (step, row, column)."""
        if self.working.axis == "t":
            return np.ascontiguousarray(frames[:, 0])
        names = ("z", "y", "x")
        return np.ascontiguousarray(frames[0].transpose([names.index(a) for a in self.working.axes]))


def canonical_turn(seq: ImageSequence, *, own_slices: bool = False) -> geometry.Reorientation:
    """The reorientation of a sequence to the axes of working volumes.

    Volumes are turned to RAS+. Frames are planes: whichever way a plane lies, its own two axes become x and y, in the order of R, A
    and S, and the direction across it becomes z. With `own_slices` the slices of a volume are planes too.
    """
    if "t" in seq.axes:
        stacked = "z"
    elif own_slices:
        stacked = seq.slice_axis
    else:
        return geometry.to_codes(seq.affine, _RAS)
    across = geometry.closest_axes(seq.affine)["xyz".index(stacked)][0]
    first, second = (code for world, code in enumerate(_RAS) if world != across)
    return geometry.to_codes(seq.affine, (first, second, (_TO_APEX if own_slices else _RAS)[across]))


def _scaled(affine: Affine, scale: NDArray[np.float64]) -> Affine:
    """The grid whose voxels are larger by `scale` along (x, y, z), with the same outer borders."""
    out = affine.copy()
    out[:3, :3] = affine[:3, :3] * scale
    out[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((scale - 1) / 2)
    return out


def _volumes(seq: ImageSequence) -> NDArray[np.generic]:
    """(t, z, y, x)."""
    data = np.asarray(seq.data)
    if "z" not in seq.axes:
        data = np.expand_dims(data, seq.axes.index("y"))
    return data if "t" in seq.axes else data[None]


def grey_channels(seq: ImageSequence) -> dict[str, ImageSequence]:
    """A colour image as its three colours; another as it is, called "image"."""
    if "c" not in seq.axes:
        return {"image": seq}
    axes = tuple(a for a in seq.axes if a != "c")
    return {k: seq.like(np.asarray(seq.data)[..., i], axes=axes, name=seq.name) for i, k in enumerate(COLOURS)}


def stacked_channels(seq: ImageSequence, names: Sequence[str]) -> dict[str, ImageSequence]:
    """The channels of an image whose fourth axis holds them (as the Medical Segmentation Decathlon has them), not frames; empty for
    an image of another kind."""
    if len(names) < 2 or "t" not in seq.axes or "c" in seq.axes or seq.size("t") != len(names):
        return {}
    return {name: seq.frame(k) for k, name in enumerate(names)}


def working_volume(
    channels: Mapping[str, ImageSequence], names: Sequence[str], working: Working
) -> tuple[NDArray[np.float32], WorkingGrid]:
    """The working volume (channel, step, row, column), on the grid of the first channel present; the others are
    resampled to it.

    A channel that is missing is 0 throughout, which is what a network that knows of it was trained with.
    """
    seen = {n: trimmed(c) if working.trimmed else c for n, c in channels.items()}
    first = next(n for n in names if n in channels)
    grid = WorkingGrid.of(channels[first], working, seen[first])
    steps = [grid.read(seen[n], s) if n in channels else None for n, s in zip(names, working.schemes, strict=True)]
    any_plane = next(s for s in steps if s is not None)
    planes = [np.zeros_like(any_plane) if s is None else s for s in steps]
    if working.position is not None:
        planes.append(distance_from_middle(any_plane.shape, working.position))
    return planes[0][None] if len(planes) == 1 else np.stack(planes), grid


def distance_from_middle(shape: Sequence[int], unit: Sequence[float]) -> NDArray[np.float32]:
    """The channel of `Working.position`, at most `FARTHEST`."""
    parts = [(np.arange(n, dtype=np.float32) - (n - 1) / 2) / u for n, u in zip(shape, unit, strict=True)]
    squares = parts[0][:, None, None] ** 2 + parts[1][:, None] ** 2 + parts[2] ** 2
    far: NDArray[np.float32] = np.minimum(np.sqrt(squares), FARTHEST).astype(np.float32)
    return far
