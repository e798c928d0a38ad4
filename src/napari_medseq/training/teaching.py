"""`teach`: make a model from an image of which a few slices are labelled; it labels the other slices and can be
taught again."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.inference.inputs.slice_steps import are_averaged
from napari_medseq.inference.resources import devices
from napari_medseq.inference.settings import InferenceSettings
from napari_medseq.inference.slabs.segmentation import is_slab
from napari_medseq.masks.imagelike import refuse_image
from napari_medseq.models import Model, bundle, load_model
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.sequence import ImageSequence, check_images
from napari_medseq.settings import PathText, Settings, checked
from napari_medseq.training.cases import Case, make_case
from napari_medseq.training.config import TrainConfig
from napari_medseq.training.loops.augment import AugmentSettings
from napari_medseq.training.loops.distributed import process_group
from napari_medseq.training.loops.settings import LoopSettings
from napari_medseq.training.prompted.adapting import AdaptSettings, adapt
from napari_medseq.training.trainer import TrainingResult, train_cases

_LONGEST = 256  # most pixels of the longer side for a model that is trained in minutes
_STRIDE = 16
_WINDOW = 96  # pixels of a window's side in a larger image: small objects fill a fair part of it, and it costs little

#: what a model that is made in minutes is: small, without recurrence, since the slices beside a labelled one are unlabelled
FRESH: dict[str, Any] = {"_target_": "RecurrentUNet", "widths": [8, 16, 32, 48, 64], "neighbours": 1, "rnn": "none"}


class TeachSettings(Settings):
    """How a model is taught from a few labelled slices.

    Attributes
    ----------
    out : str
        Folder of the bundle; one that is there is replaced.
    name : str or None
        Name of the model; None: the folder's name.
    start_from : str or None
        Bundle to continue from: the one that was taught from fewer slices, or any that does nearly what is wanted. None: a small
        new network. "propagate", or another promptable network: it is adapted to this image, and is for `propagate` again.
    steps : tuple of int or None
        The slices that somebody looked at, whether there was something to label or not; None: those with a label.
    iterations, minutes
        Training ends with whichever comes first. A promptable network is adapted for 24 iterations at most.
    rate : float or None
        Learning rate; None: 6e-3 for a new network, 3e-3 for one that continues, 1e-3 for a recurrent one, 3e-5 for a promptable one.
    seed : int
    device : str
    """

    out: PathText
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    start_from: PathText | None = None
    steps: tuple[int, ...] | None = None
    iterations: int = Field(500, ge=1)
    minutes: float | None = Field(2.0, gt=0)
    rate: float | None = Field(None, gt=0)
    seed: int = 0
    device: str = "auto"


def teach(
    images: ImageSequence | Mapping[str, ImageSequence],
    labels: ImageSequence,
    settings: TeachSettings | Mapping[str, Any],
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> TrainingResult:
    """Make a model from an image of which a few slices are labelled.

    Only the labelled slices count, whole: what is 0 in them is background. All others are unlabelled.

    Parameters
    ----------
    images : ImageSequence or mapping of channel to ImageSequence
    labels : ImageSequence
        On the image's grid, 0 in the slices that are not labelled.
    settings : TeachSettings or mapping
        ``{"out": folder}`` is enough.
    progress, cancelled : callable, optional
        Looked at once per iteration.

    Returns
    -------
    TrainingResult
        Its ``model`` goes straight into `segment`; one that started from a promptable network, with what is painted, into `propagate`.
        Its weights are those of before where painted slices, held back in turn, gained nothing; its description says so.

    Raises
    ------
    SettingsError
        If a setting cannot be used.
    MedseqError
        If no slice is labelled, or the labels do not lie on the image's grid.
    OperationCancelled
        When `cancelled` says so; nothing is kept.
    """
    s = checked(TeachSettings, settings, where="the settings of teach")
    bundle.check_place(Path(s.out))
    start = load_model(s.start_from) if s.start_from is not None else None
    named = dict(images) if isinstance(images, Mapping) else {"image": images}
    if start is not None and set(named) == set(start.info.channels):
        named = {channel: named[channel] for channel in start.info.channels}  # in the order that its weights know
    channels = list(named.values())
    check_images(**named, labels=labels)
    refuse_image(np.asarray(labels.data), labels.name)
    if start is not None and is_slab(start):
        raise SettingsError(
            f"{start.info.name} is a slab network, which teach cannot continue from; start from another, or from nothing."
        )
    if start is not None and start.info.task == "propagation":
        return _adapted(s, start, channels, labels, progress, cancelled)
    inference = _inference(channels[0]) if start is None else _continued(start, channels[0])
    case = make_case(
        "taught",
        channels,
        labels,
        along=inference.along,
        pixel_mm=inference.pixel_mm,
        merge=False,
        sparse=s.steps is None,
        steps=s.steps,
        trimmed=inference.trimmed,
        middle_mm=inference.middle_mm,
    )
    classes = _classes(case, labels)
    out = Path(s.out)
    recurrent = start is not None and start.network_definition.get("rnn", "none") != "none"
    defaults: dict[str, Any] = {} if start is not None else {"network": FRESH}
    config = TrainConfig(
        name=s.name or out.name,
        description=f"Taught from labels in {_labelled(case)} of {case.labels.shape[0]} steps of {channels[0].name}.",
        classes=classes,
        channels={} if len(named) == 1 else {k: k for k in named},
        modality=channels[0].modality,
        start_from=s.start_from,
        inference=inference,
        device=s.device,
        out=str(out),
        loop=_loop(s, case, recurrent),
        **defaults,
    )
    # another lesson is another training: it does not continue from the last one's checkpoint
    run = out.with_name(out.name + ".run")
    shutil.rmtree(run, ignore_errors=True)
    try:
        with process_group(s.device) as group:
            return train_cases(config, [case], group, progress, cancelled)
    finally:
        shutil.rmtree(run, ignore_errors=True)


def _adapted(
    s: TeachSettings,
    start: Model,
    channels: list[ImageSequence],
    labels: ImageSequence,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> TrainingResult:
    """A promptable network that learned from this image, as a bundle of its own."""
    import pandas as pd

    if len(channels) > 1:
        raise SettingsError(
            f"{start.info.name} takes one image, not {len(channels)} channels; give the one that was painted on."
        )
    chosen_settings: dict[str, Any] = {"seed": s.seed} | ({} if s.rate is None else {"rate": s.rate})
    chosen_settings |= {"iterations": s.iterations} if s.iterations < AdaptSettings().iterations else {}
    device = devices.choose(s.device)[0]
    adapted = adapt(
        start, channels[0], labels, annotated=s.steps, settings=AdaptSettings(**chosen_settings), device=device,
        progress=progress, cancelled=cancelled,
    )  # fmt: skip
    out, description = (
        Path(s.out),
        f"{start.info.name} after learning from what is painted on {channels[0].name}. {adapted}",
    )
    licence = Path(start.info.folder) / "LICENSE"
    bundle.write_bundle(
        out,
        facts={"name": s.name or out.name, "task": "propagation", "channels": ["image"], "sequence_axis": "slices"},
        network=start.network_definition,
        inference=start.inference,
        weights=adapted.weights,
        card=f"# {s.name or out.name}\n\n{description}\n\n---\n\n{start.info.card}",
        licence_text=licence.read_text(encoding="utf-8") if licence.is_file() else start.info.licence + "\n",
        description=description,
        licence=start.info.licence,
        version=start.info.version,
    )
    curve = pd.DataFrame({"iteration": range(1, len(adapted.losses) + 1), "loss": adapted.losses})
    return TrainingResult(out, curve, load_model(out))


def _inference(image: ImageSequence) -> InferenceSettings:
    """The image's own pixels, or larger ones where it has very many."""
    across = [a for a in ("z", "y", "x") if a in image.axes and a != image.slice_axis]
    rows, columns = across[-2:]
    spacing = (image.spacing[rows] + image.spacing[columns]) / 2
    longest = max(image.size(rows), image.size(columns))
    along = "t" if "t" in image.axes else "slices"
    large = longest > 1.25 * _LONGEST
    pixel_mm = float(f"{spacing * longest / _LONGEST:.4g}") if large else None  # a micrograph's is far below 0.001 mm
    return InferenceSettings.model_validate({"along": along, "pixel_mm": pixel_mm})


