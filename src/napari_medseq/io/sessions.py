"""Dates and order of visits from the BIDS tables ``sessions.tsv`` and ``*_scans.tsv``.

Source: the BIDS specification 1.10, "Sessions file" and "Scans file"; dates before 1925 hide the true ones and keep intervals.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

from napari_medseq.errors import ReadError
from napari_medseq.io import naming
from napari_medseq.io.spreadsheets import read_rows

#: Columns that hold the day of a session.
_DATE_COLUMNS = ("acq_time", "date", "acq_date", "session_date", "scan_date", "visit_date", "study_date")
_UNKNOWN = ("", "n/a", "na", "nan", "none", "null", "unknown", "-")
_LONGEST = 1 << 24


@dataclass
class Sessions:
    """The dates and the order of one patient's visits according to the tables.

    Attributes
    ----------
    dates : dict of str to date
        The date of each visit; names of visits are in lower case.
    order : list of str
        Visits in the order of the table's rows.
    notes : list of str
        What in the tables could not be used.
    """

    dates: dict[str, date] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def date_of(self, name: str) -> date | None:
        """The date of a visit by its folder's name, with or without ``ses-``."""
        lower = name.lower()
        return self.dates.get(lower) or self.dates.get(f"ses-{lower}") or self.dates.get(lower.removeprefix("ses-"))

    def rank_of(self, name: str) -> int | None:
        """The row of a visit, or None if it has none."""
        lower = name.lower()
        for candidate in (lower, f"ses-{lower}", lower.removeprefix("ses-")):
            if candidate in self.order:
                return self.order.index(candidate)
        return None


def read_sessions(folder: Path, *, of_session: bool) -> Sessions:
    """Read ``sessions.tsv`` or ``sub-XX_sessions.tsv`` of a patient's folder.

    Parameters
    ----------
    folder : Path
    of_session : bool
        Whether the folder is one session's, so that the table lies above it.
    """
    out = Sessions()
    if not folder.is_dir():
        return out
    tables = [*folder.glob("*sessions.tsv"), *(folder.parent.glob("*sessions.tsv") if of_session else [])]
    for table in sorted(tables):
        for row in _rows(table, out.notes):
            session = next((row[k] for k in ("session_id", "session", "visit", "visit_id") if row.get(k)), "").lower()
            if not session:
                continue
            stated = next((row[k] for k in _DATE_COLUMNS if row.get(k, "").lower() not in _UNKNOWN), "")
            day = day_of(stated)
            if session in out.order:
                if day is not None and day != out.dates.get(session):
                    out.notes.append(f"{table}: {session} is there twice, with different days; the first one is used.")
                continue
            out.order.append(session)
            if day is not None:
                out.dates[session] = day
            elif stated:
                out.notes.append(f"{table}: {stated[:40]!r} of {session} is not a date (YYYY-MM-DD); it is not used.")
    return out


def scans_date(folder: Path) -> date | None:
    """The earliest day in the ``*_scans.tsv`` of a session's folder."""
    if not folder.is_dir():
        return None
    days = [day_of(row.get("acq_time", "")) for table in sorted(folder.glob("*scans.tsv")) for row in _rows(table, [])]
    return min((d for d in days if d is not None), default=None)


def day_of(value: str) -> date | None:
    """A day written as ISO 8601 (with or without time and zone) or otherwise as in names."""
    try:
        return datetime.fromisoformat(value.strip().replace("Z", "+00:00")).date()
    except ValueError:
        return naming.date_in(value)


def _rows(table: Path, notes: list[str]) -> Iterator[dict[str, str]]:
    """Rows of a table as texts by column, lower case; what cannot be read is noted."""
    try:
        facts = table.stat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > _LONGEST:  # a pipe would be waited for
            notes.append(f"{table}: this is not a table that can be read; its dates are not used.")
            return
        for row in read_rows(table, error=ReadError):
            yield {name.lower(): cell for name, cell in row.items()}
    except OSError as error:
        notes.append(f"{table}: cannot be read ({type(error).__name__}); its dates are not used.")
    except ReadError as error:
        notes.append(f"{error} Its dates are not used.")
