"""A CSV file of paths."""

from __future__ import annotations

import csv
from pathlib import Path

from napari_medseq.errors import SettingsError
from napari_medseq.training.layouts.entries import Entry, Layout
from napari_medseq.training.layouts.folders import part_of


def of_table(path: Path) -> Layout:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = [{str(k).strip(): str(v or "").strip() for k, v in row.items()} for row in csv.DictReader(stream)]
    columns = list(rows[0]) if rows else []
    reserved = {"patient", "visit", "labels", "label", "class", "split", "case"}
    channels = [c for c in columns if c not in reserved]
    truth = next((c for c in ("labels", "label") if c in columns), None)
    if truth is None or not channels or "patient" not in columns:
        raise SettingsError(
            f"{path} needs the columns patient, labels and one for each channel's image; it has {', '.join(columns)}."
        )
    entries = []
    for number, row in enumerate(rows, 2):
        if not row["patient"]:
            raise SettingsError(f"{path}, line {number}: patient is empty; say whose it is.")
        images = {c: (path.parent / row[c],) for c in channels if row[c]}
        if not images or not row[truth]:
            continue
        absent = [p for p in (*(v[0] for v in images.values()), path.parent / row[truth]) if not p.exists()]
        if absent:
            raise SettingsError(f"{path}, line {number}: {absent[0]} is not there.")
        case = row.get("case") or "/".join(v for v in (row["patient"], row.get("visit", "")) if v)
        split = row.get("split", "")
        entries.append(
            Entry(
                row["patient"],
                case,
                images,
                (path.parent / row[truth],),
                part_of(split) or split,
            )
        )
    return Layout("a table of paths", tuple(entries), tuple(channels))
