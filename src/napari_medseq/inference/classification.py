"""`classify`: the class probabilities of an exam and of each of its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_medseq.errors import ModelError
from napari_medseq.inference.inputs import visits
from napari_medseq.inference.inputs.frame import Framing, frame
from napari_medseq.inference.inputs.images import Images, exams
from napari_medseq.inference.inputs.slice_steps import SliceSteps, notes_of_image, rows_of_steps
from napari_medseq.inference.network_passes import known_times, steps_of
from napari_medseq.inference.options import Ready, RunKeywords, RunOptions, network_of, prepared
from napari_medseq.inference.outputs.ensemble import check_together, model_names, models_of
from napari_medseq.inference.outputs.finite import check_finite
from napari_medseq.inference.resources import devices, remote, tuning
from napari_medseq.inference.streaming import neighbourhoods
from napari_medseq.inference.upright import Upright, upright_exams
from napari_medseq.models import Model, ModelLike, tabular
from napari_medseq.models.sequence_classifier import SequenceClassifier
from napari_medseq.progress import Cancelled, Progress, check, part
from napari_medseq.registration.transform import Position
from napari_medseq.sequence import ImageSequence, Visit


@dataclass(frozen=True, eq=False)
class Classification:
    """The result of `classify` for one exam.

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
        Name of the axis along which the steps lie, or "visit".
    model : str
    warnings : tuple of str
        Doubts of the image, each also issued as a `MedseqWarning`.
    """

    probabilities: dict[str, float]
    per_step: NDArray[np.float32]
    attention: NDArray[np.float32]
    extent: int
    classes: list[str]
    step_axis: str
    model: str
    warnings: tuple[str, ...] = ()


class _Options(RunKeywords, total=False):
    """The keywords of `classify`, once, for its two overloads."""

    table: Mapping[str, float | str] | None
    transforms: Sequence[Position] | None


@overload
def classify(
    images: ImageSequence | Mapping[str, ImageSequence],
    model: ModelLike | Sequence[ModelLike],
    **options: Unpack[_Options],
) -> Classification: ...
@overload
def classify(
    images: Sequence[Visit], model: ModelLike | Sequence[ModelLike], **options: Unpack[_Options]
) -> list[Classification]: ...
def classify(
    images: Images,
    model: ModelLike | Sequence[ModelLike],
    *,
    device: str = "auto",
    table: Mapping[str, float | str] | None = None,
    transforms: Sequence[Position] | None = None,
    force: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Classification | list[Classification]:
    """Classify an exam and each of its steps with a recurrent model, or with the mean of several.

    Parameters
    ----------
    images : ImageSequence, mapping of channel to ImageSequence, or sequence of Visit
        A model of several modalities answers from those that are in the mapping.
    model : Model, str or path, or a sequence of them
        A loaded model, its name, or the folder of a bundle. The probabilities and the attention of several models (such as the
        folds of a training) are averaged; all must be of the same channels, classes, sequence, table and pixel size.
    device : str
        "auto", "cpu", "cuda", "cuda:N", "mps", or "dask://host:port": a worker of that Dask cluster.
    table : mapping of str to float or str, optional
        Values that the model takes in addition to the images (``model.info.table``); those left out or NaN are missing. A word is
        given by its column: ``{"sex": "F"}`` for the value ``sex=F``.
    transforms : sequence of 4×4, Transform or None, optional
        For a model along visits, as in `segment`.
    force : bool
        Accept an image whose known modality is not the model's.
    progress, cancelled : callable, optional
        Looked at once per step.

    Returns
    -------
    Classification
        A list of them, one per visit, for a sequence of visits; of a model along visits one for the patient, whose steps are
        the visits in the order of their dates.

    Raises
    ------
    ModelError
        If the model does not fit the images or is not a classification model, or models cannot be averaged.
    DeviceError
        If the device is not there.
    OperationCancelled
        Within one step of `cancelled` returning True.
    """
    models = models_of(model)
    networks = [
        network_of(m, SequenceClassifier, refusal=f"is a {m.info.task} model; classify needs a classification model.")
        for m in models
    ]
    check_together(models)
    first = models[0]
    if devices.is_remote(device):
        keywords: _Options = {"table": table, "transforms": transforms, "force": force}
        sent = first if len(models) == 1 else models
        return remote.call(device, classify, images, sent, keywords, progress, cancelled)
    options = RunOptions(device=device, force=force, progress=progress, cancelled=cancelled)
    ready = [prepared(m, n, options) for m, n in zip(models, networks, strict=True)]
    values = [_values(table, m, n) for m, n in zip(models, networks, strict=True)]
    channels_given = _given(images, first, networks)
    narrowed = replace(first, info=first.info.model_copy(update={"channels": channels_given}))
    s, stride = ready[0].settings, math.lcm(*(n.stride for n in networks))
    if s.along == "visit":
        passes: list[tuple[list[ImageSequence], Framing, Upright | None]] = [
            (*_visits(images, narrowed, ready[0], stride, transforms), None)
        ]
    else:
        passes = []
        for given in exams(images, narrowed, force=force):
            turn, turned = Upright.of_channels(given, trimmed=s.trimmed, middle_mm=s.middle_mm)
            framing = frame(turned, along=s.along, pixel_mm=s.pixel_mm, stride=stride, least=s.size)
            passes.append((turned, framing, turn))

    def one(channels: list[ImageSequence], framing: Framing, turn: Upright | None) -> Classification:
        answers = []
        for k, (own, of_table) in enumerate(zip(ready, values, strict=True)):
            shown = part(progress, k / len(ready), (k + 1) / len(ready)) if len(ready) > 1 else progress
            watched = replace(own, options=replace(options, progress=shown))

            def run(
                where: torch.device,
                _: int | None,
                watched: Ready[SequenceClassifier] = watched,
                of_table: Tensor | None = of_table,
            ) -> Classification:
                return _one(replace(watched, device=where), channels, framing, given=channels_given, values=of_table)

            answers.append(devices.within_memory(run, own.device, 1, channels[0].name)[0])
        answer = _mean(answers, models)
        if turn is None:
            return answer
        notes = notes_of_image(channels[0], framing, s, answer.model)
        return replace(_as_stored(answer, turn), warnings=tuple(notes))

    results = [one(*each) for each in passes]
    return results if isinstance(images, Sequence) and s.along != "visit" else results[0]


def _mean(answers: Sequence[Classification], models: Sequence[Model]) -> Classification:
    """The mean of several models' answers, or the answer of a single one."""
    if len(answers) == 1:
        return answers[0]
    per_step = np.mean([a.per_step for a in answers], 0)
    return replace(
        answers[0],
        probabilities={n: float(np.mean([a.probabilities[n] for a in answers])) for n in answers[0].classes},
        per_step=per_step,
        attention=np.mean([a.attention for a in answers], 0),
        extent=_extent(per_step),
        model=model_names(models),
    )


