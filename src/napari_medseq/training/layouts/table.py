"""A CSV file of paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from napari_medseq.errors import SettingsError
from napari_medseq.io.spreadsheets import path_in, read_rows
from napari_medseq.training.layouts.entries import Entry, Layout, some
from napari_medseq.training.layouts.folders import part_of

#: columns that are no channel, whether large or small letters write them
_RESERVED = ("patient", "visit", "labels", "label", "class", "split", "case")


def of_table(path: Path) -> Layout:
    """A case for each row that names an image and its labels; the columns that are not reserved are channels."""
    rows = read_rows(path, error=SettingsError)
    named = {c: c.lower() if c.lower() in _RESERVED else c for c in (rows[0] if rows else {})}
    rows = [{named.get(c, c): v for c, v in row.items()} for row in rows]
    columns = list(named.values())
    channels = [c for c in columns if c not in _RESERVED]
    truth = next((c for c in ("labels", "label") if c in columns), None)
    if truth is None or not channels or "patient" not in columns:
        raise SettingsError(_lacking(path, columns, list(named)))
    entries: list[Entry] = []
    without_image: list[str] = []
    without_labels: list[str] = []
    for number, row in enumerate(rows, 2):
        if not row["patient"]:
            raise SettingsError(f"{path}, line {number}: patient is empty; say whose it is.")
        case = row.get("case") or "/".join(v for v in (row["patient"], row.get("visit", "")) if v)
        images = {c: (path_in(path, row[c]),) for c in channels if row[c]}
        if not images or not row[truth]:
            (without_labels if images else without_image).append(case)
            continue
        labels = path_in(path, row[truth])
        absent = [p for p in (*(v[0] for v in images.values()), labels) if not p.exists()]
        if absent:
            raise SettingsError(
                f"{path}, line {number}: {absent[0]} is not there; paths are relative to the table's folder."
            )
        split = row.get("split", "")
        entries.append(Entry(row["patient"], case, images, (labels,), part_of(split) or split))
    doubts = [
        f"{len(cases)} row(s) name no {what} and are left out: {some(cases)}"
        for what, cases in (("image", without_image), ("labels", without_labels))
        if cases
    ]
    if "class" in columns:
        doubts.append("the column class is not used: the labels are what is learned")
    return Layout("a table of paths", tuple(_unlike(entries)), tuple(channels), doubts=tuple(doubts))


def _lacking(path: Path, columns: Sequence[str], written: Sequence[str]) -> str:
    has = f"it has {', '.join(written)}" if written else "it has no row"
    text = f"{path} needs the columns patient, labels and one for each channel's image; {has}."
    if "class" in columns and "labels" not in columns and "label" not in columns:
        text += (
            " To learn the class of a whole exam, write a config with task: classification, data: the folder of studies, and "
            "targets: this table (the page on training shows one)."
        )
    return text


def _unlike(entries: Sequence[Entry]) -> list[Entry]:
    """The cases, those of one name numbered in the order of the rows, so that none stands for another."""
    seen: dict[str, int] = {}
    out = []
    for entry in entries:
        seen[entry.case] = seen.get(entry.case, 0) + 1
        number = seen[entry.case]
        out.append(entry if number == 1 else replace(entry, case=f"{entry.case} ({number})"))
    return out
