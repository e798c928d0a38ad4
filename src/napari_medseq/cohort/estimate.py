"""An estimate before a cohort runs: how many patients are left, how long they may take, and how much memory each
needs."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from napari_medseq import files, io, models
from napari_medseq.cohort.patients import Patient, Studies, find_patients
from napari_medseq.cohort.run import PROGRAMS_GB, available_gb, local_workers
from napari_medseq.errors import MedseqError, SettingsError, unheard
from napari_medseq.models import Model
from napari_medseq.models.choosing import Series, choose_images
from napari_medseq.peak import expected_peak
from napari_medseq.progression.folder import RECORD

#: number of studies whose headers are read
_LOOKED_AT = 5


@dataclass(frozen=True)
class CohortEstimate:
    """An estimate of what `run_cohort` would do.

    Attributes
    ----------
    patients, with_result : int
        Number of patients, and of those with a result, which is kept if nothing that it depends on has changed.
    seconds_per_patient : float or None
        Time from an earlier call with the same folder; None if there was none.
    seconds : float or None
        Time for all patients without a result, with this number of workers.
    workers : int
    largest_voxels : int
        Voxels of the largest image in the studies whose headers were read.
    peak_gb : float or None
        Memory that the most demanding of these studies needs, including the programs; None if none could be read.
    available_gb : float or None
        Memory that is free; None if the system does not tell.
    """

    patients: int
    with_result: int
    seconds_per_patient: float | None
    seconds: float | None
    workers: int
    largest_voxels: int
    peak_gb: float | None
    available_gb: float | None


def estimate_cohort(
    studies: Studies,
    model: Model | str | PathLike[str],
    out: str | PathLike[str],
    *,
    workers: int | None = None,
    series: Series = None,
    register: str = "auto",
    device: str = "auto",
    force: bool = False,
) -> CohortEstimate:
    """Estimate what `run_cohort` with the same arguments would do; only headers are read, and nothing is written.

    Raises
    ------
    ReadError
        If there is no study.
    ModelError
        If there is no such model.
    SettingsError
        If the number of workers is below zero.
    """
    if workers is not None and workers < 0:
        raise SettingsError(f"workers = {workers}: give 1 or more, or 0 for this process alone.")
    loaded = models.loaded(model)
    target = files.path_of(out).resolve()
    with tempfile.TemporaryDirectory(prefix="medseq-studies-") as links:
        patients = find_patients(studies, heap=Path(links), apart=target)
        return _estimated(patients, loaded, target, workers, series, register, device, force)


def _estimated(
    patients: Sequence[Patient], loaded: Model, target: Path, workers: int | None, series: Series, register: str, device: str, force: bool
) -> CohortEstimate:  # fmt: skip
    finished = sum((target / p.name / RECORD).is_file() for p in patients)
    number = min(local_workers(device) if workers is None else max(workers, 1), len(patients))
    each = _seconds_before(target / "cohort.csv")
    rounds = math.ceil((len(patients) - finished) / number)
    looked_at = [_peak_gb(p, loaded, series, register, force) for p in patients[:_LOOKED_AT]]
    peaks = [gb for gb in looked_at if gb is not None]
    return CohortEstimate(
        patients=len(patients),
        with_result=finished,
        seconds_per_patient=each,
        seconds=None if each is None else each * rounds,
        workers=number,
        largest_voxels=max((_voxels(p) for p in patients[:_LOOKED_AT]), default=0),
        peak_gb=max(peaks, default=None),
        available_gb=available_gb(),
    )


def _seconds_before(table: Path) -> float | None:
    """Median time of the patients of an earlier call."""
    import pandas as pd

    try:
        rows = pd.read_csv(table)
        finished = rows.loc[rows["status"] == "done", "seconds"]
    except (OSError, ValueError, KeyError):
        return None
    return float(finished.median()) if len(finished) else None


def _peak_gb(patient: Patient, model: Model, series: Series, register: str, force: bool) -> float | None:
    """Memory that the main job needs for a patient, from the headers of its files; None if they do not tell."""
    try:
        with unheard():  # the job itself issues these warnings
            study = io.read_study(patient.study, lazy=True)
            chosen = choose_images(study, model.info, series=series, force=force)
            return PROGRAMS_GB + expected_peak(study.visits, chosen, model, register=register).whole / 1e9
    except MedseqError:
        return None


def _voxels(patient: Patient) -> int:
    """Voxels of the largest image of a study, from its headers."""
    try:
        series = io.info(patient.study)["series"]
    except MedseqError:
        return 0
    return max((_voxels_of(one) for one in series if one["kind"] == "image"), default=0)


def _voxels_of(facts: Mapping[str, Any]) -> int:
    """Voxels of an image by what `info` says of it; a shape of four numbers counts the frames already."""
    shape = [int(length) for length in facts["shape"]]
    return math.prod(shape) * (1 if len(shape) > 3 else int(facts.get("frames") or 1))
