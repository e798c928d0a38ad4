"""Tables as spreadsheets export them: commas, semicolons or tabs, with or without a mark of the encoding, paths as Windows writes them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from napari_medseq.errors import MedseqError

_SEPARATORS = (",", ";", "\t")
#: what a line without a cell consists of
_BLANK = ' \t\r\n,;"'


def read_rows(path: Path, *, error: type[MedseqError]) -> list[dict[str, str]]:
    """The rows of a table, each by the names of its columns, without the blanks about names and cells; empty rows are left out.

    The separator is the one of comma, semicolon and tab that the first line has most of, or that Excel's line ``sep=;`` names. Empty lines
    above the heading do not count. Text is UTF-8, UTF-16 with its mark (Excel's "Unicode text"), or else Windows' western encoding.

    Raises
    ------
    MedseqError
        `error`, if the file cannot be read as a table, two columns have one name, or a row has more cells than there are columns.
    """
    try:
        lines = _decoded(path.read_bytes()).splitlines(keepends=True)
        separator = ""
        while lines and (not lines[0].strip(_BLANK) or lines[0].lower().startswith("sep=")):
            first = lines.pop(0).rstrip("\r\n")
            separator = first[4:5] if first.lower().startswith("sep=") else separator
        separator = separator or max(_SEPARATORS, key=(lines[0] if lines else "").count)
        reader = csv.DictReader(io.StringIO("".join(lines), newline=""), delimiter=separator)
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error, TypeError) as reason:
        raise error(f"{path} cannot be read as a table ({reason}).") from None
    names = [name.strip().lower() for name in reader.fieldnames or () if name.strip()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise error(f"{path} has several columns called {', '.join(twice)}; leave one of each.")
    for number, row in enumerate(rows, 1):
        if any(cell.strip() for cell in row.get(None) or ()):
            raise error(
                f"{path}: row {number} has more cells than there are columns; put texts with a separator in quotes."
            )
    cleaned = [{k.strip(): (v or "").strip() for k, v in row.items() if k is not None and k.strip()} for row in rows]
    return [row for row in cleaned if any(row.values())]


def path_in(table: Path, cell: str) -> Path:
    """The path that a cell says, relative to the table's folder; Windows' backslashes stand between folders everywhere."""
    path = table.parent / Path(cell).expanduser()
    return path if path.exists() or "\\" not in cell else table.parent / Path(cell.replace("\\", "/")).expanduser()


def _decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")
