"""One patient of a cohort (kept, followed again, or segmented and followed) as a row of the table; every error is
caught here."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypedDict

from napari_medseq import models, pipeline, record
from napari_medseq.cohort import segmented
from napari_medseq.cohort.dependencies import segmentation_key, study_sha256
from napari_medseq.errors import MedseqError, ModelError, ReadError, unheard
from napari_medseq.models import Model
from napari_medseq.models.choosing import choose_images
from napari_medseq.progression import Progression
from napari_medseq.progression.folder import RECORD, ResultFolder, checked_record, result_folder
from napari_medseq.progression.response import assess
from napari_medseq.progression.store import save
from napari_medseq.progression.tracked import Tracked

#: seconds that a killed worker may still hold a patient's folder after its job went to another one
_WAIT_S = 10.0
#: response rule of the table and the report, which suits lesions of any kind
RULE = "volumetric"


class Row(TypedDict):
    """One patient in ``cohort.csv``; unknown values are None."""

    study: str
    status: str
    visits: int | None
    dropped: int | None
    lesions: int | None
    first_ml: float | None
    last_ml: float | None
    days: float | None
    response: str | None
    seconds: float
    worker: str | None
    warnings: int | None
    error: str | None
    out: str


COLUMNS = tuple(Row.__annotations__)


class Options(TypedDict, total=False):
    """Options of `pipeline.segment_study`."""

    series: str | list[str] | None
    order: list[str] | None
    register: str
    device: str
    force: bool
    shift_dates: bool


@dataclass(frozen=True)
class Job:
    """The job of one patient, in values that JSON can hold.

    Attributes
    ----------
    name, study, out : str
        The patient's name in the cohort, the study, and the folder of the result.
    model : str
        Bundle folder on the machine that does the job.
    model_name, model_sha256 : str
        Name of the model in the record, and its hash.
    options : Options
    settings : dict
        Settings of tracking.
    again : bool
        Do the patient again even if the result exists.
    report : bool
        Also write the patient's ``report.html``.
    """

    name: str
    study: str
    out: str
    model: str
    model_name: str
    model_sha256: str
    options: Options = field(default_factory=Options)
    settings: dict[str, object] = field(default_factory=dict)
    again: bool = False
    report: bool = True

    def as_dict(self) -> dict[str, object]:
        """The job as a dictionary for JSON."""
        return asdict(self)


def empty_row(job: Job, status: str, error: str | None = None, seconds: float = 0.0) -> Row:
    """The row of a patient without further information."""
    return {
        "study": job.name,
        "status": status,
        "visits": None,
        "dropped": None,
        "lesions": None,
        "first_ml": None,
        "last_ml": None,
        "days": None,
        "response": None,
        "seconds": round(seconds, 2),
        "worker": None,
        "warnings": None,
        "error": error,
        "out": job.out,
    }


def do_patient(job: Job) -> Row:
    """The main job on one patient; any error, except an interrupt, becomes the row's ``error``."""
    began = time.perf_counter()
    try:
        with unheard():  # the record lists them, and the row counts them
            row = _done(job)
    except MedseqError as error:
        row = empty_row(job, "failed", " ".join(str(error).split()))
    except MemoryError:
        row = empty_row(
            job, "failed", "out of memory: it needs more than there is, or more than the limit for a patient allows"
        )
    except Exception as error:
        text = " ".join(str(error).split())
        memory = "can't allocate memory" in text or "out of memory" in text
        row = empty_row(job, "failed", f"{'out of memory: ' if memory else ''}{type(error).__name__}: {text}")
    row["seconds"] = round(time.perf_counter() - began, 2)
    return row


