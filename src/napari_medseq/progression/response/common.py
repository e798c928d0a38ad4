"""The common part of the rule sets: target selection, sums over time, verdicts with reasons."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medseq.record import DISCLAIMER

if TYPE_CHECKING:
    import pandas as pd

    from napari_medseq.progression.tracked import Tracked

Row = dict[str, Any]
#: progression stands whatever was not seen: what was seen is enough for it
FOUND_WORSE = ("PD",)
NOTE = f"Computed from sizes alone, no clinical verdict. {DISCLAIMER}"
#: slices up to this thickness measure a lesion of 10 mm
THIN_SLICE_MM = 5.0
#: options of rules that have one value per visit
PER_VISIT = ("steroids", "clinical", "flair", "solid_mm")


@dataclass(frozen=True)
class Verdict:
    """The category at one visit, the number it rests on, and the reasons, lesion by lesion."""

    visit: int
    date: date | None
    category: str
    value: float
    change_from_baseline_percent: float
    change_from_nadir_percent: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Assessment:
    """The assessment of all visits after the first by a rule set (of the first too if its categories need no
    comparison).

    Parameters
    ----------
    rule, source : str
        Its name, and where the criteria are published.
    quantity : str
        What the value is, such as "sum of longest diameters (mm)".
    targets : tuple of int
        Lesions that are measured.
    verdicts : tuple of Verdict
        One per visit, in order.
    """

    rule: str
    source: str
    quantity: str
    targets: tuple[int, ...] = ()
    verdicts: tuple[Verdict, ...] = field(default_factory=tuple)
    note: str = NOTE

    @property
    def table(self) -> pd.DataFrame:
        """One row per visit; reasons joined by "; "."""
        import pandas as pd

        columns = ["visit", "date", "category", "value", "change_from_baseline_percent", "change_from_nadir_percent"]
        rows = [{**{c: getattr(v, c) for c in columns}, "reasons": "; ".join(v.reasons)} for v in self.verdicts]
        return pd.DataFrame(rows, columns=[*columns, "reasons"])


class Sightings:
    """The rows of a progression by lesion and visit, with the lesions that carry another one on: pieces and unions."""

    def __init__(self, progression: Tracked) -> None:
        table = progression.lesions
        self.dates: list[date | None] = list(progression.dates)
        self.visits = len(self.dates)
        self.rows: dict[tuple[int, int], Row] = {
            (int(r["lesion"]), int(r["visit"])): {str(k): v for k, v in r.items()}
            for r in table.to_dict(orient="records")
        }
        self.lesions = sorted({lesion for lesion, _ in self.rows})
        self.baseline = [lesion for lesion in self.lesions if self.row(lesion, 0) and self.volume(lesion, 0) > 0]
        nodes = {(i, key[0]): key for key, i in progression.graph.identities.items()}
        self.in_view: Callable[[int, int, int], bool] = lambda lesion, seen, visit: progression.in_view(
            progression.graph.lesions[nodes[lesion, seen]], visit
        )
        #: lesion → the lesions that carry it on, each with the visit from which it does
        self._carriers: dict[int, list[tuple[int, int]]] = {}
        #: (visit, lesion, the lesion into which it merged), in order of visit
        self._merges: list[tuple[int, int, int]] = []
        by_visit = sorted(self.rows.items(), key=lambda item: item[0][1])
        for (lesion, visit), row in by_visit:
            parents = [int(p) for p in row["parents"].split(";") if p]
            self._merges += [(visit, p, lesion) for p in parents if p != lesion and self._ends(p, visit)]
            if visit and lesion not in parents and parents and row["event"] in ("split", "complex"):
                carried = {k for own in self._carriers.values() for k, _ in own}
                if lesion not in self.baseline and lesion not in carried:
                    self._carriers.setdefault(parents[0], []).append((lesion, visit))

    def row(self, lesion: int, visit: int) -> Row | None:
        """The row of a lesion at a visit, or None."""
        return self.rows.get((lesion, visit))

    def volume(self, lesion: int, visit: int) -> float:
        """mL; 0 where it is absent."""
        row = self.row(lesion, visit)
        return float(row["volume_ml"]) if row else 0.0

    def measured(self, lesion: int, visit: int) -> bool:
        """Whether a lesion is present at a visit and large enough to be measured."""
        row = self.row(lesion, visit)
        return bool(row and row["volume_ml"] > 0 and row["measured"])

    def follow(self, targets: Sequence[int]) -> None:
        """Let a lesion that is no target carry on the target that merged into it: the measure is then that of the union."""
        for visit, lesion, union in self._merges:
            holder = next((k for k in targets if lesion in self.parts(k, visit)), None)
            if holder is not None and not any(union in self.parts(k, visit) for k in targets):
                self._carriers.setdefault(holder, []).append((union, visit))

    def parts(self, lesion: int, visit: int) -> list[int]:
        """The lesion and all that carry it on at a visit: pieces that split off it, and (see `follow`) unions that took it up."""
        parts, found = [lesion], [lesion]
        while found:
            carriers = [k for part in found for k, since in self._carriers.get(part, ()) if since <= visit]
            found = [k for k in dict.fromkeys(carriers) if k not in parts]
            parts += found
        return parts

    def mixed(self, lesion: int, targets: Sequence[int], visit: int) -> bool:
        """Whether a lesion has merged with a target by a visit, so that its own volume is not known any more."""
        own, held = set(self.parts(lesion, visit)), {p for k in targets for p in self.parts(k, visit)}
        return bool(own & held) or any(
            at <= visit and ((one in own and union in held) or (one in held and union in own))
            for at, one, union in self._merges
        )

    def size(self, lesion: int, visit: int, column: str, unmeasured: float) -> float:
        """A measure of a lesion, summed over its parts; `unmeasured` where it is there but none is large enough to measure."""
        rows = [row for part in self.parts(lesion, visit) if (row := self.row(part, visit)) and row["volume_ml"] > 0]
        known = [float(row[column]) for row in rows if np.isfinite(row[column])]
        return sum(known, 0.0) if known or not rows else unmeasured

    def least(self, lesions: Sequence[int], values: Sequence[float], visit: int) -> int:
        """The visit before `visit` with the least value, among those at which all these lesions could be seen."""
        whole = [v for v in range(visit) if not self.unseen(lesions, v)]
        return min(whole, key=lambda v: values[v])

    def unseen(self, lesions: Iterable[int], visit: int) -> list[int]:
        """Lesions whose position was out of view at a visit, so that it is unknown whether they are gone."""
        unseen_lesions = []
        for lesion in lesions:
            last = max((v for v in range(visit) if self.volume(lesion, v) > 0), default=None)
            if last is None or any(self.volume(k, visit) > 0 for k in self.parts(lesion, visit)):
                continue
            if not self._ends(lesion, last + 1) and not self.in_view(lesion, last, visit):
                unseen_lesions.append(lesion)
        return unseen_lesions

    def _ends(self, lesion: int, visit: int) -> bool:
        """Whether a lesion was taken up by another at a visit."""
        row = self.row(lesion, visit)
        return row is not None and row["event"] in ("merged", "complex") and not row["volume_ml"] > 0

    def new(self, visit: int) -> list[int]:
        """Measured lesions that are new at a visit."""
        return [
            lesion
            for lesion in self.lesions
            if (row := self.row(lesion, visit)) and row["event"] == "new" and row["measured"]
        ]

    def appeared(self, visit: int) -> dict[int, int]:
        """Lesions that were new at a visit or at an earlier one and are measured at it still, each with the visit at which it was new."""
        return {
            lesion: since
            for since in range(1, visit + 1)
            for lesion in self.new(since)
            if any(self.measured(part, visit) for part in self.parts(lesion, visit))
        }

    @staticmethod
    def told_new(lesion: int, since: int, visit: int) -> str:
        """What is said of one of `appeared`."""
        return f"lesion {lesion} is new" + ("" if since == visit else f" since visit {since + 1}")

    def days(self, one: int, other: int) -> float:
        """Days between two visits; NaN when a date is unknown."""
        a, b = self.dates[one], self.dates[other]
        return float((b - a).days) if a and b else float("nan")


def at_visits(name: str, value: object, visits: Sequence[int]) -> object:
    """An option of a rule for some of the visits alone: one value per visit, visits by number, or what was tracked at each."""
    from napari_medseq.progression.tracked import Tracked

    if name == "unequivocal" and isinstance(value, Collection):
        return [visits.index(v) for v in value if v in visits]
    if name not in PER_VISIT:
        return value
    if isinstance(value, Tracked):
        return value.at_visits(visits)
    if isinstance(value, Mapping):
        return {lesion: at_visits(name, each, visits) for lesion, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [value[visit] for visit in visits if visit < len(value)]
    return value


def number(value: float) -> str:
    """Three digits that count, but never as a power of ten: 0.0123, 12.3, 1220."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def percent(now: float, earlier: float) -> float:
    """Change in percent; NaN from nothing. Rounded to 1e-9, so that a change of exactly a rule's limit is not lost in the last bit."""
    return round(100 * (now - earlier) / earlier, 9) if earlier > 0 else float("nan")