def _extent(per_step: NDArray[np.float32]) -> int:
    """Steps in which the first class has a probability of at least 0.5."""
    return int((per_step[:, 0] >= 0.5).sum())


def _as_stored(answer: Classification, turn: Upright) -> Classification:
    """An answer about a turned image, its steps in the order of the image itself."""
    axis = answer.step_axis
    per_step, attention = (turn.along(v, axis) for v in (answer.per_step, answer.attention))
    return replace(answer, step_axis=turn.own(axis), per_step=per_step, attention=attention)


def _visits(
    images: Images,
    narrowed: Model,
    ready: Ready[SequenceClassifier],
    stride: int,
    transforms: Sequence[Position] | None,
) -> tuple[list[ImageSequence], Framing]:
    """A patient's visits as the frames of one exam, on the grid of the first."""
    force, cancelled = ready.options.force, ready.options.cancelled
    patient = visits.patient_of(images, narrowed, transforms, force=force, cancelled=cancelled)
    _, turned = upright_exams(patient.exams)
    group = visits.stack_visits(turned, patient.days, patient.to_common, cancelled)[0]
    return group.channels, group.framing(pixel_mm=ready.settings.pixel_mm, stride=stride)


def _values(table: Mapping[str, float | str] | None, model: Model, network: SequenceClassifier) -> Tensor | None:
    """The table's values (1, value) in the network's order, NaN where missing."""
    names = model.info.table
    columns = {name for name in names if "=" not in name} | {name.partition("=")[0] for name in names} | set(names)
    unknown = sorted(set(table or ()) - columns)
    if unknown:
        raise ModelError(
            f"{model.info.name} takes {', '.join(names) or 'no values'} from a table, not {', '.join(unknown)}."
        )
    for column, entry in (table or {}).items():
        words = [name.partition("=")[2] for name in names if name.startswith(f"{column}=")]
        missing = not words or math.isnan(tabular.value({column: entry}, f"{column}={words[0]}"))
        if not missing and str(entry).strip() not in words:
            raise ModelError(f"{column} is {entry!r}, but {model.info.name} knows {', '.join(words)}.")
    if network.tabular is None or not table:
        return None
    if len(names) != network.tabular.values:
        raise ModelError(f"{model.info.name} names {len(names)} values of a table, but takes {network.tabular.values}.")
    return torch.tensor([[tabular.value(table, name) for name in names]])