def _done(job: Job) -> Row:
    with result_folder(job.out, wait_s=_WAIT_S, set_aside=False) as folder:
        if folder is None:
            raise ValueError("a patient of a cohort needs a folder for the result")
        key = segmentation_key(study_sha256(Path(job.study)), job.model_sha256, job.options)
        facts = None if job.again else _whole_record(folder.path)
        request = {"key": key, "settings": job.settings}
        if facts is not None and facts.get("cohort") == request:
            return _row(job, "kept", folder.path, facts)
        before = _corrected(folder.path)
        folder.set_aside()
        progression = _followed(job, folder, key)
        if before is not None:
            progression.keep_identities(before)
            pipeline.correct_again(progression, before)
        progression.provenance |= {"cohort": request, "response": response_of(progression)}
        save(progression, folder.path, claim=folder)
        if job.report:
            progression.report(folder.path / "report.html", name=job.name)
        return _row(job, "done", folder.path, record.read_json(folder.path / RECORD))


def _whole_record(path: Path) -> dict[str, object] | None:
    """The record of a complete result; None if it has to be made again."""
    try:
        return checked_record(path)
    except ReadError:
        return None


def _corrected(path: Path) -> Progression | None:
    """The earlier result in a folder, if people corrected it; None if they did not, or it cannot be read."""
    facts = _whole_record(path)
    try:
        return Progression.load(path) if facts and facts.get("corrections") else None
    except ReadError:
        return None


def _followed(job: Job, folder: ResultFolder, key: str) -> Progression:
    model = _model(job.model, job.model_sha256)
    force = bool(job.options.get("force"))
    if not job.again and segmented.is_kept(folder.path, key):
        study = pipeline.read_visits(
            Path(job.study), order=job.options.get("order"), shift_dates=bool(job.options.get("shift_dates"))
        )
        chosen = choose_images(study, model.info, series=job.options.get("series"), force=force)
        answer = segmented.kept(folder.path, chosen)
    else:
        answer = pipeline.segment_study(Path(job.study), model, **job.options)
        segmented.keep(answer, folder.path, key)
    progression = pipeline.follow(answer, job.settings, force=force)
    call = {"study": job.study, "model": job.model_name, **job.options, "settings": job.settings}
    progression.provenance = pipeline.provenance(answer, model, call)
    return progression


@lru_cache(maxsize=1)
def _model(folder: str, sha256: str) -> Model:
    """The model, loaded once per process, after checking that it is the right one.

    Raises
    ------
    ModelError
        If its weights or configuration differ.
    """
    model = models.load_model(folder)
    if model.fingerprint != sha256:
        raise ModelError(f"{folder} is another model here than where the cohort was started; copy it again.")
    return model


def _row(job: Job, status: str, path: Path, facts: Mapping[str, object]) -> Row:
    """A patient's row, read from the result, so that kept and new results give the same row."""
    summary = _cells(path / "summary.csv")
    burden, days = ([float(row[name]) for row in summary if row[name]] for name in ("volume_ml", "days"))
    dropped = _texts(facts.get("dropped"))
    row = empty_row(job, status, f"visits are missing: {'; '.join(dropped)}" if dropped else None)
    row["visits"] = len(summary)
    row["dropped"] = len(dropped)
    row["lesions"] = len({lesion["lesion"] for lesion in _cells(path / "lesions.csv")})
    row["first_ml"], row["last_ml"] = (burden[0], burden[-1]) if burden else (None, None)
    row["days"] = days[-1] if len(days) > 1 else None
    row["response"] = _response(facts) if not facts.get("corrections") else response_of(Progression.load(path))
    row["warnings"] = len(_texts(facts.get("warnings")))
    return row


def _cells(table: Path) -> list[dict[str, str]]:
    """The rows of a table of a result as text, without pandas, whose import takes longer than reading three
    columns."""
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _response(facts: Mapping[str, object]) -> str | None:
    response = facts.get("response")
    return str(response) if response else None


def _texts(value: object) -> list[str]:
    return [str(v) for v in value] if isinstance(value, Sequence) and not isinstance(value, str) else []


def response_of(progression: Tracked) -> str:
    """The category at the last visit; "" if there is nothing to compare."""
    verdicts = assess(progression, RULE).verdicts
    return verdicts[-1].category if verdicts else ""