def compared(now: float, earlier: Mapping[str, float]) -> str:
    """Changes in words: to each earlier value that is above 0, by its name, such as "-12 % of baseline, +3 % of the least"."""
    changes = [f"{percent(now, value):+.0f} % of {name}" for name, value in earlier.items() if value > 0]
    return ", ".join(changes) or "nothing to be compared with"


def by_sum(
    seen: Sightings,
    targets: Sequence[int],
    value: Callable[[int, int], float],
    category: Callable[[int, Sequence[float], int], tuple[str, list[str]]],
    unit: str,
) -> tuple[Verdict, ...]:
    """Verdicts from a sum over targets: `value(lesion, visit)`; `category(visit, sums, least)` judges.

    `sums` has one value per visit; `least` is the earlier visit with the smallest one (the nadir), of those at which every target
    could be seen.
    """
    sums = [sum((value(lesion, visit) for lesion in targets), 0.0) for visit in range(seen.visits)]
    verdicts = []
    for visit in range(1, seen.visits):
        least = seen.least(targets, sums, visit)
        name, why = category(visit, sums, least)
        out = seen.unseen(targets, visit)
        if out and name not in FOUND_WORSE:
            name, why = "not evaluable", out_of_view(out)
        each = [
            f"lesion {lesion}: {number(value(lesion, 0))} → {number(value(lesion, visit))} {unit}" for lesion in targets
        ]
        verdicts.append(
            Verdict(
                visit,
                seen.dates[visit],
                name,
                sums[visit],
                percent(sums[visit], sums[0]),
                percent(sums[visit], sums[least]),
                (*why, *each),
            )
        )
    return tuple(verdicts)


