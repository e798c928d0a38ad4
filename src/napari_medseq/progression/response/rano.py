"""RANO for high-grade glioma: 2010 (bidimensional) and 2.0 (bidimensional or volumetric).

What images cannot tell (steroids, clinical state) is an option per visit; what is not given is not considered, and the reasons say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from napari_medseq.errors import SettingsError
from napari_medseq.progression.response.common import (
    Assessment,
    Sightings,
    Verdict,
    by_sum,
    confirmed_by,
    none_evaluable,
    number,
    percent,
)

if TYPE_CHECKING:
    from napari_medseq.progression.tracked import Tracked

T = TypeVar("T", float, str)
SOURCE_2010 = (
    "Wen et al., J Clin Oncol 2010, 28:1963 (RANO); T2/FLAIR +25 % as van den Bent et al., Lancet Oncol 2011, 12:583"
)
SOURCE_2 = "Wen et al., J Clin Oncol 2023, 41:5187 (RANO 2.0)"
#: both diameters of a measurable lesion
SMALLEST_MM = 10.0
#: responses must last this long, and progression this soon after radiotherapy may be its effect
CONFIRM_DAYS, RADIOTHERAPY_DAYS = 28, 84
STATES = ("better", "stable", "worse")
#: rise of T2/FLAIR lesions: products of diameters, and volumes
FLAIR_PERCENT = {"product_mm2": 25.0, "volume_ml": 40.0}


def rano2010(
    progression: Tracked,
    *,
    max_targets: int = 5,
    radiotherapy_end: date | None = None,
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
    **context
        Each optional. ``radiotherapy_end``, a date: progression within 12 weeks of it is "not evaluable", as it may be
        pseudoprogression. ``steroids``: dexamethasone in mg per day, one number (or None) per visit. ``clinical``: "better", "stable"
        or "worse" (or None) per visit. ``flair``: the same words for T2/FLAIR, or the tracked lesions of its lesions.

    Returns
    -------
    Assessment
        CR and PR are "unconfirmed" until a visit four weeks later or more says the same or better. CR needs no steroids, PR no more
        than at baseline, both a clinical state and T2/FLAIR that are not worse; worse ones are progression, and so is growth,
        unless steroids were reduced ("not evaluable").
    """
    rules = _Rules("RANO 2010", SOURCE_2010, "product_mm2", 50, 25, True)
    context = _Context(
        len(progression.dates),
        rules,
        radiotherapy_end=radiotherapy_end,
        steroids=steroids,
        clinical=clinical,
        flair=flair,
    )
    return _rano(progression, rules, max_targets, context)


def rano2_bidimensional(
    progression: Tracked,
    *,
    max_targets: int = 3,
    radiotherapy_end: date | None = None,
    steroids: Sequence[float | None] | None = None,
    clinical: Sequence[str | None] | None = None,
    flair: Sequence[str | None] | Tracked | None = None,
) -> Assessment:
    """RANO 2.0 with products of diameters, −50 % and +25 %; as `rano2010` otherwise, with up to three targets.

    T2/FLAIR counts only where it is given: RANO 2.0 leaves it out for enhancing tumours and asks for it in mixed ones.
    """
    rules = _Rules("RANO 2.0", SOURCE_2, "product_mm2", 50, 25, False)
    context = _Context(
        len(progression.dates),
        rules,
        radiotherapy_end=radiotherapy_end,
        steroids=steroids,
        clinical=clinical,
        flair=flair,
    )
    return _rano(progression, rules, max_targets, context)


def rano2_volumetric(
    progression: Tracked,
    *,
    max_targets: int = 3,
    radiotherapy_end: date | None = None,
    steroids: Sequence[float | None] | None = None,
    clinical: Sequence[str | None] | None = None,
    flair: Sequence[str | None] | Tracked | None = None,
) -> Assessment:
    """RANO 2.0 with volumes: −65 % and +40 %; context as in `rano2010`."""
    rules = _Rules("RANO 2.0 volumetric", SOURCE_2, "volume_ml", 65, 40, False)
    context = _Context(
        len(progression.dates),
        rules,
        radiotherapy_end=radiotherapy_end,
        steroids=steroids,
        clinical=clinical,
        flair=flair,
    )
    return _rano(progression, rules, max_targets, context)


