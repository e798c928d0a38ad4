"""The fingerprint of a data set: the measured facts from which `plan` decides how to train on it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.inference.inputs.working import canonical_turn
from napari_medseq.sequence import SPACE, ImageSequence
from napari_medseq.settings import Settings
from napari_medseq.training.automatic.kind import Kind, KindMeasuring
from napari_medseq.volumes.labelled import Box, grown, value_boxes, value_counts
from napari_medseq.volumes.part import part_of
from napari_medseq.volumes.sampling import spread
from napari_medseq.volumes.trimming import inner_box

Three = tuple[float, float, float]
Scalar = TypeVar("Scalar", bound=np.generic)

#: slices lie so many times as far apart as pixels, at least, where they are what was acquired
THICKER = 1.3

_SAMPLE = 4000  # values of the foreground kept per case and channel
_MOST, _MANY = 98, 90  # per cent of the cases
_PIECE_CASES, _APART = 95, 0.005  # per cent of the cases; share of a class's voxels outside its largest piece
_BEYOND, _ONE_SIDE = 0.05, 0.9  # share of a class's voxels beyond the middle; mean side over the cases
_FEW = 5  # fewer cases do not represent all others
_OBJECTS = 8  # from this many numbers in a case on they are objects rather than classes
# a CT holds air; other scans hold no such values, but a mark where there is nothing (-3.4e38)
_HU_AIR, _HU_LEAST = (
    -500.0,
    -32768.0,
)


class ChannelFacts(Settings):
    """Facts about one channel over all cases: its modality by files or values, and percentiles of labelled voxels."""

    name: str
    modality: str | None
    missing: int
    low: float
    high: float
    mean: float
    std: float


class ClassFacts(Settings):
    """Facts about one class: the cases that have it, and the medians of its volume and of its mean diameter (pixels of
    frames have no mm).

    `across_mm` is Sauter's mean diameter, 6 × volume / surface. For a ball it is the diameter; for many small lesions it is their own
    diameter, not that of one of their whole volume; for a wall or a vessel it is not much more than the thickness.
    """

    name: str
    cases: int
    median_mm3: float
    across_mm: float = 0.0


class Fingerprint(Settings):
    """The facts about a data set on which a plan is based.

    Attributes
    ----------
    cases, patients : int
        How many there are.
    measured : int
        Cases that there was time to measure.
    frames : bool
        Whether steps are frames.
    spacing_mm : (float, float, float)
        Median along the canonical (x, y, z); of frames (x, y, seconds), x and y being the axes of their plane.
    shape : (int, int, int)
        Median voxels along (x, y, z); of frames (x, y, t).
    largest : (int, int, int)
        The 95th percentile of these.
    spacings_differ : bool
        Whether the cases' spacings differ by more than 5 % along an axis.
    channels : tuple of ChannelFacts
    classes : dict of int to ClassFacts
    reach_mm : (float, float, float)
        How far the labels reach from the middle of their image along (x, y, z), in 98 % of the cases; for frames in pixels.
    off_middle_mm : (float, float, float)
        The same for the centre of the labels, in 90 % of the cases.
    one_piece : bool
        Whether each class is one connected piece in nearly every case, except for a few voxels.
    one_sided : (bool, bool, bool)
        Whether two classes always lie on the same sides of each other along (x, y, z), or a class on one side of the image's middle:
        mirrored images would then have wrong labels.
    left_right : bool
        Whether x runs from one side of the body to the other in all cases; in frames of a sagittal plane it does not. Pictures
        without a position in space count as if it did.
    least_mm : (float, float, float) or None
        The least spacing of any case along (x, y, z); None for frames, and where that of a case is unknown.
    own_slices : bool
        Whether slices are thick and lie in different directions of the body in different cases; z is then the direction of the
        slices (`Working.own_slices`).
    always_there : bool
        Whether every case holds a label.
    kind : Kind
    """

    cases: int
    patients: int
    measured: int
    frames: bool
    spacing_mm: Three
    shape: tuple[int, int, int]
    largest: tuple[int, int, int]
    spacings_differ: bool
    channels: tuple[ChannelFacts, ...]
    classes: dict[int, ClassFacts]
    reach_mm: Three | None = None
    off_middle_mm: Three | None = None
    one_piece: bool = False
    one_sided: tuple[bool, bool, bool]
    left_right: bool = True
    least_mm: Three | None = None
    own_slices: bool = False
    always_there: bool = False
    kind: Kind = Kind()

    def of_class(self, value: int, name: str) -> ClassFacts:
        """The facts about a class; a class that was first seen after measuring has no size."""
        return self.classes.get(value, ClassFacts(name=name, cases=0, median_mm3=0.0))


@dataclass
class _Channel:
    modality: set[str] = field(default_factory=set)
    values: list[NDArray[np.float32]] = field(default_factory=list)
    lowest: list[float] = field(default_factory=list)


class Measuring:
    """Takes cases one by one, so that no more than one need be in memory."""

    def __init__(self, channels: Iterable[str]) -> None:
        self.names = list(channels)
        self.patients: list[str] = []
        self.kind = KindMeasuring()
        self.turns: list[tuple[geometry.Reorientation, geometry.Reorientation]] = []
        self.thick: list[
            str
        ] = []  # the direction of the body in which a case's slices lie; "" where they are not thick
        self.spacing: list[NDArray[np.float64]] = []  # here and below in the image's own x, y and z
        self.shape: list[NDArray[np.int64]] = []
        self.frames, self.left_right, self.oriented = False, True, True
        self.channels = {n: _Channel() for n in self.names}
        self.values: list[set[int]] = []  # of the labels of each case
        self.volumes: dict[int, list[float]] = {}
        self.across: dict[int, list[float]] = {}
        self.sides: dict[int, list[tuple[int, NDArray[np.float64]]]] = {}
        self.centres: list[dict[int, NDArray[np.float64]]] = []
        self.reach: list[tuple[int, NDArray[np.float64]]] = []
        self.apart: list[float] = []

    def know(self, name: str) -> None:
        """Make room for a channel that only a later case may have."""
        if name not in self.channels:
            self.names.append(name)
            self.channels[name] = _Channel()

    def add(self, patient: str, images: Mapping[str, ImageSequence], labels: ImageSequence) -> None:
        """A case: its channels, of which some may be missing, and its labels."""
        box = inner_box(next(iter(images.values())))
        first = part_of(next(iter(images.values())), {a: slice(*span) for a, span in box.items()})
        self.patients.append(patient)
        self.kind.add(patient, first)
        self.oriented &= first.oriented
        self.turns.append((canonical_turn(first), canonical_turn(first, own_slices=True)))
        self.thick.append(_slices_lie(first))
        spacing = np.array(geometry.spacing(first.affine), np.float64)
        shape = np.array(first.grid)
        if "t" in first.axes:
            self.frames = True
            spacing, shape = _turned(spacing, self.turns[-1][0]), _turned(shape, self.turns[-1][0])
            spacing[2], shape[2] = _seconds(first), first.size("t")
            self.left_right &= not (first.oriented and geometry.closest_axes(first.affine)[2][0] == 0)
        self.spacing.append(spacing)
        self.shape.append(shape)
        truth = np.asarray(labels.data)
        self._measure_labels(truth, labels, tuple(slice(*box.get(a, (0, labels.size(a)))) for a in labels.axes))
        for name, seq in images.items():
            facts = self.channels[name]
            if seq.modality:
                facts.modality.add(seq.modality)
            data = np.asarray(seq.data)
            where = truth > 0 if data.shape == truth.shape and (truth > 0).any() else np.ones(data.shape, bool)
            values = data[where].astype(np.float32)
            values = values[np.isfinite(values)]
            facts.values.append(values[spread(values.size, _SAMPLE)])
            facts.lowest.append(_lowest(data))

    def _measure_labels(self, truth: NDArray[np.generic], labels: ImageSequence, seen: tuple[slice, ...]) -> None:
        """Sizes of what is labelled, and where it lies in the part that is no padding."""
        voxel = geometry.voxel_volume_mm3(labels.affine)
        counts = label_counts(truth)
        self.values.append(set(counts))
        centres = {}
        lengths = [s.stop - s.start for s in seen]
        all_along = [np.zeros(n, np.int64) for n in lengths]
        for value, box in value_boxes(truth).items():
            if value < 0:
                continue
            mask = truth[near := grown(box, truth.shape)] == value
            self.apart.append(_share_apart(mask))
            self.volumes.setdefault(value, []).append(float(counts[value]) * voxel)
            self.across.setdefault(value, []).append(_across(mask, labels))
            along = [_along(mask, near, seen, k) for k in range(mask.ndim)]
            if not along[0].any():
                continue
            for total, own in zip(all_along, along, strict=True):
                total += own
            by_axis = {a: _centre(own) for a, own in zip(labels.axes, along, strict=True)}
            sides = {a: _side(own) for a, own in zip(labels.axes, along, strict=True)}
            one_sided = np.array([sides.get(a, 0.0) for a in ("x", "y", "z")]) * labels.oriented
            self.sides.setdefault(value, []).append((len(self.turns) - 1, one_sided))
            centres[value] = np.array([by_axis.get(a, 0.0) for a in ("x", "y", "z")])
        self.centres.append(centres)
        if centres:
            spacing = [geometry.spacing(labels.affine)[k] for k in range(3)]
            far = {a: _from_middle(total) for a, total in zip(labels.axes, all_along, strict=True)}
            reached = np.array([far.get(a, (0.0, 0.0)) for a in ("x", "y", "z")]) * np.array(spacing)[:, None]
            self.reach.append((len(self.turns) - 1, reached))

    def result(self, classes: Mapping[int, str], cases: int, patients: int) -> Fingerprint:
        """The facts, of `cases` cases of so many patients of which these were measured."""
        turns = self._turns()
        spacing, shape = np.array(self.spacing), np.array(self.shape)
        if not self.frames:
            spacing, shape = (
                np.array([_turned(v, t) for v, t in zip(of, turns, strict=True)]) for of in (spacing, shape)
            )
        middle = np.median(spacing, axis=0)
        reach = [_turned(v, turns[k]) for k, v in self.reach]
        sides = self._one_sided(turns)
        return Fingerprint(
            cases=cases,
            patients=patients,
            measured=len(self.patients),
            frames=self.frames,
            spacing_mm=_three(middle),
            shape=_ints(np.median(shape, axis=0)),
            largest=_ints(np.percentile(shape, 95, axis=0)),
            spacings_differ=bool((np.abs(spacing / middle - 1) > 0.05).any()),
            channels=tuple(self._channel(n) for n in self.names),
            classes={
                k: ClassFacts(
                    name=name,
                    cases=len(v := self.volumes.get(k, [])),
                    median_mm3=float(np.median(v)) if v else 0.0,
                    across_mm=float(np.median(self.across[k])) if v else 0.0,
                )
                for k, name in classes.items()
            },
            reach_mm=_three(np.percentile([r[:, 0] for r in reach], _MOST, axis=0)) if reach else None,
            off_middle_mm=_three(np.percentile([r[:, 1] for r in reach], _MANY, axis=0)) if reach else None,
            one_piece=len(self.patients) >= _FEW
            and bool(self.apart)
            and not self.frames
            and float(np.percentile(self.apart, _PIECE_CASES)) <= _APART,
            one_sided=sides,
            left_right=self.left_right,
            least_mm=_three(spacing.min(0)) if self.oriented and not self.frames else None,
            own_slices=self._own_slices,
            always_there=all(self.centres),
            kind=self.kind.result,
        )

    @property
    def _own_slices(self) -> bool:
        """Whether the slices of nearly all cases are thick, and those of some lie in another direction than those of the others."""
        thick = [axis for axis in self.thick if axis]
        if self.frames or len(thick) < max(_FEW, _MANY / 100 * len(self.thick)):
            return False
        return Counter(thick).most_common(1)[0][1] < (1 - _BEYOND) * len(thick)

    def _turns(self) -> list[geometry.Reorientation]:
        """How each case is turned before it is looked at."""
        return [turns[self._own_slices] for turns in self.turns]

    @property
    def numbered(self) -> bool:
        """Whether labels look like numbers of objects: in each case one piece per number from 1 on, and not always as many."""
        return (
            are_numbers([sorted(c) for c in self.centres]) and float(np.mean(np.array(self.apart) == 0)) > 1 - _BEYOND
        )

    def _channel(self, name: str) -> ChannelFacts:
        facts = self.channels[name]
        values = np.concatenate(facts.values) if facts.values else np.zeros(1, np.float32)
        modality = next(iter(facts.modality)) if len(facts.modality) == 1 else None
        if modality is None and facts.lowest and _HU_LEAST <= float(np.median(facts.lowest)) < _HU_AIR:
            modality = "CT"
        low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
        inside = np.clip(values, low, high)
        missing = len(self.patients) - len(facts.values)
        return ChannelFacts(
            name=name,
            modality=modality,
            missing=missing,
            low=low,
            high=high,
            mean=float(inside.mean()),
            std=float(inside.std()),
        )

    def _one_sided(self, turns: Sequence[geometry.Reorientation]) -> tuple[bool, bool, bool]:
        """Along each axis: whether any two classes keep their order in at least 90 % of five or more cases, or one its side."""
        sided = [False] * 3
        for sides in self.sides.values():
            mean = np.abs(np.mean([_facing(v, turns[k]) for k, v in sides], axis=0))
            sided = [was or bool(m >= _ONE_SIDE) for was, m in zip(sided, mean, strict=True)]
        values = sorted(self.volumes)
        for i, a in enumerate(values):
            for b in values[i + 1 :]:
                apart = [
                    _facing(c[b] - c[a], turn) for c, turn in zip(self.centres, turns, strict=True) if a in c and b in c
                ]
                if not apart:
                    continue
                share = (np.array(apart) > 0).mean(axis=0)
                for k in range(3):
                    sided[k] |= len(apart) < _FEW or max(share[k], 1 - share[k]) >= 0.9
        return sided[0], sided[1], sided[2]


def _turned(xyz: NDArray[Scalar], turn: geometry.Reorientation) -> NDArray[Scalar]:
    """Values along the image's own x, y and z along those of the turned image."""
    return xyz[list(turn.order)]


