"""A saved result alone: its images are found by its record, and it is shown over them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseq import io
from napari_medseq.errors import MedseqError, MedseqWarning
from napari_medseq.sequence import ImageSequence, Study, Visit
from napari_medseq.viewer.followed import show_progression
from napari_medseq.viewer.identity import describe
from napari_medseq.viewer.results import add_layers
from napari_medseq.viewer.study import studies_in, study_from_layers, study_layer_data

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_medseq.progression import Progression


def is_result(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a result that `Progression.save` or `ms.run` wrote."""
    return all((Path(path) / name).is_file() for name in ("run.json", "lesions.csv"))


def open_result(viewer: ViewerModel, folder: str | os.PathLike[str]) -> Progression:
    """Show a saved result: over its patient's images where these are open, else with the images that its record names.

    Images that are no longer where they were are named in a warning; the lesions are shown all the same.

    Raises
    ------
    ReadError
        If the folder holds no result.
    """
    from napari_medseq.progression import Progression

    path = Path(folder)
    progression = Progression.load(path)
    describe(viewer)
    patient = _patient(progression, path)
    source = _open_study(viewer, patient, progression.dates)
    if source is None:
        source, missing = _recorded_study(progression, patient)
        if any(visit.images for visit in source.visits):
            add_layers(viewer, study_layer_data(source))
        if missing:
            text = f"Images of {patient} are not where they were: {'; '.join(missing)}. Open them, then open the result again."
            warnings.warn(text, MedseqWarning, stacklevel=2)
    show_progression(viewer, progression, source)
    return progression


def _patient(progression: Progression, path: Path) -> str:
    """The patient's pseudonym, as the record says it; else the folder's name."""
    known = progression.provenance.get("patient")
    call = progression.provenance.get("run")
    if not known and isinstance(call, Mapping):
        known = Path(str(call.get("study") or "")).name
    return str(known or path.name)


def _open_study(viewer: ViewerModel, patient: str, dates: Sequence[date | None]) -> Study | None:
    if patient not in studies_in(viewer.layers):
        return None
    try:
        study = study_from_layers(viewer.layers, patient)
    except MedseqError:  # only its lesions are open
        return None
    return study if set(dates) <= set(study.dates) and len(dates) <= len(study.visits) else None


def _recorded_study(progression: Progression, patient: str) -> tuple[Study, list[str]]:
    """The images that the record names, as a study, and what could not be opened."""
    inputs = progression.provenance.get("inputs")
    visits: list[Visit] = []
    missing: list[str] = []
    for k, day in enumerate(progression.dates):
        facts = inputs[k] if isinstance(inputs, Sequence) and k < len(inputs) and isinstance(inputs[k], Mapping) else {}
        images: list[ImageSequence] = []
        for image in (facts.get("images") or {}).values():
            try:
                images.append(_image(str(image["source"]), str(image["name"])))
            except (MedseqError, KeyError, TypeError) as error:
                missing.append(f"{image.get('name', 'image') if isinstance(image, Mapping) else 'image'} ({error})")
        visits.append(Visit(day, tuple(images), (), str(facts.get("name") or _visit_name(k, day))))
    return Study(patient, tuple(visits)), missing


def _image(source: str, name: str) -> ImageSequence:
    found = io.read(source, lazy="auto")
    return next((seq for seq in found if seq.name == name), found[0])


def _visit_name(number: int, day: date | None) -> str:
    return f"visit {number + 1}" if day is None else f"ses-{day:%Y%m%d}"
