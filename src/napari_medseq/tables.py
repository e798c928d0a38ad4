"""Tables on disk: CSV that a spreadsheet cannot mistake for formulas and a terminal cannot mistake for commands."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseq import files
from napari_medseq.errors import SettingsError, WriteError

if TYPE_CHECKING:
    import pandas as pd

#: what a spreadsheet takes for the start of a formula (OWASP, CSV Injection), full-width forms too
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
#: control characters, those that change the direction of text, and separators of lines and paragraphs
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def csv_text(text: str) -> str:
    """A text as a cell of a CSV: one line without control characters, and never the start of a formula.

    Examples
    --------
    >>> csv_text("=HYPERLINK(1)"), csv_text("a\\nb"), csv_text("left lung")
    ("'=HYPERLINK(1)", 'a b', 'left lung')
    """
    plain = _CONTROL.sub(" ", text)
    return f"'{plain}" if plain.lstrip().startswith(_FORMULA) or text.startswith(_FORMULA) else plain


def from_csv_text(text: str) -> str:
    """The text that `csv_text` quoted, without its quote."""
    return text[1:] if text.startswith("'") and csv_text(text[1:]) == text else text


def csv_cell(value: object) -> object:
    """A cell: texts as `csv_text`, numbers, dates and blanks as they are."""
    return csv_text(value) if isinstance(value, str) else value


def safe_table(table: pd.DataFrame) -> pd.DataFrame:
    """A copy of a table whose texts and column names are safe in a CSV."""
    safe = table.copy()
    for column in safe.columns:
        if safe[column].dtype == object or str(safe[column].dtype) in ("string", "str", "category"):
            safe[column] = safe[column].map(csv_cell)
    safe.columns = [csv_cell(name) for name in safe.columns]
    return safe


def write_csv(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as CSV, whole or not at all, with safe texts, dates as ISO days and LF at the ends of lines.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    return files.write_text(path, safe_table(table).to_csv(index=False, date_format="%Y-%m-%d", lineterminator="\n"))


def write_table(frame: pd.DataFrame, path: str | PathLike[str]) -> Path:
    """Write a table as ``.csv`` (safe in a spreadsheet) or ``.parquet``, whole or not at all.

    Raises
    ------
    SettingsError
        If the ending is another.
    WriteError
        If it cannot be written, or pyarrow is missing.
    """
    path = files.path_of(path)
    if path.suffix not in (".csv", ".parquet"):
        raise SettingsError(f"{path.name}: tables are written as .csv or .parquet.")
    if path.suffix == ".csv":
        return write_csv(frame, path)
    try:
        with files.replacing(path) as part:
            frame.to_parquet(part, index=False, engine="pyarrow")
    except ImportError as error:
        raise WriteError("Parquet needs pyarrow: pip install 'napari-medseq[parquet]'. Or write .csv.") from error
    return path