def _facing(xyz: NDArray[np.float64], turn: geometry.Reorientation) -> NDArray[np.float64]:
    """As `_turned`, of values that have a direction."""
    return _turned(xyz, turn) * np.where(turn.flips, -1, 1)


def _slices_lie(image: ImageSequence) -> str:
    """The direction of the body across thick slices: "R", "A" or "S"; "" where slices are not thick."""
    axis = image.slice_axis
    if axis not in image.axes or image.size(axis) < 2 or not image.oriented:
        return ""
    others = [image.spacing[a] for a in SPACE if a != axis]
    if image.spacing[axis] < THICKER * max(others):
        return ""
    return "RAS"[geometry.closest_axes(image.affine)["xyz".index(axis)][0]]


def label_counts(truth: NDArray[np.generic]) -> dict[int, int]:
    """Voxels of each label; 0 is none, and values below it mean to ignore."""
    return {value: count for value, count in value_counts(truth).items() if value > 0}


def are_numbers(values: Sequence[Sequence[int]]) -> bool:
    """Whether the label values of each case look like numbers of objects: from 1 on without a gap, many, and not always as many."""
    counts = {len(v) for v in values}
    many = max(counts, default=0) >= _OBJECTS and len(counts) > 1
    return many and all(list(v) == list(range(1, len(v) + 1)) for v in values)


