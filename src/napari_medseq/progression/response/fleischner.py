"""Fleischner Society 2017: what is recommended for incidental lung nodules, by type, size, number and risk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_medseq.errors import SettingsError
from napari_medseq.progression.response.common import Assessment, Sightings, Verdict
from napari_medseq.progression.response.lung_rads import TYPES, mean_mm

if TYPE_CHECKING:
    from napari_medseq.progression.tracked import Tracked

SOURCE = "MacMahon et al., Radiology 2017, 284:228 (Fleischner Society 2017); growth from 2 mm"
RISKS = ("low", "high")
GROWTH_MM = 2.0
#: solid: (several?, band) → recommendation at low and at high risk
_SOLID = {
    (False, "under 6 mm"): ("no routine follow-up", "CT at 12 months, optional"),
    (False, "6 to 8 mm"): (
        "CT at 6 to 12 months, then consider CT at 18 to 24 months",
        "CT at 6 to 12 months, then CT at 18 to 24 months",
    ),
    (False, "over 8 mm"): ("consider CT at 3 months, PET/CT or tissue sampling",) * 2,
    (True, "under 6 mm"): ("no routine follow-up", "CT at 12 months, optional"),
    (True, "6 to 8 mm"): (
        "CT at 3 to 6 months, then consider CT at 18 to 24 months",
        "CT at 3 to 6 months, then CT at 18 to 24 months",
    ),
    (True, "over 8 mm"): (
        "CT at 3 to 6 months, then consider CT at 18 to 24 months",
        "CT at 3 to 6 months, then CT at 18 to 24 months",
    ),
}
_SUBSOLID = {
    ("ground-glass", False, "under 6 mm"): "no routine follow-up",
    (
        "ground-glass",
        False,
        "6 mm or more",
    ): "CT at 6 to 12 months to confirm it persists, then every 2 years until 5 years",
    ("part-solid", False, "under 6 mm"): "no routine follow-up",
    ("part-solid", False, "6 mm or more"): (
        "CT at 3 to 6 months to confirm it persists; unchanged with a solid part under 6 mm: every year for 5 years"
    ),
    ("", True, "under 6 mm"): "CT at 3 to 6 months; if stable, consider CT at 2 and 4 years",
    ("", True, "6 mm or more"): "CT at 3 to 6 months, then by the most suspicious nodule",
}


def fleischner2017(
    progression: Tracked, *, types: Mapping[int, str] | None = None, risk: str | None = None
) -> Assessment:
    """Fleischner 2017, at each visit (the first too), by the largest solid and the largest subsolid nodule.

    Parameters
    ----------
    progression : Tracked
        Progression of the nodules. Size is the mean of the longest and the perpendicular diameter, to the nearest
        millimetre.
    types : dict of int to str, optional
        "solid", "part-solid" or "ground-glass", by nodule; solid where not given, and the reasons say so.
    risk : {"low", "high"}, optional
        Risk of the person; without it the recommendations for both are given.

    Returns
    -------
    Assessment
        The category is type and size band, such as "solid, 6 to 8 mm"; the recommendations are reasons. For incidental nodules of
        adults from 35 years on, without known cancer or immunosuppression, outside screening.

    Raises
    ------
    SettingsError
        If a type or the risk is unknown.
    """
    types = types or {}
    for lesion, kind in types.items():
        if kind not in TYPES:
            raise SettingsError(f"Nodule {lesion}: type {kind!r} is unknown; use one of {', '.join(TYPES)}.")
    if risk is not None and risk not in RISKS:
        raise SettingsError(f"risk {risk!r} is unknown; use one of {', '.join(RISKS)}, or leave it out.")
    seen = Sightings(progression)
    verdicts = []
    for visit in range(seen.visits):
        sizes = {
            k: float(np.floor(mean_mm(seen, k, visit) + 0.5))
            for k in seen.lesions
            if (row := seen.row(k, visit)) and row["volume_ml"] > 0 and row["measured"]
        }
        why = [_told(seen, k, visit, sizes[k], types.get(k)) for k in sizes]
        categories = []
        for group in (("solid",), ("part-solid", "ground-glass")):
            members = [k for k in sizes if types.get(k, "solid") in group]
            if members:
                largest = max(members, key=lambda k: sizes[k])
                name, advice = _advice(types.get(largest, "solid"), sizes[largest], len(members) > 1, risk)
                categories.append(name)
                why.append(f"{name}: {advice}")
        value, nan = max(sizes.values(), default=float("nan")), float("nan")
        category = "; ".join(categories) or "no nodule"
        verdicts.append(Verdict(visit, seen.dates[visit], category, value, nan, nan, tuple(why or ["no nodule"])))
    return Assessment("Fleischner 2017", SOURCE, "largest mean diameter (mm)", (), tuple(verdicts))


def _advice(kind: str, size: float, several: bool, risk: str | None) -> tuple[str, str]:
    """Band and recommendation for the largest nodule of a kind."""
    if kind == "solid":
        band = "under 6 mm" if size < 6 else "6 to 8 mm" if size <= 8 else "over 8 mm"
        low, high = _SOLID[several, band]
        both = low if low == high else f"low risk: {low}; high risk: {high}"
        advice = {"low": low, "high": high, None: both}[risk]
    else:
        band = "under 6 mm" if size < 6 else "6 mm or more"
        advice = _SUBSOLID["" if several else kind, several, band]
    return f"{'several ' if several else ''}{kind}, {band}", advice


def _told(seen: Sightings, lesion: int, visit: int, size: float, kind: str | None) -> str:
    """One nodule in words: size, type, growth since it was last seen."""
    text = f"nodule {lesion}: {size:.0f} mm, {kind or 'taken as solid'}"
    last: Sequence[int] = [v for v in range(visit) if seen.volume(lesion, v) > 0]
    if not last:
        return f"{text}, new" if visit and seen.volume(lesion, visit) > 0 else text
    change = round(mean_mm(seen, lesion, visit) - mean_mm(seen, lesion, last[-1]), 1)
    return f"{text}, {'grew' if change >= GROWTH_MM else 'no growth of 2 mm'} ({change:+.1f} mm)"