def _continued(start: Model, image: ImageSequence) -> InferenceSettings:
    """The settings of the model that is continued, but for slices that it would see averaged: it learns from them as they are."""
    settings = InferenceSettings.model_validate(start.inference)
    if not are_averaged(image, image.slice_axis, settings):
        return settings
    return settings.model_copy(update={"step_mm": image.spacing[image.slice_axis]})


def _classes(case: Case, labels: ImageSequence) -> dict[int, str]:
    values = [v for v in case.labels.unique().tolist() if v > 0]
    if not values:
        raise MedseqError(f"{labels.name} has no label yet; paint what is to be found in a slice or two, then teach.")
    return {v: labels.label_names.get(v, f"class {v}") for v in values}


def _labelled(case: Case) -> int:
    return int((case.labels >= 0).flatten(1).any(1).sum())


def _loop(s: TeachSettings, case: Case, recurrent: bool) -> LoopSettings:
    sides = [min(n, _WINDOW) if n > 1.5 * _WINDOW else n for n in case.image.shape[-2:]]
    h, w = (math.ceil(n / _STRIDE) * _STRIDE for n in sides)
    # a recurrent network needs to see the way to a labelled step
    steps = min(5, case.image.shape[0]) if recurrent else 1
    return LoopSettings(
        iterations=s.iterations,
        minutes=s.minutes,
        batch=2 if recurrent else 8,
        steps=steps,
        size=(h, w),
        rate=s.rate or (1e-3 if recurrent else 3e-3 if s.start_from else 6e-3),
        warm_up=10,
        average=0.98,
        transplant=0.0,
        augment=AugmentSettings(
            rotate_degrees=12,
            move=0.25,
            zoom=0.15,
            stretch=0.05,
            elastic=0.03,
            bias=0.15,
            gain=0.1,
            shift=0.1,
            gamma=0.1,
            noise=0.08,
        ),
        seed=s.seed,
        checkpoint_seconds=3600.0,
        lesion_share=0.7,
    )
