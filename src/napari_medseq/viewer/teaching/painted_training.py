"""Training on painted masks: corrected masks of several patients become a training set (an nnU-Net folder) and a model
trained on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import napari_medseq as ms
from napari_medseq import files, record
from napari_medseq.errors import MedseqError, OperationCancelled, WriteError
from napari_medseq.models import library
from napari_medseq.progress import Cancelled, Progress, part, with_progress
from napari_medseq.sequence import ImageSequence
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.layers import conversion as _layers
from napari_medseq.viewer.layers.studies import DERIVED, facts_of, is_tracked
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_medseq.training import TrainingResult


#: what stands before the underscore in a case's name is its patient
PATIENT = "^([^_]+)"


@dataclass(frozen=True, eq=False)
class PaintedCase:
    """An image with its mask, copied from layers.

    Attributes
    ----------
    name : str
        Name of the case, from patient and visit, usable as a file name.
    image, labels : ImageSequence
        Image and mask on the same grid.
    classes : mapping of int to str
        Value of the mask → name of the class.
    """

    name: str
    image: ImageSequence
    labels: ImageSequence
    classes: dict[int, str]


def check_model_name(name: str, *, replace: bool = False) -> Path:
    """The folder for a new model of this name; an existing model is replaced only if `replace` is set.

    Raises
    ------
    MedseqError
        If a shipped model has that name, or another model has it and `replace` is not set.
    """
    if (library.SHIPPED / name).exists():
        raise MedseqError(f"{name} is a model that ships with napari-medseq. Choose another name.")
    folder = library.user_folder() / name
    if folder.exists() and not replace:
        raise MedseqError(
            f"There is a model called {name} already. Choose another name, or tick 'replace a model of that name'."
        )
    return folder


def masks_worth_training_on(viewer: ViewerModel) -> list[Labels]:
    """The label layers that a person painted in, or that belong to a study and were read from a file."""
    editing = editing_of(viewer)
    return [
        layer
        for layer in viewer.layers
        if _layers.layer_kind(layer) == "labels"
        and facts_of(layer).get("role") != DERIVED
        and image_below(viewer, layer) is not None
        and (editing.marks(layer).any or (facts_of(layer).get("study") and np.any(layer.data)))
    ]


def image_below(viewer: ViewerModel, labels: Labels) -> Image | None:
    """The image that a mask was painted on: of the same patient and visit and on the same grid, a visible one
    first."""
    facts, mask = facts_of(labels), _layers.from_layer(labels)
    candidates = [
        layer
        for layer in viewer.layers
        if _layers.layer_kind(layer) == "image"
        and "role" not in facts_of(layer)
        and all(facts_of(layer).get(key) == facts.get(key) for key in ("study", "ordinal"))
        and _layers.from_layer(layer).same_grid(mask)
    ]
    return next((layer for layer in candidates if layer.visible), candidates[0] if candidates else None)


def painted_cases(viewer: ViewerModel, masks: Sequence[Labels]) -> list[PaintedCase]:
    """Copies of images and masks as they are now, which a worker may use while painting goes on.

    Raises
    ------
    MedseqError
        If a mask has no image on its grid, or nothing is painted in any.
    """
    cases: list[PaintedCase] = []
    taken: dict[str, str] = {}
    for layer in masks:
        image = image_below(viewer, layer)
        if image is None:
            raise MedseqError(
                f"{layer.name} lies on no image of its patient and visit. Open that image, or leave it out."
            )
        mask = _layers.from_layer(layer)
        data = np.array(mask.data)
        values = [int(v) for v in np.unique(data) if v]
        if not values:
            continue
        if image.name in taken:
            raise MedseqError(
                f"{taken[image.name]} and {layer.name} are both masks of {image.name}. Tick one of them; labels of two masks are put into "
                "one by Combine in Edit."
            )
        taken[image.name] = layer.name
        cases.append(
            PaintedCase(
                _case_name(layer, cases), _layers.from_layer(image), mask.replace(data=data), _classes(layer, values)
            )
        )
    if not cases:
        raise MedseqError("Nothing is painted in the masks that are chosen. Paint, or tick others.")
    return cases


def _case_name(layer: Labels, cases: Sequence[PaintedCase]) -> str:
    """Patient and visit, joined by the only underscore, by which training tells the patient; another one than these cases have."""
    facts = facts_of(layer)
    parts = [str(facts[k]) for k in ("study", "visit_name") if facts.get(k)] or [layer.name]
    clean = ("".join(c if c.isalnum() or c in "-." else "-" for c in part).strip("-.") for part in parts)
    name = "_".join(part for part in clean if part) or "case"
    used_names, candidate, number = {case.name for case in cases}, name, 1
    while candidate in used_names:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def _classes(layer: Labels, values: Sequence[int]) -> dict[int, str]:
    """The classes of the values of a mask: identities of lesions are one class, and so are numbers in a mask of
    followed lesions."""
    names = _layers.from_layer(layer).label_names
    unnamed = {v: "lesion" if v == 1 or is_tracked(layer) else f"label {v}" for v in values}
    return {v: names.get(v, unnamed[v]).removesuffix(f" {v}" if v in names else "") for v in values}


def write_training_set(
    cases: Sequence[PaintedCase],
    folder: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Path:
    """Write cases in the layout of nnU-Net: ``imagesTr``, ``labelsTr`` and ``dataset.json``; touches no layer.

    Raises
    ------
    WriteError
        If the folder exists and is not empty, or cannot be written.
    """
    path = Path(folder)
    if path.exists() and any(path.iterdir()):
        raise WriteError(f"{path} holds something already. Choose a new folder for the training set.")
    classes = sorted({name for case in cases for name in case.classes.values()})
    number = {name: k for k, name in enumerate(classes, start=1)}
    for case in with_progress(cases, len(cases), "writing the training set", progress, cancelled):
        data = np.zeros(case.labels.data.shape, np.uint8)
        for value, name in case.classes.items():
            data[np.asarray(case.labels.data) == value] = number[name]
        ms.write(case.image, path / "imagesTr" / f"{case.name}_0000.nii.gz")
        mask = case.labels.replace(data=data, label_names={k: n for n, k in number.items()})
        ms.write(mask, path / "labelsTr" / f"{case.name}.nii.gz")
    modality = {case.image.modality for case in cases}
    files.write_json(
        path / "dataset.json",
        {
            "channel_names": {"0": modality.pop() or "image" if len(modality) == 1 else "image"},
            "labels": {"background": 0, **number},
            "numTraining": len(cases),
            "file_ending": ".nii.gz",
        },
    )
    return path


def train_on_painted(
    cases: Sequence[PaintedCase],
    name: str,
    *,
    folder: str | os.PathLike[str],
    minutes: float = 60.0,
    replace: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> TrainingResult:
    """Train a model on painted masks with `ms.train`, which configures itself; touches no layer.

    Parameters
    ----------
    cases : sequence of PaintedCase
        Cases from `painted_cases`. Every slice of them counts: what is not painted is background.
    name : str
        Name of the model, under which every list and script finds it.
    folder : path
        Where the training set is kept, as nnU-Net reads it.
    minutes : float
    replace : bool
        Replace an existing model of that name.
    device : str
    progress, cancelled : callable, optional

    Raises
    ------
    MedseqError
        If the name is taken, or the masks cannot be trained on; the training set stays.
    OperationCancelled
        When `cancelled` says so. What was learned stays: the same call with the same masks continues from there, with others it begins
        again.
    """
    out = check_model_name(name, replace=replace)
    masks = _go_on_or_anew(out.with_name(f"{out.name}.run"), cases)
    data = write_training_set(cases, folder, progress=part(progress, 0.0, 0.05), cancelled=cancelled)
    modalities = {case.image.modality for case in cases}
    config: dict[str, object] = {
        "data": str(data), "out": str(out), "minutes": minutes, "name": name, "device": device,
        "description": f"Trained on {how_many(len(cases), 'mask')} painted in the viewer.",
        "modality": modalities.pop() if len(modalities) == 1 else None, "patient": PATIENT,
    }  # fmt: skip
    try:
        result: TrainingResult = ms.train(config, progress=part(progress, 0.05, 1.0), cancelled=cancelled)
    except OperationCancelled:
        shutil.rmtree(data, ignore_errors=True)  # it is written again with the masks as they are then
        raise
    masks.unlink(missing_ok=True)  # it is done: the next training of this name begins again
    return result


def _go_on_or_anew(run: Path, cases: Sequence[PaintedCase]) -> Path:
    """Before training: a checkpoint of other masks is put aside, so that only a training on the same masks continues from it.

    Returns the file that says which masks they are, for as long as the training is not done.
    """
    blocks = (
        block
        for case in cases
        for block in (
            repr((case.name, sorted(case.classes.items()), case.image.affine.tolist())).encode(),
            np.ascontiguousarray(case.labels.data).tobytes(),
            np.ascontiguousarray(case.image.data).tobytes(),
        )
    )
    digest = record.sha256_of(blocks)
    masks, checkpoint = run / "masks.json", run / "checkpoint.pt"
    if checkpoint.exists() and not (masks.exists() and record.read_json(masks).get("sha256") == digest):
        os.replace(checkpoint, run / "checkpoint-before.pt")
    files.write_json(masks, {"sha256": digest, "masks": [case.name for case in cases]})
    return masks
