"""RECIST 1.1 from tracked lesions: targets, non-targets, nodes by short axis, nadir, the 5 mm rule, new lesions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_medseq.progression.response.common import (
    Assessment,
    Sightings,
    Verdict,
    by_sum,
    compared,
    confirmed_by,
    out_of_view,
    percent,
    smallest_measurable_mm,
)

if TYPE_CHECKING:
    from napari_medseq.progression.tracked import Tracked

SOURCE = (
    "Eisenhauer et al., Eur J Cancer 2009, 45:228 (RECIST 1.1); nodes that were normal as the RECIST committee's answers on new "
    "lymph nodes (recist.eortc.org)"
)
#: a target too faint to measure counts as 5 mm
TOO_SMALL_MM = 5.0
#: smallest longest diameter of a target in thin slices
TARGET_MM = 10.0
#: the sum must rise by this share of its nadir and by this much
RISE_PERCENT, RISE_MM = 20.0, 5.0
FALL_PERCENT = 30.0
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
        Lesions that are lymph nodes: measured by short axis, targets from 15 mm, non-targets from 10 mm, normal below. A new node that is
        normal is no new lesion; one that was normal when it was first seen becomes one when it reaches 10 mm and has grown by 5 mm or
        more (growth from 9 to 11 mm may be none).
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
    rule = _Recist(Sightings(progression), nodes, organs or {}, unequivocal)
    least = min_diameter_mm if min_diameter_mm is not None else smallest_measurable_mm(progression, TARGET_MM)
    rule.choose(least, max_targets, max_per_organ)
    verdicts = by_sum(rule.seen, rule.targets, rule.value, rule.category, "mm")
    note = (
        f"no lesion of {least:g} mm (nodes {NODE_TARGET_MM:g} mm) or more at the first visit: non-target disease only"
    )
    notes = () if rule.targets else (note,)
    responses = tuple(_with_confirmation(rule.seen, verdicts, k, notes) for k in range(len(verdicts)))
    return Assessment("RECIST 1.1", SOURCE, "sum of diameters (mm)", tuple(rule.targets), responses)


class _Recist:
    """The lesions of a patient as RECIST 1.1 sees them: targets, the others, and what each visit says of both."""

    def __init__(
        self, seen: Sightings, nodes: Collection[int], organs: Mapping[int, str], unequivocal: Collection[int]
    ) -> None:
        self.seen, self.nodes, self.organs, self.unequivocal = seen, nodes, organs, unequivocal
        self.targets: list[int] = []
        self.others: list[int] = []

    def choose(self, least_mm: float, most: int, most_per_organ: int) -> None:
        """The largest measurable lesions of the first visit become targets; what else is abnormal there is followed as non-target."""
        abnormal = [
            k
            for k in self.seen.baseline
            if self.seen.measured(k, 0) and (k not in self.nodes or self.value(k, 0) >= NODE_NORMAL_MM)
        ]
        used: Counter[str] = Counter()
        for lesion in sorted(abnormal, key=lambda k: -self.value(k, 0)):
            measurable = self.value(lesion, 0) >= (NODE_TARGET_MM if lesion in self.nodes else least_mm)
            organ = self._organ(lesion)
            if measurable and len(self.targets) < most and used[organ] < most_per_organ:
                self.targets.append(lesion)
                used[organ] += 1
        self.others = [k for k in abnormal if k not in self.targets]
        self.seen.follow(self.targets)

    def value(self, lesion: int, visit: int) -> float:
        """Diameter in mm: the short axis of a node, the longest diameter of any other lesion."""
        column = "perpendicular_mm" if lesion in self.nodes else "longest_mm"
        return self.seen.size(lesion, visit, column, TOO_SMALL_MM)

    def category(self, visit: int, sums: Sequence[float], least: int) -> tuple[str, list[str]]:
        """The category at a visit from the sums of diameters of all visits (mm) and the visit of the nadir, with its reasons."""
        now, baseline, nadir = sums[visit], sums[0], sums[least]
        worse = self._new_or_back(visit) + self._non_targets_worse(visit)
        if round(now - nadir, 9) >= RISE_MM and not percent(now, nadir) < RISE_PERCENT:
            change = f"{percent(now, nadir):+.0f} %, " if nadir > 0 else ""
            worse.append(f"sum rose from its nadir {nadir:.1f} to {now:.1f} mm ({change}at least {RISE_MM:g} mm)")
        if worse:
            return "PD", worse
        remaining = [k for k in self.others if not self._gone(k, visit)]
        remain = f"non-targets remain: {', '.join(str(k) for k in remaining)}"
        unknown = out_of_view(self.seen.unseen(self.others, visit))
        if not self.targets and not self.others:
            return "not evaluable", ["no lesion at the first visit that RECIST could follow"]
        if not self.targets:
            if unknown and not remaining:
                return "not evaluable", unknown
            return ("non-CR/non-PD", [remain]) if remaining else ("CR", ["all non-targets are gone"])
        if all(self._gone(k, visit) for k in self.targets):
            if remaining or unknown:
                return "PR", [f"all targets are gone, {remain}" if remaining else "all targets are gone", *unknown]
            return "CR", ["all targets and non-targets are gone"]
        of_baseline = f"{percent(now, baseline):+.0f} %"
        if percent(now, baseline) <= -FALL_PERCENT:
            return "PR", [f"sum fell from baseline {baseline:.1f} to {now:.1f} mm ({of_baseline})"]
        return "SD", [f"sum {now:.1f} mm: {compared(now, {'baseline': baseline, 'nadir': nadir})}"]

    def _new_or_back(self, visit: int) -> list[str]:
        normal = [k for k, v in self.seen.appeared(visit).items() if k in self.nodes and self._gone(k, v)]
        new = {k: v for k, v in self.seen.appeared(visit).items() if k not in normal and not self._gone(k, visit)}
        reasons = [self.seen.told_new(k, since, visit) for k, since in new.items()]
        turned = [k for k in sorted(self.nodes) if k not in new and self._turned_abnormal(k, visit)]
        reasons += [f"node {k} was normal and is not any more" for k in turned]
        if any(self._complete(v) for v in range(1, visit)):
            reasons += [f"lesion {k} came back after complete response" for k in self.targets if self._back(k, visit)]
        return reasons

    def _turned_abnormal(self, node: int, visit: int) -> bool:
        """Whether a node that was normal when it was first seen, and so is neither target nor non-target, is abnormal at a visit."""
        earlier = [self.value(node, v) for v in range(visit) if self.seen.volume(node, v) > 0]
        if not earlier or earlier[0] >= NODE_NORMAL_MM or node in self.targets or self._gone(node, visit):
            return False
        return round(self.value(node, visit) - min(earlier), 9) >= RISE_MM

    def _non_targets_worse(self, visit: int) -> list[str]:
        """Reasons for unequivocal progression of the non-targets that have not merged with a target, in volume over their least."""
        reasons = []
        others = [k for k in self.others if not self.seen.mixed(k, self.targets, visit)]
        volumes = [sum(self.seen.size(k, v, "volume_ml", 0.0) for k in others) for v in range(visit + 1)]
        least = volumes[self.seen.least(others, volumes, visit)]
        growth = percent(volumes[visit], least)
        if growth > NON_TARGET_PERCENT:
            reasons.append(f"non-targets grew by {growth:.0f} % in volume (over {NON_TARGET_PERCENT:.0f} %)")
        if others and volumes[visit] > 0 == least:
            reasons.append("non-targets came back after complete response")
        if visit in self.unequivocal:
            reasons.append("a reader saw unequivocal progression of non-targets")
        return reasons

    def _complete(self, visit: int) -> bool:
        """Whether nothing of what was there at the first visit was left at a visit, and all of it could be seen."""
        lesions = [*self.targets, *self.others]
        return all(self._gone(k, visit) for k in lesions) and not self.seen.unseen(lesions, visit)

    def _gone(self, lesion: int, visit: int) -> bool:
        return self.value(lesion, visit) < (NODE_NORMAL_MM if lesion in self.nodes else 1e-9)

    def _back(self, lesion: int, visit: int) -> bool:
        row = self.seen.row(lesion, visit)
        return row is not None and row["event"] == "reappeared" and not self._gone(lesion, visit)

    def _organ(self, lesion: int) -> str:
        row = self.seen.row(lesion, 0)
        return self.organs.get(lesion, str(row["label"]) if row else "")


def _with_confirmation(seen: Sightings, verdicts: tuple[Verdict, ...], k: int, notes: tuple[str, ...]) -> Verdict:
    """The verdict with whether a later visit confirms it."""
    verdict = verdicts[k]
    if verdict.category in ("CR", "PR"):
        upholding = confirmed_by(seen, verdicts, k, CONFIRM_DAYS)
        notes += (
            (f"confirmed at visit {upholding + 1}",)
            if upholding is not None
            else ("not confirmed four weeks on or later",)
        )
    return replace(verdict, reasons=(*verdict.reasons, *notes))
