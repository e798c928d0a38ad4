"""The order of visits without dates, guessed from their names.

Numbers count as numbers, words of the first visit come first, spans of time are compared as spans, and a running number in
front of every name wins over all else. The order is a guess, and callers warn the user that it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

# fmt: off
_FIRST = frozenset((
    "baseline", "base", "bl", "pre", "preop", "preoperative", "presurgery", "pretreatment", "pretx", "prerx", "pretherapy",
    "prert", "prechemo", "prebiopsy", "screening", "screen", "scr", "initial", "diagnosis", "diagnostic", "dx", "staging",
    "enrollment", "enrolment", "inclusion", "entry", "start", "index", "planning", "native", "admission", "primary", "before",
))
_DURING = frozenset((
    "intra", "intraop", "intraoperative", "mid", "midtreatment", "midtherapy", "midrt", "interim", "during", "ontreatment",
    "ontherapy",
))
_AFTER = frozenset((
    "post", "postop", "postoperative", "postsurgery", "posttreatment", "posttx", "postrx", "posttherapy", "postrt",
    "postchemo", "after", "eot", "discharge",
))
_LAST = frozenset(("final", "last", "end", "recurrence", "recurrent", "relapse", "autopsy", "postmortem", "closeout"))
#: Days in a unit of time; a month is a twelfth of a year of 365.25 days.
_DAYS = {
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 1 / 24),
    **dict.fromkeys(("d", "dy", "day", "days"), 1.0),
    **dict.fromkeys(("w", "wk", "wks", "week", "weeks"), 7.0),
    **dict.fromkeys(("m", "mo", "mos", "mon", "mth", "mths", "mnth", "month", "months"), 365.25 / 12),
    **dict.fromkeys(("y", "yr", "yrs", "year", "years"), 365.25),
}
_SPELLED = {
    word: number
    for number, words in enumerate((
        ("zero", "zeroth"), ("one", "first"), ("two", "second"), ("three", "third"), ("four", "fourth"), ("five", "fifth"),
        ("six", "sixth"), ("seven", "seventh"), ("eight", "eighth"), ("nine", "ninth"), ("ten", "tenth"),
        ("eleven", "eleventh"), ("twelve", "twelfth"),
    ))
    for word in words
}
_ROMAN = re.compile(r"x{0,3}(ix|iv|v?i{0,3})")
#: Words that only a visit's name holds (a series may be called "post" or "T1").
_VISIT_WORDS = frozenset((
    "baseline", "visit", "visits", "ses", "session", "timepoint", "tp", "followup", "fu", "month", "months", "week", "weeks",
    "year", "years", "screening", "preop", "postop", "pretreatment", "posttreatment",
))
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
)
# fmt: on


@dataclass(frozen=True)
class _Meaning:
    """The meaning of one name.

    Attributes
    ----------
    phase : int
        0 first visit, 1 during, 2 after, 3 any other (follow-ups, numbered and timed visits), 4 last.
    days : float or None
        A span of time.
    number : float or None
    leading : int or None
        A running number that the name begins with.
    natural : tuple
        The name with its numbers as numbers.
    """

    phase: int
    days: float | None
    number: float | None
    leading: int | None
    natural: tuple[tuple[int, float, str], ...]


def natural(name: str) -> tuple[tuple[int, float, str], ...]:
    """A key under which numbers sort as numbers: ``ses-2`` before ``ses-10``."""
    parts = re.findall(r"\d+|\D+", name.casefold())
    return tuple((0, float(p), "") if p.isdecimal() else (1, 0.0, p) for p in parts)


def is_visit_name(name: str) -> bool:
    """Whether the name of a folder is that of a visit, independently of its content."""
    words = set(_words(name))
    return bool(words & _VISIT_WORDS) or {"follow", "up"} <= words


def ends_like_visit(name: str) -> bool:
    """Whether a name without its number ends in a word that counts visits: ``P1_month`` of ``P1_month6``."""
    words = _words(name)
    return bool(words) and words[-1] in _VISIT_WORDS


def _words(name: str) -> list[str]:
    """Letters and numbers of a name apart, in lower case; ``followUp2`` is three words."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"\d+(?:\.\d+)?|[^\W\d_]+", apart.casefold())


def _roman(word: str) -> int | None:
    if not word or not _ROMAN.fullmatch(word):
        return None
    values = [{"i": 1, "v": 5, "x": 10}[c] for c in word]
    return sum(-v if v < after else v for v, after in zip(values, [*values[1:], 0], strict=True))


def _meaning(name: str) -> _Meaning:
    words = _words(name)
    spans, numbers, leading, used = _digits(words)
    for at, value in _written_out(name, words, used):
        unit = next((word for word in (_at(words, at + 1), _at(words, at - 1)) if word in _DAYS), None)
        if unit is not None:
            spans.append(value * _DAYS[unit])
        else:
            numbers.append(float(value))
    days = sum(spans) if spans else None
    phase = _phase(words, timed=days is not None)
    if phase == 0 and days is not None:
        days = -days  # a span of time before the treatment
    return _Meaning(phase, days, numbers[-1] if numbers else None, leading, natural(name))


def _at(words: Sequence[str], place: int) -> str:
    """The word at a place, or "" beyond the ends."""
    return words[place] if 0 <= place < len(words) else ""


