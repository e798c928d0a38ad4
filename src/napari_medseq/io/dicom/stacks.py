"""From loose frames to stacks: what belongs to one image, which frame lies where, and which comes when.

Frames are split by series and by what makes them different images, sorted by position along the normal (never by file
name or instance number), and counted per position: several at every position are time points.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_medseq.geometry import RAS_LPS, Affine
from napari_medseq.io.dicom.frame import Frame, Vector
from napari_medseq.io.dicom.headers import integer, number, text

#: Slices may lie off their even grid by this share of a step before the grid counts as uneven.
UNEVEN = 0.04
#: Directions may differ by this much (per cosine) and still be one orientation.
SAME_DIRECTION = 2e-4
#: Modalities whose images always have a place in the patient, so that a missing one is a doubt.
_PLACED = ("CT", "MR", "PT")
#: More uniform blocks than this are not made of one series.
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


def split(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames of one series → one list per image, in the order in which they first appear."""
    hard: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    directions: list[Vector] = []
    for frame in frames:
        ds = frame.file.ds
        which = _direction(frame, directions)
        spacing = None if frame.spacing is None else tuple(round(s, 4) for s in frame.spacing)
        colour = integer(ds, "SamplesPerPixel", 1) > 1 or text(ds, "PhotometricInterpretation") == "PALETTE COLOR"
        key = (
            which,
            frame.shape,
            spacing,
            colour,
            text(ds, "Modality"),
            text(ds, "FrameOfReferenceUID"),
            frame.position is None,
        )
        hard[key].append(frame)
    out: list[list[Frame]] = []
    for group in hard.values():
        soft: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
        for frame in group:
            soft[frame.soft].append(frame)
        parts = list(soft.values())
        out.extend([group] if len(parts) > 1 and _interleave(parts) else parts)
    return out


def _direction(frame: Frame, known: list[Vector]) -> int:
    """Index of the frame's orientation among those seen so far."""
    if frame.row is None or frame.column is None:
        return -1
    both = np.concatenate([frame.row, frame.column])
    for k, other in enumerate(known):
        if np.abs(both - other).max() <= SAME_DIRECTION:
            return k
    known.append(both)
    return len(known) - 1


def _depth(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """Position of each frame along the first one's normal, in mm."""
    _, row, column = frames[0].plane
    normal = np.cross(row, column)
    return np.array([float(frame.plane[0] @ normal) for frame in frames])


def _placed(frames: Sequence[Frame]) -> bool:
    return all(f.position is not None for f in frames) and frames[0].normal is not None


def _interleave(parts: list[list[Frame]]) -> bool:
    """Whether groups that differ in soft facts share no position and together form one even stack (so they are one image)."""
    every = [f for part in parts for f in part]
    if not _placed(every):
        return False
    depth = np.sort(_depth(every))
    steps = np.diff(depth)
    return len(depth) > 2 and bool(steps.min() > 1e-2) and bool(np.ptp(steps) <= 0.1 * np.median(steps))


def stack(frames: list[Frame]) -> list[Stack]:
    """Arrange the frames of one image into stacks: usually one; several where the grid is uneven."""
    frames, notes = _without_copies(frames)
    if not _placed(frames):
        return [_unplaced(frames, notes)]
    columns = _by_position(frames)
    stations = _stations(columns, notes)
    if stations is not None:
        return [one for part in stations for one in stack(part)]
    counts = Counter(len(c) for c in columns)
    if len(counts) > 1:
        parts = _by_acquisition(frames)
        if parts is not None:
            return [one for part in parts for one in stack(part)]
        columns = _evened(columns, notes)
    columns, times, facts = _in_time(columns, notes)
    return _blocks(columns, times, notes, facts)


def _without_copies(frames: list[Frame]) -> tuple[list[Frame], list[str]]:
    """Leave out frames that are in the list twice (same SOP instance and frame)."""
    seen: set[tuple[str, int, tuple[int, int] | None]] = set()
    out, copies = [], 0
    for frame in frames:
        key = (text(frame.file.ds, "SOPInstanceUID") or frame.file.path, frame.index, frame.tile)
        if key in seen:
            copies += 1
        else:
            seen.add(key)
            out.append(frame)
    notes = (
        [f"{copies} slice(s) are in the series twice (same SOP instance); the copies are left out."] if copies else []
    )
    return out, notes


def _by_position(frames: list[Frame]) -> list[list[Frame]]:
    """Frames at the same place along the normal together, places in ascending order."""
    depth = _depth(frames)
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
    """Frames at one depth but beside one another (stations of a long scan) belong to different stacks.

    Single frames that are shifted a little (localizers) stay together, which is said.
    """
    shift = 0.0
    for column in columns:
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
        f"Slices at the same depth are shifted in plane by up to {shift:.3g} mm; they are shown at the place of the first."
    )
    return None


