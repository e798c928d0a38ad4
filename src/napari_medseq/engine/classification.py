"""`classify`: an exam in, probabilities per exam and per step out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_medseq.engine import devices, remote, tuning
from napari_medseq.engine.frame import frame
from napari_medseq.engine.images import Images, exams
from napari_medseq.engine.settings import inference_settings
from napari_medseq.engine.streaming import neighbourhoods
from napari_medseq.errors import ModelError
from napari_medseq.models import Model, load_model
from napari_medseq.models.sequence_classifier import SequenceClassifier
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.sequence import ImageSequence, Visit


@dataclass(frozen=True, eq=False)
class Classification:
    """What `classify` gives for one exam.

    Attributes
    ----------
    probabilities : dict of str to float
        Class name → probability for the whole exam.
    per_step : ndarray, shape (steps, classes)
        Probability per step, in the array order of `step_axis`.
    attention : ndarray, shape (steps,)
        Weight of each step in the exam's answer; sums to one.
    extent : int
        Steps in which the first class has a probability of at least 0.5.
    classes : list of str
    step_axis : str
        Name of the axis along which the steps lie.
    model : str
    """

    probabilities: dict[str, float]
    per_step: NDArray[np.float32]
    attention: NDArray[np.float32]
    extent: int
    classes: list[str]
    step_axis: str
    model: str


class _Options(TypedDict, total=False):
    """The keywords of `classify`, once, for its two overloads."""

    device: str
    table: Mapping[str, float] | None
    force: bool
    progress: Progress | None
    cancelled: Cancelled | None


@overload
def classify(
    images: ImageSequence | Mapping[str, ImageSequence], model: Model | str, **options: Unpack[_Options]
) -> Classification: ...
@overload
def classify(images: Sequence[Visit], model: Model | str, **options: Unpack[_Options]) -> list[Classification]: ...
def classify(
    images: Images,
    model: Model | str,
    *,
    device: str = "auto",
    table: Mapping[str, float] | None = None,
    force: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Classification | list[Classification]:
    """Classify an exam and each of its steps with a recurrent model.

    Parameters
    ----------
    images : ImageSequence, mapping of channel to ImageSequence, or sequence of Visit
        A model of several modalities answers from those that are in the mapping.
    model : Model or str
        A loaded model, or a name or folder for `load_model`.
    device : str
        "auto", "cpu", "cuda", "cuda:N", "mps", or "dask://host:port": a worker of that Dask cluster.
    table : mapping of str to float, optional
        Values that the model takes beside the images (``model.info.table``); those left out or NaN are missing.
    force : bool
        Accept an image whose known modality is not the model's.
    progress, cancelled : callable, optional
        Looked at once per step.

    Returns
    -------
    Classification
        A list of them, one per visit, for a sequence of visits.

    Raises
    ------
    ModelError
        If the model does not fit the images or is no classification model.
    DeviceError
        If the device is not there.
    OperationCancelled
        Within one step of `cancelled` returning True.
    """
    if isinstance(model, str):
        model = load_model(model)
    if not isinstance(model.network, SequenceClassifier):
        raise ModelError(f"{model.info.name} is a {model.info.task} model; classify needs a classification model.")
    if devices.is_remote(device):
        return remote.call(device, "classify", images, model, {"table": table, "force": force}, progress, cancelled)  # type: ignore[no-any-return]
    where, _ = devices.choose(device)
    network = model.network
    values = _values(table, model, network)
    given = _given(images, model, network)
    found = exams(images, replace(model, info=model.info.model_copy(update={"channels": given})), force=force)

    def one(channels: list[ImageSequence]) -> Classification:
        def run(where: torch.device, _: int | None) -> Classification:
            return _one(network, channels, given, values, model, where, progress, cancelled)

        return devices.within_memory(run, where, 1, channels[0].name)[0]

    results = [one(channels) for channels in found]
    return results if isinstance(images, Sequence) else results[0]


def _values(table: Mapping[str, float] | None, model: Model, network: SequenceClassifier) -> Tensor | None:
    """The table's values (1, value) in the network's order, NaN where missing."""
    names = model.info.table
    unknown = sorted(set(table or ()) - set(names))
    if unknown:
        raise ModelError(
            f"{model.info.name} takes {', '.join(names) or 'no values'} from a table, not {', '.join(unknown)}."
        )
    if network.tabular is None or not table:
        return None
    if len(names) != network.tabular.values:
        raise ModelError(f"{model.info.name} names {len(names)} values of a table, but takes {network.tabular.values}.")
    return torch.tensor([[float(table.get(n, math.nan)) for n in names]])


def _given(images: Images, model: Model, network: SequenceClassifier) -> tuple[str, ...]:
    """The channels that are there; a network of one modality needs all of them."""
    if network.modalities == 1 or not isinstance(images, Mapping):
        return model.info.channels
    return tuple(c for c in model.info.channels if c in images) or model.info.channels


def _filled(x: Tensor, given: Sequence[str], channels: Sequence[str]) -> Tensor:
    """A step (channel, y, x) with NaN for the channels that are not given."""
    if len(given) == len(channels):
        return x
    out = x.new_full((len(channels), *x.shape[1:]), math.nan)
    out[[channels.index(c) for c in given]] = x
    return out


def _one(
    network: SequenceClassifier,
    channels: Sequence[ImageSequence],
    given: Sequence[str],
    values: Tensor | None,
    model: Model,
    device: torch.device,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> Classification:
    settings = inference_settings(model.inference, model.info.name)
    framing = frame(channels, along=settings.along, pixel_mm=settings.pixel_mm, stride=network.stride)
    plan = tuning.prepare(network, device)
    embeddings = []
    steps = (_filled(framing.read(channels, i), given, model.info.channels) for i in range(framing.steps))
    with torch.inference_mode(), plan.precision():
        for i, x in enumerate(neighbourhoods(steps, network.neighbours)):
            check(cancelled)
            embeddings.append(network.encode(plan.laid_out(x[None].to(device)))[0])
            if progress is not None:
                progress(i + 1, framing.steps, f"classifying {channels[0].name}")
        steps_out, exam_out, attention = network.read(
            torch.cat(embeddings).float()[None], tabular=None if values is None else values.to(device)
        )
    per_step = network.probabilities(steps_out[0].float()).cpu().numpy()
    exam = network.probabilities(exam_out[0].float()).cpu().numpy()
    names = [model.info.classes[k] for k in sorted(model.info.classes)]
    return Classification(
        probabilities={n: float(p) for n, p in zip(names, exam, strict=True)},
        per_step=per_step,
        attention=attention[0].float().cpu().numpy(),
        extent=int((per_step[:, 0] >= 0.5).sum()),
        classes=names,
        step_axis=framing.axes[0] or "z",
        model=f"{model.info.name} {model.info.version}",
    )
