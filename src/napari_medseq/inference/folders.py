"""Segmenting a folder of images into a folder of label files: finished cases are kept, and a case that fails is
reported and skipped.

Each file is an image, or a channel of one where names end in ``_0000``, ``_0001``, … (nnU-Net). A subfolder holds the images of one case,
and so do the DICOM files of the folder itself. For a model of frames numbered pictures of one folder are a video.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_medseq import io
from napari_medseq.errors import MedseqError, OperationCancelled, ReadError, SettingsError
from napari_medseq.geometry import voxel_volume_mm3
from napari_medseq.inference.outputs.ensemble import models_of
from napari_medseq.inference.segmentation import segment
from napari_medseq.io.naming import channel_of, names_labels, stem
from napari_medseq.io.numbered_pictures import holds_sequences
from napari_medseq.models import Model, ModelLike
from napari_medseq.models.choosing import Series, choose_image
from napari_medseq.progress import Cancelled, Progress, check, part
from napari_medseq.sequence import ImageSequence


@dataclass(frozen=True)
class Case:
    """Files of one image by the number of their channel, or the folder that holds it (as channel 0)."""

    name: str
    files: Mapping[int, Path]


@dataclass(frozen=True)
class Done:
    """The result of one case.

    Attributes
    ----------
    case : str
    status : {"done", "kept", "failed"}
        "kept": its label file was there already.
    labels : Path
        The label file.
    volumes_ml : dict of str to float
        Volume of each class, by its name; empty where the case was kept or failed.
    seconds : float
    error : str
    """

    case: str
    status: str
    labels: Path
    volumes_ml: Mapping[str, float]
    seconds: float = 0.0
    error: str = ""


def cases_in(folder: Path, *, frames: bool = False) -> list[Case]:
    """The images of a folder; label files are left out.

    Where the names of images differ only in their endings, all but the first are called by their whole names.

    Parameters
    ----------
    folder : Path
    frames : bool
        Whether numbered pictures are frames of one sequence.

    Raises
    ------
    ReadError
        If there is none.
    """
    inside = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".")]
    kinds = {p: io.detect(p) for p in inside}
    if "dicom" in kinds.values():
        return [Case(folder.name, {0: folder})]
    if frames and holds_sequences(folder) and "folder" not in kinds.values():
        return [Case(folder.name, {0: folder})]
    cases: dict[str, dict[int, Path]] = {}
    called: dict[str, str] = {}  # names that differ only in case would share a label file on many systems
    for path, kind in kinds.items():
        if kind is None or names_labels(Path(path.name)):  # the label frames of a video too
            continue
        if kind != "folder" and names_labels(path):
            continue
        name, number = (path.name, 0) if kind == "folder" else channel_of(stem(path))
        name = called.setdefault(name.casefold(), name)
        if number in cases.get(name, {}):  # "scan.nrrd" beside "scan.nii.gz" is another image
            name, number = f"{path.name}-folder" if kind == "folder" else path.name, 0
        cases.setdefault(name, {})[number] = path
    if not cases:
        raise ReadError(f"{folder} holds no image; give a folder of image files, or of a folder for each case.")
    return [Case(name, files) for name, files in sorted(cases.items())]


def segment_folder(
    folder: Path,
    model: ModelLike | Sequence[ModelLike],
    out: Path,
    *,
    ending: str = ".nii.gz",
    series: Series = None,
    device: str = "auto",
    force: bool = False,
    again: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[Done]:
    """Segment every image of a folder; a case that fails does not stop the others.

    Parameters
    ----------
    folder : Path
        A folder of images, as the module's docstring describes it.
    model : Model, str or path, or a sequence of them
        Several are averaged, as `segment` does.
    out : Path
        Folder of the label files, ``<case><ending>`` each, written whole or not at all.
    ending : str
        Suffix of the label files: ".nii.gz", ".nii", ".nrrd", ".mha" or ".seg.nrrd".
    series, device, force
        As in `segment` and `choosing.choose_image`.
    again : bool
        Whether cases whose label file exists are segmented again.
    progress, cancelled : callable, optional

    Returns
    -------
    list of Done
        One per case, by name.

    Raises
    ------
    ReadError
        If there is no image.
    SettingsError
        If a label file would take the place of an image.
    OperationCancelled
        When `cancelled` says so; the label files so far stay.
    """
    models = models_of(model)
    cases = cases_in(folder, frames=models[0].info.sequence_axis == "t")
    for case in cases:
        target = out / f"{case.name}{ending}"
        if any(path.is_file() and target.exists() and target.samefile(path) for path in case.files.values()):
            raise SettingsError(f"{target} is one of the images; name another folder for the label files.")
    results = []
    for number, case in enumerate(cases):
        check(cancelled)
        target = out / f"{case.name}{ending}"
        if target.exists() and not again:
            results.append(Done(case.name, "kept", target, {}))
            continue
        began = time.monotonic()
        share = part(
            progress, number / len(cases), (number + 1) / len(cases), f"{case.name} ({number + 1} of {len(cases)}): "
        )
        try:
            images = _images(case, models[0], series, force)
            labels = segment(images, models, device=device, force=force, progress=share, cancelled=cancelled).labels
            io.write(labels, target)
            results.append(Done(case.name, "done", target, volumes_ml(labels), round(time.monotonic() - began, 2)))
        except OperationCancelled:
            raise
        except MedseqError as error:
            results.append(Done(case.name, "failed", target, {}, round(time.monotonic() - began, 2), str(error)))
    return results


def volumes_ml(labels: ImageSequence) -> dict[str, float]:
    """Volume of each class in mL, by its name; the mean over frames where there are any."""
    counts: Counter[int] = Counter()
    for block in labels.data:  # block by block: counting makes 64-bit numbers of the voxels
        counts.update(dict(enumerate(np.bincount(np.asarray(block).ravel()).tolist())))
    ml = voxel_volume_mm3(labels.affine) / 1000 / (labels.size("t") if labels.is_dynamic else 1)
    return {labels.label_names[value]: float(counts[value] * ml) for value in sorted({*labels.label_names} - {0})}


def _images(case: Case, model: Model, series: Series, force: bool) -> ImageSequence | dict[str, ImageSequence]:
    """The image or the channels that a model takes, by the number of the file where the model has several channels."""
    names = model.info.channels
    if len(names) > 1 and set(case.files) <= set(range(len(names))) and len(case.files) > 1:
        return {names[k]: _only(path) for k, path in sorted(case.files.items())}
    sequences: Sequence[ImageSequence] = [s for path in case.files.values() for s in io.read(path, lazy="auto")]
    return choose_image(sequences, model.info, series=series, where=case.name, force=force)


def _only(path: Path) -> ImageSequence:
    return io.read(path, kind="image", lazy="auto")[0]
