"""The change of a lesion between two visits: volume, growth rate, doubling time, and the direction of spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.progression.components import Lesion
from napari_medseq.progression.overlap import look_up

if TYPE_CHECKING:
    import pandas as pd

#: 95 % of a normal distribution, two-sided
Z95 = 1.959964
#: fewer newly taken voxels than this tell no direction
_FEW = 10

NUMBERS = (
    "interval_days",
    "change_ml",
    "change_percent",
    "change_bound_ml",
    "change_ml_per_day",
    "sgr_percent_per_day",
    "doubling_time_days",
    "doubling_low_days",
    "doubling_high_days",
    "shift_mm",
    "new_volume_ml",
)
TEXTS = ("doubling", "shift_direction", "spread_direction", "spread_axis")
_WORDS = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))


def noise_bound(before: float, after: float, sd_before: float, sd_after: float) -> float:
    """Change of volume that chance alone stays below in 95 %.

    If nothing changed, both volumes measure one, whose best estimate is their mean weighted by precision. The standard deviations
    (whose squares grow about as the volume does) are brought to that volume, and 1.96 times that of the difference is the
    bound: so a thick-sliced visit that happened to catch little of a small lesion does not pass for a precise one. With a
    volume of 0 the standard deviations stand as they are.
    """
    if not (before > 0 and after > 0 and sd_before > 0 and sd_after > 0):
        return float(Z95 * np.hypot(sd_before, sd_after))
    one, other = sd_before**2 / before, sd_after**2 / after  # variance per volume
    common = (before / one + after / other) / (1 / one + 1 / other)
    return float(Z95 * np.sqrt(common * (one + other)))


def of_volumes(before: float, after: float, sd_before: float, sd_after: float, days: float) -> dict[str, float | str]:
    """Change in mL, percent and per day, specific growth rate, and doubling time with its 95 % interval.

    Specific growth rate ln(V2/V1)/Δt and doubling time ln 2/SGR as in Mehrara et al., Cancer Res 2007, 67:3970; the interval comes
    from the volumes' standard deviations through the logarithm. The doubling time is "not measurable" where the change is within
    the noise bound; a negative one is the time to halve.
    """
    bound = noise_bound(before, after, sd_before, sd_after)
    measures: dict[str, float | str] = {
        "interval_days": days,
        "change_ml": after - before,
        "change_percent": 100 * (after - before) / before if before > 0 else np.nan,
        "change_bound_ml": bound,
    }
    if not days > 0:
        return measures
    measures["change_ml_per_day"] = (after - before) / days
    if before <= 0 or after <= 0:
        return measures
    rate = np.log(after / before) / days
    measures["sgr_percent_per_day"] = 100 * rate
    if abs(after - before) <= bound:
        return {**measures, "doubling": "not measurable"}
    doubt = Z95 * np.hypot(sd_before / before, sd_after / after) / days
    ends = sorted(np.log(2) / r if abs(r) > 0 else np.inf for r in (rate - doubt, rate + doubt))
    crosses = (rate - doubt) * (rate + doubt) <= 0
    measures["doubling"] = "halving" if rate < 0 else "doubling"
    measures["doubling_time_days"] = np.log(2) / rate
    measures["doubling_low_days"] = (np.log(2) / (rate + doubt) if rate > 0 else -np.inf) if crosses else ends[0]
    measures["doubling_high_days"] = (np.inf if rate > 0 else np.log(2) / (rate - doubt)) if crosses else ends[1]
    return measures


def of_place(before: Lesion, after: Lesion, error_mm: float | None) -> dict[str, float | str]:
    """Movement of the centre and position of newly occupied voxels, in anatomical words, unless the registration error
    hides it.

    Parameters
    ----------
    before, after : Lesion
        The same lesion at two visits, compared in common space.
    error_mm : float or None
        Registration error; None: one voxel of the coarser grid, along each anatomical axis.

    Returns
    -------
    dict
        ``shift_mm``, ``shift_direction``: centroid to centroid. ``new_volume_ml``, ``spread_direction``, ``spread_axis``: voxels
        taken since, the direction of their mean from the earlier centroid, and their principal axis.
    """
    gate = gate_mm(before, after, error_mm)
    shift = after.common_centroid - before.common_centroid
    measures: dict[str, float | str] = {
        "shift_mm": float(np.linalg.norm(shift)),
        "shift_direction": direction_words(shift, gate) or "within registration error",
    }
    fresh = after.index[~look_up(after, before, before.mask, np.zeros(3, np.int64), 0, sample=False)]
    measures["new_volume_ml"] = len(fresh) * geometry.voxel_volume_mm3(after.affine) / 1000
    if len(fresh) < _FEW:
        return measures
    points = geometry.apply_points(after.common_affine, fresh[:, ::-1])
    away = points.mean(axis=0) - before.common_centroid
    measures["spread_direction"] = direction_words(away, gate) or "all around"
    spread = points - points.mean(axis=0)
    values, vectors = np.linalg.eigh(spread.T @ spread / len(points))
    if values[2] > 1.5 * values[1]:
        measures["spread_axis"] = axis_words(vectors[:, 2])
    return measures


def gate_mm(before: Lesion, after: Lesion, error_mm: float | None) -> NDArray[np.float64]:
    """Registration error in mm along R, A and S."""
    if error_mm is not None:
        return np.full(3, max(error_mm, 1e-6))
    cells = [np.abs(lesion.common_affine[:3, :3]).max(axis=1) for lesion in (before, after)]
    return np.asarray(np.maximum(*cells))


def direction_words(vector: Sequence[float] | NDArray[np.float64], gate: NDArray[np.float64] | None = None) -> str:
    """A RAS vector in words, strongest part first, such as "anterior-left"; "" where it is within the gate."""
    v = np.asarray(vector, dtype=np.float64)
    if gate is not None:
        if np.linalg.norm(v / gate) < 1:
            return ""
        v = np.where(np.abs(v) < 0.5 * gate, 0.0, v)
    length = np.linalg.norm(v)
    if length == 0:
        return ""
    parts = [k for k in np.argsort(-np.abs(v)) if abs(v[k]) >= 0.35 * length]
    return "-".join(_WORDS[k][int(v[k] > 0)] for k in parts)


def axis_words(vector: Sequence[float] | NDArray[np.float64]) -> str:
    """A line without sign in words, such as "anterior-left to posterior-right"."""
    v = np.asarray(vector, dtype=np.float64)
    v = v if v[int(np.abs(v).argmax())] > 0 else -v
    return f"{direction_words(v)} to {direction_words(-v)}"


def is_whole(events: Sequence[str]) -> bool:
    """Whether a lesion at its last sighting is what it was at its first, so that the two volumes compare: it merged with others as often
    as it fell apart again, and none were exchanged.

    Parameters
    ----------
    events : sequence of str
        The events of all its rows, in order of visit.
    """
    later = list(events[1:])
    return "complex" not in later and later.count("merged") == later.count("split")


def growth_row(rows: pd.DataFrame) -> dict[str, float | str]:
    """Growth over all sightings of one lesion: share of intervals that grew, longest run, and overall doubling time.

    Parameters
    ----------
    rows : DataFrame
        The rows of one lesion in order of visit. An interval grew where the change in its row is beyond the bound, which is the change
        against the sum of all parents where lesions merged; intervals without a change (parts of a split, sightings that the field of
        view cuts off) are left out. The overall change is blank of a lesion that is not whole, see `is_whole`.

    Returns
    -------
    dict
    """
    import pandas as pd

    volumes, sds = (rows[name].to_numpy(float) for name in ("volume_ml", "volume_sd_ml"))
    cut, seen = rows["cut_off"].to_numpy(bool), np.flatnonzero(volumes > 0)
    changes, bounds = (rows[name].to_numpy(float) for name in ("change_ml", "change_bound_ml"))
    steps = [bool(changes[k] > bounds[k]) for k in seen[1:] if np.isfinite(changes[k]) and np.isfinite(bounds[k])]
    run = longest = 0
    for grew in steps:
        run = run + 1 if grew else 0
        longest = max(longest, run)
    first, last = rows.iloc[0], rows.iloc[-1]
    days = float((last["date"] - first["date"]).days) if len(rows) > 1 and pd.notna(first["date"]) else np.nan
    overall: dict[str, float | str] = {}
    merged = volumes[-1] == 0 and last["event"] != "resolved"
    if is_whole(rows["event"].tolist()) and not (cut[0] or cut[-1]):
        overall = of_volumes(volumes[0], volumes[-1], sds[0], sds[-1], days)
    return {
        "lesion": first["lesion"],
        "label": first["label"],
        "first_visit": first["visit"],
        "last_visit": rows["visit"].iloc[seen[-1]],
        "resolved": bool(volumes[-1] == 0 and not merged),
        "intervals": len(steps),
        "growing_share": sum(steps) / len(steps) if steps else np.nan,
        "longest_growing_run": longest,
        "first_ml": volumes[0],
        "last_ml": volumes[-1],
        "nadir_ml": (volumes[seen] if merged else volumes).min(),
        **{name: overall.get(name, "" if name == "doubling" else np.nan) for name in (*NUMBERS[1:9], "doubling")},
    }
