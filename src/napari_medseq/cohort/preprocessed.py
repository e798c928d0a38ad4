"""`preprocess_cohort`: a recipe of preprocessing steps on the images of many patients; a patient that fails does not
stop the others."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING
from warnings import catch_warnings, simplefilter

from napari_medseq import files, record
from napari_medseq.cohort.patients import Patient, Studies, find_patients
from napari_medseq.errors import MedseqError, OperationCancelled, SettingsError, unheard
from napari_medseq.io.naming import untaken
from napari_medseq.io.study import read_study
from napari_medseq.io.writing import write
from napari_medseq.preprocessing import Register, Resample, Step, follow, parse, preprocess
from napari_medseq.preprocessing.pipeline import Steps
from napari_medseq.progress import Cancelled, Progress, check, part
from napari_medseq.sequence import ImageSequence, Study, Visit, matches
from napari_medseq.tables import write_csv

if TYPE_CHECKING:
    import pandas as pd

#: name of the table in the folder of the results
TABLE = "preprocessed.csv"


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One image or mask of a patient, as a row of the table."""

    patient: str
    visit: str
    image: str
    kind: str
    status: str
    seconds: float
    file: str = ""
    error: str = ""
    warnings: str = ""


def preprocess_cohort(
    studies: Studies,
    steps: Steps,
    out: str | PathLike[str],
    *,
    series: str | Sequence[str] | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> pd.DataFrame:
    """Run steps on the images of many patients; masks follow their images.

    A step that needs another image (*register*, *resample* without a spacing) uses the same series at the patient's
    first visit; the first visit itself is left unchanged by such steps.

    Parameters
    ----------
    studies : path or sequence of paths
        See `find_patients`: a folder of studies, a BIDS tree, a ``.csv`` of paths, or the studies.
    steps : steps, as `preprocess` takes them, or a recipe file
    out : path
        Results go to ``out/<patient>/<visit>/<image>.nii.gz``, the table to ``out/preprocessed.csv``, the recipe to ``out/run.json``.
    series : str or sequence of str, optional
        Names of the images, or patterns such as ``*T1post``; default all.

    Returns
    -------
    DataFrame
        One row per file, and per patient that could not be read: patient, visit, image, kind, status ("done" or "failed"), seconds, file,
        error, warnings.

    Raises
    ------
    SettingsError
        If a step cannot be used, or `out` lies among the studies.
    ReadError
        If there are no patients.
    """
    import pandas as pd

    parse(steps)
    target = files.path_of(out)
    patients = find_patients(studies)
    for patient in patients:
        if target.resolve().is_relative_to(patient.study) or target.resolve() == patient.study.parent:
            raise SettingsError(f"{target} lies among the studies; name another folder for the results.")
    rows: list[_Row] = []
    for k, patient in enumerate(patients):
        share = part(progress, k / len(patients), (k + 1) / len(patients), f"{patient.name}: ")
        rows += _patient(patient, steps, target / patient.name, series, share, cancelled)
    table = pd.DataFrame([asdict(row) for row in rows], columns=list(_Row.__dataclass_fields__))
    write_csv(table, target / TABLE)
    recipe = [step.model_dump(mode="json") for step in parse(steps)]
    record.write_run(target / "run.json", {"steps": recipe, "series": series, "patients": [p.name for p in patients]})
    return table


def _patient(
    patient: Patient,
    steps: Steps,
    out: Path,
    series: str | Sequence[str] | None,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> Iterator[_Row]:
    try:
        with unheard(), catch_warnings():
            simplefilter("ignore")
            study = read_study(patient.study, cancelled=cancelled)
    except OperationCancelled:
        raise
    except MedseqError as error:
        yield _failed(patient.name, str(error))
        return
    for lost in study.dropped:
        yield _failed(patient.name, lost)
    taken: set[str] = set()
    for number, visit in enumerate(study.visits):
        check(cancelled)
        share = part(progress, number / len(study.visits), (number + 1) / len(study.visits), f"{visit.name}: ")
        yield from _Visit(patient.name, study, number, out, series, taken).rows(steps, share, cancelled)
    if not taken:
        yield _failed(patient.name, f"none of its images is called like {series}" if series else "it has no image")


def _failed(patient: str, error: str, visit: str = "") -> _Row:
    return _Row(patient=patient, visit=visit, image="", kind="", status="failed", seconds=0.0, error=error)


@dataclass(frozen=True)
class _Visit:
    """One visit of a patient, whose images are preprocessed and written."""

    patient: str
    study: Study
    number: int
    out: Path
    series: str | Sequence[str] | None
    taken: set[str]  # the patient's files so far, without regard to case

    @property
    def visit(self) -> Visit:
        return self.study.visits[self.number]

    def rows(self, steps: Steps, progress: Progress | None, cancelled: Cancelled | None) -> Iterator[_Row]:
        """Preprocess and write the images and masks of the visit, one row each."""
        images = [i for i in self.visit.images if self.series is None or matches(i, self.series)]
        pairs: list[tuple[ImageSequence, ImageSequence]] = []
        for k, image in enumerate(images):
            run = partial(
                preprocess,
                image,
                self._steps(steps, image),
                reference=self._reference(image),
                progress=part(progress, k / len(images), (k + 1) / len(images)),
                cancelled=cancelled,
            )
            row, result = self._written(image, run)
            if result is not None:
                pairs.append((image, result))
            yield row
        for mask in self.visit.labels:
            of_it = [result for image, result in pairs if image.same_grid(mask)]
            if not of_it and not any(image.same_grid(mask) for image in images):
                of_it = [result for _, result in pairs]
            if of_it:
                yield self._written(mask, partial(follow, mask, of_it[0], cancelled=cancelled))[0]
            elif images:
                yield replace(
                    _failed(self.patient, "the image that it belongs to failed", self.visit.name),
                    image=mask.name,
                    kind="labels",
                )

    def _steps(self, steps: Steps, image: ImageSequence) -> list[Step]:
        """The steps for an image; at the first visit without those that bring it onto the first visit."""
        chain = parse(steps, modality=image.modality)
        return chain if self.number else [step for step in chain if not brings_onto_another(step)]

    def _reference(self, image: ImageSequence) -> ImageSequence | None:
        """The same series at the first visit; None at the first visit itself."""
        if self.number == 0:
            return None
        first = self.study.visits[0]
        name = self._series_name(image, self.visit)
        return next((one for one in first.images if self._series_name(one, first) == name), None)

    def _series_name(self, image: ImageSequence, visit: Visit) -> str:
        return image.name.removeprefix(f"{self.study.name}_").removeprefix(f"{visit.name}_")

    def _path(self, source: ImageSequence) -> Path:
        """The file of a result, numbered where another one has the same name."""
        folder = self.out / _safe(self.visit.name or f"visit-{self.number + 1}")
        path = untaken(os.path.join(folder, _safe(source.name)), self.taken, ".nii.gz")
        self.taken.add(path.casefold())
        return Path(path)

    def _written(self, source: ImageSequence, run: Callable[[], ImageSequence]) -> tuple[_Row, ImageSequence | None]:
        began = time.perf_counter()
        path = self._path(source)
        row = _Row(
            patient=self.patient,
            visit=self.visit.name,
            image=source.name,
            kind=source.kind,
            status="failed",
            seconds=0.0,
        )
        try:
            with unheard(), catch_warnings():
                simplefilter("ignore")
                result = run()
                write(result, path)
        except OperationCancelled:
            raise
        except MedseqError as error:
            return replace(row, seconds=_since(began), error=str(error)), None
        doubts = "; ".join(w for w in result.warnings if w not in source.warnings)
        row_done = replace(row, kind=result.kind, status="done", seconds=_since(began), file=str(path), warnings=doubts)
        return row_done, result


def brings_onto_another(step: Step) -> bool:
    """Whether a step only brings an image onto another one, to whose space it then belongs."""
    return isinstance(step, Register) or (isinstance(step, Resample) and step.spacing is None)


def _safe(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^\w.+-]+", "_", name).strip(".") or "image"


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)
