"""Clinical values of an exam from a CSV file; columns of words become 0-or-1 values, one per word.

A column of numbers is one value of its own name. A column of words is one value per word, named ``column=word``: 1 where it is
that word, 0 where it is another, missing where nothing is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from napari_medseq.errors import SettingsError
from napari_medseq.io import spreadsheets
from napari_medseq.models.tabular import is_missing, value

_MOST_WORDS = 20


@dataclass(frozen=True)
class Table:
    """Values per exam.

    Attributes
    ----------
    names : tuple of str
        Names of the values, in order.
    rows : dict of (patient, visit) to Tensor, shape (value,)
        Visit "" where the values are the patient's; NaN where one is missing.
    """

    names: tuple[str, ...]
    rows: dict[tuple[str, str], Tensor]

    def of(self, patient: str, visit: str = "") -> Tensor:
        """The values of a visit, or of its patient; all missing where the file says nothing."""
        blank = torch.full((len(self.names),), math.nan)
        own, common = self.rows.get((patient, visit), blank), self.rows.get((patient, ""), blank)
        return torch.where(own.isfinite(), own, common)


def read_rows(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file that has the columns `needed`.

    Raises
    ------
    SettingsError
        If it cannot be read, is empty, or lacks a column.
    """
    rows = spreadsheets.read_rows(path, error=SettingsError)
    missing = [c for c in needed if not rows or c not in rows[0]]
    if missing:
        raise SettingsError(
            f"{path} needs the columns {', '.join(needed[:-1])} and {needed[-1]} (and visit, where visits differ); "
            f"{', '.join(missing)} cannot be found."
        )
    return rows


def read_table(path: Path, columns: Sequence[str]) -> Table:
    """The values of `columns` for each patient (column ``patient``) or visit (column ``visit`` too).

    Raises
    ------
    SettingsError
        If the file or a column cannot be used.
    """
    rows = read_rows(path, ["patient", *columns])
    names: list[str] = []
    for column in columns:
        words = {row[column].strip() for row in rows} - {row[column].strip() for row in rows if is_missing(row[column])}
        if not words:
            raise SettingsError(f"{path}: the column {column} is empty; leave it out of values.")
        if all(_is_number(word) for word in words):
            names.append(column)
        elif len(words) > _MOST_WORDS:
            raise SettingsError(
                f"{path}: the column {column} holds {len(words)} different words (such as {min(words)!r}); give numbers, or "
                f"at most {_MOST_WORDS} words."
            )
        else:
            names += [f"{column}={word}" for word in sorted(words)]
    values = {
        (row["patient"].strip(), row.get("visit", "").strip()): torch.tensor([value(_spoken(row), n) for n in names])
        for row in rows
    }
    return Table(tuple(names), values)


def _spoken(row: Mapping[str, str]) -> dict[str, float | str]:
    return {k: v.strip() for k, v in row.items() if not is_missing(v)}


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