@dataclass(frozen=True)
class _Rules:
    name: str
    source: str
    column: str
    fall: float
    rise: float
    flair_asked: bool

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
        visits: int,
        rules: _Rules,
        *,
        radiotherapy_end: date | None = None,
        steroids: Sequence[float | None] | None = None,
        clinical: Sequence[str | None] | None = None,
        flair: Sequence[str | None] | Tracked | None = None,
    ) -> None:
        self.radiotherapy_end = radiotherapy_end
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


def _rano(progression: Tracked, rules: _Rules, max_targets: int, context: _Context) -> Assessment:
    seen = Sightings(progression)
    column, unit = rules.column, rules.unit

    def value(lesion: int, visit: int) -> float:
        return seen.size(lesion, visit, column, 0.0)

    def measurable(lesion: int) -> bool:
        row = seen.row(lesion, 0)
        return bool(row and np.nan_to_num(row["perpendicular_mm"]) >= SMALLEST_MM)

    targets = sorted((k for k in seen.baseline if measurable(k)), key=lambda k: -value(k, 0))[:max_targets]

    def category(visit: int, now: float, base: float, nadir: float) -> tuple[str, list[str]]:
        name, why = judge(visit, now, base, nadir)
        return name, [*why, *context.missing(visit)]

    def judge(visit: int, now: float, base: float, nadir: float) -> tuple[str, list[str]]:
        why = [f"lesion {k} is new" for k in seen.new(visit)] + context.worse(visit)
        change = f"{percent(now, nadir):+.0f} %, limit +{rules.rise:g} %"
        if percent(now, nadir) >= rules.rise or (nadir == 0 < now):
            rose = f"rose from its least {number(nadir)} to {number(now)} {unit} ({change})"
            least = min(range(visit), key=lambda v: sum(value(k, v) for k in targets))
            if not why and context.reduced(visit, least):
                return "not evaluable", [rose, "steroids were reduced since: growth may be their lack"]
            why.append(rose)
        if why:
            since = (seen.dates[visit], context.radiotherapy_end)
            if since[0] and since[1] and (since[0] - since[1]).days <= RADIOTHERAPY_DAYS and not context.worse(visit):
                return "not evaluable", [*why, "within 12 weeks of radiotherapy: may be pseudoprogression"]
            return "PD", why
        remaining = [
            k for k in seen.lesions if seen.volume(k, visit) > 0 and (r := seen.row(k, visit)) and r["measured"]
        ]
        fell = f"fell from baseline {number(base)} to {number(now)} {unit} ({percent(now, base):+.0f} %, limit −{rules.fall:g} %)"
        notes: list[str] = []
        for name, holds, reason in (
            ("CR", not remaining, "no enhancing lesion is left"),
            ("PR", percent(now, base) <= -rules.fall, fell),
        ):
            if holds and not (spoiled := context.spoils(name, visit)):
                return name, [reason, *notes]
            notes += spoiled if holds else []
        stays = f"{percent(now, base):+.0f} % of baseline, {percent(now, nadir):+.0f} % of the least"
        return "SD", [f"{number(now)} {unit}: {stays}", *dict.fromkeys(notes)]

    if not targets:
        why = "no lesion with two diameters of 10 mm or more at the first visit"
        return Assessment(rules.name, rules.source, rules.quantity, (), none_evaluable(seen, why))
    verdicts = by_sum(seen, targets, value, category, unit)
    verdicts = tuple(_settled(seen, verdicts, k) for k in range(len(verdicts)))
    return Assessment(rules.name, rules.source, rules.quantity, tuple(targets), verdicts)


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
    """The state of T2/FLAIR lesions at each visit: worse from a rise over their least, or with a new lesion."""
    seen = Sightings(progression)
    sums = [sum(seen.size(k, visit, column, 0.0) for k in seen.lesions) for visit in range(seen.visits)]
    verdicts: list[str | None] = ["stable"]
    for visit in range(1, seen.visits):
        least = min(sums[:visit])
        rose = percent(sums[visit], least) >= FLAIR_PERCENT[column] or (least == 0 < sums[visit])
        verdicts.append("worse" if rose or seen.new(visit) else "better" if sums[visit] < sums[0] else "stable")
    return verdicts
