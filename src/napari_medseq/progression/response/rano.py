"""RANO for high-grade glioma: 2010 (bidimensional) and 2.0 (bidimensional or volumetric).

What images cannot tell (steroids, clinical state) is an option per visit; what is not given is not considered, and the reasons say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from napari_medseq.errors import SettingsError
from napari_medseq.moments import as_date
from napari_medseq.progression.components import Lesion
from napari_medseq.progression.inputs import Day
from napari_medseq.progression.response.common import (
    Assessment,
    Sightings,
    Verdict,
    by_sum,
    compared,
    confirmed_by,
    number,
    out_of_view,
    percent,
    smallest_measurable_mm,
)
from napari_medseq.sequence import SPACE

if TYPE_CHECKING:
    from napari_medseq.progression.tracked import Tracked

T = TypeVar("T", float, str)
SOURCE_2010 = (
    "Wen et al., J Clin Oncol 2010, 28:1963 (RANO); T2/FLAIR +25 % as van den Bent et al., Lancet Oncol 2011, 12:583"
)
SOURCE_2 = "Wen et al., J Clin Oncol 2023, 41:5187 (RANO 2.0)"
#: both diameters of a measurable lesion, and the slices that must show it (Wen et al. 2010)
SMALLEST_MM, SLICES = 10.0, 2
#: a lesion that is no target progresses when it is measurable and both diameters grew by so much (from 5 × 5 to 10 × 10 mm)
NON_TARGET_RISE_MM = 5.0
#: responses must last this long, and progression this soon after radiotherapy may be its effect
CONFIRM_DAYS, RADIOTHERAPY_DAYS = 28, 84
STATES = ("better", "stable", "worse")
#: rise of T2/FLAIR lesions: products of diameters, and volumes
FLAIR_PERCENT = {"product_mm2": 25.0, "volume_ml": 40.0}


def rano2010(
    progression: Tracked,
    *,
    max_targets: int = 5,
    radiotherapy_end: Day = None,
    steroids: Sequence[float | None] | None = None,
    clinical: Sequence[str | None] | None = None,
    flair: Sequence[str | None] | Tracked | None = None,
) -> Assessment:
    """RANO 2010: sum of products of perpendicular diameters of up to five enhancing lesions; −50 % and +25 %.

    Parameters
    ----------
    progression : Tracked
        Progression of the enhancing tumour.
    max_targets : int
    radiotherapy_end : date or ISO text, optional
        Progression on that day or within 12 weeks after it is "not evaluable", as it may be pseudoprogression; a later visit does not
        confirm it afterwards. The dates do not tell whether an earlier visit was during radiotherapy, so it is judged like any other, and
        the reasons say so. Give the visits from the first one after radiotherapy on, since that one is the baseline of a newly diagnosed
        glioma (Wen et al. 2010, 2023), and leave out those made during it.
    steroids : sequence of float or None, optional
        Dexamethasone in mg per day, one number (or None) per visit.
    clinical : sequence of {"better", "stable", "worse", None}, optional
        The clinical state at each visit.
    flair : sequence of {"better", "stable", "worse", None}, or Tracked, optional
        The same for T2/FLAIR, or its tracked lesions.

    Returns
    -------
    Assessment
        CR and PR are "unconfirmed" until a visit four weeks later or more says the same or better. CR needs no steroids, PR no more
        than at baseline, both a clinical state and T2/FLAIR that are not worse; worse ones are progression, and so is growth,
        unless steroids were reduced ("not evaluable"). Without a measurable lesion at the first visit the best outcome is SD.
    """
    rules = _Rules("RANO 2010", SOURCE_2010, "product_mm2", 50, 25, flair_asked=True, any_new=True)
    return _rano(
        progression,
        rules,
        max_targets,
        _Context(rules, len(progression.dates), radiotherapy_end, steroids, clinical, flair),
    )


def rano2_bidimensional(
    progression: Tracked,
    *,
    max_targets: int = 3,
    radiotherapy_end: Day = None,
    steroids: Sequence[float | None] | None = None,
    clinical: Sequence[str | None] | None = None,
    flair: Sequence[str | None] | Tracked | None = None,
) -> Assessment:
    """RANO 2.0 with products of diameters, −50 % and +25 %; as `rano2010` otherwise, with up to three targets, and with progression only
    by new lesions that are measurable.

    T2/FLAIR counts only where it is given: RANO 2.0 leaves it out for enhancing tumours and asks for it in mixed ones.
    """
    rules = _Rules("RANO 2.0", SOURCE_2, "product_mm2", 50, 25)
    return _rano(
        progression,
        rules,
        max_targets,
        _Context(rules, len(progression.dates), radiotherapy_end, steroids, clinical, flair),
    )


def rano2_volumetric(
    progression: Tracked,
    *,
    max_targets: int = 3,
    radiotherapy_end: Day = None,
    steroids: Sequence[float | None] | None = None,
    clinical: Sequence[str | None] | None = None,
    flair: Sequence[str | None] | Tracked | None = None,
) -> Assessment:
    """RANO 2.0 with volumes: −65 % and +40 %; context as in `rano2010`, new lesions as in `rano2_bidimensional`."""
    rules = _Rules("RANO 2.0 volumetric", SOURCE_2, "volume_ml", 65, 40)
    return _rano(
        progression,
        rules,
        max_targets,
        _Context(rules, len(progression.dates), radiotherapy_end, steroids, clinical, flair),
    )


@dataclass(frozen=True)
class _Rules:
    name: str
    source: str
    column: str
    fall: float
    rise: float
    flair_asked: bool = False
    #: whether any new lesion is progression, or only a measurable one
    any_new: bool = False

    @property
    def unit(self) -> str:
        return "mL" if self.column == "volume_ml" else "mm²"

    @property
    def quantity(self) -> str:
        return "volume (mL)" if self.column == "volume_ml" else "sum of products of diameters (mm²)"


class _Context:
    """Facts about each visit other than the enhancing lesions."""

    def __init__(
        self,
        rules: _Rules,
        visits: int,
        radiotherapy_end: Day,
        steroids: Sequence[float | None] | None,
        clinical: Sequence[str | None] | None,
        flair: Sequence[str | None] | Tracked | None,
    ) -> None:
        self.radiotherapy_end = as_date(radiotherapy_end, "radiotherapy_end")
        self.steroids = _each("steroids", steroids, visits)
        self.clinical = _each("clinical", clinical, visits, STATES)
        words = flair if flair is None or isinstance(flair, Sequence) else _flair(flair, rules.column)
        self.flair = _each("flair", words, visits, STATES)
        self.flair_asked = rules.flair_asked

    def missing(self, visit: int) -> list[str]:
        """The unknown facts of a visit, as one reason."""
        series: dict[str, Sequence[float | str | None]] = {
            "steroid dose": self.steroids,
            "clinical state": self.clinical,
        }
        series |= {"T2/FLAIR": self.flair} if self.flair_asked else {}
        absent = [name for name, values in series.items() if values[visit] is None]
        return [f"not given, not considered: {', '.join(absent)}"] if absent else []

    def worse(self, visit: int) -> list[str]:
        """The facts that are worse at a visit."""
        names = {"the clinical state": self.clinical, "T2/FLAIR": self.flair}
        return [f"{name} is worse" for name, values in names.items() if values[visit] == "worse"]

    def dose(self, visit: int) -> float | None:
        """Steroids in mg per day."""
        value = self.steroids[visit]
        return None if value is None else float(value)

    def reduced(self, visit: int, since: int) -> bool:
        """Whether steroids were reduced since an earlier visit."""
        now, earlier = self.dose(visit), self.dose(since)
        return now is not None and earlier is not None and now < earlier

    def spoils(self, category: str, visit: int) -> list[str]:
        """Why steroids forbid a response."""
        now, base = self.dose(visit), self.dose(0)
        if category == "CR" and now:
            return [f"no CR on steroids ({now:g} mg)"]
        if now is not None and base is not None and now > base:
            return [f"no response on more steroids than at baseline ({base:g} → {now:g} mg)"]
        return []


class _Rano:
    """The lesions of a patient as RANO sees them: targets, the others, and what each visit says of both."""

    def __init__(self, progression: Tracked, rules: _Rules, max_targets: int, context: _Context) -> None:
        self.seen, self.rules, self.context = Sightings(progression), rules, context
        self.smallest_mm = smallest_measurable_mm(progression, SMALLEST_MM)
        graph = progression.graph
        self.in_slices = {(i, key[0]): _in_slices(graph.lesions[key]) for key, i in graph.identities.items()}
        measurable = [k for k in self.seen.baseline if self._measurable(k, 0)]
        self.targets = sorted(measurable, key=lambda k: -self.value(k, 0))[:max_targets]
        self.seen.follow(self.targets)

    def value(self, lesion: int, visit: int) -> float:
        """Product of diameters in mm², or volume in mL."""
        return self.seen.size(lesion, visit, self.rules.column, 0.0)

    def category(self, visit: int, sums: Sequence[float], least: int) -> tuple[str, list[str]]:
        """The category at a visit from the sums of all visits and the visit of the nadir, with its reasons."""
        name, why = self._judge(visit, sums, least)
        return name, [*why, *self._before_its_end(visit), *self.context.missing(visit)]

    def _before_its_end(self, visit: int) -> list[str]:
        """What is doubtful of a comparison with visits before the end of radiotherapy, as one reason."""
        end, first, now = self.context.radiotherapy_end, self.seen.dates[0], self.seen.dates[visit]
        if end is None or first is None or first >= end:
            return []
        if now is not None and now < end:
            return ["before the end of radiotherapy: leave out visits during it, and begin with the first one after it"]
        return ["the first visit is before the end of radiotherapy: the first one after it should be the baseline"]

    def _judge(self, visit: int, sums: Sequence[float], least: int) -> tuple[str, list[str]]:
        rules, context, unit = self.rules, self.context, self.rules.unit
        now, base, nadir = sums[visit], sums[0], sums[least]
        new = self._new(visit)
        counted = [k for k in new if rules.any_new or self._measurable(k, visit)]
        small = [f"{self.seen.told_new(k, v, visit)}, but not measurable" for k, v in new.items() if k not in counted]
        why = [self.seen.told_new(k, new[k], visit) for k in counted] + self._non_targets_worse(visit)
        why += context.worse(visit)
        if percent(now, nadir) >= rules.rise or (nadir == 0 < now):
            change = f"{percent(now, nadir):+.0f} %, limit +{rules.rise:g} %" if nadir > 0 else "from nothing"
            rose = f"rose from its least {number(nadir)} to {number(now)} {unit} ({change})"
            if not why and context.reduced(visit, least):
                return "not evaluable", [rose, "steroids were reduced since: growth may be their lack"]
            why.append(rose)
        if why:
            if self._after_radiotherapy(visit) and not context.worse(visit):
                return "not evaluable", [*why, "within 12 weeks of radiotherapy: may be pseudoprogression"]
            return "PD", why
        if not self.targets:
            return "SD", [
                f"no lesion with two diameters of {self.smallest_mm:g} mm at the first visit: no response can be told",
                *small,
            ]
        unknown = out_of_view(self.seen.unseen(self._counted_before(visit), visit))
        remaining = [k for k in self.seen.lesions if self.seen.measured(k, visit)]
        fell = f"fell from baseline {number(base)} to {number(now)} {unit} ({percent(now, base):+.0f} %, limit −{rules.fall:g} %)"
        notes = list(small)
        for name, holds, reason in (
            ("CR", not remaining and not unknown, "no enhancing lesion is left"),
            ("PR", percent(now, base) <= -rules.fall, fell),
        ):
            if holds and not (spoiled := context.spoils(name, visit)):
                return name, [reason, *notes, *unknown]
            notes += spoiled if holds else []
        stays = compared(now, {"baseline": base, "the least": nadir})
        return "SD", [f"{number(now)} {unit}: {stays}", *dict.fromkeys(notes)]

    def _new(self, visit: int) -> dict[int, int]:
        """The lesions that are new, or that were at an earlier visit and are still there, each with the visit at which it was new.

        One that appeared where it may be an effect of radiotherapy counts at that visit only.
        """
        new = self.seen.appeared(visit)
        return {k: since for k, since in new.items() if since == visit or not self._after_radiotherapy(since)}

    def _after_radiotherapy(self, visit: int) -> bool:
        """Whether a visit is so soon after radiotherapy that progression may be its effect."""
        day, end = self.seen.dates[visit], self.context.radiotherapy_end
        return day is not None and end is not None and 0 <= (day - end).days <= RADIOTHERAPY_DAYS

    def _non_targets_worse(self, visit: int) -> list[str]:
        """Reasons for clear progression of lesions that are no targets and have not merged with one."""
        held = {p for k in self.targets for p in self.seen.parts(k, visit)}
        reasons = []
        for k in self._counted_before(visit):
            if k in held or not self._measurable(k, visit) or self.seen.mixed(k, self.targets, visit):
                continue
            now = self._diameters(k, visit)
            earlier = [self._diameters(k, v) for v in range(visit) if self.seen.volume(k, v) > 0]
            least = min(earlier, key=lambda d: d[1])
            if round(min(now[0] - least[0], now[1] - least[1]), 9) >= NON_TARGET_RISE_MM:
                sizes = " to ".join(f"{longest:.0f} × {across:.0f}" for longest, across in (least, now))
                reasons.append(f"lesion {k}, no target, grew from {sizes} mm")
        return reasons

    def _counted_before(self, visit: int) -> list[int]:
        """Lesions that were measured at an earlier visit."""
        return [k for k in self.seen.lesions if any(self.seen.measured(k, v) for v in range(visit))]

    def _diameters(self, lesion: int, visit: int) -> tuple[float, float]:
        """Longest and perpendicular diameter in mm; 0 where it is too small to be measured."""
        row = self.seen.row(lesion, visit) or {}
        longest, across = (float(np.nan_to_num(row.get(c, 0.0))) for c in ("longest_mm", "perpendicular_mm"))
        return longest, across

    def _measurable(self, lesion: int, visit: int) -> bool:
        return self._diameters(lesion, visit)[1] >= self.smallest_mm and self.in_slices.get((lesion, visit), False)


def _in_slices(lesion: Lesion) -> bool:
    """Whether a lesion is shown by as many slices as a measurable one must be; an image of one slice asks for no more."""
    along = SPACE.index(lesion.slice_axis)
    single = lesion.grid_zyx is not None and lesion.grid_zyx[along] < SLICES
    return single or lesion.shape[along] >= SLICES


def _rano(progression: Tracked, rules: _Rules, max_targets: int, context: _Context) -> Assessment:
    lesions = _Rano(progression, rules, max_targets, context)
    verdicts = by_sum(lesions.seen, lesions.targets, lesions.value, lesions.category, rules.unit)
    verdicts = tuple(_settled(lesions.seen, verdicts, k) for k in range(len(verdicts)))
    return Assessment(rules.name, rules.source, rules.quantity, tuple(lesions.targets), verdicts)


def _settled(seen: Sightings, verdicts: tuple[Verdict, ...], k: int) -> Verdict:
    """Responses that no later visit upholds are unconfirmed."""
    verdict = verdicts[k]
    if verdict.category in ("CR", "PR") and confirmed_by(seen, verdicts, k, CONFIRM_DAYS) is None:
        return replace(verdict, category=f"{verdict.category} (unconfirmed)")
    return verdict


def _each(name: str, per_visit: Sequence[T | None] | None, visits: int, words: Sequence[str] = ()) -> list[T | None]:
    """One value per visit, None where unknown."""
    values: list[T | None] = [None] * visits if per_visit is None else list(per_visit)
    if isinstance(per_visit, str) or len(values) != visits:
        raise SettingsError(f"{name} needs one value per visit ({visits}, None where unknown), not {per_visit!r}.")
    for value in values:
        if value is None:
            continue
        good = value in words if words else isinstance(value, int | float) and value >= 0
        if not good:
            raise SettingsError(f"{name}: {value!r} is not usable; give {', '.join(words) or 'mg per day, 0 or more'}.")
    return values


def _flair(progression: Tracked, column: str) -> list[str | None]:
    """The state of T2/FLAIR lesions at each visit: worse from a rise over their least, or with a new lesion.

    Unknown where some of them were out of view and the others are not worse.
    """
    seen = Sightings(progression)
    counted = [k for k in seen.lesions if any(seen.measured(k, visit) for visit in range(seen.visits))]
    sums = [
        sum(float(np.nan_to_num(row[column])) for k in seen.lesions if (row := seen.row(k, visit)))
        for visit in range(seen.visits)
    ]
    states: list[str | None] = ["stable"]
    for visit in range(1, seen.visits):
        least = sums[seen.least(counted, sums, visit)]
        rose = percent(sums[visit], least) >= FLAIR_PERCENT[column] or (least == 0 < sums[visit])
        if rose or seen.new(visit):
            states.append("worse")
        elif seen.unseen(counted, visit):
            states.append(None)
        else:
            states.append("better" if sums[visit] < sums[0] else "stable")
    return states
