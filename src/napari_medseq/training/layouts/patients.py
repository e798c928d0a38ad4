"""The patient of each case: by the given pattern, or by the common parts of the names of all cases."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from napari_medseq.errors import SettingsError
from napari_medseq.training.layouts.entries import Layout
from napari_medseq.wording import some

_PART = re.compile(r"^(.*?)[-_. ]?([A-Za-z]*\d+|ED|ES)$")
EACH = "{name}"


def with_patients(layout: Layout, pattern: str | None) -> Layout:
    """Every case with its patient; a doubt where the patients were guessed from names."""
    if pattern is not None:
        patient_of = {e.case: _by_pattern(e.case, pattern) for e in layout.entries}
        doubts = layout.doubts
    elif all(e.patient for e in layout.entries):
        return layout
    else:
        patient_of, name_doubts = _by_names([e.case for e in layout.entries])
        doubts = (*layout.doubts, *name_doubts)
    entries = tuple(replace(e, patient=patient_of[e.case]) for e in layout.entries)
    return replace(layout, entries=entries, doubts=doubts)


def _by_pattern(case: str, pattern: str) -> str:
    if pattern == EACH:
        return case
    try:
        match = re.search(pattern, case)
    except re.error as error:
        raise SettingsError(f"patient = {pattern!r} is not a regular expression: {error}.") from None
    found = None if match is None else match[1] if match.groups() else match[0]
    if not found:
        raise SettingsError(f"patient = {pattern!r} fits not {case!r}; it must find the patient in every case's name.")
    return found


def _by_names(cases: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Cases whose names differ only in a last number are one patient's, unless all cases do."""
    bids = {c: m[1] for c in cases if (m := re.search(r"(sub-[A-Za-z0-9]+)", c))}
    if len(bids) == len(cases):
        return bids, []
    stems = {c: (m[1] if (m := _PART.match(c)) else c) for c in cases}
    groups = Counter(stems.values())
    if 1 < len(groups) < len(cases):
        several = next(g for g, n in groups.items() if n > 1)
        members = some([c for c in cases if stems[c] == several])
        return stems, [
            f"{len(cases)} cases are taken to be of {len(groups)} patients by their names ({members} of one); if each is a patient of its "
            f'own say patient="{EACH}", or give a regular expression whose group is the patient'
        ]
    return {c: c for c in cases}, []
