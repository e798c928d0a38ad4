"""Growth of lung nodules: mean diameter over 12 months, change of volume, and bands of volume doubling time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medseq.progression.change import of_volumes
from napari_medseq.progression.response.common import Assessment, Sightings, Verdict, percent
from napari_medseq.progression.response.lung_rads import GROWTH_MM, YEAR_DAYS, mean_mm, rise_within_year

if TYPE_CHECKING:
    from napari_medseq.progression.tracked import Tracked

SOURCE = (
    "Lung-RADS v2022 (growth: mean diameter +1.5 mm within 12 months); Callister et al., Thorax 2015, 70 Suppl 2 "
    "(volume +25 %; doubling time under 400, 400 to 600, over 600 days)"
)
GROWTH_PERCENT = 25.0


def nodule_growth(progression: Tracked) -> Assessment:
    """Per visit, whether any nodule grew since it was last seen, with the doubling-time band of each.

    Of a rise of diameter over more than twelve months the share of twelve months counts (`lung_rads.rise_within_year`).

    Returns
    -------
    Assessment
        "growth", "no growth" or "not evaluable"; the value is the largest change of mean diameter, in mm.
    """
    seen = Sightings(progression)
    verdicts = []
    for visit in range(1, seen.visits):
        why: list[str] = []
        grew, worst, compared = False, float("nan"), 0
        for lesion in seen.lesions:
            now = seen.row(lesion, visit)
            before = next((v for v in range(visit - 1, -1, -1) if seen.volume(lesion, v) > 0), None)
            if not now or not now["volume_ml"] > 0 or not now["measured"]:
                continue
            earlier = seen.row(lesion, before) if before is not None else None
            if earlier is None or before is None:
                why.append(f"lesion {lesion} is new ({mean_mm(seen, lesion, visit):.1f} mm)")
                grew = True
                continue
            compared += 1
            days = seen.days(before, visit)
            size, size_before = mean_mm(seen, lesion, visit), mean_mm(seen, lesion, before)
            change = round(size - size_before, 1)
            within = not days > YEAR_DAYS
            volume = percent(now["volume_ml"], earlier["volume_ml"])
            facts = of_volumes(
                earlier["volume_ml"], now["volume_ml"], earlier["volume_sd_ml"], now["volume_sd_ml"], days
            )
            grown = rise_within_year([days], [size_before], size) > GROWTH_MM or (
                volume >= GROWTH_PERCENT and float(facts["change_ml"]) > float(facts["change_bound_ml"])
            )
            grew |= grown
            worst = float(np.nanmax([worst, change]))
            late = "" if within else f", over {days:.0f} days"
            why.append(
                f"lesion {lesion}: mean diameter {size_before:.1f} → {size:.1f} mm{late}, volume {volume:+.0f} %, {_band(facts)}"
            )
        category = "growth" if grew else "no growth" if compared else "not evaluable"
        nan = float("nan")
        verdicts.append(
            Verdict(
                visit, seen.dates[visit], category, worst, nan, nan, tuple(why or ["no nodule seen at both visits"])
            )
        )
    return Assessment("nodule growth", SOURCE, "largest change of mean diameter (mm)", (), tuple(verdicts))


def _band(facts: dict[str, float | str]) -> str:
    """The band of the doubling time in words."""
    if facts.get("doubling") == "halving":
        return "shrinking"
    days = facts.get("doubling_time_days")
    if not isinstance(days, float):
        return "doubling time not measurable"
    band = "under 400" if days < 400 else "400 to 600" if days <= 600 else "over 600"
    return f"doubling time {days:.0f} days (band: {band})"
