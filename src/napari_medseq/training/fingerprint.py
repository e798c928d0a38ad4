"""What a data set is like, in numbers: the facts from which `plan` decides how to train on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.sequence import ImageSequence
from napari_medseq.settings import Settings

Three = tuple[float, float, float]

_SAMPLE = 4000  # values of the foreground kept per case and channel
_MOST, _MANY = 98, 90  # per cent of the cases
_PIECE_CASES, _APART = 95, 0.005  # per cent of the cases; share of a class's voxels outside its largest piece
_HU_AIR = -500.0  # a CT holds air; other scans hold no such values


class ChannelFacts(Settings):
    """Of one channel over all cases: the modality as files say or values show, and percentiles of what is labelled."""

    name: str
    modality: str | None
    missing: int
    low: float
    high: float
    mean: float
    std: float


class ClassFacts(Settings):
    """Of one class: cases that have it, and the median of its volume where it is, in mm³ (pixels of frames have no mm)."""

    name: str
    cases: int
    median_mm3: float


class Fingerprint(Settings):
    """Of a data set.

    Attributes
    ----------
    cases, patients : int
    frames : bool
        Whether steps are frames.
    spacing_mm : (float, float, float)
        Median along the canonical (x, y, z); of frames (x, y, seconds).
    shape : (int, int, int)
        Median voxels along (x, y, z); of frames (x, y, t).
    largest : (int, int, int)
        The 95th percentile of these.
    spacings_differ : bool
        Whether the cases' spacings differ by more than 5 % along an axis.
    channels : tuple of ChannelFacts
    classes : dict of int to ClassFacts
    reach_mm : (float, float, float)
        How far what is labelled reaches from the middle of its image along (x, y, z), in 98 % of the cases; of frames in pixels.
    off_middle_mm : (float, float, float)
        The same of the centre of what is labelled, in 90 % of the cases.
    one_piece : bool
        Whether what is labelled with a class is one connected piece in nearly every case: hardly a voxel lies apart.
    one_sided : (bool, bool, bool)
        Whether two classes always lie on the same sides of each other along (x, y, z): what is mirrored then is called wrong.
    """

    cases: int
    patients: int
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
        self.spacing: list[NDArray[np.float64]] = []
        self.shape: list[tuple[int, ...]] = []
        self.frames = False
        self.channels = {n: _Channel() for n in self.names}
        self.volumes: dict[int, list[float]] = {}
        self.centres: list[dict[int, NDArray[np.float64]]] = []
        self.reach: list[NDArray[np.float64]] = []
        self.off: list[NDArray[np.float64]] = []
        self.apart: list[float] = []

    def know(self, name: str) -> None:
        """A channel that a later case may bring."""
        if name not in self.channels:
            self.names.append(name)
            self.channels[name] = _Channel()

    def add(self, patient: str, images: Mapping[str, ImageSequence], labels: ImageSequence) -> None:
        """A case: its channels, of which some may be missing, and its labels."""
        first = next(iter(images.values()))
        self.patients.append(patient)
        turn = geometry.to_codes(first.affine, ("R", "A", "S"))
        spacing = geometry.spacing(turn.apply_affine(first.affine, first.grid))
        shape = [first.grid[k] for k in turn.order]
        if "t" in first.axes:
            self.frames = True
            spacing[2], shape[2] = _seconds(first), first.size("t")
        self.spacing.append(spacing)
        self.shape.append(tuple(shape))
        truth = np.asarray(labels.data)
        self._measure_labels(truth, labels, turn)
        for name, seq in images.items():
            facts = self.channels[name]
            if seq.modality:
                facts.modality.add(seq.modality)
            data = np.asarray(seq.data)
            where = truth > 0 if data.shape == truth.shape and (truth > 0).any() else np.ones(data.shape, bool)
            values = data[where].astype(np.float32)
            values = values[np.isfinite(values)]
            facts.values.append(values[:: max(1, values.size // _SAMPLE)])
            facts.lowest.append(float(np.nanmin(data)))

    def _measure_labels(self, truth: NDArray[np.generic], labels: ImageSequence, turn: geometry.Reorientation) -> None:
        voxel = geometry.voxel_volume_mm3(labels.affine)
        counts = (
            np.bincount(truth.ravel().astype(np.int64)) if truth.size and truth.min() >= 0 else np.zeros(1, np.int64)
        )
        centres = {}
        for value in np.flatnonzero(counts[1:]) + 1:
            mask = truth == value
            self.apart.append(_share_apart(mask))
            self.volumes.setdefault(int(value), []).append(float(counts[value]) * voxel)
            by_axis = {a: _centre(mask, k) for k, a in enumerate(labels.axes)}
            old = np.array([by_axis.get(a, 0.0) for a in ("x", "y", "z")])
            centres[int(value)] = np.array([(-1 if turn.flips[k] else 1) * old[turn.order[k]] for k in range(3)])
        self.centres.append(centres)
        if centres:
            spacing = [geometry.spacing(labels.affine)[k] for k in range(3)]
            far = {a: _from_middle(truth != 0, k) for k, a in enumerate(labels.axes)}
            reached = np.array([far.get(a, (0.0, 0.0)) for a in ("x", "y", "z")]) * np.array(spacing)[:, None]
            self.reach.append(reached[list(turn.order), 0])
            self.off.append(reached[list(turn.order), 1])

    def result(self, classes: Mapping[int, str], cases: int) -> Fingerprint:
        """The facts, of `cases` cases of which these were measured."""
        spacing, shape = np.array(self.spacing), np.array(self.shape)
        middle = np.median(spacing, axis=0)
        sides = self._one_sided()
        return Fingerprint(
            cases=cases,
            patients=len(set(self.patients)),
            frames=self.frames,
            spacing_mm=_three(middle),
            shape=_ints(np.median(shape, axis=0)),
            largest=_ints(np.percentile(shape, 95, axis=0)),
            spacings_differ=bool((np.abs(spacing / middle - 1) > 0.05).any()),
            channels=tuple(self._channel(n) for n in self.names),
            classes={
                k: ClassFacts(
                    name=name, cases=len(v := self.volumes.get(k, [])), median_mm3=float(np.median(v)) if v else 0.0
                )
                for k, name in classes.items()
            },
            reach_mm=_three(np.percentile(self.reach, _MOST, axis=0)) if self.reach else None,
            off_middle_mm=_three(np.percentile(self.off, _MANY, axis=0)) if self.off else None,
            one_piece=bool(self.apart) and not self.frames and float(np.percentile(self.apart, _PIECE_CASES)) <= _APART,
            one_sided=sides,
        )

    def _channel(self, name: str) -> ChannelFacts:
        facts = self.channels[name]
        values = np.concatenate(facts.values) if facts.values else np.zeros(1, np.float32)
        modality = next(iter(facts.modality)) if len(facts.modality) == 1 else None
        if modality is None and facts.lowest and float(np.median(facts.lowest)) < _HU_AIR:
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

    def _one_sided(self) -> tuple[bool, bool, bool]:
        """Along each axis: whether any two classes keep their order in at least 90 % of five or more cases."""
        sided = [False] * 3
        values = sorted(self.volumes)
        for i, a in enumerate(values):
            for b in values[i + 1 :]:
                apart = [c[b] - c[a] for c in self.centres if a in c and b in c]
                if not apart:
                    continue
                share = (np.array(apart) > 0).mean(axis=0)
                for k in range(3):
                    sided[k] |= len(apart) < 5 or max(share[k], 1 - share[k]) >= 0.9
        return sided[0], sided[1], sided[2]


def _centre(mask: NDArray[np.bool_], axis: int) -> float:
    """Mean index of a mask along an axis."""
    along = mask.sum(axis=tuple(k for k in range(mask.ndim) if k != axis))
    return float((along * np.arange(len(along))).sum() / along.sum())


def _share_apart(mask: NDArray[np.bool_]) -> float:
    """Share of a mask outside its largest connected piece, edges and corners touching."""
    from scipy import ndimage

    where = ndimage.find_objects(mask.astype(np.uint8))[0]
    pieces, count = ndimage.label(mask[where], ndimage.generate_binary_structure(mask.ndim, mask.ndim))
    sizes = np.bincount(pieces.ravel())[1:]
    return 0.0 if count == 1 else 1 - float(sizes.max()) / float(sizes.sum())


def _from_middle(mask: NDArray[np.bool_], axis: int) -> tuple[float, float]:
    """How far a mask, and its centre, lie from the middle of an axis, in voxels; the far border counts."""
    along = mask.sum(axis=tuple(k for k in range(mask.ndim) if k != axis))
    at, middle = np.flatnonzero(along), (len(along) - 1) / 2
    return float(np.abs(at - middle).max()) + 0.5, abs(
        float((along * np.arange(len(along))).sum() / along.sum()) - middle
    )


def _seconds(seq: ImageSequence) -> float:
    times = seq.times
    return float(np.median(np.diff(times))) if times is not None and len(times) > 1 else 1.0


def _three(values: NDArray[np.float64]) -> Three:
    a, b, c = (float(v) for v in values)
    return a, b, c


def _ints(values: NDArray[np.floating]) -> tuple[int, int, int]:
    a, b, c = (round(float(v)) for v in values)
    return a, b, c
