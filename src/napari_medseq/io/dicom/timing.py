"""Frames at the same position: their order, their times in seconds from the first one, and what to do if some are
missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from napari_medseq.io.dicom.frame import Frame, depths
from napari_medseq.io.dicom.values import number, text

#: Time sources in order of trust, and whether their values are seconds.
_CLOCKS = (("temporal", False), ("label", False), ("frame", True), ("trigger", True), ("phase", False), ("acquired", True),
           ("reference", True), ("diffusion", False), ("acquisition", False), ("content", True), ("instance", False))  # fmt: skip


#: A scan is shorter than half a day; times further apart belong to two successive days.
_HALF_DAY, _DAY = 12 * 3600.0, 86400.0
#: Without other evidence all times must lie within this time around midnight.
_QUARTER_DAY = 6 * 3600.0
_DATED = {"acquired": ("AcquisitionDate", "AcquisitionDateTime"), "content": ("ContentDate",)}


def past_midnight(frames: Sequence[Frame], notes: list[str]) -> None:
    """Add a day to the clock times of frames that were acquired after midnight, if no date says so."""
    for name in ("acquired", "content"):
        values = np.array([frame.clock.get(name, np.nan) for frame in frames])
        if len(values) < 2 or np.isnan(values).any() or np.ptp(values // _DAY) > 0:
            continue
        times = np.unique(values)
        gaps = np.diff(times)
        if not len(gaps) or gaps.max() <= _HALF_DAY:
            continue
        early = values <= times[int(np.argmax(gaps))]
        if not _is_next_day(frames, early, name, _DAY - float(gaps.max())):
            continue
        for frame, after in zip(frames, early, strict=True):
            if after:
                frame.clock[name] += _DAY
                if name == "acquired" and frame.acquired is not None:
                    frame.acquired += timedelta(days=1)
        note = "The frames pass midnight without a date; those after it are counted on the next day."
        if note not in notes:
            notes.append(note)


def _is_next_day(frames: Sequence[Frame], early: NDArray[np.bool_], name: str, span: float) -> bool:
    """Whether frames with early times come after the others: according to their numbers, or else if all are close to
    midnight."""
    numbers = np.array([frame.clock.get("instance", np.nan) for frame in frames])
    if not np.isnan(numbers).any():
        if numbers[~early].max() < numbers[early].min():
            return True
        if numbers[early].max() < numbers[~early].min():
            return False
    dated = any(text(frame.file.ds, keyword) for frame in frames for keyword in _DATED[name])
    return not dated and span <= _QUARTER_DAY


def evened(columns: list[list[Frame]], notes: list[str]) -> tuple[list[list[Frame]], list[Frame]]:
    """Give every position the same number of frames, with a warning.

    Returns
    -------
    columns, rest
        The volumes that have a frame at every position, or the first frame of each position if positions usually hold
        one; and the remaining frames at positions with more moments (such as a cine with more phases at some slices).
    """
    usual = Counter(len(c) for c in columns).most_common(1)[0][0]
    fewest, most = min(len(c) for c in columns), max(len(c) for c in columns)
    where = few([round(float(depths([columns[0][0], c[0]])[1]), 3) for c in columns if len(c) != usual])
    ordered = [sorted(c, key=instance) for c in columns]
    if usual == 1:
        notes.append(
            f"Several slices lie at the same position ({where} mm along the normal); the first of each is used."
        )
        return [c[:1] for c in ordered], []
    moments = _common(columns)
    if moments is not None:
        name, shared = moments
        complete = [[f for f in c if f.clock[name] in shared] for c in columns]
    else:
        source = _source(columns)
        ordered = ordered if source is None else [sorted(c, key=lambda f: f.clock[source]) for c in columns]
        complete = [c[:fewest] for c in ordered]
    beyond = [f for c in ordered for f in c[fewest:]] if moments is None and most - fewest > 1 else []
    notes.append(
        f"Positions hold between {fewest} and {most} frames; only the {len(complete[0])} complete volumes are used "
        f"(positions that differ: {where} mm along the normal)"
        + ("; the other frames follow by themselves." if beyond else ".")
    )
    return complete, beyond


def _common(columns: list[list[Frame]]) -> tuple[str, set[float]] | None:
    """The clock that has the most values present at every position, with those values, if they make up half of the
    volumes."""
    best: tuple[str, set[float]] | None = None
    for name, _ in _CLOCKS:
        values = [[f.clock.get(name) for f in c] for c in columns]
        if name == "instance" or any(None in v or len(set(v)) < len(v) for v in values):
            continue
        shared = set.intersection(*({x for x in v if x is not None} for v in values))
        if 2 * len(shared) >= min(len(c) for c in columns) and (best is None or len(shared) > len(best[1])):
            best = name, shared
    return best


def few(values: Sequence[object]) -> str:
    """The first few of many items in words."""
    return ", ".join(str(v) for v in values[:5]) + (" …" if len(values) > 5 else "")


def instance(frame: Frame) -> float:
    """The number of a frame in its series."""
    return frame.clock.get("instance", 0.0)


def in_time(
    columns: list[list[Frame]], notes: list[str]
) -> tuple[list[list[Frame]], NDArray[np.float64] | None, dict[str, object]]:
    """Order the frames at each position in time, and find the seconds of the volumes."""
    count = len(columns[0])
    if count == 1:
        return columns, None, {}
    source = _source(columns)
    if source is None:
        notes.append("No attribute tells the frames at one position apart; they are in the order of the files.")
        ordered = columns
    else:
        ordered = [sorted(c, key=lambda f: f.clock[source]) for c in columns]
    if source in (None, "content", "instance"):
        ordered = _alike_in_weighting(ordered)
    facts: dict[str, object] = {"time_source": source or "file order"}
    b_values = [ordered[0][t].b_value for t in range(count)]
    if any(b is not None for b in b_values):
        facts["b_values"] = [b if b is None else float(b) for b in b_values]
        vectors = [ordered[0][t].b_vector for t in range(count)]
        if any(v is not None for v in vectors):  # from LPS to RAS, which all coordinates of this package use
            facts["b_vectors"] = [
                None if v is None else [float(x) for x in np.round(v * (-1, -1, 1), 6)] for v in vectors
            ]
    return ordered, _seconds(ordered, source, notes, facts), facts


def _alike_in_weighting(columns: list[list[Frame]]) -> list[list[Frame]]:
    """Put the same diffusion weighting at the same moment at every position, if the numbers disagree and it can be
    done."""
    orders = [[_weighting(f) for f in c] for c in columns]
    if all(order == orders[0] for order in orders) or any(Counter(order) != Counter(orders[0]) for order in orders):
        return columns
    out = []
    for column, order in zip(columns, orders, strict=True):
        waiting: dict[object, list[Frame]] = {}
        for frame, weighting in zip(column, order, strict=True):
            waiting.setdefault(weighting, []).append(frame)
        out.append([waiting[weighting].pop(0) for weighting in orders[0]])
    return out


def _weighting(frame: Frame) -> tuple[object, ...]:
    vector = None if frame.b_vector is None else tuple(np.round(frame.b_vector, 3) + 0.0)
    return frame.b_value, vector


def _source(columns: list[list[Frame]]) -> str | None:
    """The first clock that distinguishes the frames of every position."""
    return next((name for name, _ in _CLOCKS if _orders(columns, name)), None)


def _orders(columns: list[list[Frame]], name: str) -> bool:
    """Whether a time source distinguishes the frames at every position (and indices are equal at all positions)."""
    sets = []
    for column in columns:
        values = [f.clock.get(name) for f in column]
        if None in values or len(set(values)) < len(values):
            return False
        sets.append(frozenset(values))
    return name not in ("temporal", "label", "phase", "diffusion", "acquisition") or len(set(sets)) == 1


def _seconds(
    columns: list[list[Frame]], source: str | None, notes: list[str], facts: dict[str, object]
) -> NDArray[np.float64]:
    """Seconds of each volume from the first: from a clock that rises in this order, else the repetition time, else
    counted."""
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
