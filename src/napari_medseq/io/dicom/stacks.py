"""Arranging the frames of one image as stacks on a grid.

Frames are sorted by position along the normal (never by file name or instance number) and counted per position;
several frames at every position are time points.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from napari_medseq.geometry import RAS_LPS, Affine
from napari_medseq.io.dicom.frame import Frame, depths, placed
from napari_medseq.io.dicom.kinds import Vector
from napari_medseq.io.dicom.timing import evened, few, in_time, instance, past_midnight
from napari_medseq.io.dicom.values import text
from napari_medseq.wording import how_many

#: Largest deviation of slices from an even grid, as a share of a step, before the grid counts as uneven.
UNEVEN = 0.04
#: Deviations of steps below this share that never add up are due to rounded positions; larger ones mean another grid.
RAGGED = 0.2
#: Modalities whose images always have a position in the patient, so that a missing one gives a warning.
_PLACED = ("CT", "MR", "PT")
#: Clocks by which frames of one file without positions are moments.
_MOVING = ("temporal", "frame", "trigger", "acquired", "content")
#: Largest number of uniform blocks that one series is split into.
MOST_BLOCKS = 4


@dataclass
class Stack:
    """Frames of one image on one grid.

    Attributes
    ----------
    grid : list of list of Frame
        ``grid[t][z]``.
    affine : array (4, 4)
        Voxel (x = along a row, y = down a column, z = slice) → RAS mm.
    times : array or None
        Seconds from the first frame, if there is more than one time point.
    oriented : bool
    """

    grid: list[list[Frame]]
    affine: Affine
    times: NDArray[np.float64] | None
    oriented: bool
    notes: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def first(self) -> Frame:
        """The frame at t = 0, z = 0."""
        return self.grid[0][0]


def stack(frames: list[Frame]) -> list[Stack]:
    """Arrange the frames of one image into stacks: usually one, but several if the grid is uneven."""
    frames, notes = _without_copies(frames)
    past_midnight(frames, notes)
    frames = _located(frames, notes)
    if not placed(frames):
        return [_unplaced(frames, notes)]
    worlds = {text(f.file.ds, "FrameOfReferenceUID") for f in frames}
    if len(worlds) > 1:
        notes.append(f"The slices name {len(worlds)} frames of reference, one for each file; they are taken as one.")
    columns = _by_position(frames)
    stations = _stations(columns, notes)
    if stations is not None:
        return [one for part in stations for one in stack(part)]
    unplaced: list[Frame] = []
    if len({len(c) for c in columns}) > 1:
        parts = _by_acquisition(frames)
        if parts is not None:
            return [one for part in parts for one in stack(part)]
        columns, unplaced = evened(columns, notes)
    columns, times, facts = in_time(columns, notes)
    return [*_blocks(columns, times, notes, facts), *(stack(unplaced) if unplaced else [])]


def _without_copies(frames: list[Frame]) -> tuple[list[Frame], list[str]]:
    """Leave out frames that occur twice (same SOP instance and frame, at the same position and time)."""
    seen: set[tuple[object, ...]] = set()
    out, copies = [], 0
    for frame in frames:
        place = None if frame.position is None else tuple(frame.position)
        name = text(frame.file.ds, "SOPInstanceUID") or frame.file.path
        key = name, frame.index, frame.tile, place, tuple(sorted(frame.clock.items()))
        if key in seen:
            copies += 1
        else:
            seen.add(key)
            out.append(frame)
    notes = (
        [f"{how_many(copies, 'slice is', 'slices are')} in the series twice (same SOP instance); copies are left out."]
        if copies
        else []
    )
    return out, notes


def _located(frames: list[Frame], notes: list[str]) -> list[Frame]:
    """Place slices whose positions are missing, or all the same, by other attributes.

    Slice locations, or else positions without directions, are used along z of an unknown world; slice locations of
    slices that all have one position are used along their normal.
    """
    locations = [f.location for f in frames if f.location is not None]
    distinct = len(locations) == len(frames) and len(set(locations)) > 1
    if placed(frames):
        start, row, column = frames[0].plane
        if (
            distinct
            and len(set(locations)) == len(frames)
            and all(np.abs(f.plane[0] - start).max() < 1e-3 for f in frames)
        ):
            notes.append("All slices have the same ImagePositionPatient; they are placed by SliceLocation.")
            normal = np.cross(row, column)
            return [
                replace(f, position=start + normal * (at - locations[0]))
                for f, at in zip(frames, locations, strict=True)
            ]
        return frames
    if not distinct:
        points = np.array([f.position for f in frames if f.position is not None]).reshape(-1, 3)
        spread = np.ptp(points, axis=0) if len(points) == len(frames) else np.zeros(3)
        if spread.max() < 1e-3:
            return frames
        line = points[np.argmax(points[:, np.argmax(spread)])] - points[np.argmin(points[:, np.argmax(spread)])]
        locations = [float(v) for v in points @ (line / np.linalg.norm(line))]
    source = "SliceLocation" if distinct else "the positions there are"
    notes.append(
        f"ImagePositionPatient or ImageOrientationPatient is missing: slices lie by {source}, orientation unknown."
    )
    x, y, z = np.eye(3)
    return [
        replace(f, position=z * at, row=x, column=y, oriented=False) for f, at in zip(frames, locations, strict=True)
    ]


def _by_position(frames: list[Frame]) -> list[list[Frame]]:
    """Frames grouped by position along the normal, in ascending order."""
    depth = depths(frames)
    order = np.argsort(depth, kind="stable")
    width = frames[0].thickness or frames[0].between or 1.0
    tolerance = float(np.clip(0.02 * width, 1e-3, 0.05))
    columns: list[list[Frame]] = []
    last = -np.inf
    for k in order:
        if depth[k] - last > tolerance:
            columns.append([])
        columns[-1].append(frames[k])
        last = depth[k]
    return columns


def _stations(columns: list[list[Frame]], notes: list[str]) -> list[list[Frame]] | None:
    """Put frames at one depth but beside one another (stations of a long scan) into different stacks.

    Single frames that are shifted a little (localizers) stay together, with a warning.
    """
    shift = 0.0
    for column in columns:
        if len(column) == 1:
            continue
        places = np.array([f.plane[0] for f in column])
        shift = max(shift, float(np.linalg.norm(places - places[0], axis=1).max()))
    down, along = columns[0][0].spacing or (1.0, 1.0)
    if shift <= 0.5 * min(down, along):
        return None
    _, row, column_ = columns[0][0].plane
    groups: dict[tuple[int, int], list[Frame]] = defaultdict(list)
    for frame in (f for c in columns for f in c):
        place = frame.plane[0]
        groups[round(float(place @ row) / along), round(float(place @ column_) / down)].append(frame)
    field = min(columns[0][0].shape[0] * down, columns[0][0].shape[1] * along)
    stacked = min(len(_by_position(g)) for g in groups.values()) > 1
    if len(groups) > 1 and (stacked or shift > 0.75 * field):
        return list(groups.values())
    notes.append(
        f"Slices at the same depth are shifted in plane by up to {shift:.3g} mm; they are shown at the position of the first."
    )
    return None


def _by_acquisition(frames: list[Frame]) -> list[list[Frame]] | None:
    """Split by acquisition number, if that gives groups in which all positions have the same number of frames."""
    numbers = {f.clock.get("acquisition") for f in frames}
    if not 1 < len(numbers) < len(frames) or None in numbers:
        return None
    parts = [[f for f in frames if f.clock.get("acquisition") == n] for n in sorted(numbers)]  # type: ignore[type-var]
    even = all(len({len(c) for c in _by_position(part)}) == 1 for part in parts)
    return parts if even and min(len(p) for p in parts) > 1 else None


def _unplaced(frames: list[Frame], notes: list[str]) -> Stack:
    """A stack without positions: files in the order of their instance numbers; frames of one file are time points."""
    first = frames[0]
    spacing = first.spacing
    if spacing is None:
        notes.append("No usable PixelSpacing: one voxel counts as 1 mm, so sizes in mm are not to be trusted.")
    step = first.between or first.thickness or 1.0
    down, along = spacing or (1.0, 1.0)
    affine = RAS_LPS @ np.diag([along, down, step, 1.0])
    files = {f.file.path for f in frames}
    moving = len(files) == 1 and any(len({f.clock.get(name) for f in frames}) > 1 for name in _MOVING)
    if len(frames) > 1 and (moving or all("frame" in f.clock for f in frames)):
        columns, times, facts = in_time([frames], notes)
        return Stack([[f] for f in columns[0]], affine, times, False, notes, facts)
    if len(frames) > 1:
        notes.append(
            "ImagePositionPatient or ImageOrientationPatient is missing: slices are in order of instance number, orientation unknown."
        )
        frames = sorted(frames, key=instance)
    elif text(first.file.ds, "Modality") in _PLACED:
        notes.append("ImagePositionPatient or ImageOrientationPatient is missing: orientation unknown.")
    return Stack([frames], affine, None, False, notes)


def _blocks(
    columns: list[list[Frame]], times: NDArray[np.float64] | None, notes: list[str], facts: dict[str, object]
) -> list[Stack]:
    """One stack for an even grid, else its uniform blocks, else one stack with a warning about its uneven grid."""
    frames = [c[0] for c in columns]
    depth = depths(frames)
    if len(frames) < 3 or _even(depth):
        return [_stack(columns, times, notes, facts)]
    steps = np.diff(depth)
    usual = float(np.median(steps))
    odd = [f"{s:.4g} mm after slice {k + 1}" for k, s in enumerate(steps) if abs(s - usual) > UNEVEN * usual]
    gap = f"Slices are unevenly spaced: usually {usual:.4g} mm apart, but {few(odd)}"
    ragged = float(np.abs(steps - usual).max()) <= RAGGED * usual and _off(depth) <= RAGGED * usual
    runs = _runs(depth)
    if not ragged and len(runs) <= MOST_BLOCKS and sum(1 for a, b in runs if b - a == 1) <= 1:
        message = f"{gap}; opened as {len(runs)} blocks of even spacing (a slice may be missing between them)."
        out = []
        for a, b in runs:
            block = _stack(columns[a:b], times, [*notes, message], dict(facts, block=[a, b]), step=usual)
            out.append(block)
        return out
    facts = dict(facts, slice_positions_mm=[round(float(d - depth[0]), 4) for d in depth])
    message = f"{gap}; no even grid fits, so positions between the first and the last slice are approximate (true ones in meta)."
    return [_stack(columns, times, [*notes, message], facts)]


def _even(depth: NDArray[np.float64]) -> bool:
    return _off(depth) <= UNEVEN * abs(float(depth[-1] - depth[0])) / (len(depth) - 1)


def _off(depth: NDArray[np.float64]) -> float:
    """Deviation of positions from the even grid between the first and the last one."""
    return float(np.abs(depth - np.linspace(depth[0], depth[-1], len(depth))).max())


def _runs(depth: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Longest even runs [start, stop) from the beginning."""
    out, start = [], 0
    while start < len(depth):
        stop = min(start + 2, len(depth))
        while stop < len(depth) and _even(depth[start : stop + 1]):
            stop += 1
        # a pair is a run only if its step equals a neighbouring one; otherwise the first slice is a block of its own
        if stop - start == 2 and stop < len(depth) - 1 and _even(depth[start + 1 : start + 4]):
            stop = start + 1
        out.append((start, stop))
        start = stop
    return out


