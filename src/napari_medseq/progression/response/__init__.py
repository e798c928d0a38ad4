"""Response criteria as small rule sets: each reads the lesion table and says, visit by visit, a category and why.

Every rule set computes what its published criteria say about sizes; clinical state, treatment and a reader's judgement count only where
they are given as options, and the reasons say where they are not. The result is a research measure, never a clinical verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING

from napari_medseq.errors import SettingsError
from napari_medseq.plugins import Table
from napari_medseq.progression.response.common import Assessment, Verdict, at_visits
from napari_medseq.progression.response.fleischner import fleischner2017
from napari_medseq.progression.response.lung_rads import lung_rads
from napari_medseq.progression.response.ms_lesions import ms_new_enlarged
from napari_medseq.progression.response.nodule import nodule_growth
from napari_medseq.progression.response.rano import rano2_bidimensional, rano2_volumetric, rano2010
from napari_medseq.progression.response.recist import recist11
from napari_medseq.progression.response.volumetric import volumetric

if TYPE_CHECKING:
    from napari_medseq.progression.tracked import Tracked

_OWN: dict[str, Callable[..., Assessment]] = {
    "recist-1.1": recist11,
    "rano-2010": rano2010,
    "rano-2.0": rano2_bidimensional,
    "rano-2.0-volumetric": rano2_volumetric,
    "nodule-growth": nodule_growth,
    "lung-rads-2022": lung_rads,
    "fleischner-2017": fleischner2017,
    "ms-new-enlarged": ms_new_enlarged,
    "volumetric": volumetric,
}


def _usable(_: str, offered: object) -> Callable[..., Assessment]:
    if not callable(offered):
        raise ValueError("it is not a function")
    return offered


#: name → rule set; other packages add theirs by entry points
RULES: Table[Callable[..., Assessment]] = Table("napari_medseq.response_rules", "response rule", _OWN, _usable)


#: categories that stand whatever else was not seen
_FOUND_WORSE = ("PD", "progression", "growth", "active")


def assess(progression: Tracked, rule: str, **options: object) -> Assessment:
    """Apply a rule set to a progression.

    A visit without a mask is "not evaluable", and so is one at which a lesion that counts is, or was earlier, cut off by the edge of the
    field of view, unless the other lesions alone say that it is worse.

    Parameters
    ----------
    progression : Tracked
    rule : str
        A name out of `RULES`.
    **options
        Of that rule set.

    Returns
    -------
    Assessment

    Raises
    ------
    SettingsError
        If there is no such rule set or option.
    """
    if rule not in RULES:
        raise SettingsError(f"There is no response rule {rule!r}; choose one of: {', '.join(RULES)}.")
    judge = RULES[rule]
    try:
        signature(judge).bind(progression, **options)
    except TypeError as error:
        raise SettingsError(f"Response rule {rule!r}: {error}.") from error
    visits = progression.seen
    everything, chosen = progression, dict(options)
    if len(visits) < len(progression.dates):
        everything = progression.at_visits(visits)
        chosen = {name: at_visits(name, value, visits) for name, value in options.items()}
    whole = judge(everything, **chosen)
    cut = _cut_off(everything)

    @cache  # it is asked for by few results: only by a verdict that a lesion which is cut off may have made worse
    def without_cut(visit: int) -> str:
        remainder = judge(everything.without(cut), **chosen)
        return next((v.category for v in remainder.verdicts if v.visit == visit), "")

    verdicts = [_unless_cut(verdict, cut, whole.targets, without_cut) for verdict in whole.verdicts]
    return replace(whole, verdicts=_at_all_visits(verdicts, visits, progression.dates))


def _cut_off(progression: Tracked) -> dict[int, int]:
    """Measured lesions that the field of view cuts off, each with the first visit at which it does."""
    table = progression.lesions
    rows = table[table["cut_off"].astype(bool) & table["measured"].astype(bool)]
    return {int(str(lesion)): int(visits.min()) for lesion, visits in rows.groupby("lesion")["visit"]}


def _unless_cut(
    verdict: Verdict, cut: Mapping[int, int], targets: Sequence[int], without_cut: Callable[[int], str]
) -> Verdict:
    """The verdict, or "not evaluable" where it rests on a lesion that is cut off; `without_cut`: a visit's category without these."""
    so_far = [lesion for lesion, visit in cut.items() if visit <= verdict.visit]
    worse = verdict.category in _FOUND_WORSE
    blamed = so_far if worse or not targets else [lesion for lesion in so_far if lesion in targets]
    if not blamed or (worse and without_cut(verdict.visit) in _FOUND_WORSE):
        return verdict
    why = [f"lesion {lesion} is cut off by the edge of the field of view" for lesion in blamed]
    return replace(verdict, category="not evaluable", reasons=(*why, *verdict.reasons))


def _at_all_visits(
    verdicts: Sequence[Verdict], visits: Sequence[int], dates: Sequence[date | None]
) -> tuple[Verdict, ...]:
    """The verdicts under the numbers of all visits, with "not evaluable" where a visit has no mask."""
    by_visit = {visits[v.visit]: replace(v, visit=visits[v.visit]) for v in verdicts}
    nan = float("nan")
    for visit in set(range(len(dates))) - set(visits):
        why = ("the visit has no mask",)
        by_visit[visit] = Verdict(visit, dates[visit], "not evaluable", nan, nan, nan, why)
    return tuple(by_visit[visit] for visit in sorted(by_visit))


__all__ = ["RULES", "Assessment", "Verdict", "assess"]
