"""Tables as spreadsheets export them: commas, semicolons or tabs, with or without a mark of the encoding, paths as Windows writes them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from napari_medseq.errors import MedseqError

_SEPARATORS = (",", ";", "\t")


def read_rows(path: Path, *, error: type[MedseqError]) -> list[dict[str, str]]:
    """The rows of a table, each by the names of its columns, without the blanks about names and cells; empty rows are left out.

    The separator is the one of comma, semicolon and tab that the first line has most of. Text is UTF-8, UTF-16 with its mark (Excel's
    "Unicode text"), or else Windows' western encoding.

    Raises
    ------
    MedseqError
        `error`, if the file cannot be read as a table.
    """
    try:
        text = _decoded(path.read_bytes())
        heading = text.split("\n", 1)[0]
        separator = max(_SEPARATORS, key=heading.count)
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator))
    except (OSError, UnicodeDecodeError, csv.Error) as reason:
        raise error(f"{path} cannot be read as a table ({reason}).") from None
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
