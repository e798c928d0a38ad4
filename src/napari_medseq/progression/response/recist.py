"""RECIST 1.1 from tracked lesions: targets, non-targets, nodes by short axis, nadir, the 5 mm rule, new lesions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_medseq.progression.response.common import Assessment, Sightings, Verdict, by_sum, confirmed_by, percent

if TYPE_CHECKING:
    from napari_medseq.progression.tracked import Tracked

SOURCE = "Eisenhauer et al., Eur J Cancer 2009, 45:228 (RECIST 1.1)"
#: a target too faint to measure counts as 5 mm
TOO_SMALL_MM = 5.0
#: short axis of a node: measurable from, abnormal from
NODE_TARGET_MM, NODE_NORMAL_MM = 15.0, 10.0
#: 73 % in volume is 20 % in diameter: what the guideline gives as a measure of unequivocal non-target progression
NON_TARGET_PERCENT = 73.0
CONFIRM_DAYS = 28


def recist11(
    progression: Tracked,
    *,
    nodes: Collection[int] = (),
    organs: Mapping[int, str] | None = None,
    max_targets: int = 5,
    max_per_organ: int = 2,
    min_diameter_mm: float | None = None,
    unequivocal: Collection[int] = (),
) -> Assessment:
    """RECIST 1.1.

    Parameters
    ----------
    progression : Tracked
    nodes : collection of int
        Lesions that are lymph nodes: measured by short axis, targets from 15 mm, non-targets from 10 mm, normal below.
    organs : dict of int to str, optional
        Organ of each lesion; by default its label.
    max_targets, max_per_organ : int
        The largest measurable lesions, so many in all and per organ.
    min_diameter_mm : float, optional
        Smallest measurable longest diameter; by default 10 mm, or twice the slice thickness where slices are thicker than 5 mm.
    unequivocal : collection of int
        Visits at which a reader saw unequivocal progression of non-target disease. Measured here: 73 % more volume than at
        its least.

    Returns
    -------
    Assessment
        CR, PR, SD, PD or not evaluable; without a target CR, non-CR/non-PD or PD. The sum of diameters is in mm. Progression is
        against the nadir. Whether a later visit, four weeks on or more, confirms CR or PR stands in the reasons: RECIST asks for it
        where response is the primary end point of a trial that is not randomised.
    """
    seen = Sightings(progression)
    thickest = max((float(k.spacing_zyx.max()) for k in progression.graph.at(0)), default=0.0)
    least = min_diameter_mm if min_diameter_mm is not None else 2 * thickest if thickest > 5 else 10.0

    def value(lesion: int, visit: int) -> float:
        return seen.size(lesion, visit, "perpendicular_mm" if lesion in nodes else "longest_mm", TOO_SMALL_MM)

    def gone(lesion: int, visit: int) -> bool:
        return value(lesion, visit) < (NODE_NORMAL_MM if lesion in nodes else 1e-9)

    def organ(lesion: int) -> str:
        row = seen.row(lesion, 0)
        return (organs or {}).get(lesion, str(row["label"]) if row else "")

    ill = [k for k in seen.baseline if measured(seen, k) and (k not in nodes or value(k, 0) >= NODE_NORMAL_MM)]
    targets: list[int] = []
    used: Counter[str] = Counter()
    for lesion in sorted(ill, key=lambda k: -value(k, 0)):
        large = value(lesion, 0) >= (NODE_TARGET_MM if lesion in nodes else least)
        if large and len(targets) < max_targets and used[organ(lesion)] < max_per_organ:
            targets.append(lesion)
            used[organ(lesion)] += 1
    others = [k for k in ill if k not in targets]

    def worse(visit: int, nadir: float) -> list[str]:
        why = [f"lesion {k} is new" for k in seen.new(visit)]
        back = [k for k in targets if (r := seen.row(k, visit)) and r["event"] == "reappeared" and value(k, visit) > 0]
        if back and nadir == 0:
            why += [f"lesion {k} came back after complete response" for k in back]
        volumes = [sum(seen.volume(k, v) for k in others) for v in range(visit + 1)]
        more = percent(volumes[-1], min(volumes[:-1]))
        if more > NON_TARGET_PERCENT:
            why.append(f"non-targets grew by {more:.0f} % in volume (over {NON_TARGET_PERCENT:.0f} %)")
        if others and volumes[-1] > 0 == min(volumes[:-1]):
            why.append("non-targets came back after complete response")
        if visit in unequivocal:
            why.append("a reader saw unequivocal progression of non-targets")
        return why

    def category(visit: int, now: float, base: float, nadir: float) -> tuple[str, list[str]]:
        why = worse(visit, nadir)
        if now - nadir >= 5 and percent(now, nadir) >= 20:
            why.append(
                f"sum rose from its nadir {nadir:.1f} to {now:.1f} mm ({percent(now, nadir):+.0f} %, at least 5 mm)"
            )
        if why:
            return "PD", why
        left = [k for k in others if not gone(k, visit)]
        remain = f"non-targets remain: {', '.join(str(k) for k in left)}"
        if not targets:
            if not others:
                return "not evaluable", ["no lesion at the first visit that RECIST could follow"]
            return ("non-CR/non-PD", [remain]) if left else ("CR", ["all non-targets are gone"])
        if all(gone(k, visit) for k in targets):
            return (
                ("PR", [f"all targets are gone, {remain}"])
                if left
                else ("CR", ["all targets and non-targets are gone"])
            )
        if percent(now, base) <= -30:
            return "PR", [f"sum fell from baseline {base:.1f} to {now:.1f} mm ({percent(now, base):+.0f} %)"]
        return "SD", [
            f"sum {now:.1f} mm: {percent(now, base):+.0f} % of baseline, {percent(now, nadir):+.0f} % of nadir"
        ]

    verdicts = by_sum(seen, targets, value, category, "mm")
    note = (
        f"no lesion of {least:g} mm (nodes {NODE_TARGET_MM:g} mm) or more at the first visit: non-target disease only"
    )
    responses = tuple(_told(seen, verdicts, k, () if targets else (note,)) for k in range(len(verdicts)))
    return Assessment("RECIST 1.1", SOURCE, "sum of diameters (mm)", tuple(targets), responses)


def _told(seen: Sightings, verdicts: tuple[Verdict, ...], k: int, notes: tuple[str, ...]) -> Verdict:
    """The verdict with whether a later visit confirms it."""
    verdict = verdicts[k]
    if verdict.category in ("CR", "PR"):
        held = confirmed_by(seen, verdicts, k, CONFIRM_DAYS)
        notes += (f"confirmed at visit {held + 1}",) if held is not None else ("not confirmed four weeks on or later",)
    return replace(verdict, reasons=(*verdict.reasons, *notes))


def measured(seen: Sightings, lesion: int) -> bool:
    """Whether a lesion is large enough to be measured at the first visit."""
    row = seen.row(lesion, 0)
    return bool(row and row["measured"])
