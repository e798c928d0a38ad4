"""Reading files and folders as layer data, and how they are shown in an empty viewer."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseq import io
from napari_medseq.errors import ReadError, ReadWarning, warn
from napari_medseq.io.formats.raw import Laziness
from napari_medseq.io.naming import is_label_folder
from napari_medseq.io.visit_folders import patient_folders
from napari_medseq.progress import Cancelled, Progress, check, part
from napari_medseq.sequence import ImageSequence, Study
from napari_medseq.viewer.identity import describe
from napari_medseq.viewer.layers.appearance import arranged
from napari_medseq.viewer.layers.conversion import KEY, LayerData, to_layer_data
from napari_medseq.viewer.layers.namesakes import apart
from napari_medseq.viewer.layers.placement import step_through_slices, sync_slice_views
from napari_medseq.viewer.layers.studies import by_patient, study_layer_data

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.utils.events import Event

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def arrange_when_added(viewer: ViewerModel) -> None:
    """Show the next layer that is added to an empty viewer along its slices, head up."""
    sync_slice_views(viewer)
    describe(viewer)
    if len(viewer.layers):
        return

    def arrange(event: Event) -> None:
        viewer.layers.events.inserted.disconnect(arrange)
        step_through_slices(viewer, event.value)

    viewer.layers.events.inserted.connect(arrange, position="last")


def layer_data(
    path: Paths,
    *,
    taken: Collection[str] = (),
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[LayerData]:
    """Layer data of a file, a list of files, a folder or an archive; several visits become a study on a slider
    `visit`.

    A folder called ``labels`` or the like, with masks only, is not a patient: its masks belong to none, as those of single files.
    Each of several patients is a study of its own, and the layers of all but the first are hidden. A study with the
    name of an open one (`taken`) gets another name.

    Raises
    ------
    ReadError
        If nothing could be opened.
    """
    if isinstance(path, str | os.PathLike) and io.detect(path) in ("folder", "archive"):
        if os.path.isdir(path) and len(patients := patient_folders(Path(path))) > 1:
            raise ReadError(
                f"{path}: this folder holds {len(patients)} patients. Choose one of them, or choose it by Open folder … in the widget "
                "Study: that lists them all, and loads what you tick."
            )
        study = io.read_study(path, lazy="auto", progress=progress, cancelled=cancelled)
        if is_label_folder(Path(path)) and len(study.visits) == 1 and not study.visits[0].images:
            # the masks of images that lie beside the folder, which is the name of no patient
            return arranged([to_layer_data(seq) for seq in study.visits[0].labels])
        first, *others = (study_layer_data(s) for s in by_patient(study))
        for _, kwargs, _ in (item for data in others for item in data):
            kwargs["visible"] = False  # one patient at a time
        return apart([*first, *(item for data in others for item in data)], taken)
    where = path if isinstance(path, str | os.PathLike) else [os.fspath(p) for p in path]
    sequences = io.read(where, lazy="auto", progress=progress, cancelled=cancelled)
    if not sequences:
        raise ReadError(f"{where} holds no image that can be opened; choose a NIfTI, DICOM, NRRD or MetaImage file.")
    return arranged([to_layer_data(seq) for seq in sequences])


def open_patients(
    folder: str | os.PathLike[str],
    *,
    lazy: Laziness = "auto",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[Study]:
    """The study of each patient in a folder: of one patient's folder that one; a patient that cannot be opened is named in a warning.

    Parameters
    ----------
    folder : path
        A patient's folder, or one that holds a folder for each patient.
    lazy : bool or "auto"
        As `ms.read` takes it.
    progress, cancelled : callable, optional

    Raises
    ------
    ReadError
        If nothing could be opened.
    OperationCancelled
        When `cancelled` says so.
    """
    path = Path(folder)
    patients = patient_folders(path) if path.is_dir() else [path]
    if len(patients) < 2:
        return by_patient(io.read_study(folder, lazy=lazy, progress=progress, cancelled=cancelled))
    studies: list[Study] = []
    for k, patient in enumerate(patients):
        share = part(progress, k / len(patients), (k + 1) / len(patients), f"{patient.name}: ")
        try:
            studies += by_patient(io.read_study(patient, lazy=lazy, progress=share, cancelled=cancelled))
        except ReadError as error:
            warn(f"{patient.name} was left out: {error}", ReadWarning)
    if not studies:
        raise ReadError(f"{path}: none of its {len(patients)} patients could be opened; try one of them by itself.")
    return studies


def layer_data_of_all(
    paths: Sequence[Path],
    *,
    taken: Collection[str] = (),
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[LayerData]:
    """Layer data of several paths that were dropped together; single files are read as one list, so that slices make
    up series.

    Each folder or archive is read by itself. No viewer is touched, so that a worker may do it. `taken` are the names of
    the studies that are open.

    Raises
    ------
    ReadError
        If one could not be opened; none is opened then.
    OperationCancelled
        When `cancelled` says so.
    """
    whole = [path for path in paths if io.detect(path) in ("folder", "archive")]
    single = [path for path in paths if path not in whole]
    parts: list[Paths] = [*whole, *([single] if len(single) > 1 else single)]
    out: list[LayerData] = []
    names = set(taken)
    for k, part_of_them in enumerate(parts):
        check(cancelled)
        share = part(progress, k / len(parts), (k + 1) / len(parts))
        data = layer_data(part_of_them, taken=names, progress=share, cancelled=cancelled)
        names |= {str(study) for item in data if (study := item[1]["metadata"][KEY].get("study")) is not None}
        out += data
    return out


#: bytes above which a series stays on disk, and slices are read when they are shown
_IN_MEMORY = 1 << 30


def load_ticked(
    studies: Sequence[Study],
    *,
    taken: Collection[str] = (),
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[LayerData]:
    """Layer data of studies that were read lazily, with their voxels loaded; touches no viewer, so that a worker may
    do it.

    Parameters
    ----------
    studies : sequence of Study
        The studies, one per patient; the layers of all but the first are hidden.
    taken : collection of str
        Names of the studies that are open.
    progress, cancelled : callable, optional

    Raises
    ------
    OperationCancelled
        When `cancelled` says so.
    """
    every = [seq for study in studies for visit in study.visits for seq in (*visit.images, *visit.labels)]
    loaded: dict[int, ImageSequence] = {}
    for number, seq in enumerate(every):
        check(cancelled)
        small = seq.kind == "labels" or seq.data.nbytes < _IN_MEMORY
        loaded[id(seq)] = seq.compute() if small else seq
        if progress is not None:
            progress(number + 1, len(every), seq.name)
    out: list[LayerData] = []
    for k, study in enumerate(studies):
        visits = tuple(
            replace(v, images=tuple(loaded[id(s)] for s in v.images), labels=tuple(loaded[id(s)] for s in v.labels))
            for v in study.visits
        )
        check(cancelled)
        for data, kwargs, kind in study_layer_data(replace(study, visits=visits)):
            out.append((data, kwargs if k == 0 else {**kwargs, "visible": False}, kind))
    return apart(out, taken)
