"""Days, moments and times as scripts give them: Python's, numpy's and pandas' own types, and text; one clear error for all else."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError


def as_date(value: object, noun: str) -> date | None:
    """A day from a date, a datetime, or text such as ``2020-01-31`` or ``20200131``; an error calls it `noun`.

    Raises
    ------
    MedseqError
        If it is not a date.
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    moment = _moment(value, noun)
    return None if moment is None else moment.date()


def as_moment(value: object, noun: str) -> datetime | None:
    """A local moment from a datetime, a date (midnight) or text; a time zone is left out, because few files state one and only moments
    without it can be compared. An error calls it `noun`.

    Raises
    ------
    MedseqError
        If it is not a moment.
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    moment = _moment(value, noun)
    return None if moment is None else moment.replace(tzinfo=None)


def _moment(value: object, noun: str) -> datetime | None:
    given = value
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            given = NotImplemented
    if isinstance(value, np.datetime64):
        given = None if np.isnat(value) else value.astype("datetime64[us]").item()
    if given is None:
        return None
    if isinstance(given, datetime):
        return given if given == given else None  # pandas' NaT is a datetime that differs from itself
    raise MedseqError(f"{noun}: {value!r} is not a date; write it as 2020-01-31.")


def as_seconds(values: object, noun: str) -> NDArray[np.float64]:
    """Seconds from numbers of seconds, durations, or moments (from the first); an error calls them `noun`.

    Raises
    ------
    MedseqError
        If they are neither, or one of them is unknown.
    """
    listed = np.asarray(values)
    first = listed.ravel()[0] if listed.dtype == object and listed.size else None
    try:
        if isinstance(first, timedelta):
            listed = listed.astype("timedelta64[us]")
        elif isinstance(first, datetime):
            listed = np.array([as_moment(v, noun) for v in listed], "datetime64[us]")
        if listed.dtype.kind == "M":
            listed = listed - listed[:1]
        seconds = listed / np.timedelta64(1, "s") if listed.dtype.kind == "m" else listed.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise MedseqError(f"{noun} are neither seconds nor moments ({error}); give numbers of seconds.") from error
    if not np.isfinite(seconds).all():
        raise MedseqError(f"{noun} hold unknown or infinite ones; give one per frame, in seconds.")
    return np.array(seconds, dtype=np.float64)