def _by_acquisition(frames: list[Frame]) -> list[list[Frame]] | None:
    """Split by acquisition number, if that gives groups in which positions are equally often."""
    numbers = {f.clock.get("acquisition") for f in frames}
    if not 1 < len(numbers) < len(frames) or None in numbers:
        return None
    parts = [[f for f in frames if f.clock.get("acquisition") == n] for n in sorted(numbers)]  # type: ignore[type-var]
    even = all(len({len(c) for c in _by_position(part)}) == 1 for part in parts)
    return parts if even and min(len(p) for p in parts) > 1 else None


def _evened(columns: list[list[Frame]], notes: list[str]) -> list[list[Frame]]:
    """Make positions equally often by leaving out duplicates or an unfinished last volume, and say so."""
    usual = Counter(len(c) for c in columns).most_common(1)[0][0]
    most = max(len(c) for c in columns)
    keep = usual if usual == 1 or most - usual > 1 else min(len(c) for c in columns)
    places = [round(float(_depth([columns[0][0], c[0]])[1]), 3) for c in columns if len(c) != usual]
    ordered = [sorted(c, key=_instance) for c in columns]
    if usual == 1:
        notes.append(
            f"Several slices lie at the same position ({_few(places)} mm along the normal); the first of each is used."
        )
    else:
        keep = min(len(c) for c in columns)
        notes.append(
            f"Positions hold between {keep} and {most} frames; only the first {keep} complete volumes are used "
            f"(positions that differ: {_few(places)} mm along the normal)."
        )
    return [c[:keep] for c in ordered]


def _few(values: Sequence[object]) -> str:
    return ", ".join(str(v) for v in values[:5]) + (" …" if len(values) > 5 else "")


def _instance(frame: Frame) -> float:
    return frame.clock.get("instance", 0.0)


#: Time sources in the order in which they are trusted, and whether their values are seconds.
_CLOCKS = (("temporal", False), ("frame", True), ("trigger", True), ("phase", False), ("acquired", True), ("reference", True),
           ("acquisition", False), ("content", True), ("instance", False))  # fmt: skip


def _in_time(
    columns: list[list[Frame]], notes: list[str]
) -> tuple[list[list[Frame]], NDArray[np.float64] | None, dict[str, object]]:
    """Order the frames at each position in time; find seconds for the volumes."""
    count = len(columns[0])
    if count == 1:
        return columns, None, {}
    source = next((name for name, _ in _CLOCKS if _orders(columns, name)), None)
    if source is None:
        notes.append("No attribute tells the frames at one position apart; they are in the order of the files.")
        ordered = columns
    else:
        ordered = [sorted(c, key=lambda f: f.clock[source]) for c in columns]
    facts: dict[str, object] = {"time_source": source or "file order"}
    b_values = [ordered[0][t].b_value for t in range(count)]
    if any(b is not None for b in b_values):
        facts["b_values"] = [b if b is None else float(b) for b in b_values]
    return ordered, _seconds(ordered, source, notes, facts), facts


def _orders(columns: list[list[Frame]], name: str) -> bool:
    """Whether a time source tells apart the frames at every position (and, for indices, alike at all positions)."""
    sets = []
    for column in columns:
        values = [f.clock.get(name) for f in column]
        if None in values or len(set(values)) < len(values):
            return False
        sets.append(frozenset(values))
    return name not in ("temporal", "phase", "acquisition") or len(set(sets)) == 1


