"""Grouping the frames of one series into images, by the facts in which images differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from napari_medseq.io.dicom.frame import Frame, depths, placed
from napari_medseq.io.dicom.kinds import Kind, Vector
from napari_medseq.io.dicom.values import integer, text

#: Largest difference of direction cosines within one orientation.
SAME_DIRECTION = 2e-4
#: Least b-value of a diffusion-weighted image (s/mm²).
_WEIGHTED = 50.0


def split(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Split the frames of one series into one list per image, in the order in which they first appear."""
    hard: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    directions: list[Vector] = []
    for frame in frames:
        ds = frame.file.ds
        direction = _direction(frame, directions)
        spacing = None if frame.spacing is None else tuple(round(s, 4) for s in frame.spacing)
        colour = integer(ds, "SamplesPerPixel", 1) > 1 or text(ds, "PhotometricInterpretation") == "PALETTE COLOR"
        key = (direction, frame.shape, spacing, colour, text(ds, "Modality"), frame.position is None)
        hard[key].append(frame)
    out: list[list[Frame]] = []
    for group in (part for one in hard.values() for part in _by_world(one)):
        soft: dict[Kind, list[Frame]] = defaultdict(list)
        for frame in group:
            soft[frame.kind].append(frame)
        parts = list(soft.values())
        whole = [group] if len(parts) > 1 and _interleave(parts) else parts
        out.extend(part for one in whole for part in _without_traces(one))
    return out


def _without_traces(group: list[Frame]) -> list[list[Frame]]:
    """Separate diffusion-weighted frames without a direction from directed ones, because they were computed from these
    (a trace)."""
    directed = any(f.b_vector is not None for f in group)
    traces = [f for f in group if (f.b_value or 0.0) > _WEIGHTED and f.b_vector is None] if directed else []
    if not traces or 2 * len(traces) >= len(group):
        return [group]
    for frame in traces:
        frame.kind = frame.kind._replace(part="trace")
    return [[f for f in group if f.kind.part != "trace"], traces]


def _by_world(group: list[Frame]) -> list[list[Frame]]:
    """Split by frame of reference, unless every file has one of its own (as some de-identifiers leave them)."""
    worlds: dict[str, list[Frame]] = defaultdict(list)
    for frame in group:
        worlds[text(frame.file.ds, "FrameOfReferenceUID")].append(frame)
    if 2 < len(worlds) == len({f.file.path for f in group}):
        return [group]
    return list(worlds.values())


def _direction(frame: Frame, directions: list[Vector]) -> int:
    """Index of the frame's orientation among those already seen."""
    if frame.row is None or frame.column is None:
        return -1
    both = np.concatenate([frame.row, frame.column])
    for k, other in enumerate(directions):
        if np.abs(both - other).max() <= SAME_DIRECTION:
            return k
    directions.append(both)
    return len(directions) - 1


def _interleave(parts: list[list[Frame]]) -> bool:
    """Whether groups that differ in soft facts share no position and together form one even stack, so that they are
    one image."""
    every = [f for part in parts for f in part]
    if not placed(every):
        return False
    depth = np.sort(depths(every))
    steps = np.diff(depth)
    return len(depth) > 2 and bool(steps.min() > 1e-2) and bool(np.ptp(steps) <= 0.1 * np.median(steps))
