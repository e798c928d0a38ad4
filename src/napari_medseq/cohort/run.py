"""`run_cohort`: the main job on many patients; a patient that fails does not stop the others, and a second call does
only what has changed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseq import files, memory, models, pipeline
from napari_medseq.cohort.limits import Limits
from napari_medseq.cohort.patient import Job, Options, Row, do_patient, empty_row
from napari_medseq.cohort.patients import RESERVED, Patient, Studies, find_patients
from napari_medseq.errors import SettingsError, warn
from napari_medseq.models import Model
from napari_medseq.models.choosing import Series
from napari_medseq.progress import Cancelled, Progress, check, duration
from napari_medseq.progression import TrackSettings
from napari_medseq.progression.folder import claimed
from napari_medseq.version import __version__
from napari_medseq.wording import some

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

#: memory in GB that a patient needs in addition to its images, for the programs
PROGRAMS_GB = 1.5


def run_cohort(
    studies: Studies,
    model: Model | str | PathLike[str],
    out: str | PathLike[str],
    *,
    cluster: str | Client | None = None,
    workers: int | None = None,
    series: Series = None,
    register: str = "auto",
    device: str = "auto",
    settings: TrackSettings | Mapping[str, object] | None = None,
    force: bool = False,
    shift_dates: bool = False,
    again: bool = False,
    reports: bool = True,
    time_limit_s: float | None = 3600.0,
    memory_limit_gb: float | None = None,
    retries: int = 1,
    patience_s: float = 60.0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> pd.DataFrame:
    """Run the main job on many patients.

    Parameters
    ----------
    studies : path or sequence of paths
        See `find_patients`: a folder of studies, a BIDS tree, a ``.csv`` of paths, a heap of DICOM, or the studies.
    model : Model, name or bundle folder
        The model, whose content is sent to each worker once; the workers need not have it.
    out : path
        Results go to ``out/<study name>``, tables and the report to ``out`` itself.
    cluster : str or distributed.Client, optional
        Address of a Dask scheduler, such as ``"tcp://server:8786"``; its workers must see the same folders and have this package
        installed. Workers with a GPU declare it (``dask worker --resources GPU=1``) and take one patient each with
        ``device="cuda"``. "slurm": the workers are jobs of SLURM, `workers` of them (see `cohort.slurm`). None: a Dask
        cluster on this machine.
    workers : int, optional
        Number of patients at a time on this machine; by default as many as processors and memory allow. 0: one after
        another in this process, without Dask and without limits. With ``cluster="slurm"``: number of jobs to submit.
    series, register, device, settings, force, shift_dates
        As in `run`.
    again : bool
        Do patients again even if their result exists.
    reports : bool
        Also write a report for each patient.
    time_limit_s, memory_limit_gb : float or None
        Limits for one patient; a patient that exceeds them fails. The memory is in addition to that of the programs;
        None: what the worker has.
    retries : int
        Number of times that a patient is tried again whose process ended (by a crash or a lack of memory).
    patience_s : float
        Seconds to wait for workers, and for a scheduler that was lost.
    progress, cancelled : callables, optional
        Called for each patient. Results that are complete when the job is cancelled are kept.

    Returns
    -------
    pandas.DataFrame
        One row per patient, in the given order, as in ``out/cohort.csv``: ``status`` is "done", "kept" (the result
        existed, from the same files, model, options and versions) or "failed" (``error`` says why); ``dropped`` counts
        visits that could not be read; volumes are the total burden at the first and the last visit.

    Raises
    ------
    ReadError
        If there is no study.
    SettingsError
        If two studies have the same name, a setting cannot be used, or the cluster cannot be reached or has no workers.
    WriteError
        If `out` cannot be written to, or another cohort writes to it.
    MedseqError
        If the scheduler is lost for good; the table and the results so far are there.

    Notes
    -----
    `series` to `shift_dates` are the keywords of `run`, under the same names; `time_limit_s` to `patience_s` are those of the
    command line. They are separate keywords, not an options object, because each is used by itself.

    Written to `out`: ``cohort.csv`` (a row per patient, as they finish), ``lesions.csv`` (per lesion and visit) and ``visits.csv`` (per
    patient and visit), both as Parquet too where pyarrow is installed, ``cohort.html``, and ``dataset_description.json`` (BIDS
    derivatives).
    """
    from napari_medseq.cohort import tables

    target = files.path_of(out).resolve()
    # a bad setting is reported before any patient
    track_settings = pipeline.track_settings(settings).model_dump(mode="json")
    _check_workers(workers, cluster)
    _check_limits(time_limit_s, memory_limit_gb, retries)
    options: Options = {
        "series": series if series is None or isinstance(series, str) else list(series),
        "register": register,
        "device": device,
        "force": force,
    }
    if shift_dates:  # only if it is set, because earlier results lack this option and are still to be kept
        options["shift_dates"] = True
    with claimed(target):
        files.remove_unfinished(target)
        patients = find_patients(studies, heap=target / ".studies", apart=target)
        if others := of_others(target, patients):
            warn(_of_others_text(target, others))
        loaded = models.loaded(model)
        jobs, rows = _jobs(patients, loaded, target, options, track_settings, again=again, report=reports)
        count = _Count(len(patients), progress)
        with tables.PatientTable(target / "cohort.csv") as table:
            for row in rows.values():
                table.add(row)
                count(row)
            limits = Limits(time_limit_s, memory_limit_gb, retries, patience_s)
            for row in _rows(jobs, loaded, cluster, workers, limits, count, cancelled):
                rows[row["study"]] = row
                table.add(row)
                count(row)
        ordered = [rows[p.name] for p in patients]
        _write_all(ordered, target)
    return tables.frame(ordered)


def _check_workers(workers: int | None, cluster: str | Client | None) -> None:
    if workers is not None and workers < 0:
        raise SettingsError(f"workers = {workers}: give 1 or more, or 0 for this process alone.")
    if cluster == "slurm" and not workers:
        raise SettingsError("workers= says how many jobs are submitted to SLURM; give 1 or more.")


def _check_limits(time_limit_s: float | None, memory_limit_gb: float | None, retries: int) -> None:
    for name, limit in (("time_limit_s", time_limit_s), ("memory_limit_gb", memory_limit_gb)):
        if limit is not None and not limit > 0:
            raise SettingsError(f"{name} = {limit:g}: give a limit above 0, or None for no limit.")
    if retries < 0:
        raise SettingsError(f"retries = {retries}: give 0 or more.")


def of_others(target: Path, patients: Sequence[Patient]) -> list[str]:
    """Names of the results in a cohort's folder whose patient is not among these: renamed, removed, or not named this time."""
    names = {p.name for p in patients}
    results = (p.parent for p in target.glob("*/run.json") if not p.parent.name.startswith("."))
    return sorted(r.name for r in results if r.name not in names and r.name not in RESERVED)


