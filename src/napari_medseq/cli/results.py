"""Commands over a result that is there: its tables, as a list or lesion by visit."""

from __future__ import annotations

import argparse

from napari_medseq.cli import common

#: words for the measures that a matrix is usually asked for
_MEASURES = {"volume": "volume_ml", "diameter": "longest_mm", "change": "change_percent", "event": "event"}


def add(commands: common.Commands) -> None:
    """Add table."""
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


def _table(args: argparse.Namespace) -> None:
    import napari_medseq as ms
    from napari_medseq.errors import SettingsError
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


def counted(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Rows for people, who count visits from 1."""
    return [{**row, "visit": int(str(row["visit"])) + 1} if "visit" in row else row for row in rows]