def _along(mask: NDArray[np.bool_], box: Box, seen: Box, axis: int) -> NDArray[np.int64]:
    """Voxels of a mask in each plane across an axis of the part that is seen; the mask lies in a box of the whole."""
    inside = tuple(
        slice(max(s.start, b.start) - b.start, max(min(s.stop, b.stop), b.start) - b.start)
        for b, s in zip(box, seen, strict=True)
    )
    counts = mask[inside].sum(axis=tuple(k for k in range(mask.ndim) if k != axis), dtype=np.int64)
    out = np.zeros(seen[axis].stop - seen[axis].start, np.int64)
    start = max(box[axis].start - seen[axis].start, 0)
    out[start : start + len(counts)] = counts
    return out


def _centre(along: NDArray[np.int64]) -> float:
    """Mean index of a mask along an axis, from its voxels in each plane."""
    return float((along * np.arange(len(along))).sum() / along.sum())


def _side(along: NDArray[np.int64]) -> float:
    """1 or -1 where hardly a voxel lies beyond the middle of an axis; 0 where some do."""
    upper, half = along[-(len(along) // 2) :].sum(), along[: len(along) // 2].sum()
    beyond = min(upper, half) / along.sum() if len(along) > 1 else 1.0
    return 0.0 if beyond > _BEYOND else float(np.sign(float(upper) - float(half)))


def _across(mask: NDArray[np.bool_], labels: ImageSequence) -> float:
    """Sauter's mean diameter in mm, of the faces between voxels; 0 where there are none.

    The faces of a grid are a surface's three shadows, which add up to 3/2 of it where it lies in all directions (Cauchy). Of a picture
    or frames it is 4 × area / outline, which is overrated by 4 / pi.
    """
    by_name = dict(zip(("x", "y", "z"), geometry.spacing(labels.affine), strict=True))
    sides = {a: by_name[a] for k, a in enumerate(labels.axes) if a in by_name and mask.shape[k] > 1}
    whole = math.prod(sides.values())
    faces = sum(np.count_nonzero(np.diff(mask, axis=labels.axes.index(a))) * whole / mm for a, mm in sides.items())
    volume = np.count_nonzero(mask) * whole
    if not faces:
        return 0.0
    return float(6 * volume / (faces * 2 / 3) if len(sides) == 3 else 4 * volume / (faces * math.pi / 4))


def _lowest(data: NDArray[np.generic]) -> float:
    """The lowest finite value, or 0."""
    low = float(data.min())
    finite = data if np.isfinite(low) else data[np.isfinite(data)]
    return float(finite.min()) if finite.size else 0.0


def _share_apart(mask: NDArray[np.bool_]) -> float:
    """Share of a mask outside its largest connected piece, edges and corners touching."""
    from scipy import ndimage

    pieces, count = ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, mask.ndim))
    sizes = np.bincount(pieces.ravel())[1:]
    return 0.0 if count == 1 else 1 - float(sizes.max()) / float(sizes.sum())


def _from_middle(along: NDArray[np.int64]) -> tuple[float, float]:
    """How far a mask, and its centre, lie from the middle of an axis, in voxels; the far border counts."""
    at, middle = np.flatnonzero(along), (len(along) - 1) / 2
    return float(np.abs(at - middle).max()) + 0.5, abs(_centre(along) - middle)


def _seconds(seq: ImageSequence) -> float:
    times = seq.times
    return float(np.median(np.diff(times))) if times is not None and len(times) > 1 else 1.0


def _three(values: NDArray[np.float64]) -> Three:
    a, b, c = (float(v) for v in values)
    return a, b, c


def _ints(values: NDArray[np.floating]) -> tuple[int, int, int]:
    a, b, c = (round(float(v)) for v in values)
    return a, b, c