def _digits(words: Sequence[str]) -> tuple[list[float], list[float], int | None, set[int]]:
    """Of the numbers in digits: spans of time in days, the other numbers, the running number in front, and the places of the spans."""
    spans: list[float] = []
    numbers: list[float] = []
    leading: int | None = None
    used: set[int] = set()
    for at, word in enumerate(words):
        if not word[0].isdigit():
            continue
        before, after = _at(words, at - 1), _at(words, at + 1)
        weighting = before == "t" and after == "w"  # T1w is not a week
        if after in _DAYS and at + 1 not in used and not weighting:
            spans.append(float(word) * _DAYS[after])
            used |= {at, at + 1}
        elif before in _DAYS and at - 1 not in used:
            spans.append(float(word) * _DAYS[before])
            used |= {at - 1, at}
        else:
            numbers.append(float(word))
            if leading is None and at == (1 if before in ("ses", "session") else 0) and word.isdecimal():
                leading = int(word)
    return spans, numbers, leading, used


def _written_out(name: str, words: Sequence[str], used: set[int]) -> Iterator[tuple[int, int]]:
    """Place and value of each number that is a word ("second") or Roman ("III")."""
    for at, word in enumerate(words):
        if at in used:
            continue
        value = _SPELLED.get(word)
        if value is None and len(words) > 1 and not _beside_digits(name, word):
            value = _roman(word)
        if value is not None:
            yield at, value


def _phase(words: Sequence[str], *, timed: bool) -> int:
    """The phase of `_Meaning` that the words of a name tell; `timed`: whether the name holds a span of time."""
    vocabulary, end_of = set(words), "end of" in " ".join(words)
    follow_up = {"follow", "up"} <= vocabulary or bool(vocabulary & {"fu", "followup", "fup", "follow"})
    timed = timed or follow_up
    if vocabulary & _LAST and not timed and not end_of:
        return 4
    if vocabulary & _FIRST and not vocabulary & _AFTER and not follow_up:
        return 0
    if vocabulary & _DURING and not timed:
        return 1
    if (vocabulary & _AFTER or end_of) and not timed:
        return 2
    return 3


def _beside_digits(name: str, word: str) -> bool:
    """Whether a word touches a digit (``v2`` is a visit, not five)."""
    return re.search(rf"\d{re.escape(word)}|{re.escape(word)}\d", name.casefold()) is not None


def _calendar(names: Sequence[str]) -> list[tuple[int, int]] | None:
    """Year and month of names that all hold a year and a month (``2019-03``, ``03.2019``, ``Mar2019``)."""
    out = []
    for name in names:
        words = _words(name.replace(".", "-"))
        years = [int(w) for w in words if re.fullmatch(r"(1[89]|2[01])\d\d", w)]
        months = [k + 1 for w in words for k, m in enumerate(_MONTHS) if len(w) > 2 and m.startswith(w)] or [
            int(w) for w in words if w.isdecimal() and len(w) <= 2 and 1 <= int(w) <= 12
        ]
        if len(years) != 1 or len(months) != 1:
            return None
        out.append((years[0], months[0]))
    return out


def order_of(names: Sequence[str]) -> list[int]:
    """The indices of names in the order in which the visits most likely were.

    Parameters
    ----------
    names : sequence of str

    Returns
    -------
    list of int
    """
    calendar = _calendar(names)
    if calendar is not None and len(set(calendar)) == len(names):
        return sorted(range(len(names)), key=lambda k: calendar[k])
    meanings = [_meaning(name) for name in names]
    leading = [m.leading for m in meanings]
    if len(names) > 1 and None not in leading and len(set(leading)) == len(names):
        return sorted(range(len(names)), key=lambda k: leading[k] or 0)
    several = [m for m in meanings if m.phase == 3]
    by_time = bool(several) and all(m.days is not None for m in several)
    by_number = bool(several) and all(m.number is not None for m in several)

    def key(k: int) -> tuple[int, float, tuple[tuple[int, float, str], ...]]:
        meaning = meanings[k]
        first = 0.0
        if meaning.phase == 0:
            first = meaning.days if meaning.days is not None else 0.0
        elif meaning.phase == 3 and by_time:
            first = meaning.days or 0.0
        elif meaning.phase == 3 and by_number and len({m.number for m in several}) > 1:
            first = meaning.number or 0.0
        elif meaning.phase == 3:
            first = meaning.days if meaning.days is not None else meaning.number if meaning.number is not None else 0.0
        return meaning.phase, first, meaning.natural

    return sorted(range(len(names)), key=key)


def merged_order(ranks: Sequence[int], dates: Sequence[date | None]) -> list[int]:
    """The indices of visits by date; a visit without one stands behind the dated ones that its rank follows.

    Parameters
    ----------
    ranks : sequence of int
        Place of each visit in the order of names (or of a table).
    dates : sequence of date or None
    """
    dated = sorted((k for k, day in enumerate(dates) if day is not None), key=lambda k: (dates[k], ranks[k]))
    out = list(dated)
    for k in sorted((k for k, day in enumerate(dates) if day is None), key=lambda k: ranks[k]):
        earlier = [at for at, other in enumerate(out) if ranks[other] < ranks[k]]
        out.insert(earlier[-1] + 1 if earlier else 0, k)
    return out
