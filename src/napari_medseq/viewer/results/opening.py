"""Opening a saved result by itself: first it is read with the images that its record names, which a worker may do,
then it is shown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_medseq import io
from napari_medseq.errors import MedseqError, OperationCancelled, warn
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.progression.recorded import recorded_image
from napari_medseq.sequence import ImageSequence, Study, Visit
from napari_medseq.viewer.identity import describe
from napari_medseq.viewer.layers.conversion import KEY, LayerData
from napari_medseq.viewer.layers.namesakes import free_name
from napari_medseq.viewer.layers.studies import TRACKED, ordinals, studies_in, study_from_layers, study_layer_data
from napari_medseq.viewer.results.followed import lesion_layer_data, show_progression, tracked_layer
from napari_medseq.viewer.results.showing import add_layers

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_medseq.progression import Progression


def is_result(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a result that `Progression.save` or `ms.run` wrote."""
    return all((Path(path) / name).is_file() for name in ("run.json", "lesions.csv"))


@dataclass(frozen=True, eq=False)
class ResultContent:
    """A saved result that was read and is not shown yet; from `read_result`.

    Attributes
    ----------
    path : Path
        Its folder.
    progression : Progression
    source : Study
        The patient's study: as it is open, else with the images that the record names.
    layers : tuple of LayerData
        Images that are not open, and the lesions of each visit.
    missing : tuple of str
        Images that could not be opened, and why.
    """

    path: Path
    progression: Progression
    source: Study
    layers: tuple[LayerData, ...]
    missing: tuple[str, ...]


def open_studies(viewer: ViewerModel) -> dict[str, Study]:
    """The patients that are open, by name, for `read_result`; those with only lesions open are left out."""
    studies = {}
    for name in studies_in(viewer.layers):
        with suppress(MedseqError):
            studies[name] = study_from_layers(viewer.layers, name)
    return studies


def read_result(
    folder: str | os.PathLike[str],
    *,
    among: Mapping[str, Study] | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> ResultContent:
    """Read a saved result, and the images that its record names where its patient is not open; touches no viewer.

    Parameters
    ----------
    folder : path
    among : mapping, optional
        The patients that are open, from `open_studies`.
    progress, cancelled : callable, optional

    Raises
    ------
    ReadError
        If the folder holds no result.
    OperationCancelled
        When `cancelled` says so.
    """
    from napari_medseq.progression import Progression

    path = Path(folder)
    check(cancelled)
    progression = Progression.load(path)
    if progress is not None:
        progress(1, 1 + len(progression.dates), path.name)
    patient = _patient(progression, path)
    source, missing = _as_it_is_open(progression, (among or {}).get(patient)), list[str]()
    layers: list[LayerData] = []
    if source is None:
        name = free_name(patient, among or ())  # another patient's images are open under this name
        source, missing = _recorded_study(progression, name, progress, cancelled)
        if any(visit.images for visit in source.visits):
            layers += study_layer_data(source)
    check(cancelled)
    for ordinal, seq in zip(ordinals(source, progression), progression.labels, strict=True):
        if seq is not None:
            data, kwargs, kind = lesion_layer_data(source, ordinal, seq, progression)
            layers.append((np.array(data), kwargs, kind))  # painting there is not part of the result
    return ResultContent(path, progression, source, tuple(layers), tuple(missing))


def show_result_layer(viewer: ViewerModel, data: LayerData) -> Layer | None:
    """Add a layer of a saved result; None if the lesions of that visit have a layer already."""
    facts = data[1]["metadata"][KEY]
    if facts.get("role") == TRACKED and tracked_layer(viewer, facts["study"], facts["ordinal"]) is not None:
        return None
    describe(viewer)
    return add_layers(viewer, [data])[0]


def finish_result(viewer: ViewerModel, content: ResultContent) -> Progression:
    """After its layers were added, register the result as that of its patient.

    Images that are no longer where they were are named in a warning.
    """
    if content.missing:
        text = (
            f"Images of {content.source.name} are not where they were: {'; '.join(content.missing)}. "
            "Open them, then open the result again."
        )
        warn(text)
    show_progression(viewer, content.progression, content.source)
    return content.progression


def open_result(viewer: ViewerModel, folder: str | os.PathLike[str]) -> Progression:
    """Show a saved result over its patient's images if these are open, else with the images that its record names.

    Images that are no longer where they were are named in a warning; the lesions are shown all the same.

    Raises
    ------
    ReadError
        If the folder holds no result.
    """
    content = read_result(folder, among=open_studies(viewer))
    for data in content.layers:
        show_result_layer(viewer, data)
    return finish_result(viewer, content)


def _patient(progression: Progression, path: Path) -> str:
    """The patient's pseudonym from the record; else the folder's name."""
    patient = progression.provenance.get("patient")
    call = progression.provenance.get("run")
    if not patient and isinstance(call, Mapping):
        patient = Path(str(call.get("study") or "")).name
    return str(patient or path.name)


def _as_it_is_open(progression: Progression, study: Study | None) -> Study | None:
    """The open study, if it has the visits of a progression and, as far as they still exist, the recorded images."""
    dates = progression.dates
    if study is None or not (set(dates) <= set(study.dates) and len(dates) <= len(study.visits)):
        return None
    recorded = {path for text in _recorded_sources(progression) if (path := Path(text)).exists()}
    shown = {Path(str(i.meta["source"])).resolve() for v in study.visits for i in v.images if i.meta.get("source")}
    return study if not recorded or any(path.resolve() in shown for path in recorded) else None


def _recorded_sources(progression: Progression) -> list[str]:
    """The paths of the images that the record names."""
    inputs = progression.provenance.get("inputs")
    visits = inputs if isinstance(inputs, Sequence) else []
    images = [image for facts in visits if isinstance(facts, Mapping) for image in (facts.get("images") or {}).values()]
    return [str(image["source"]) for image in images if isinstance(image, Mapping) and image.get("source")]


def _recorded_study(
    progression: Progression, patient: str, progress: Progress | None, cancelled: Cancelled | None
) -> tuple[Study, list[str]]:
    """The images that the record names as a study, and those that could not be opened."""
    inputs = progression.provenance.get("inputs")
    visits: list[Visit] = []
    missing: list[str] = []
    for k, day in enumerate(progression.dates):
        check(cancelled)
        facts = inputs[k] if isinstance(inputs, Sequence) and k < len(inputs) and isinstance(inputs[k], Mapping) else {}
        images: list[ImageSequence] = []
        for image in (facts.get("images") or {}).values():
            try:
                found = io.read(str(image["source"]), lazy="auto", cancelled=cancelled)
                images.append(recorded_image(found, str(image["name"]), day, progression.mask_at(k)))
            except OperationCancelled:
                raise
            except (MedseqError, KeyError, TypeError) as error:
                missing.append(f"{image.get('name', 'image') if isinstance(image, Mapping) else 'image'} ({error})")
        visits.append(Visit(day, tuple(images), (), str(facts.get("name") or _visit_name(k, day))))
        if progress is not None:
            progress(2 + k, 1 + len(progression.dates), visits[-1].name)
    return Study(patient, tuple(visits)), missing


def _visit_name(number: int, day: date | None) -> str:
    return f"visit {number + 1}" if day is None else f"ses-{day:%Y%m%d}"
