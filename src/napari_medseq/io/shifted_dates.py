"""Shifting a patient's dates by a number of days that follows from the user's secret key; intervals stay as they are.

As DICOM PS3.15 (E.3.6, *Retain Longitudinal Temporal Information with Modified Dates*): each patient's dates go back by days of its own,
the same in every process with one key.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from napari_medseq.io import naming, pseudonyms
from napari_medseq.sequence import ImageSequence, Study, Visit


def shifted(study: Study) -> Study:
    """A study whose dates went back: of visits and images, and in names, notes and what was kept of headers.

    The patient is who the images name, else the study. What names a file (``meta["source"]``) and identifiers of objects stay.
    """
    named = {str(s.meta["patient"]) for v in study.visits for s in (*v.images, *v.labels) if "patient" in s.meta}
    back = timedelta(days=pseudonyms.days_back(named.pop() if len(named) == 1 else study.name))
    return replace(
        study,
        name=_text(study.name, back),
        visits=tuple(_visit(v, back) for v in study.visits),
        warnings=tuple(_text(w, back) for w in study.warnings),
        dropped=tuple(_text(d, back) for d in study.dropped),
    )


def _visit(visit: Visit, back: timedelta) -> Visit:
    return Visit(
        visit.date and visit.date - back,
        tuple(_sequence(s, back) for s in visit.images),
        tuple(_sequence(s, back) for s in visit.labels),
        _text(visit.name, back),
    )


def _sequence(seq: ImageSequence, back: timedelta) -> ImageSequence:
    def is_text(key: str) -> bool:
        return isinstance(seq.meta[key], str) and key != "source" and not key.endswith("uid")

    return seq.replace(
        name=_text(seq.name, back),
        acquired=seq.acquired and seq.acquired - back,
        meta={k: _text(v, back) if is_text(k) else v for k, v in seq.meta.items()},
        warnings=tuple(_text(w, back) for w in seq.warnings),
    )


def _text(text: str, back: timedelta) -> str:
    return naming.with_dates(text, lambda day: day - back)
