"""Lung-RADS v2022: the category of each nodule of a screening CT from its type, size, growth and what it was before."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_medseq.errors import SettingsError
from napari_medseq.progression.response.common import Assessment, Sightings, Verdict

if TYPE_CHECKING:
    from napari_medseq.progression.tracked import Tracked

SOURCE = "American College of Radiology, Lung-RADS v2022 (November 2022); Christensen et al., Chest 2024, 165:738"
TYPES = ("solid", "part-solid", "ground-glass")
ORDER = ("1", "2", "3", "4A", "4B", "4X")
GROWTH_MM, YEAR_DAYS = 1.5, 365.25
#: examinations that slow growth needs, the present one among them
SEVERAL = 3
#: a follow-up this long after lowers what did not grow: 3 → 2 after six months, 4A → 3 after three
STEP_DOWN = {"3": ("2", 150.0), "4A": ("3", 75.0)}


def lung_rads(
    progression: Tracked,
    *,
    types: Mapping[int, str] | None = None,
    solid_mm: Mapping[int, Sequence[float | None]] | None = None,
    suspicious: Collection[int] = (),
) -> Assessment:
    """Lung-RADS v2022, at each visit (the first too).

    Parameters
    ----------
    progression : Tracked
        Progression of the nodules. Size is the mean of the longest and the perpendicular diameter, in mm to one
        decimal.
    types : dict of int to str, optional
        "solid", "part-solid" or "ground-glass", by nodule; solid where not given, and the reasons say so.
    solid_mm : dict of int to sequence, optional
        Mean diameter of the solid part of part-solid nodules, one number (or None) per visit.
    suspicious : collection of int
        Nodules with further features of cancer (spiculation, nodes…): 3 and 4 become 4X.

    Returns
    -------
    Assessment
        The highest category of each visit; the value is the mean diameter of that nodule. Growth is more than 1.5 mm within the last
        twelve months (see `rise_within_year`); a nodule that grew less but reached a larger size category is graded by that. A solid or
        part-solid nodule that grew less within any twelve months, but from examination to examination and by more than 1.5 mm in all, is
        4B (slow growth). A 4B nodule stays 4B unless it shrank by more than 1.5 mm, since only a work-up lowers it. Modifiers S, airway
        nodules, cysts and benign patterns are a reader's.

    Raises
    ------
    SettingsError
        If a type is unknown, or the solid part is not given per visit.
    """
    seen, types, solid_mm = Sightings(progression), types or {}, solid_mm or {}
    for lesion, kind in types.items():
        if kind not in TYPES:
            raise SettingsError(f"Nodule {lesion}: type {kind!r} is unknown; use one of {', '.join(TYPES)}.")
    for lesion, sizes in solid_mm.items():
        if len(sizes) != seen.visits:
            raise SettingsError(
                f"solid_mm of nodule {lesion} needs one number per visit ({seen.visits}), None if unknown."
            )
    before: dict[int, tuple[str, int]] = {}  # category, and the visit since which it stands
    verdicts = []
    for visit in range(seen.visits):
        grades: dict[int, str] = {}
        why: list[str] = []
        for lesion in seen.lesions:
            row = seen.row(lesion, visit)
            if not row or not row["volume_ml"] > 0 or not row["measured"]:
                continue
            part = solid_mm.get(lesion, [None] * seen.visits)
            grade, reason = _nodule(seen, lesion, visit, types.get(lesion), part, before.get(lesion))
            if lesion in suspicious and grade[0] in "34":
                grade, reason = "4X", f"{reason}; suspicious features"
            why.append(f"nodule {lesion}: {grade} ({reason})")
            grades[lesion] = grade
        ordered = {k: g for k, g in grades.items() if g in ORDER}
        before |= {k: (g, visit) for k, g in ordered.items() if k not in before or before[k][0] != g}
        top = max(ordered, key=lambda k: (ORDER.index(ordered[k]), mean_mm(seen, k, visit)), default=None)
        ungraded = len(ordered) < len(grades) and (top is None or ORDER.index(ordered[top]) < ORDER.index("4B"))
        category = "not evaluable" if ungraded else ordered[top] if top is not None else "1"
        size = mean_mm(seen, top, visit) if top is not None else float("nan")
        nan = float("nan")
        verdicts.append(Verdict(visit, seen.dates[visit], category, size, nan, nan, tuple(why or ["no nodule"])))
    return Assessment("Lung-RADS v2022", SOURCE, "mean diameter (mm)", (), tuple(verdicts))


def mean_mm(seen: Sightings, lesion: int, visit: int) -> float:
    """Mean of the longest and the perpendicular diameter, to one decimal; 0 where the nodule is absent.

    Of a nodule too small to be measured, the diameter of the sphere of its volume: with 0 it would seem to have grown from nothing.
    """
    row = seen.row(lesion, visit)
    if row is None:
        return 0.0
    mean = (row["longest_mm"] + row["perpendicular_mm"]) / 2
    if not np.isfinite(mean):
        mean = (6 * 1000 * seen.volume(lesion, visit) / np.pi) ** (1 / 3)
    return round(float(mean), 1)


def _nodule(
    seen: Sightings,
    lesion: int,
    visit: int,
    kind: str | None,
    solid_mm: Sequence[float | None],
    before: tuple[str, int] | None,
) -> tuple[str, str]:
    """Category of one nodule at one visit, and why."""
    now = mean_mm(seen, lesion, visit)
    part = solid_mm[visit]
    earlier = [v for v in range(visit) if seen.volume(lesion, v) > 0]
    row = seen.row(lesion, visit)
    new = visit > 0 and not earlier and row is not None and row["event"] == "new"
    words = [kind or "taken as solid", f"{now:.1f} mm"]
    if kind == "part-solid" and part is None:
        return "not evaluable", ", ".join([*words, "size of the solid part is not given"])
    sizes = [mean_mm(seen, lesion, v) for v in earlier]
    change = rise_within_year([seen.days(v, visit) for v in earlier], sizes, now)
    parts = [(v, solid) for v in earlier if (solid := solid_mm[v]) is not None]
    if kind == "part-solid" and part is not None and parts:
        days = [seen.days(v, visit) for v, _ in parts]
        change = max(change, rise_within_year(days, [solid for _, solid in parts], part))
    if earlier:
        words.append(f"{change:+.1f} mm within 12 months")
    state = "new" if new else "growing" if change > GROWTH_MM else "not growing" if earlier else "baseline"
    words.append(state)
    grade = _grade(kind or "solid", now, part or 0.0, state)
    if state == "not growing" and kind != "ground-glass" and (slow := slow_rise([*sizes, now])) > GROWTH_MM:
        return "4B", ", ".join([*words, f"slow growth over several examinations, {slow:+.1f} mm"])
    if state == "not growing" and before is not None:
        lower, wait = STEP_DOWN.get(before[0], ("", np.inf))
        known = [v for v in earlier if kind != "part-solid" or solid_mm[v] is not None]
        by_size = [_grade(kind or "solid", mean_mm(seen, lesion, v), solid_mm[v] or 0.0, state) for v in known]
        shrunk = round(max(sizes) - now, 6) > GROWTH_MM
        # a larger size category counts, even if the nodule grew too little for growth
        if by_size and ORDER.index(grade) > max(map(ORDER.index, by_size)):
            grade = max(grade, before[0], key=ORDER.index)
            words.append("reached a larger size category")
        elif lower and seen.days(before[1], visit) >= wait:
            grade = lower
            words.append(f"was {before[0]}")
        elif before[0] in ORDER[:4]:  # neither worse nor long enough: as it was
            grade = before[0]
        elif before[0] == "4B" and not shrunk:
            grade = "4B"
            words.append("was 4B")
    return grade, ", ".join(words)


def rise_within_year(days: Sequence[float], sizes: Sequence[float], now: float) -> float:
    """The largest rise of a size up to now within the last twelve months, in mm; minus infinity without an earlier examination.

    Where an earlier examination is older, the size twelve months ago is taken from the line between it and the next one: of a rise over
    14 months twelve parts of fourteen count.

    Parameters
    ----------
    days : sequence of float
        Days before now of each earlier examination, the oldest first; NaN where unknown: then the latest counts.
    sizes : sequence of float
        At each of them.
    now : float
    """
    if not sizes:
        return -np.inf
    line = [(d, s) for d, s in zip(days, sizes, strict=True) if np.isfinite(d)]
    if not line or not np.isfinite(days[-1]):
        return round(now - sizes[-1], 6)
    within = [s for d, s in line if d <= YEAR_DAYS]
    older = [(d, s) for d, s in line if d > YEAR_DAYS]
    if older:
        (first, size), (last, next_size) = older[-1], [*line, (0.0, now)][len(older)]
        within.append(size + (next_size - size) * (first - YEAR_DAYS) / (first - last))
    return round(now - min(within), 6)


def slow_rise(sizes: Sequence[float]) -> float:
    """The rise of a size over the latest examinations without a fall, in mm; 0 where it rose between fewer than three of them."""
    at = len(sizes) - 1
    while at > 0 and sizes[at - 1] <= sizes[at]:
        at -= 1
    if len(set(sizes[at:])) < SEVERAL:
        return 0.0
    return round(sizes[-1] - sizes[at], 6)


def _grade(kind: str, size: float, part: float, state: str) -> str:
    """The table of Lung-RADS v2022 by type, mean diameter (and that of the solid part), and state."""
    if kind == "ground-glass":
        return "3" if size >= 30 and state in ("baseline", "new") else "2"
    if kind == "part-solid":
        if part >= 8 or (state in ("new", "growing") and part >= 4):
            return "4B"
        if state == "growing" or (state == "new" and part > 0 and size >= 6) or (size >= 6 and part >= 6):
            return "4A"
        return "3" if state == "new" or size >= 6 else "2"
    if state == "growing":
        return "4B" if size >= 8 else "4A"
    limits = (4.0, 6.0, 8.0) if state == "new" else (6.0, 8.0, 15.0)
    return ("2", "3", "4A", "4B")[sum(size >= limit for limit in limits)]