def _seconds(
    columns: list[list[Frame]], source: str | None, notes: list[str], facts: dict[str, object]
) -> NDArray[np.float64]:
    """Seconds of each volume from the first: from a clock that rises with the order found, else repetition time, else counted."""
    count = len(columns[0])
    order: list[str] = [name for name, seconds in _CLOCKS if seconds]
    if source in order:
        order.insert(0, source)
    for name in order:
        if all(name in f.clock for c in columns for f in c):
            start = np.array([min(c[t].clock[name] for c in columns) for t in range(count)])
            if (np.diff(start) > 0).all():
                facts["times_from"] = name
                return np.asarray(np.round(start - start[0], 6), dtype=np.float64)
    first = columns[0][0].file.ds
    step = number(first, "TemporalResolution") or columns[0][0].repetition_ms
    if step and step > 0:
        notes.append(
            f"No clock tells the times of the {count} frames; they are counted in steps of {step / 1000:g} s (repetition time)."
        )
        return np.arange(count, dtype=np.float64) * (step / 1000.0)
    notes.append(f"No clock tells the times of the {count} frames; they are counted 1 s apart.")
    return np.arange(count, dtype=np.float64)


def _unplaced(frames: list[Frame], notes: list[str]) -> Stack:
    """A stack without positions: files in order of instance; frames of one file are time."""
    first = frames[0]
    spacing = first.spacing
    if spacing is None:
        notes.append("No usable PixelSpacing: one voxel counts as 1 mm, so sizes in mm are not to be trusted.")
    step = first.between or first.thickness or 1.0
    down, along = spacing or (1.0, 1.0)
    affine = RAS_LPS @ np.diag([along, down, step, 1.0])
    files = {f.file.path for f in frames}
    if len(files) == 1 or all("frame" in f.clock for f in frames):
        timed = any("temporal" in f.clock for f in frames)
        if timed and len(frames) > 1:
            columns, times, facts = _in_time([frames], notes)
            return Stack([[f] for f in columns[0]], affine, times, False, notes, facts)
    if len(frames) > 1:
        notes.append(
            "ImagePositionPatient or ImageOrientationPatient is missing: slices are in order of instance number, orientation unknown."
        )
        frames = sorted(frames, key=_instance)
    elif text(first.file.ds, "Modality") in _PLACED:
        notes.append("ImagePositionPatient or ImageOrientationPatient is missing: orientation unknown.")
    return Stack([frames], affine, None, False, notes)


def _blocks(
    columns: list[list[Frame]], times: NDArray[np.float64] | None, notes: list[str], facts: dict[str, object]
) -> list[Stack]:
    """One stack for an even grid, else its uniform blocks, else one stack that says how uneven it is."""
    frames = [c[0] for c in columns]
    depth = _depth(frames)
    if len(frames) < 3 or _even(depth):
        return [_stack(columns, times, notes, facts)]
    steps = np.diff(depth)
    usual = float(np.median(steps))
    odd = [f"{s:.4g} mm after slice {k + 1}" for k, s in enumerate(steps) if abs(s - usual) > UNEVEN * usual]
    gap = f"Slices are unevenly spaced: usually {usual:.4g} mm apart, but {_few(odd)}"
    runs = _runs(depth)
    if len(runs) <= MOST_BLOCKS and sum(1 for a, b in runs if b - a == 1) <= 1:
        said = f"{gap}; opened as {len(runs)} blocks of even spacing (a slice may be missing between them)."
        out = []
        for a, b in runs:
            one = _stack(columns[a:b], times, [*notes, said], dict(facts, block=[a, b]), step=usual)
            out.append(one)
        return out
    facts = dict(facts, slice_positions_mm=[round(float(d - depth[0]), 4) for d in depth])
    said = f"{gap}; no even grid fits, so positions between the first and the last slice are approximate (true ones in meta)."
    return [_stack(columns, times, [*notes, said], facts)]


def _even(depth: NDArray[np.float64]) -> bool:
    fit = np.linspace(depth[0], depth[-1], len(depth))
    return bool(np.abs(depth - fit).max() <= UNEVEN * abs(depth[-1] - depth[0]) / (len(depth) - 1))


def _runs(depth: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Longest even runs [start, stop) from the front."""
    out, start = [], 0
    while start < len(depth):
        stop = min(start + 2, len(depth))
        while stop < len(depth) and _even(depth[start : stop + 1]):
            stop += 1
        # a pair is a run only if its step is like one beside it; else the first slice stands alone
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
    """Affine of an even run of positions: a sheared one where slices shift in plane (gantry tilt)."""
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
    return Stack(grid, RAS_LPS @ lps, times, True, notes, facts)


def _tilt(frame: Frame, between: Vector) -> float:
    """Angle in degrees between the slices' normal and the direction in which they are stacked."""
    _, row, column = frame.plane
    cosine = abs(between @ np.cross(row, column)) / max(float(np.linalg.norm(between)), 1e-12)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