def _stack(
    columns: list[list[Frame]],
    times: NDArray[np.float64] | None,
    notes: list[str],
    facts: dict[str, object],
    step: float | None = None,
) -> Stack:
    """A stack with the affine of an even run of positions, sheared if slices shift in plane (gantry tilt)."""
    notes = list(notes)
    first = columns[0][0]
    start, row, column = first.plane
    spacing = first.spacing
    if spacing is None:
        notes.append("No usable PixelSpacing: one voxel counts as 1 mm, so sizes in mm are not to be trusted.")
    down, along = spacing or (1.0, 1.0)
    if len(columns) > 1:
        places = np.array([c[0].plane[0] for c in columns])
        between = (places[-1] - start) / (len(columns) - 1)
        off = float(np.abs(places - (start + np.arange(len(columns))[:, np.newaxis] * between)).max())
        if off > max(0.05 * min(down, along), 1e-2) and "slice_positions_mm" not in facts:
            notes.append(
                f"Slices are shifted in plane by up to {off:.3g} mm against a straight stack; the straight one is used."
            )
        tilt = _tilt(first, between)
        if tilt > 0.1:
            facts = dict(facts, gantry_tilt_deg=round(tilt, 3))
    else:
        between = np.cross(row, column) * (step or first.between or first.thickness or 1.0)
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2], lps[:3, 3] = row * along, column * down, between, start
    grid = [[c[t] for c in columns] for t in range(len(columns[0]))]
    if not first.oriented:
        steps = np.linalg.norm(lps[:3, :3], axis=0)
        return Stack(grid, RAS_LPS @ np.diag([*steps, 1.0]), times, False, notes, facts)
    return Stack(grid, RAS_LPS @ lps, times, True, notes, facts)


def _tilt(frame: Frame, between: Vector) -> float:
    """Angle in degrees between the slices' normal and the direction in which they are stacked."""
    _, row, column = frame.plane
    cosine = abs(between @ np.cross(row, column)) / max(float(np.linalg.norm(between)), 1e-12)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
