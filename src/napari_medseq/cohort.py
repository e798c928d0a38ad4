"""Many patients: the main job on each, here or on a Dask cluster, into one folder and one table.

One bad patient does not stop the others, and a second call does only what is not done yet.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseq import files, models, pipeline, record
from napari_medseq.errors import MedseqError, MedseqWarning, ReadError, SettingsError
from napari_medseq.progress import Cancelled, Progress, check

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("study", "status", "visits", "lesions", "first_ml", "last_ml", "seconds", "warnings", "error", "out")


def run_cohort(
    studies: str | PathLike[str] | Sequence[str | PathLike[str]],
    model: str | PathLike[str],
    out: str | PathLike[str],
    *,
    cluster: Any = None,
    again: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Run the main job on many patients.

    Parameters
    ----------
    studies : path or sequence of paths
        Study folders, or one folder that holds a study folder per patient.
    model : name or bundle folder
        On a cluster: as the workers know it.
    out : path
        Results go to ``out/<study name>``, the table to ``out/cohort.csv``.
    cluster : str or distributed.Client, optional
        Address of a Dask scheduler, such as ``"tcp://server:8786"``; its workers must see the same folders and have this package
        installed (one thread per worker is best). None: one patient after another, here.
    again : bool
        Do patients again whose result is there already from the same call.
    progress, cancelled : callables, optional
        Looked at per patient. Results that are complete when the job is cancelled stay.
    **options
        Further arguments of `pipeline.run`: series, register, device, settings, force.

    Returns
    -------
    pandas.DataFrame
        One row per patient, in the order given: ``status`` is "done", "kept" (was there already) or "failed"; volumes are the total
        burden at the first and the last visit.

    Raises
    ------
    ReadError
        If there is no study folder.
    SettingsError
        If two studies have one name, an option is unknown, or the cluster cannot be reached.
    """
    import pandas as pd

    unknown = set(options) - {"series", "register", "device", "settings", "force"}
    if unknown:
        raise SettingsError(
            f"{sorted(unknown)} are no options of a run; use series, register, device, settings, force."
        )
    settings = pipeline.track_settings(options.get("settings"))  # a bad setting is said before any patient
    options = {**options, "settings": settings.model_dump(mode="json")}
    folders = study_folders(studies)
    target = Path(out).resolve()
    calls = [(str(f), str(model), str(target / f.name), options, again) for f in folders]
    rows: dict[str, dict[str, Any]] = {}
    for row in _here(calls, cancelled) if cluster is None else _there(calls, cluster, cancelled):
        rows[row["study"]] = row
        if progress is not None:
            progress(len(rows), len(calls), f"{row['study']}: {row['status']}")
    table = pd.DataFrame([rows[f.name] for f in folders], columns=list(COLUMNS))
    files.write_text(target / "cohort.csv", table.to_csv(index=False))
    return table


def study_folders(studies: str | PathLike[str] | Sequence[str | PathLike[str]]) -> list[Path]:
    """The study folders that are meant, by absolute path.

    Raises
    ------
    ReadError
        If there is none, or one does not exist.
    SettingsError
        If two have one name, since results are kept by name.
    """
    if isinstance(studies, (str, PathLike)):
        root = Path(studies)
        if not root.is_dir():
            raise ReadError(f"{root} is no folder; name a folder with one study folder per patient.")
        folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    else:
        folders = [Path(s) for s in studies]
    missing = [str(f) for f in folders if not f.is_dir()]
    if missing or not folders:
        raise ReadError(
            f"There is no study folder {', '.join(missing) or f'in {studies}'}; name folders, one per patient."
        )
    names = [f.name for f in folders]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise SettingsError(f"Several studies are called {', '.join(twice)}; results are kept by name, so rename one.")
    return [f.resolve() for f in folders]


# -- one patient -----------------------------------------------------------------------------------------------------
def patient(study: str, model: str, out: str, options: Mapping[str, Any], again: bool) -> dict[str, Any]:
    """The main job on one patient as a row of the table; what goes wrong becomes the row's ``error``."""
    began = time.perf_counter()
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"study": Path(study).name, "out": out}
    try:
        kept = not again and _same_call(Path(out), study, model, options)
        if kept:
            from napari_medseq.progression import Progression

            progression = Progression.load(out)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MedseqWarning)  # they stand in the record and in the row
                progression = pipeline.run(study, model, out=out, **options)
        lesions = progression.lesions
        burden = [float(lesions.loc[lesions["visit"] == v, "volume_ml"].sum()) for v in range(len(progression.dates))]
        row |= {
            "status": "kept" if kept else "done",
            "visits": len(burden),
            "lesions": int(lesions["lesion"].nunique()),
            "first_ml": burden[0],
            "last_ml": burden[-1],
            "warnings": len(record.read_json(Path(out) / "run.json").get("warnings", [])),
        }
    except MedseqError as error:
        row |= {"status": "failed", "error": " ".join(str(error).split())}
    return row | {"seconds": round(time.perf_counter() - began, 2)}


def _same_call(out: Path, study: str, model: str, options: Mapping[str, Any]) -> bool:
    """Whether a complete result of the same study, model and options lies in `out`, made from files that are still the same."""
    if not (out / "run.json").is_file():
        return False
    told = record.read_json(out / "run.json")
    call = told.get("run", {})
    wanted = {"study": study, "series": None, "register": "auto", "force": False, **options}
    if any(call.get(k) != v for k, v in wanted.items() if k != "device"):
        return False
    if told.get("model", {}).get("sha256") != models.load_model(model).fingerprint:
        return False
    sources = [i for v in told.get("inputs", []) for i in v.get("images", {}).values()]
    return bool(sources) and all(
        i.get("source") and Path(i["source"]).exists() and record.sha256(i["source"]) == i.get("sha256")
        for i in sources
    )


# -- all of them -----------------------------------------------------------------------------------------------------
def _here(calls: Sequence[tuple[Any, ...]], cancelled: Cancelled | None) -> Iterator[dict[str, Any]]:
    for call in calls:
        check(cancelled)
        yield patient(*call)


def _there(calls: Sequence[tuple[Any, ...]], cluster: Any, cancelled: Cancelled | None) -> Iterator[dict[str, Any]]:
    """Rows as the workers finish them; a worker that dies fails its patient, not the others."""
    try:
        from distributed import Client, wait
    except ImportError:
        raise SettingsError("A cluster needs Dask's distributed: pip install 'napari-medseq[cluster]'.") from None
    ours = isinstance(cluster, str)
    try:
        client = Client(cluster, timeout="20s") if ours else cluster
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"There is no Dask scheduler at {cluster!r} ({error}); start one with `dask scheduler`."
        ) from None
    futures = {client.submit(patient, *call, pure=False): call for call in calls}
    try:
        waiting = set(futures)
        while waiting:
            check(cancelled)
            try:
                finished = wait(list(waiting), timeout=0.25, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                continue
            for future in finished:
                waiting.discard(future)
                lost_by = future.exception()
                name, out = Path(futures[future][0]).name, futures[future][2]
                lost = dict.fromkeys(COLUMNS) | {
                    "study": name,
                    "status": "failed",
                    "error": f"on the worker: {lost_by!r}",
                    "out": out,
                }
                yield lost if lost_by is not None else future.result()
    finally:
        client.cancel([f for f in futures if not f.done()])
        if ours:
            client.close()
