"""Saving the masks of a patient into the study: copied at one moment, then written all or none while painting goes
on."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from napari_medseq import io
from napari_medseq.errors import MedseqError
from napari_medseq.files import replacing
from napari_medseq.io.naming import untaken
from napari_medseq.progress import Cancelled, Progress, check, with_progress
from napari_medseq.sequence import ImageSequence
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.layers.conversion import from_layer, layer_kind
from napari_medseq.viewer.layers.studies import facts_of
from napari_medseq.viewer.visits.arranging import layers_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

#: endings of file names by which masks are recognised again
_ENDINGS = ("_seg", "_mask", "_labels", "_label", "_lesions", "_tumor", "_dseg")


@dataclass(frozen=True, eq=False)
class TakenMasks:
    """The masks of a patient as they were at one moment, from `take_masks`.

    Attributes
    ----------
    masks : mapping of Path to ImageSequence
        The masks by the file that each is written to, within the study's folder.
    changes : mapping of Labels to int
        Number of changes of each unsaved layer at that moment.
    """

    masks: dict[Path, ImageSequence]
    changes: WeakKeyDictionary[Labels, int]


def save_masks(
    viewer: ViewerModel,
    study: str,
    folder: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[Path]:
    """Write every mask of a patient as NIfTI, in a folder per visit; existing files are replaced, all of them or none.

    A window does this in three steps, the second of which a worker may run: `take_masks`, `write_masks`, and
    `Editing.written`.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    MedseqError
        If the patient has no mask.
    WriteError
        If one cannot be written; then none is.
    OperationCancelled
        When `cancelled` says so.
    """
    snapshot = take_masks(viewer, study)
    out = write_masks(snapshot, folder, progress=progress, cancelled=cancelled)
    editing_of(viewer).written(snapshot.changes)
    return out


def take_masks(viewer: ViewerModel, study: str) -> TakenMasks:
    """Copy the masks of a patient as they are now, for `write_masks` to write while work goes on.

    Raises
    ------
    MedseqError
        If the patient has no mask.
    """
    layers = [layer for layer in layers_of(viewer, study) if layer_kind(layer) == "labels"]
    masks: dict[Path, ImageSequence] = {}
    for layer in layers:
        seq = from_layer(layer)
        if isinstance(seq.data, np.ndarray):
            seq = seq.replace(data=np.array(seq.data))
        masks[_file(seq.name, str(facts_of(layer)["visit_name"]), masks)] = seq
    if not masks:
        raise MedseqError(f"{study} has no mask to save. Paint one, or segment an image first.")
    return TakenMasks(masks, editing_of(viewer).unsaved.as_they_are(layers))


def write_masks(
    snapshot: TakenMasks,
    folder: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[Path]:
    """Write masks that were copied, all or none; touches no viewer, so that a worker may do it.

    Raises
    ------
    WriteError
        If one cannot be written; then none is.
    OperationCancelled
        When `cancelled` says so; no file has changed then.
    """
    files = {Path(folder) / file: seq for file, seq in snapshot.masks.items()}
    with ExitStack() as all_of_them:
        for file, seq in with_progress(files.items(), len(files), "Saving masks", progress, cancelled):
            io.write(seq, all_of_them.enter_context(replacing(file)))
        check(cancelled)
    return list(files)


def _file(name: str, visit: str, others: dict[Path, ImageSequence]) -> Path:
    """The file that a mask is written to, by its name; with a number if another mask has the same name."""
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    ending = next((e for e in _ENDINGS if stem.endswith(e)), "")
    stem, ending = stem.removesuffix(ending), ending or "_mask"
    taken = {str(other).casefold() for other in others}
    return Path(untaken(os.path.join(visit, stem), taken, f"{ending}.nii.gz", separator="-"))
