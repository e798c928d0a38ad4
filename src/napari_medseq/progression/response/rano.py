"""RANO for high-grade glioma: 2010 (bidimensional) and 2.0 (bidimensional or volumetric)."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from napari_medseq.progression.response._common import Assessment, Sightings, Verdict, by_sum, none_evaluable, percent

if TYPE_CHECKING:
    from napari_medseq.progression._progression import Progression

SOURCE_2010 = "Wen et al., J Clin Oncol 2010, 28:1963 (RANO)"
SOURCE_2 = "Wen et al., J Clin Oncol 2023, 41:5187 (RANO 2.0)"
#: both diameters of a measurable lesion
SMALLEST_MM = 10.0
#: responses must last this long, and progression this soon after radiotherapy may be its effect
CONFIRM_DAYS, RADIOTHERAPY_DAYS = 28, 84


def rano2010(progression: Progression, *, max_targets: int = 5, radiotherapy_end: date | None = None) -> Assessment:
    """RANO 2010: sum of products of perpendicular diameters of up to five enhancing lesions; −50 % and +25 %.

    Parameters
    ----------
    progression : Progression
        Of the enhancing tumour.
    max_targets : int
    radiotherapy_end : date, optional
        Progression within 12 weeks of it is "not evaluable": it may be pseudoprogression.

    Returns
    -------
    Assessment
        CR and PR are "unconfirmed" until a visit four weeks later or more says the same or better.
    """
    return _rano(progression, "RANO 2010", SOURCE_2010, "product_mm2", 50, 25, max_targets, radiotherapy_end)


def rano2_bidimensional(
    progression: Progression, *, max_targets: int = 3, radiotherapy_end: date | None = None
) -> Assessment:
    """RANO 2.0 with products of diameters: −50 % and +25 %; as `rano2010` otherwise, with up to three targets."""
    return _rano(progression, "RANO 2.0", SOURCE_2, "product_mm2", 50, 25, max_targets, radiotherapy_end)


def rano2_volumetric(
    progression: Progression, *, max_targets: int = 3, radiotherapy_end: date | None = None
) -> Assessment:
    """RANO 2.0 with volumes: −65 % and +40 %."""
    return _rano(progression, "RANO 2.0 volumetric", SOURCE_2, "volume_ml", 65, 40, max_targets, radiotherapy_end)


def _rano(
    progression: Progression,
    rule: str,
    source: str,
    column: str,
    fall: float,
    rise: float,
    max_targets: int,
    radiotherapy_end: date | None,
) -> Assessment:
    seen = Sightings(progression)
    unit, quantity = ("mL", "volume (mL)") if column == "volume_ml" else ("mm²", "sum of products of diameters (mm²)")

    def value(lesion: int, visit: int) -> float:
        return seen.size(lesion, visit, column, 0.0)

    def measurable(lesion: int, visit: int) -> bool:
        row = seen.row(lesion, visit)
        return bool(row and np.nan_to_num(row["perpendicular_mm"]) >= SMALLEST_MM)

    targets = sorted((k for k in seen.baseline if measurable(k, 0)), key=lambda k: -value(k, 0))[:max_targets]

    def category(visit: int, now: float, base: float, nadir: float) -> tuple[str, list[str]]:
        new = [k for k in seen.new(visit) if column != "volume_ml" or measurable(k, visit) or seen.volume(k, visit) > 0]
        why = [f"lesion {k} is new" for k in new]
        if percent(now, nadir) >= rise or (nadir == 0 < now):
            why.append(
                f"rose from its least {nadir:.3g} to {now:.3g} {unit} ({percent(now, nadir):+.0f} %, limit +{rise:g} %)"
            )
        if why:
            since = (seen.dates[visit], radiotherapy_end)
            if since[0] and since[1] and (since[0] - since[1]).days <= RADIOTHERAPY_DAYS:
                return "not evaluable", [*why, "within 12 weeks of radiotherapy: may be pseudoprogression"]
            return "PD", why
        left = [k for k in seen.lesions if seen.volume(k, visit) > 0 and (r := seen.row(k, visit)) and r["measured"]]
        if not left:
            return "CR", ["no enhancing lesion is left"]
        if percent(now, base) <= -fall:
            return "PR", [
                f"fell from baseline {base:.3g} to {now:.3g} {unit} ({percent(now, base):+.0f} %, limit −{fall:g} %)"
            ]
        return "SD", [
            f"{now:.3g} {unit}: {percent(now, base):+.0f} % of baseline, {percent(now, nadir):+.0f} % of the least"
        ]

    if not targets:
        why = "no lesion with two diameters of 10 mm or more at the first visit"
        return Assessment(rule, source, quantity, (), none_evaluable(seen, why))
    verdicts = _confirmed(seen, by_sum(seen, targets, value, category, unit))
    return Assessment(rule, source, quantity, tuple(targets), verdicts)


def _confirmed(seen: Sightings, verdicts: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
    """Mark responses that no later visit, four weeks on or more, upholds."""
    from dataclasses import replace

    upholds = {"CR": ("CR",), "PR": ("PR", "CR")}
    found = []
    for k, verdict in enumerate(verdicts):
        if verdict.category in upholds:
            later = verdicts[k + 1 :]
            held = next((v for v in later if not seen.days(verdict.visit, v.visit) < CONFIRM_DAYS), None)
            if held is None or held.category not in upholds[verdict.category]:
                verdict = replace(verdict, category=f"{verdict.category} (unconfirmed)")
        found.append(verdict)
    return tuple(found)