def _of_others_text(target: Path, others: Sequence[str]) -> str:
    return (
        f"{target} also holds results of {some(others)}, who are not among these "
        "studies: they stay, but are in no table. Remove what was renamed or is not wanted any more."
    )


def _jobs(
    patients: Sequence[Patient],
    model: Model,
    target: Path,
    options: Options,
    settings: dict[str, object],
    *,
    again: bool,
    report: bool,
) -> tuple[list[Job], dict[str, Row]]:
    """A job for each patient; patients that cannot be done already get their rows."""
    jobs: list[Job] = []
    rows: dict[str, Row] = {}
    first: dict[Path, str] = {}
    for patient in patients:
        job = Job(
            name=patient.name,
            study=str(patient.study),
            out=str(target / patient.name),
            model=model.info.folder,
            model_name=pipeline.name_of(model),
            model_sha256=model.fingerprint,
            options=options,
            settings=settings,
            again=again,
            report=report,
        )
        if patient.study in first:
            text = f"it is the same study as {first[patient.study]}; a patient counts once"
            rows[patient.name] = empty_row(job, "failed", text)
        else:
            first[patient.study] = patient.name
            jobs.append(job)
    return jobs, rows


def _rows(
    jobs: list[Job],
    model: Model,
    cluster: str | Client | None,
    workers: int | None,
    limits: Limits,
    count: _Count,
    cancelled: Cancelled | None,
) -> Iterator[Row]:
    """Rows as they come, wherever the jobs are done."""
    if cluster is None and workers == 0:
        for job in jobs:
            check(cancelled)
            yield do_patient(job)
        return
    try:
        from napari_medseq.cohort import cluster as dask
        from napari_medseq.cohort import slurm
    except ImportError:
        raise SettingsError(
            "Many patients at a time need Dask's distributed: pip install 'napari-medseq[cluster]'; or take "
            "one after another: workers=0, on the command line --workers 0."
        ) from None
    device = jobs[0].options["device"] if jobs else "auto"
    if cluster == slurm.NAME:
        waiting = replace(limits, patience_s=max(limits.patience_s, slurm.QUEUE_S))
        with slurm.slurm_client(min(workers or 1, max(len(jobs), 1))) as client:
            count.say(f"dashboard: {client.dashboard_link}")
            yield from dask.on_client(client, model, jobs, waiting, device, cancelled)
    elif isinstance(cluster, str):
        yield from dask.on_scheduler(cluster, model, jobs, limits, device, cancelled)
    elif cluster is not None:
        yield from dask.on_client(cluster, model, jobs, limits, device, cancelled)
    elif jobs:
        number = min(workers or local_workers(device), len(jobs))
        limits = replace(limits, threads=max(1, (os.cpu_count() or 1) // number))
        with dask.local_client(number) as client:
            count.say(f"dashboard: {client.dashboard_link}")
            yield from dask.on_client(client, model, jobs, limits, device, cancelled)


def local_workers(device: str = "auto") -> int:
    """Number of patients that this machine does at a time: one per GPU, else one per processor as far as memory
    allows."""
    if device.startswith(("cuda", "mps")):
        return 1
    processors, free = os.cpu_count() or 1, available_gb()
    return processors if free is None else max(1, min(processors, int(free // PROGRAMS_GB)))


def available_gb() -> float | None:
    """Free memory in GB; None if the system does not tell."""
    free = memory.available_bytes()
    return None if free is None else free / 1e9


class _Count:
    """Progress with the remaining time, estimated from the patients that had to be done."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._finished = self._worked = 0
        self._began = time.monotonic()

    def __call__(self, row: Row) -> None:
        self._finished += 1
        self._worked += row["status"] != "kept"
        self.say(f"{row['study']}: {row['status']}{self._left()}")

    def say(self, text: str) -> None:
        if self._progress is not None:
            self._progress(self._finished, self._total, text)

    def _left(self) -> str:
        remaining = self._total - self._finished
        if not remaining or not self._worked:
            return ""
        seconds = (time.monotonic() - self._began) / self._worked * remaining
        return f", about {duration(seconds)} left"


def _write_all(rows: Sequence[Row], target: Path) -> None:
    """Write the tables of patients, lesions and visits, the report, and what the folder is."""
    from napari_medseq.cohort import report, tables

    tables.write_patients(rows, target / "cohort.csv")
    good = [row for row in rows if row["status"] in ("done", "kept")]
    for name, source in (("lesions", "lesions.csv"), ("visits", "summary.csv")):
        paths = [Path(row["out"]) / source for row in good]
        tables.write_long(paths, [row["study"] for row in good], target / name)
    report.write_cohort_report(rows, target / "cohort.html")
    _describe(target)


def _describe(target: Path) -> None:
    """Write ``dataset_description.json``, which states the origin of the folder as BIDS derivatives do."""
    facts = {
        "Name": "napari-medseq cohort",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "napari-medseq", "Version": __version__}],
    }
    files.write_json(target / "dataset_description.json", facts)
