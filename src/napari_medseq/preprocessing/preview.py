"""Trying steps on one slice before they run on the whole, and estimating the time for the whole."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite

import numpy as np

from napari_medseq import geometry
from napari_medseq.errors import MedseqError, OperationCancelled, SettingsError
from napari_medseq.preprocessing.pipeline import Steps, parse, run_chain
from napari_medseq.preprocessing.step import Step, sliced_along
from napari_medseq.progress import Cancelled
from napari_medseq.sequence import SPACE, ImageSequence
from napari_medseq.volumes.part import part_of, thinned

#: largest number of voxels that a preview works on, so that it is fast; larger images are thinned
PREVIEW_VOXELS = 500_000
#: numbers of voxels of the two trials from which the time for the whole is estimated
_TRIALS = (30_000, 150_000)
#: slices whose centres differ by less than this share of the slice thickness show the same place; a little over a half, for rounding
_SAME_SLICE = 0.51


@dataclass(frozen=True, eq=False)
class Preview:
    """One slice before and after a chain of steps.

    Attributes
    ----------
    before, after : ImageSequence
        One frame each, of length 1 along the viewing axis and at its true place; `after` may be labels, or have
        another voxel size.
    axis : str
        The axis of `before` along which the slice was taken.
    position : dict of str to int
        Axis name → index of the slice, and of the frame, in the sequence that was given.
    exact : bool
        Whether `after` equals the slice of the whole result. It does not if a step needs the whole image, and the
        image is so large that only every n-th voxel was used.
    note : str
        A remark to be shown beside the picture; may be empty.
    warnings : tuple of str
        The doubts of the steps.
    seconds : float
        Time taken.
    """

    before: ImageSequence
    after: ImageSequence
    axis: str
    position: dict[str, int]
    exact: bool
    note: str
    warnings: tuple[str, ...]
    seconds: float


def preview(
    seq: ImageSequence,
    steps: Steps,
    position: Mapping[str, int] | None = None,
    *,
    axis: str | None = None,
    reference: ImageSequence | None = None,
    most_voxels: int = PREVIEW_VOXELS,
    cancelled: Cancelled | None = None,
) -> Preview:
    """Run steps for one slice only, on as small a part of the sequence as they need.

    The part that a step needs around the slice is its `Step.reach`: a window needs the slice alone, a filter some
    neighbours, a bias field the whole volume. No warning is issued; doubts are in the result.

    Parameters
    ----------
    seq : ImageSequence
        The sequence, which is not changed; a lazy one is read only as far as needed.
    steps : as `preprocess` takes them
    position : mapping of str to int, optional
        Axis name → index, for ``t`` and `axis`; default the middle slice of the first frame.
    axis : {"z", "y", "x"}, optional
        The viewing axis; default the axis along which slices were acquired.
    reference : ImageSequence, optional
        As for `preprocess`.
    most_voxels : int
        If steps need more voxels than this, only every n-th is used, and the result is not `Preview.exact`.
    cancelled : callable, optional

    Raises
    ------
    SettingsError
        If a step or the position cannot be used.
    MedseqError
        If a step cannot work on this sequence.
    """
    began = time.perf_counter()
    chain = parse(steps, modality=seq.modality)
    along = _axis(seq, axis)
    at = _position(seq, position or {}, along)
    around = _around(seq, reach_of(chain, seq), at)
    needed = part_of(seq, around)
    used = thinned(needed, most_voxels, through={a: at[a] - around[a].start for a in at})
    exact = used.data.shape == needed.data.shape
    other = reference
    if reference is not None and reference.same_grid(
        seq
    ):  # a reference on the same voxels is cut and thinned in the same way
        other = _like_part(reference, seq, used)
    doubts: list[str] = []
    result = run_chain(used, chain, reference=other, cancelled=cancelled, doubts=doubts)
    before = part_of(seq, {a: slice(i, i + 1) for a, i in at.items()})
    after, away_mm = _slice_at(result, before, along)
    notes = [] if exact else ["computed from a part of the image's voxels, so it only approximates the whole result"]
    if away_mm:
        notes.append(f"the result does not contain the slice; the nearest one is shown, {away_mm:.1f} mm away")
    return Preview(
        before=_one_frame(before),
        after=after,
        axis=along,
        position=at,
        exact=exact,
        note="; ".join(notes),
        warnings=tuple(dict.fromkeys(doubts)),
        seconds=time.perf_counter() - began,
    )


def estimate_seconds(
    seq: ImageSequence,
    steps: Steps,
    *,
    reference: ImageSequence | None = None,
    cancelled: Cancelled | None = None,
) -> float | None:
    """Estimated time of `preprocess` for the whole sequence, from trials on a part of it.

    Each step is run by itself on two small parts, and the line through the two times, as a function of the number of
    voxels, is extrapolated to the whole. The parts are some slices if the step looks at slices or their neighbours,
    else every n-th voxel. The trials take a second or two.

    Parameters
    ----------
    seq : ImageSequence
    steps, reference : as for `preprocess`
    cancelled : callable, optional

    Returns
    -------
    float or None
        Seconds; None if a step cannot be tried on a part, such as a registration that is not trustworthy there.

    Raises
    ------
    SettingsError
        If a step cannot be used.
    """
    total, voxels = 0.0, _voxels(seq)
    for step in parse(steps, modality=seq.modality):
        points: list[tuple[float, float]] = []
        parts = _trials(seq, step)
        for part in (parts[0], *parts):  # the first trial loads libraries and is not counted
            other = reference
            if reference is not None:
                other = (
                    _like_part(reference, seq, part) if reference.same_grid(seq) else thinned(reference, _TRIALS[-1])
                )
            began = time.perf_counter()
            try:
                result = run_chain(part, [step], reference=other, cancelled=cancelled, doubts=[])
            except (SettingsError, OperationCancelled):
                raise
            except MedseqError:
                return None
            points.append((_voxels(part), time.perf_counter() - began))
        (fewer, less), (more, longer) = points[1], points[-1]
        rate = (longer - less) / (more - fewer) if more > fewer and longer > less else longer / more
        total += longer + rate * (voxels - more)
        voxels *= _voxels(result) / more  # the input of the following steps
    return max(total, 0.0)


def _voxels(seq: ImageSequence) -> float:
    return float(np.prod([float(n) for n in seq.data.shape]))


def _trials(seq: ImageSequence, step: Step) -> list[ImageSequence]:
    """Two parts of a sequence, in memory, the smaller one first, on which a step takes as long per voxel as on the
    whole."""
    along, reach = sliced_along(seq), step.reach(seq)
    if along not in seq.axes and isfinite(reach.get("t", 0.0)):
        return [(part_of(seq, {"t": slice(0, 1)})).compute()]
    if isfinite(reach.get(along, 0.0)):
        frames = {"t": slice(0, 1)} if isfinite(reach.get("t", 0.0)) else {}
        middle = seq.size(along) // 2
        single = part_of(seq, {along: slice(middle, middle + 1), **frames})
        most = int(np.clip(_TRIALS[-1] // _voxels(single), 2, seq.size(along)))
        start = max(0, middle - most // 2)
        following = part_of(seq, {along: slice(start, start + most), **frames})
        return [single.compute(), following.compute()]
    return [thinned(seq, most).compute() for most in _TRIALS]


def reach_of(chain: Sequence[Step], seq: ImageSequence) -> dict[str, float]:
    """The reach of a whole chain along each axis: the sum of the reaches of its steps, in voxels."""
    total = dict.fromkeys(("t", *SPACE), 0.0)
    for step in chain:
        own = step.reach(seq)
        total = {axis: total[axis] + own.get(axis, 0.0) for axis in total}
    return total


def _axis(seq: ImageSequence, axis: str | None) -> str:
    if axis is None:
        return seq.slice_axis if seq.slice_axis in seq.axes else "z"
    if axis not in SPACE:
        raise SettingsError(f"axis = {axis!r}: a slice is looked at along 'z', 'y' or 'x'.")
    return axis


def _position(seq: ImageSequence, position: Mapping[str, int], along: str) -> dict[str, int]:
    indices = {"t": 0, along: seq.size(along) // 2}
    for axis, index in position.items():
        if axis not in seq.axes:
            continue
        if not 0 <= index < seq.size(axis):
            raise SettingsError(f"{seq.name} has {seq.size(axis)} positions along {axis!r}; {index} is out of range.")
        if axis in indices:
            indices[axis] = int(index)
    return {axis: index for axis, index in indices.items() if axis in seq.axes}


def _around(seq: ImageSequence, reach: Mapping[str, float], at: Mapping[str, int]) -> dict[str, slice]:
    """The part within reach of a position along its axes; other axes stay whole."""
    index = {}
    for axis, place in at.items():
        size = seq.size(axis)
        reach_voxels = ceil(min(reach[axis], size))
        index[axis] = slice(max(0, place - reach_voxels), min(size, place + reach_voxels + 1))
    return index


def _like_part(other: ImageSequence, seq: ImageSequence, used: ImageSequence) -> ImageSequence:
    """The voxels, and the frames, of `other` that correspond to `used`, a part of `seq` on the same grid."""
    into = np.linalg.inv(seq.affine) @ used.affine
    index = {}
    if "t" in other.axes and other.size("t") == seq.size("t") and seq.times is not None and used.times is not None:
        at = np.searchsorted(seq.times, used.times)
        index["t"] = slice(int(at[0]), int(at[-1]) + 1, int(at[1] - at[0]) if len(at) > 1 else 1)
    for column, axis in enumerate("xyz"):
        start, step = round(float(into[column, 3])), max(1, round(float(into[column, column])))
        index[axis] = slice(start, start + step * (used.size(axis) - 1) + 1, step)
    return part_of(other, index)


def _slice_at(result: ImageSequence, before: ImageSequence, along: str) -> tuple[ImageSequence, float]:
    """The slice of a result that shows a slice of its input, or else the nearest one, and its distance in mm."""
    column = "xyz".index(along)
    centre = geometry.apply_points(before.affine, (np.array(before.grid)[None] - 1) / 2)
    normal = before.affine[:3, column] / np.linalg.norm(before.affine[:3, column])
    # steps may have turned the axes, so the most nearly parallel one is taken
    directions = result.affine[:3, :3] / geometry.spacing(result.affine)
    turned = int(np.abs(directions.T @ normal).argmax())
    place = geometry.apply_points(np.asarray(np.linalg.inv(result.affine)), centre)[0, turned]
    axis = "xyz"[turned]
    index = int(np.clip(round(float(place)), 0, result.size(axis) - 1))
    plane = part_of(result, {axis: slice(index, index + 1)})
    if "t" in plane.axes:
        assert plane.times is not None
        when = 0.0 if before.times is None else float(before.times[0])
        nearest = int(np.abs(plane.times - when).argmin())
        plane = plane.frame(nearest)
    away = abs(float(place) - index)
    return plane.compute(), away * result.spacing[axis] if away > _SAME_SLICE else 0.0


def _one_frame(seq: ImageSequence) -> ImageSequence:
    return (seq.frame(0) if "t" in seq.axes else seq).compute()
