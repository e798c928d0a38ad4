"""RECIST 1.1 from tracked lesions: targets, non-targets, nodes by short axis, nadir, the 5 mm rule, new lesions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from napari_medseq.progression.response._common import Assessment, Sightings, by_sum, none_evaluable, percent

if TYPE_CHECKING:
    from napari_medseq.progression._progression import Progression

SOURCE = "Eisenhauer et al., Eur J Cancer 2009, 45:228 (RECIST 1.1)"
#: a target too faint to measure counts as 5 mm
TOO_SMALL_MM = 5.0
#: 73 % in volume is 20 % in diameter: what the guideline gives as a measure of unequivocal non-target progression
NON_TARGET_PERCENT = 73.0


def recist11(
    progression: Progression,
    *,
    nodes: Collection[int] = (),
    organs: Mapping[int, str] | None = None,
    max_targets: int = 5,
    max_per_organ: int = 2,
    smallest_mm: float = 10.0,
) -> Assessment:
    """RECIST 1.1.

    Parameters
    ----------
    progression : Progression
    nodes : collection of int
        Lesions that are lymph nodes: measured by short axis, targets from 15 mm, normal below 10 mm.
    organs : dict of int to str, optional
        Organ of each lesion; by default its label.
    max_targets, max_per_organ : int
        The largest measurable lesions, so many in all and per organ.
    smallest_mm : float
        Smallest measurable longest diameter; take twice the slice thickness where slices are thicker than 5 mm.

    Returns
    -------
    Assessment
        CR, PR, SD, PD or not evaluable. The sum of diameters is in mm. Progression is against the nadir.
    """
    seen = Sightings(progression)

    def column(lesion: int) -> str:
        return "perpendicular_mm" if lesion in nodes else "longest_mm"

    def value(lesion: int, visit: int) -> float:
        return seen.size(lesion, visit, column(lesion), TOO_SMALL_MM)

    measurable = [
        k for k in seen.baseline if value(k, 0) >= (15.0 if k in nodes else smallest_mm) and measured(seen, k)
    ]
    targets: list[int] = []
    used: Counter[str] = Counter()
    for lesion in sorted(measurable, key=lambda k: -value(k, 0)):
        row = seen.row(lesion, 0)
        organ = (organs or {}).get(lesion, str(row["label"]) if row else "")
        if len(targets) < max_targets and used[organ] < max_per_organ:
            targets.append(lesion)
            used[organ] += 1
    others = [k for k in seen.baseline if k not in targets and measured(seen, k)]

    def category(visit: int, now: float, base: float, nadir: float) -> tuple[str, list[str]]:
        new = seen.new(visit)
        why = [f"lesion {k} is new" for k in new]
        back = [k for k in targets if (r := seen.row(k, visit)) and r["event"] == "reappeared" and value(k, visit) > 0]
        if back and nadir == 0:
            why += [f"lesion {k} came back after complete response" for k in back]
        other_now, other_least = (
            sum(seen.volume(k, visit) for k in others),
            min((sum(seen.volume(k, v) for k in others) for v in range(visit)), default=0.0),
        )
        worse = percent(other_now, other_least) > NON_TARGET_PERCENT
        if worse:
            why.append(f"non-targets grew by {percent(other_now, other_least):.0f} % in volume (over 73 %)")
        if now - nadir >= 5 and percent(now, nadir) >= 20:
            why.append(
                f"sum rose from its nadir {nadir:.1f} to {now:.1f} mm ({percent(now, nadir):+.0f} %, at least 5 mm)"
            )
            return "PD", why
        if why:
            return "PD", why
        gone = all(value(k, visit) < 10 if k in nodes else value(k, visit) == 0 for k in targets)
        if gone and other_now == 0:
            return "CR", ["all targets and non-targets are gone"]
        if gone or percent(now, base) <= -30:
            extra = " (all targets gone, non-targets remain)" if gone else ""
            return "PR", [f"sum fell from baseline {base:.1f} to {now:.1f} mm ({percent(now, base):+.0f} %){extra}"]
        return "SD", [
            f"sum {now:.1f} mm: {percent(now, base):+.0f} % of baseline, {percent(now, nadir):+.0f} % of nadir"
        ]

    if targets:
        verdicts = by_sum(seen, targets, value, category, "mm")
    else:
        verdicts = none_evaluable(seen, f"no lesion of {smallest_mm:g} mm (nodes 15 mm) or more at the first visit")
    return Assessment("RECIST 1.1", SOURCE, "sum of diameters (mm)", tuple(targets), verdicts)


def measured(seen: Sightings, lesion: int) -> bool:
    """Whether a lesion is large enough to be measured at the first visit."""
    row = seen.row(lesion, 0)
    return bool(row and row["measured"])