def _given(images: Images, model: Model, networks: Sequence[SequenceClassifier]) -> tuple[str, ...]:
    """The channels that are there; a network of one modality needs all of them."""
    if any(n.modalities == 1 for n in networks) or not isinstance(images, Mapping):
        return model.info.channels
    return tuple(c for c in model.info.channels if c in images) or model.info.channels


def _filled(x: Tensor, given_channels: Sequence[str], channels: Sequence[str]) -> Tensor:
    """A step (channel, y, x) with NaN for the channels that are not given."""
    if len(given_channels) == len(channels):
        return x
    out = x.new_full((len(channels), *x.shape[1:]), math.nan)
    out[[channels.index(c) for c in given_channels]] = x
    return out


def _one(
    ready: Ready[SequenceClassifier],
    channels: Sequence[ImageSequence],
    framing: Framing,
    *,
    given: Sequence[str],
    values: Tensor | None,
) -> Classification:
    model, network, device = ready.model, ready.network, ready.device
    progress, cancelled = ready.options.progress, ready.options.cancelled
    if len(framing.positions) > 1 and not network.volumes:
        raise ModelError(
            f"{model.info.name} takes one slice at each step, but {channels[0].name} has {framing.thick}; choose a slice, or "
            "use a model whose network has dimensions 3."
        )
    times = known_times(network, framing)
    network, plan = tuning.prepare(network, device)
    rows = rows_of_steps(channels[0], framing, ready.settings) or (None,)
    total, done = sum(framing.steps if r is None else r.steps for r in rows), 0

    def read(row: SliceSteps | None) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities of each slice (step, class) and of the exam, and the attention to each slice."""
        nonlocal done
        embeddings = []
        slices = steps_of(framing, channels, torch.device("cpu"), None if network.volumes else 0)
        steps = (_filled(x, given, model.info.channels) for x in (slices if row is None else row.averaged(slices)))
        when = times if row is None or times is None else row.times(times)
        for x in neighbourhoods(steps, network.neighbours):
            check(cancelled)
            embeddings.append(network.encode(plan.to_memory_format(x[None].to(device)))[0])
            done += 1
            if progress is not None:
                progress(done, total, f"classifying {channels[0].name}")
        steps_out, exam_out, attention = network.read(
            torch.cat(embeddings).float()[None],
            times=None if when is None else torch.tensor([when], device=device),
            tabular=None if values is None else values.to(device),
        )
        per_step, exam = (network.probabilities(logits[0].float()).cpu() for logits in (steps_out, exam_out))
        weights = attention[0].float().cpu()
        if row is None:
            return per_step, exam, weights
        weights = torch.stack(list(row.interpolated(weights)))
        return torch.stack(list(row.interpolated(per_step))), exam, weights / weights.sum()

    with torch.inference_mode(), plan.precision():
        answers = [torch.stack(each).mean(0) for each in zip(*map(read, rows), strict=True)]
    for answer in answers:
        check_finite(answer, model, f"one of the {framing.steps} steps of {channels[0].name}")
    per_step, exam, attention = (a.numpy() for a in answers)
    names = [model.info.classes[k] for k in sorted(model.info.classes)]
    return Classification(
        probabilities={n: float(p) for n, p in zip(names, exam, strict=True)},
        per_step=per_step,
        attention=attention,
        extent=_extent(per_step),
        classes=names,
        step_axis="visit" if ready.settings.along == "visit" else framing.axes[0] or "z",
        model=model_names([model]),
    )
