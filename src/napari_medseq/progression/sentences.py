"""Plain sentences from measured facts, by rules: what happened to each lesion, and to all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from math import isfinite
from typing import TYPE_CHECKING, Any

from napari_medseq.progression.change import noise_bound
from napari_medseq.progression.matrix import visit_name
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari_medseq.progression.response import Assessment
    from napari_medseq.progression.tracked import Tracked


#: what the rule sets' letters mean
_SPELLED = {
    "CR": "complete response",
    "PR": "partial response",
    "SD": "stable disease",
    "PD": "progressive disease",
    "NE": "not evaluable",
}


def overall(progression: Tracked) -> list[str]:
    """The main findings: visits, burden and its change."""
    summary = [{str(k): v for k, v in row.items()} for row in progression.summary.to_dict(orient="records")]
    first, last = summary[progression.seen[0]], summary[progression.seen[-1]]
    when = [d.isoformat() if d else f"visit {n}" for n, d in enumerate(progression.dates, start=1)]
    lines = [
        f"{how_many(len(summary), 'visit')}{f' from {when[0]} to {when[-1]}' if len(summary) > 1 else f' ({when[0]})'}."
    ]
    unseen = [day for visit, day in enumerate(when) if visit not in progression.seen]
    if unseen:
        lines.append(f"No mask at {_and(unseen)}: lesions there are unknown.")
    lines.append(f"{_lesions(first)} with {_ml(first['volume_ml'])} at the first visit.")
    if len(progression.seen) > 1:
        change = last["volume_ml"] - first["volume_ml"]
        bound = noise_bound(*(row[name] for name in ("volume_ml", "volume_sd_ml") for row in (first, last)))
        word = "rose" if change > bound else "fell" if -change > bound else "did not change beyond the noise"
        share = f", {100 * change / first['volume_ml']:+.0f} %" if first["volume_ml"] > 0 else ""
        lines.append(
            f"The total volume {word}: {_ml(first['volume_ml'])} to {_ml(last['volume_ml'])} "
            f"({change:+.3g} mL{share}; noise bound {bound:.2g} mL)."
        )
        lines.append(f"{_lesions(last)} at the last visit.")
    specks = sum(int(summary[visit]["unmeasured"]) for visit in progression.seen)
    if specks:
        lines.append(
            f"{how_many(specks, 'sighting')} of specks below the smallest measured volume: listed but not counted."
        )
    return lines


def events(progression: Tracked) -> list[tuple[int, int, str]]:
    """One sentence per lesion and visit after the first, as (visit, lesion, sentence); specks are left out."""
    table = progression.lesions
    sentence_list = []
    for row in table.to_dict(orient="records"):
        if row["event"] != "baseline" and row["measured"]:
            sentence_list.append((int(row["visit"]), int(row["lesion"]), sentence({str(k): v for k, v in row.items()})))
    return sentence_list


def verdict_lines(assessment: Assessment, dates: Sequence[date | None], *, most: int | None = None) -> list[str]:
    """The verdict of a rule set for each visit and its reasons, one line each; `most` is the number of reasons that
    are named."""
    lines = []
    for verdict in assessment.verdicts:
        reasons = list(verdict.reasons)
        unlisted = len(reasons) - most if most is not None and len(reasons) > most + 1 else 0
        named = [*reasons[: len(reasons) - unlisted], *([f"and {unlisted} more reasons"] if unlisted else [])]
        why = f": {'; '.join(named)}" if named else ""
        lines.append(f"{_capital(visit_name(verdict.visit, dates))}, {spelled(verdict.category)}{why}.")
    return lines


def spelled(category: str) -> str:
    """A category of a rule set in words, its letters in brackets.

    Examples
    --------
    >>> spelled("PR"), spelled("stable")
    ('partial response (PR)', 'stable')
    """
    return f"{_SPELLED[category]} ({category})" if category in _SPELLED else category


def sentence(row: Mapping[str, Any]) -> str:
    """The change of one lesion at one visit."""
    subject = f"Lesion {row['lesion']}"
    parents = [p for p in str(row["parents"]).split(";") if p]
    volume = _ml(row["volume_ml"])
    if row["event"] == "new":
        text = f"{subject} is new: {volume}, longest diameter {row['longest_mm']:.1f} mm."
    elif row["event"] == "resolved":
        text = f"{subject} is no longer seen."
    elif row["event"] in ("merged", "complex") and not row["volume_ml"] > 0:
        text = f"{subject} went into another lesion."
    elif row["event"] == "merged":
        text = f"{subject} is the union of lesions {_and(parents)}: {volume}."
    elif row["event"] == "split":
        text = f"{subject} is a part of what was lesion {_and(parents)}: {volume}."
    elif row["event"] == "complex":
        text = f"{subject} was exchanged among lesions {_and(parents)}: {volume}."
    elif row["event"] == "reappeared":
        text = f"{subject} is seen again: {volume}."
    elif row["event"] == "cut off":
        text = f"{subject} is cut off by the edge of the field of view: {volume} of it are seen; no verdict."
    else:
        text = _change(subject, row)
    if row["certainty"] < 0.5 and parents:
        text += " The link to the earlier visit is uncertain."
    return text


def _change(subject: str, row: Mapping[str, Any]) -> str:
    """How a lesion that continues changed: its volume, how fast it doubles, and where it spread or moved."""
    growing = row["event"] == "growing"
    verb = {"growing": "grew", "shrinking": "shrank"}.get(str(row["event"]), "is stable")
    volume, bound = _ml(row["volume_ml"]), row["change_bound_ml"]
    text = f"{subject} {verb}: {volume}, {row['change_percent']:+.0f} % (noise bound ±{bound:.2g} mL)."
    if row.get("real_change"):
        how = "more than" if row["real_change"] == "yes" else "within"
        text += f" That is {how} what measuring the scan again gives ({_ml(row['smallest_change_ml'])})."
    if growing and row["doubling_time_days"] == row["doubling_time_days"]:
        high = row["doubling_high_days"]
        to = f"to {high:.0f}" if isfinite(high) else "or more"
        text += (
            f" Doubling time {row['doubling_time_days']:.0f} days (95 % interval {row['doubling_low_days']:.0f} {to})."
        )
    if growing and row["spread_direction"]:
        text += f" It spread {row['spread_direction']}."
    if row["shift_direction"] not in ("", "within registration error"):
        text += f" Its centre moved {row['shift_mm']:.1f} mm {row['shift_direction']}."
    return text


def _ml(value: float) -> str:
    return f"{value:.2f} mL" if value >= 0.095 else f"{value:.3f} mL"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lesions(row: Mapping[str, Any]) -> str:
    n = int(row["lesions"])
    return how_many(n, "lesion") if n else "No lesions"


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
