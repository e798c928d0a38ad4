"""Commands on an existing result: its tables, as a list or lesion by visit, which changes are real, and all of it as
DICOM."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseq.cli import common
from napari_medseq.errors import MedseqError, SettingsError

if TYPE_CHECKING:
    from napari_medseq.progression import Progression
    from napari_medseq.sequence import ImageSequence

#: short names of the usual measures of a matrix
_MEASURES = {"volume": "volume_ml", "diameter": "longest_mm", "change": "change_percent", "event": "event"}


def add(commands: common.Commands) -> None:
    """Add the commands table, retest and dicom."""
    _add_table(commands)
    _add_retest(commands)
    _add_dicom(commands)


def _add_table(commands: common.Commands) -> None:
    table = common.add_command(
        commands,
        "table",
        "print the table of a result, with one row per lesion and visit, or as a matrix of lesions and visits",
    )
    table.add_argument("result", help="a folder that `run` or `track` wrote")
    table.add_argument(
        "--matrix",
        metavar="MEASURE",
        help="print one row per lesion and one column per visit, of volume, diameter, change, event, or any column of lesions.csv",
    )
    table.add_argument(
        "--rows",
        default="",
        metavar="FILTER",
        help="print only the rows that fulfil this, such as 'volume>0.5 growing' or 'visit=2'",
    )
    table.add_argument("--sort", metavar="COLUMN", help="sort the rows by this column")
    table.add_argument("--descending", action="store_true", help="with --sort: put the largest value first")
    table.add_argument("-o", "--out", help="write the table to this file (.csv or .parquet) instead of printing it")
    common.add_json(table)
    table.set_defaults(run=_table)


def _add_retest(commands: common.Commands) -> None:
    retest = common.add_command(
        commands,
        "retest",
        "find the smallest change that is real, by measuring a scan again after moving, resampling and adding noise",
    )
    retest.add_argument("path", help="an image; or a folder that `run` wrote, in which the numbers are then kept")
    retest.add_argument(
        "-m",
        "--model",
        help="the name of a model, or the folder of its bundle (default for a result: the model that made it)",
    )
    retest.add_argument(
        "--visit",
        type=int,
        help="the number of the visit of a result that is measured again, from 1 (default: the last)",
    )
    retest.add_argument("-o", "--out", metavar="FILE", help="write the numbers to this file, as JSON")
    retest.add_argument(
        "--device", default="auto", help="where the model runs: auto (the default), cpu, cuda, cuda:N or mps"
    )
    retest.add_argument(
        "--force",
        action="store_true",
        help="run the model even if the image has another modality than the model was trained on",
    )
    common.add_series(retest)
    common.add_settings(retest, "repeats=5")
    common.add_json(retest)
    retest.set_defaults(run=_retest, usage=retest.error)


def _add_dicom(commands: common.Commands) -> None:
    dicom = common.add_command(
        commands, "dicom", "write a result as DICOM: segmentations, structured reports (TID 1500) and structure sets"
    )
    dicom.add_argument("result", help="a folder that `run` or `track` wrote")
    dicom.add_argument("-o", "--out", required=True, help="the folder for the files; it receives one folder per visit")
    dicom.add_argument(
        "--reference",
        nargs="+",
        metavar="SERIES",
        help="the DICOM series of each visit, in their order (default: the series from which the visits were read)",
    )
    dicom.add_argument("--rtstruct", action="store_true", help="also write an RT structure set per visit")
    dicom.add_argument(
        "--identifiers", action="store_true", help="keep the patient's name and ID as they are in the series"
    )
    common.add_json(dicom)
    dicom.set_defaults(run=_dicom)


def _table(args: argparse.Namespace) -> None:
    import napari_medseq as ms
    from napari_medseq.progression.matrix import chosen_rows
    from napari_medseq.tables import write_table

    if args.descending and not args.sort:
        raise SettingsError("--descending is for --sort COLUMN.")
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
    rows = common.rows_of(table)
    for row in rows:
        if hasattr(row.get("date"), "strftime"):
            row["date"] = None if row["date"] != row["date"] else row["date"].strftime("%Y-%m-%d")
    common.answer(args, rows, common.table(counted(rows), None if measure else common.SHORT))


def _retest(args: argparse.Namespace) -> None:
    import napari_medseq as ms
    from napari_medseq import files, record

    folder = Path(args.path)
    saved = (folder / "run.json").is_file()
    if saved and args.series:
        raise SettingsError("--series is for an image; of a result choose the visit with --visit.")
    if not saved and args.visit is not None:
        raise SettingsError(f"--visit is for a result, and {folder} is none: there is no run.json in it.")
    images: ImageSequence | dict[str, ImageSequence]
    if saved:
        progression, facts = ms.Progression.load(folder), record.read_json(folder / "run.json")
        model = args.model or facts.get("model", {}).get("name")
        images = _channels(progression, facts, len(progression.dates) if args.visit is None else args.visit)
    else:
        model, images = args.model, common.one_image(args.path, args.series, kind="image")
    if not model:
        raise SystemExit(args.usage("--model is needed"))
    repeatability = ms.retest(
        images,
        model,
        device=args.device,
        settings=common.settings(args),
        force=args.force,
        progress=common.bar(),
    )
    if saved:
        progression.use_repeatability(repeatability)
        progression.save(folder)
    if args.out:
        files.write_json(Path(args.out), repeatability.as_dict())
    parts = ["\n".join(repeatability.sentences())]
    parts += [common.table(common.rows_of(t)) for t in (repeatability.table, repeatability.recovery) if len(t)]
    low, high = repeatability.rc_percent_interval
    numbers = {
        "wsd_ml": repeatability.wsd_ml,
        "wcv_percent": repeatability.wcv_percent,
        "rc_ml": repeatability.rc_ml,
        "rc_percent": repeatability.rc_percent,
        "rc_percent_low": low,
        "rc_percent_high": high,
    }
    facts_found = {**repeatability.as_dict(), **numbers, "recovery": repeatability.recovery.to_dict("records")}
    common.answer(args, facts_found, "\n\n".join(parts))


def _channels(
    progression: Progression, facts: Mapping[str, Any], visit: int
) -> ImageSequence | dict[str, ImageSequence]:
    """The images of one visit (from 1) as ``run.json`` names them, one or by channel."""
    inputs = facts.get("inputs") or []
    if not 1 <= visit <= len(inputs):
        raise SettingsError(f"There is no visit {visit}; the result names the images of {len(inputs)} visits.")
    by_channel: dict[str, ImageSequence] = {}
    for channel, image in inputs[visit - 1].get("images", {}).items():
        try:
            by_channel[channel] = _input(progression, visit - 1, image)
        except MedseqError:
            raise MedseqError(
                f"Visit {visit}: its image {image.get('name')!r} is not at {image.get('source')} any more."
            ) from None
    return by_channel if len(by_channel) > 1 else next(iter(by_channel.values()))


def _input(progression: Progression, visit: int, image: Mapping[str, Any]) -> ImageSequence:
    """An image of a visit (from 0) that ``run.json`` names.

    Raises
    ------
    ReadError
        If it is not there any more.
    """
    import napari_medseq as ms
    from napari_medseq.progression.recorded import recorded_image

    found = ms.read(image["source"], kind="image") if image.get("source") else []
    return recorded_image(found, str(image.get("name")), progression.dates[visit], progression.mask_at(visit))


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
    """Give a loaded progression the images that it was made from, if they still exist, and return the card of its
    model."""
    import napari_medseq as ms
    from napari_medseq import record

    facts = record.read_json(folder / "run.json")
    for visit, entry in enumerate(facts.get("inputs", ())[: len(progression.images)]):
        for image in entry.get("images", {}).values():
            try:
                progression.images[visit] = _input(progression, visit, image)
            except MedseqError:  # the image has been moved, so that the picture of that visit is grey
                continue
            break
    model = facts.get("model", {}).get("name")
    return next((info.card for info in ms.list_models() if info.name == model), "")


def counted(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Rows for people, with visits counted from 1."""
    return [{**row, "visit": int(str(row["visit"])) + 1} if "visit" in row else row for row in rows]
