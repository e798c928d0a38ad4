"""Commands on a patient's visits: run, track, report, and cohort for many patients."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseq.cli import cohort as cohort_command
from napari_medseq.cli import common
from napari_medseq.cli.results import counted, with_inputs
from napari_medseq.errors import MedseqError, SettingsError, warn
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari_medseq.progression import Progression

REGISTER = ("auto", "none", "translation", "rigid", "affine", "deformable")


def add(commands: common.Commands) -> None:
    """Add the commands run, track, report and cohort."""
    _add_run(commands)
    _add_track(commands)
    _add_report(commands)
    _add_cohort(commands)


def _add_run(commands: common.Commands) -> None:
    run = common.add_command(
        commands, "run", "segment all visits of a patient, follow every lesion and write the results: the main command"
    )
    run.add_argument(
        "study", nargs="?", help="the folder or archive of a study: BIDS, one folder per visit, or unsorted DICOM files"
    )
    run.add_argument(
        "-m", "--model", help="the name of a model (`napari-medseq models` lists them), or the folder of its bundle"
    )
    run.add_argument("-o", "--out", help="the folder for the results")
    run.add_argument(
        "--again",
        metavar="RUN.JSON",
        help="repeat an earlier run from its record; the other options given here take precedence over it",
    )
    run.add_argument("--device", help="where the model runs: auto (the default), cpu, cuda, cuda:N or mps")
    run.add_argument(
        "--register",
        choices=REGISTER,
        help="how visits are registered; auto (the default) registers those that are not aligned yet",
    )
    _add_order(run)
    common.add_series(run)
    common.add_settings(run)
    common.add_shift_dates(run)
    run.add_argument(
        "--force",
        action="store_true",
        help="go on even if the modality differs from the model's, or visits seem to be of different patients",
    )
    common.add_json(run)
    run.set_defaults(run=_run, usage=run.error)


def _add_track(commands: common.Commands) -> None:
    track = common.add_command(commands, "track", "follow lesions over visits whose masks exist already")
    track.add_argument(
        "labels", nargs="+", help="one mask per visit, in their order; or the folder of a study that contains masks"
    )
    track.add_argument("-o", "--out", help="the folder for the results")
    track.add_argument(
        "--dates", nargs="+", metavar="YYYY-MM-DD", help="the date of each visit (default: as the files say)"
    )
    _add_order(track)
    common.add_series(track)
    common.add_settings(track)
    common.add_shift_dates(track)
    track.add_argument("--force", action="store_true", help="go on even if the masks seem to be of different patients")
    common.add_json(track)
    track.set_defaults(run=_track)


def _add_report(commands: common.Commands) -> None:
    report = common.add_command(commands, "report", "write the HTML report of a result folder")
    report.add_argument("result", help="a folder that `run` or `track` wrote")
    report.add_argument("-o", "--out", help="the HTML file to write (default: report.html in the result folder)")
    report.add_argument(
        "--rule",
        action="append",
        help="a set of response rules, such as rano-2.0 or recist-1.1; the option may be repeated (default volumetric)",
    )
    report.add_argument("--name", default="", help="the patient's pseudonym, for the title")
    report.add_argument(
        "--captioner",
        metavar="BUNDLE",
        help="add sentences that this captioning model writes about the pictures; they are marked as written by a model",
    )
    common.add_json(report)
    report.set_defaults(run=_report)


def _add_cohort(commands: common.Commands) -> None:
    cohort = common.add_command(
        commands, "cohort", "do what `run` does for many patients, on this machine or on a cluster"
    )
    cohort_command.add(cohort, REGISTER)


def _add_order(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--order", nargs="+", metavar="VISIT", help="the names of all visits in their order, if dates do not give it"
    )


def _run(args: argparse.Namespace) -> None:
    from napari_medseq import pipeline

    facts, corrected = _earlier(args.again) if args.again else ({}, None)
    before = facts.get("run", {})
    study, model = args.study or before.get("study"), args.model or before.get("model")
    if not study or not model:
        raise SystemExit(args.usage("a study folder and --model are needed, or --again RUN.JSON"))
    if not args.study and not Path(study).is_absolute():
        raise SettingsError(f"{args.again} was made from a Study of a script, called {study}; name its folder, too.")
    progression = pipeline.run(
        study,
        model,
        out=args.out,
        series=args.series or before.get("series"),
        order=args.order or before.get("order"),
        register=args.register or before.get("register", "auto"),
        device=args.device or before.get("device", "auto"),
        settings={**(before.get("settings") or {}), **common.settings(args)},
        force=args.force or bool(before.get("force")),
        shift_dates=args.shift_dates or bool(before.get("shift_dates")),
        progress=common.bar(),
    )
    if facts and not (args.study or args.model) and (changes := _changes_since(facts, progression)):
        warn(f"Changed since {args.again} was written, so that the result may differ: {', '.join(changes)}.")
    if corrected is not None:
        pipeline.correct_again(progression, corrected)
        if args.out:
            progression.save(args.out)
    _print_result(args, progression)
    dropped = progression.provenance.get("dropped")
    if isinstance(dropped, list) and dropped:
        raise MedseqError(f"The result lacks {len(dropped)} of the study's visits: {'; '.join(map(str, dropped))}.")


def _earlier(path: str) -> tuple[dict[str, Any], Progression | None]:
    """The record of an earlier run, and its result if people corrected it."""
    import napari_medseq as ms
    from napari_medseq import record

    facts = record.read_json(Path(path))
    if not isinstance(facts.get("run"), dict) or not facts["run"]:
        raise SettingsError(f"{path} does not say how it was made; name the run.json that `run` wrote.")
    if not facts.get("corrections"):
        return facts, None
    try:
        return facts, ms.Progression.load(Path(path).resolve().parent)
    except MedseqError as problem:
        warn(f"The corrections in {path} are not made again: {problem}")
        return facts, None


def _changes_since(facts: dict[str, Any], progression: Progression) -> list[str]:
    """The images and the model of a result that are not, byte for byte, those of an earlier one, which its record names."""
    before, now = _made_from(facts), _made_from(progression.provenance)
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def _made_from(facts: dict[str, Any]) -> dict[str, object]:
    """SHA-256 of the model and of each image that a record names."""
    model = facts.get("model") or {}
    found: dict[str, object] = {f"the model {model.get('name')}": model.get("sha256")}
    for visit in facts.get("inputs") or ():
        for image in visit["images"].values():
            found[f"{image['name']} of {visit['name']}"] = image.get("sha256")
    return found


def _track(args: argparse.Namespace) -> None:
    import napari_medseq as ms

    dates: list[str] | None = args.dates
    masks: list[Any]
    images: list[Any] | None = None
    if len(args.labels) == 1 and Path(args.labels[0]).is_dir():
        study = ms.read_study(args.labels[0], order=args.order, shift_dates=args.shift_dates)
        masks = [_mask(v.labels, args.series, v.name) if v.labels else None for v in study.visits]
        if all(m is None for m in masks):
            raise MedseqError(f"{args.labels[0]}: no visit holds a mask; name the masks, or segment first (run).")
        pairs = zip(study.visits, masks, strict=True)
        images = [None if m is None else next((i for i in v.images if i.same_grid(m)), None) for v, m in pairs]
        days: list[Any] = [d.isoformat() if d else None for d in study.dates]
    else:
        if args.shift_dates:
            raise SettingsError("--shift-dates is for a study folder; of single masks say the dates with --dates.")
        if args.order:
            raise SettingsError("--order is for a study folder; name single masks in their order.")
        masks = [common.one_image(p, args.series, kind="labels") for p in args.labels]
        days = [m.acquired.date().isoformat() if m.acquired else None for m in masks]
        days = [d or _date_in(p) for d, p in zip(days, args.labels, strict=True)]
    if dates is not None and len(dates) != len(masks):
        raise SettingsError(f"{how_many(len(dates), 'date')} for {how_many(len(masks), 'mask')}; give one per mask.")
    progression = ms.track(
        masks,
        dates=dates or days,
        images=images,
        settings=ms.TrackSettings(**common.settings(args)),
        force=args.force,
        progress=common.bar(),
    )
    if args.out:
        progression.save(args.out)
    _print_result(args, progression)


def _report(args: argparse.Namespace) -> None:
    import napari_medseq as ms

    progression = ms.Progression.load(args.result)
    card = with_inputs(progression, Path(args.result))
    options = {"rules": args.rule} if args.rule else {}
    if args.out and not args.out.lower().endswith((".html", ".htm")):
        raise SettingsError(f"{args.out}: the report is written as .html.")
    path = progression.report(
        args.out or Path(args.result) / "report.html", name=args.name, card=card, captioner=args.captioner, **options
    )
    common.answer(args, {"report": str(path)}, f"report: {path}")


def _mask(labels: Any, series: list[str] | None, visit: str) -> Any:
    from fnmatch import fnmatchcase

    matching = [m for m in labels if not series or any(fnmatchcase(m.name.lower(), p.lower()) for p in series)]
    if len(matching) != 1:
        names = ", ".join(m.name for m in labels) or "none"
        raise MedseqError(
            f"Visit {visit}: one mask is needed, but the masks are: {names}. Choose with --series PATTERN."
        )
    return matching[0]


def _date_in(path: str) -> str | None:
    from napari_medseq.io.naming import date_in

    day = date_in(Path(path).name) or date_in(Path(path).resolve().parent.name)
    return day.isoformat() if day else None


def _print_result(args: argparse.Namespace, progression: Progression) -> None:
    """Print the answer: a table per lesion and one per visit, and the paths of all files."""
    lesions: list[dict[str, Any]] = progression.lesions.to_dict("records")  # type: ignore[assignment]
    summary: list[dict[str, Any]] = progression.summary.to_dict("records")  # type: ignore[assignment]
    out = str(Path(args.out).resolve()) if args.out else None
    for row in [*lesions, *summary]:
        if hasattr(row.get("date"), "strftime"):
            row["date"] = None if row["date"] != row["date"] else row["date"].strftime("%Y-%m-%d")
    text = common.table(counted(lesions), [c for c in common.SHORT if not lesions or c in lesions[0]])
    text += "\n\n" + common.table(counted(summary))
    if out:
        text += f"\n\nwritten to {out}"
    facts = {"out": out, "lesions": lesions, "summary": summary, "warnings": list(progression.warnings)}
    common.answer(args, facts, text)
