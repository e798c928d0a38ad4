"""The tables of a cohort: a row per patient as patients finish, then a row per lesion and visit, and one per patient and visit."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

import pandas as pd

from napari_medseq import files
from napari_medseq.cohort.patient import COLUMNS, Row
from napari_medseq.errors import ReadError, WriteError
from napari_medseq.progression.table import TEXTS
from napari_medseq.tables import csv_cell, write_csv

#: columns of text in the tables; all others are numbers
_TEXTS = ("study", *TEXTS)
_WHOLE = ("visit", "lesion")
_FLAGS = ("measured", "cut_off")


class PatientTable:
    """``cohort.csv`` while the cohort runs: each row is on disk as soon as its patient is finished.

    Raises
    ------
    WriteError
        If it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: TextIO | None = None

    def __enter__(self) -> PatientTable:
        files.write_text(self.path, ",".join(COLUMNS) + "\n")
        try:
            self._stream = self.path.open("a", newline="", encoding="utf-8")
        except OSError as error:
            raise _unwritable(self.path, error) from None
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        if self._stream is not None:
            self._stream.close()

    def add(self, row: Row) -> None:
        """Write one row, now."""
        if self._stream is None:
            raise ValueError("the table is closed")
        try:
            cells = {name: csv_cell(value) for name, value in row.items()}
            csv.DictWriter(self._stream, COLUMNS, lineterminator="\n").writerow(cells)
            self._stream.flush()
        except OSError as error:
            raise _unwritable(self.path, error) from None


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as a table; integers stay integers even if some cells are blank."""
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    for column in ("visits", "dropped", "lesions", "warnings"):
        table[column] = table[column].astype("Int64")
    for column in ("first_ml", "last_ml", "days", "seconds"):
        table[column] = table[column].astype(float)
    return table


def write_patients(rows: Sequence[Row], path: Path) -> Path:
    """Write the final ``cohort.csv``, with the rows in the order of the studies."""
    return write_csv(frame(rows), path)


def visit_tables(rows: Iterable[Row]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name and visits of each patient with a result."""
    for row in _with_result(rows):
        yield row["study"], pd.read_csv(Path(row["out"]) / "summary.csv")


def _with_result(rows: Iterable[Row]) -> Iterator[Row]:
    return (row for row in rows if row["status"] in ("done", "kept"))


def write_long(tables: Sequence[Path], names: Sequence[str], out: Path) -> list[Path]:
    """Write the tables of many patients as one tidy table, ``.csv`` and, if pyarrow is installed, ``.parquet``.

    One patient is in memory at a time.

    Parameters
    ----------
    tables : sequence of Path
        ``lesions.csv`` or ``summary.csv`` of each patient.
    names : sequence of str
        Names of the patients.
    out : Path
        Path of the tables without ending.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    ReadError
        If a patient's table cannot be read.
    WriteError
        If the table cannot be written.
    """
    columns = _all_columns(tables)
    text, table = out.with_suffix(".csv"), out.with_suffix(".parquet")
    with files.replacing(text) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerow(columns)
        for name, path in zip(names, tables, strict=True):
            for row in _rows(path):
                cells = {"study": csv_cell(name), **row}  # whose texts are safe already
                csv.DictWriter(stream, columns, restval="", lineterminator="\n").writerow(cells)
    written = [text]
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        return written
    types = {name: _arrow_type(name, pyarrow) for name in columns}
    reading = pyarrow.csv.ConvertOptions(
        column_types=types, strings_can_be_null=True, null_values=["", "nan", "inf", "-inf"]
    )
    with (
        files.replacing(table) as temporary,
        pyarrow.csv.open_csv(text, convert_options=reading) as batches,
        pyarrow.parquet.ParquetWriter(temporary, batches.schema) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
    return [*written, table]


def _arrow_type(name: str, pyarrow: object) -> object:
    kind = (
        "string" if name in _TEXTS else "date32" if name == "date" else "int64" if name in _WHOLE
        else "bool_" if name in _FLAGS else "float64"
    )  # fmt: skip
    return getattr(pyarrow, kind)()


def _all_columns(tables: Sequence[Path]) -> list[str]:
    """The columns of all tables, each once, in the order in which they come first."""
    columns = {"study": None}
    for path in tables:
        with _opened(path) as stream:
            columns |= dict.fromkeys(next(csv.reader(stream), []))
    return list(columns)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with _opened(path) as stream:
        yield from csv.DictReader(stream)


def _opened(path: Path) -> TextIO:
    try:
        return path.open(newline="", encoding="utf-8")
    except OSError as error:
        raise ReadError(f"{path} cannot be read ({error.strerror}); call the cohort again.") from None


def _unwritable(path: Path, error: OSError) -> WriteError:
    return WriteError(
        f"{path} could not be written: {error.strerror or error}. Choose a folder you may write to, with space left."
    )