def out_of_view(lesions: Iterable[int]) -> list[str]:
    """One reason for each lesion that could not be seen."""
    return [f"lesion {k} was out of view" for k in lesions]


def smallest_measurable_mm(progression: Tracked, thin_mm: float) -> float:
    """The smallest diameter that counts as measurable: `thin_mm`, or twice the thickness of slices thicker than 5 mm.

    The same words in RECIST 1.1 (Eisenhauer et al. 2009, section 3.1) and RANO (Wen et al. 2010); the distance between slices counts,
    gaps included.
    """
    thickest = max((float(k.spacing_zyx.max()) for k in progression.graph.at(0)), default=0.0)
    return 2 * thickest if thickest > THIN_SLICE_MM else thin_mm


def confirmed_by(seen: Sightings, verdicts: Sequence[Verdict], k: int, days: float) -> int | None:
    """The visit that upholds the response of verdict `k`: the first so many days later, if it says the same or better and nothing
    progressed between."""
    upholds = {"CR": ("CR",), "PR": ("PR", "CR")}[verdicts[k].category]
    for verdict in verdicts[k + 1 :]:
        if verdict.category in FOUND_WORSE:
            return None
        if not seen.days(verdicts[k].visit, verdict.visit) < days:
            return verdict.visit if verdict.category in upholds else None
    return None
