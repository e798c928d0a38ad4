"""Commands over a result that is there: its tables, as a list or lesion by visit, and the whole as DICOM."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseq.cli import common
from napari_medseq.errors import MedseqError, SettingsError

if TYPE_CHECKING:
    from napari_medseq.progression import Progression

#: words for the measures that a matrix is usually asked for
_MEASURES = {"volume": "volume_ml", "diameter": "longest_mm", "change": "change_percent", "event": "event"}


def add(commands: common.Commands) -> None:
    """Add table and dicom."""
    table = commands.add_parser(
        "table", help="the table of a result: one row per lesion and visit, or lesion by visit as a matrix"
    )
    table.add_argument("result", help="folder that run or track wrote")
    table.add_argument(
        "--matrix",
        metavar="MEASURE",
        help="one row per lesion and one column per visit, with volume, diameter, change, event, or any column of lesions.csv",
    )
    table.add_argument(
        "--rows", default="", metavar="FILTER", help="only rows that fit, such as 'volume>0.5 growing' or 'visit=2'"
    )
    table.add_argument("--sort", metavar="COLUMN", help="sort by a column of the table")
    table.add_argument("--descending", action="store_true", help="with --sort: largest first")
    table.add_argument("-o", "--out", help="write it as .csv or .parquet instead of printing it")
    common.add_json(table)
    table.set_defaults(run=_table)

    dicom = commands.add_parser(
        "dicom", help="a result as DICOM: segmentations, structured reports (TID 1500), structure sets"
    )
    dicom.add_argument("result", help="folder that run or track wrote")
    dicom.add_argument("-o", "--out", required=True, help="folder for the files; one folder per visit is made in it")
    dicom.add_argument(
        "--reference",
        nargs="+",
        metavar="SERIES",
        help="DICOM series of each visit, in order; by default what the visits' images were read from",
    )
    dicom.add_argument("--rtstruct", action="store_true", help="write an RT structure set per visit, too")
    dicom.add_argument("--identifiers", action="store_true", help="keep the patient's name and ID of the series")
    common.add_json(dicom)
    dicom.set_defaults(run=_dicom)


def _table(args: argparse.Namespace) -> None:
    import napari_medseq as ms
    from napari_medseq.progression.matrix import chosen_rows
    from napari_medseq.progression.store import write_table

    progression = ms.Progression.load(args.result)
    measure = _MEASURES.get(args.matrix or "", args.matrix)
    table = progression.matrix(measure, rows=args.rows) if measure else chosen_rows(progression.lesions, args.rows)
    if args.sort:
        if args.sort not in table.columns:
            raise SettingsError(f"There is no column {args.sort!r} to sort by; there are {', '.join(table.columns)}.")
        table = table.sort_values(args.sort, ascending=not args.descending, kind="stable")
    if args.out:
        written = str(write_table(table, args.out))
        common.answer(args, {"written": written, "rows": len(table)}, written)
        return
    rows = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    for row in rows:
        if hasattr(row.get("date"), "strftime"):
            row["date"] = None if row["date"] != row["date"] else row["date"].strftime("%Y-%m-%d")
    common.answer(args, rows, common.table(counted(rows), None if measure else common.SHORT))


def _dicom(args: argparse.Namespace) -> None:
    import napari_medseq as ms

    progression = ms.Progression.load(args.result)
    if not args.reference:
        with_inputs(progression, Path(args.result))
    written = progression.export_dicom(
        args.out,
        references=args.reference,
        rtstruct=args.rtstruct,
        identifiers=args.identifiers,
        progress=common.bar(),
    )
    names = [str(path) for path in written]
    common.answer(args, {"written": names}, "\n".join(names))


def with_inputs(progression: Progression, folder: Path) -> str:
    """Give a loaded progression the images it was made from, where they still are; the card of its model."""
    import napari_medseq as ms
    from napari_medseq import record

    facts = record.read_json(folder / "run.json")
    for visit, known in enumerate(facts.get("inputs", ())[: len(progression.images)]):
        for image in known.get("images", {}).values():
            source, name = image.get("source"), image.get("name")
            try:
                found = ms.read(source, kind="image") if source else []
            except MedseqError:  # it lies elsewhere now: that visit's picture is grey
                continue
            progression.images[visit] = next((i for i in found if i.name == name), None)
            break
    model = facts.get("model", {}).get("name")
    return next((info.card for info in ms.list_models() if info.name == model), "")


def counted(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Rows for people, who count visits from 1."""
    return [{**row, "visit": int(str(row["visit"])) + 1} if "visit" in row else row for row in rows]
