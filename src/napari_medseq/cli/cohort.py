"""The command for many patients: cohort."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from napari_medseq.cli import common
from napari_medseq.errors import MedseqError

_SHOWN = ("study", "status", "visits", "lesions", "first_ml", "last_ml", "response", "error")


def add(cohort: argparse.ArgumentParser, register: tuple[str, ...]) -> None:
    """Add the arguments of cohort."""
    cohort.add_argument(
        "studies",
        nargs="+",
        help="a folder with one study per patient, a BIDS tree, unsorted DICOM files, or a .csv with a column 'study'; or several studies",
    )
    cohort.add_argument("-o", "--out", required=True, help="the folder for the results, the tables and the report")
    common.add_model(cohort)
    cohort.add_argument(
        "--register",
        choices=register,
        default="auto",
        help="how visits are registered; auto (the default) registers those that are not aligned yet",
    )
    cohort.add_argument(
        "--cluster",
        metavar="tcp://HOST:PORT",
        help="the address of a Dask scheduler whose workers see the same folders; or slurm, to submit as many jobs as --workers says",
    )
    cohort.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="patients at a time on this machine (default: what processors and memory allow); 0: one after another in this process",
    )
    cohort.add_argument("--again", action="store_true", help="also do the patients whose results exist already")
    cohort.add_argument("--no-reports", action="store_true", help="do not write a report for each patient")
    cohort.add_argument(
        "--time-limit",
        type=float,
        default=3600.0,
        metavar="S",
        help="the number of seconds that a patient may take (default 3600); 0: no limit",
    )
    cohort.add_argument(
        "--memory-limit",
        type=float,
        metavar="GB",
        help="the memory that a patient may take in addition to the programs",
    )
    cohort.add_argument(
        "--retries",
        type=int,
        default=1,
        help="how often a patient is tried again if its process ended unexpectedly (default 1)",
    )
    cohort.add_argument("--dry-run", action="store_true", help="only say what would be done and how long it may take")
    common.add_shift_dates(cohort)
    common.add_settings(cohort)
    common.add_json(cohort)
    cohort.set_defaults(run=_cohort, usage=cohort.error)


def _cohort(args: argparse.Namespace) -> int:
    import napari_medseq as ms

    if args.cluster and args.cluster != "slurm" and args.workers is not None:
        raise SystemExit(
            args.usage("--workers is for this machine or --cluster slurm; a scheduler has its own workers")
        )
    studies = args.studies[0] if len(args.studies) == 1 and _holds_patients(args.studies[0]) else args.studies
    if args.dry_run:
        return _dry_run(args, studies)
    table = ms.run_cohort(
        studies,
        args.model,
        args.out,
        cluster=args.cluster,
        workers=args.workers,
        again=args.again,
        reports=not args.no_reports,
        time_limit_s=args.time_limit or None,
        memory_limit_gb=args.memory_limit,
        retries=args.retries,
        series=args.series,
        register=args.register,
        device=args.device,
        settings=common.settings(args),
        force=args.force,
        shift_dates=args.shift_dates,
        progress=common.bar(),
    )
    rows = [
        {str(k): v for k, v in row.items()}
        for row in table.astype(object).where(table.notna(), None).to_dict("records")
    ]
    page = Path(args.out) / "cohort.html"
    common.answer(
        args, rows, f"{common.table(rows, _SHOWN)}\n\nwritten to {args.out}; all patients on one page: {page}"
    )
    failed, lacking = int((table["status"] == "failed").sum()), int((table["dropped"].fillna(0) > 0).sum())
    wrong = [f"{failed} of {len(table)} patients failed"] if failed else []
    wrong += [f"{lacking} of {len(table)} patients lack visits that could not be read"] if lacking else []
    if wrong:
        raise MedseqError(f"{' and '.join(wrong)}; the table says why ({args.out}/cohort.csv).")
    return 0


def _holds_patients(path: str) -> bool:
    """Whether a path is a folder or a table of patients, and not an archive of one."""
    return Path(path).is_dir() or not Path(path).exists() or Path(path).suffix.lower() in (".csv", ".tsv")


def _dry_run(args: argparse.Namespace, studies: str | list[str]) -> int:
    from napari_medseq.cohort import estimate_cohort
    from napari_medseq.progress import duration

    estimate = estimate_cohort(
        studies,
        args.model,
        args.out,
        workers=args.workers,
        series=args.series,
        register=args.register,
        device=args.device,
        force=args.force,
    )
    memory = "unknown" if estimate.peak_gb is None else f"about {estimate.peak_gb:.1f} GB"
    free = "what is free is unknown" if estimate.available_gb is None else f"{estimate.available_gb:.1f} GB are free"
    time = "unknown until a patient is done" if estimate.seconds is None else f"about {duration(estimate.seconds)}"
    text = (
        f"{estimate.patients} patients, {estimate.with_result} with a result (kept if nothing has changed)\n"
        f"{estimate.workers} at a time; time: {time}\n"
        f"largest image looked at: {estimate.largest_voxels / 1e6:.1f} million voxels\n"
        f"memory that a patient takes at most: {memory}; {free}"
    )
    common.answer(args, asdict(estimate), text)
    return 0
