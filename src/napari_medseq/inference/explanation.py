"""`explain`: a map of where in the images a model's answer comes from, on the input's own grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_medseq.errors import ModelError, SettingsError
from napari_medseq.inference.inputs.frame import Framing, frame
from napari_medseq.inference.inputs.images import Images, exams, to_image_axes
from napari_medseq.inference.inputs.slice_steps import SliceSteps, notes_of_image, rows_of_steps
from napari_medseq.inference.network_passes import known_times
from napari_medseq.inference.options import Ready, RunKeywords, RunOptions, prepared, recurrent_network_of
from napari_medseq.inference.outputs.finite import check_finite
from napari_medseq.inference.resources import devices, remote, tuning
from napari_medseq.inference.slabs.explanation import explained_slab
from napari_medseq.inference.slabs.segmentation import is_slab, slab_channels, slab_settings
from napari_medseq.inference.streaming import neighbourhoods, stream
from napari_medseq.inference.upright import Upright
from napari_medseq.models import Model, ModelLike, loaded
from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.models.sequence_classifier import SequenceClassifier
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.sequence import ImageSequence, Visit

Method = Literal["grad-cam", "attention", "occlusion"]
_METHODS = ("grad-cam", "attention", "occlusion")
_PATCHES = 8  # occluding patches along the longer side of a step
_AT_ONCE = 16  # occluded copies of a step that go through the encoder together


class _Options(RunKeywords, total=False):
    """The keywords of `explain`, once, for its two overloads."""

    target: int | str | None
    method: Method


@overload
def explain(
    images: ImageSequence | Mapping[str, ImageSequence], model: ModelLike, **options: Unpack[_Options]
) -> ImageSequence: ...
@overload
def explain(images: Sequence[Visit], model: ModelLike, **options: Unpack[_Options]) -> list[ImageSequence]: ...
def explain(
    images: Images,
    model: ModelLike,
    *,
    target: int | str | None = None,
    method: Method = "grad-cam",
    device: str = "auto",
    force: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> ImageSequence | list[ImageSequence]:
    """Compute a map of the evidence in the images for a class.

    Parameters
    ----------
    images : ImageSequence, mapping of channel to ImageSequence, or sequence of Visit
    model : Model, str or path
        A loaded model, its name, or the folder of a bundle.
    target : int or str, optional
        Label value, class index or class name; the model's first class when None.
    method : {"grad-cam", "attention", "occlusion"}
        "grad-cam": the deepest features, weighted by the gradient of the answer (Selvaraju et al. 2017, ICCV, eq. 1-2). A
        segmentation's answer is the sum of the class's log-odds over its own pixels (Vinogradova et al. 2020, AAAI), per
        step; a classifier's is the exam's logit. As coarse as the deepest level.
        "attention": weight of the step in a classifier's answer, times the weight that the step's pixels have in its
        embedding, the largest set to one. Read from the network, not computed after the fact; classifiers only.
        "occlusion": how far the answer falls when a square of a step is covered (Zeiler & Fergus 2014, ECCV, sec. 4.2). A
        classifier sees one step covered at a time, a segmentation network the same square of all steps. Slow: about 64
        times a plain run.
        Of a slab network the deepest features are weighted by the gradient of the answer of each window; windows are averaged.
    device : str
        "auto", "cpu", "cuda", "cuda:N", "mps", or "dask://host:port": a worker of that Dask cluster.
    force : bool
        Accept an image whose known modality is not the model's.
    progress, cancelled : callable, optional
        Looked at once per step.

    Returns
    -------
    ImageSequence
        float32 from 0 (nothing, or against) to 1 (the most in this exam) on the image's own grid; ``meta["explanation"]``
        holds method, target, model and the largest value before scaling. All zero where nothing speaks for the class. A list,
        one per visit, for a sequence of visits.

    Raises
    ------
    SettingsError
        If the method or target is not known.
    ModelError
        If the model does not fit the images, or has no such explanation.
    OperationCancelled
        Within one step of `cancelled` returning True.
    """
    chosen = loaded(model)
    if method not in _METHODS:
        raise SettingsError(f"method {method!r} is not known; choose from {', '.join(_METHODS)}.")
    if is_slab(chosen):
        return _of_slabs(images, chosen, target, method, device, force, progress, cancelled)
    network = recurrent_network_of(
        chosen, refusal="is not a recurrent network of this package, so it cannot be explained yet."
    )
    if method == "attention" and not isinstance(network, SequenceClassifier):
        raise ModelError(f"{chosen.info.name} has no attention; use method='grad-cam' or 'occlusion'.")
    if network.volumes:
        raise ModelError(f"{chosen.info.name} takes volumes as its steps, and cannot be explained yet.")
    index = _target(chosen, target)
    if devices.is_remote(device):
        keywords: _Options = {"target": target, "method": method, "force": force}
        return remote.call(device, explain, images, chosen, keywords, progress, cancelled)
    options = RunOptions(device=device, force=force, progress=progress, cancelled=cancelled)
    ready = prepared(chosen, network, options)
    ready = replace(ready, network=tuning.prepare(network, ready.device)[0])
    results = [_explained(ready, channels, index, method) for channels in exams(images, chosen, force=force)]
    return results if isinstance(images, Sequence) else results[0]


def _of_slabs(
    images: Images,
    model: Model,
    target: int | str | None,
    method: Method,
    device: str,
    force: bool,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> ImageSequence | list[ImageSequence]:
    """`explain` for slab networks; see there."""
    if method == "attention":
        raise ModelError(f"{model.info.name} has no attention; use method='grad-cam' or 'occlusion'.")
    index = _target(model, target)
    if devices.is_remote(device):
        keywords: _Options = {"target": target, "method": method, "force": force}
        return remote.call(device, explain, images, model, keywords, progress, cancelled)
    where = devices.choose(device)[0]
    results = []
    for channels in slab_channels(images, model, slab_settings(model), force):
        map_, image, notes = explained_slab(channels, model, index, method, where, progress, cancelled)
        found = _scaled(map_, image, model, index, method)
        results.append(found.replace(warnings=(*found.warnings, *notes)))
    return results if isinstance(images, Sequence) else results[0]


def _explained(
    ready: Ready[RecurrentUNet | SequenceClassifier], channels: list[ImageSequence], target: int, method: Method
) -> ImageSequence:
    """The explanation of one exam."""
    network, settings = ready.network, ready.settings
    check(ready.options.cancelled)
    turn, channels = Upright.of_channels(channels, trimmed=settings.trimmed, middle_mm=settings.middle_mm)
    framing = frame(
        channels, along=settings.along, pixel_mm=settings.pixel_mm, stride=network.stride, least=settings.size
    )
    if isinstance(network, SequenceClassifier) and len(framing.positions) > 1:
        raise ModelError(f"{ready.model.info.name} takes one slice over time; {channels[0].name} has {framing.thick}.")
    rows = rows_of_steps(channels[0], framing, settings) or (None,)
    maps: list[Tensor] = []
    for position in framing.positions:
        each = []
        for row in rows:
            exam = _Exam(ready, channels, framing, target=target, position=position, row=row)
            if isinstance(network, SequenceClassifier):
                own = {"grad-cam": _cam, "attention": _attention, "occlusion": _occlusion}[method](network, exam)
            else:
                own = {"grad-cam": _cam_of_steps, "occlusion": _occlusion_of_bars}[method](network, exam)
            each.append(own if row is None else list(row.interpolated(own)))
        maps += [torch.stack(planes).mean(0) for planes in zip(*each, strict=True)] if len(each) > 1 else each[0]
    found = turn.back(_image(maps, exam, ready.model, method))
    notes = notes_of_image(channels[0], framing, settings, ready.model.info.name)
    return found.replace(warnings=(*found.warnings, *notes))


def _target(model: Model, target: int | str | None) -> int:
    """Output channel of the network that `target` means."""
    classes = model.info.classes
    if target is None:
        return min(classes) if classes else (1 if model.info.task == "segmentation" else 0)
    matching = [k for k, v in classes.items() if target in (k, v)]
    if not matching:
        names = ", ".join(f"{k} ({v})" for k, v in sorted(classes.items()))
        raise SettingsError(f"target {target!r} is not a class of {model.info.name}; choose from {names}.")
    return matching[0]


class _Exam:
    """One exam to explain: what to read, which class, and who is watching."""

    def __init__(
        self,
        ready: Ready[RecurrentUNet | SequenceClassifier],
        channels: Sequence[ImageSequence],
        framing: Framing,
        *,
        target: int,
        position: int,
        row: SliceSteps | None = None,
    ) -> None:
        self.channels, self.framing, self.target, self.position = channels, framing, target, position
        self.device, self.progress, self.cancelled = ready.device, ready.options.progress, ready.options.cancelled
        self.row, self.times = row, known_times(ready.network, framing)
        if row is not None and self.times is not None:
            self.times = row.times(self.times)
        self.count = framing.steps if row is None else row.steps
        self.done, self.total = 0, self.count

    def steps(self) -> Iterator[Tensor]:
        """The steps (channel, y, x), one at a time; averages of thin slices where there is a row of these."""
        slices = (self.framing.read(self.channels, i, self.position) for i in range(self.framing.steps))
        for x in slices if self.row is None else self.row.averaged(slices):
            check(self.cancelled)
            yield x.to(self.device)

    def tick(self) -> None:
        """One step is done."""
        check(self.cancelled)
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total, f"explaining {self.channels[0].name}")

    def time_of(self, embeddings: Tensor) -> Tensor | None:
        """Times (batch, step) for embeddings (batch, step, feature), where the network uses them."""
        return None if self.times is None else embeddings.new_tensor(self.times).expand(embeddings.shape[:2])

    def patches(self) -> tuple[int, list[tuple[slice, slice]]]:
        """Side of the occluding squares, and where they lie, in network pixels."""
        rows, columns = self.framing.padded
        side = max(1, -(-max(rows, columns) // _PATCHES))
        at = [
            (slice(r, min(r + side, rows)), slice(c, min(c + side, columns)))
            for r in range(0, rows, side)
            for c in range(0, columns, side)
        ]
        return side, at


def _log_odds(logits: Tensor, target: int) -> Tensor:
    """Log-odds (…, y, x) of one class against the others, from logits (…, class, y, x)."""
    others = [k for k in range(logits.shape[-3]) if k != target]
    return logits[..., target, :, :] - logits[..., others, :, :].logsumexp(-3)


def _fall(before: float, after: float) -> float:
    """How far an answer falls, 0 where it rises; NaN stays, to be noticed."""
    fall = before - after
    return 0.0 if fall < 0 else fall


def _weighted_features(features: Tensor, gradient: Tensor) -> Tensor:
    """Grad-CAM (y, x) of features and gradient (1, channel, y, x): Selvaraju et al. 2017, eq. 1 and 2."""
    return torch.relu((gradient.mean((2, 3), keepdim=True) * features).sum(1))[0].detach()


# -- segmentation ----------------------------------------------------------------------------------------------------
def _cam_of_steps(network: RecurrentUNet, exam: _Exam) -> list[Tensor]:
    def cam(network: RecurrentUNet, features: list[Tensor]) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            leaves = [f.clone() for f in features]
            deepest = leaves[-1].requires_grad_()
            logits = network.decode(leaves)[-1]
            p = logits.detach().softmax(1)[:, exam.target]
            (gradient,) = torch.autograd.grad((p * _log_odds(logits, exam.target)).sum(), deepest)
            return _weighted_features(deepest, gradient)[None]

    maps = []
    for plane in stream(network, exam.steps(), finish=cam, times=exam.times):
        maps.append(plane.cpu())
        exam.tick()
    return maps


def _occlusion_of_bars(network: RecurrentUNet, exam: _Exam) -> list[Tensor]:
    _, patches = exam.patches()
    exam.total = (len(patches) + 1) * exam.count
    weights, before = [], []
    for logits in stream(network, exam.steps(), times=exam.times):
        weights.append(logits.softmax(0)[exam.target].half())
        before.append(float((weights[-1] * _log_odds(logits, exam.target)).sum()))
        exam.tick()
    maps = [torch.zeros(exam.framing.padded) for _ in weights]
    for at in patches:

        def covered(at: tuple[slice, slice] = at) -> Iterator[Tensor]:
            for x in exam.steps():
                x[(slice(None), *at)] = 0
                yield x

        for i, logits in enumerate(stream(network, covered(), times=exam.times)):
            after = float((weights[i] * _log_odds(logits, exam.target)).sum())
            maps[i][at] = _fall(before[i], after)
            exam.tick()
    return maps


# -- classification --------------------------------------------------------------------------------------------------
def _cam(network: SequenceClassifier, exam: _Exam) -> list[Tensor]:
    """The chain rule in two parts, so that one step's graph is in memory at a time: exam → embeddings → features."""
    exam.total = 2 * exam.count
    features = []
    with torch.no_grad():
        for x in neighbourhoods(exam.steps(), network.neighbours):
            features.append(network.features(x[None]))
            exam.tick()
        embeddings = torch.cat([network.describe(f)[0] for f in features])
    embeddings.requires_grad_()
    (upstream,) = torch.autograd.grad(_exam_logit(network, embeddings[None], exam).sum(), embeddings)
    maps = []
    for f, gradient in zip(features, upstream, strict=True):
        check(exam.cancelled)
        leaf = f.requires_grad_()
        (own,) = torch.autograd.grad((network.describe(leaf)[0][0] * gradient).sum(), leaf)
        maps.append(_weighted_features(leaf, own).cpu())
        exam.tick()
    return maps


def _exam_logit(network: SequenceClassifier, embeddings: Tensor, exam: _Exam) -> Tensor:
    """The exam's logit (batch,) from embeddings (batch, step, feature)."""
    # cuDNN's recurrent kernels give no gradient in evaluation mode
    with torch.backends.cudnn.flags(enabled=False):
        return network.read(embeddings, times=exam.time_of(embeddings))[1][:, exam.target]


@torch.no_grad()
def _attention(network: SequenceClassifier, exam: _Exam) -> list[Tensor]:
    embeddings, where = [], []
    for x in neighbourhoods(exam.steps(), network.neighbours):
        embedding, evidence = network.encode(x[None])
        embeddings.append(embedding)
        weight = (evidence[0, exam.target] - evidence[0, exam.target].max()).exp()
        where.append(weight.cpu())
        exam.tick()
    all_steps = torch.cat(embeddings)[None]
    attention = network.read(all_steps, times=exam.time_of(all_steps))[2][0].cpu()
    return [w * a for w, a in zip(where, attention, strict=True)]


@torch.no_grad()
def _occlusion(network: SequenceClassifier, exam: _Exam) -> list[Tensor]:
    _, patches = exam.patches()
    exam.total = 2 * exam.count
    steps = list(_encoded(network, exam))
    embeddings = torch.cat(steps)[None]
    before = float(_exam_logit(network, embeddings, exam))
    maps = []
    for i, x in enumerate(neighbourhoods(exam.steps(), network.neighbours)):
        plane = torch.zeros(exam.framing.padded)
        for start in range(0, len(patches), _AT_ONCE):
            check(exam.cancelled)
            batch = patches[start : start + _AT_ONCE]
            copies = x[None].repeat(len(batch), 1, 1, 1)
            for k, at in enumerate(batch):
                copies[(k, slice(None), *at)] = 0
            changed = embeddings.repeat(len(batch), 1, 1)
            changed[:, i] = network.encode(copies)[0]
            after = _exam_logit(network, changed, exam).cpu()
            for at, value in zip(batch, after, strict=True):
                plane[at] = _fall(before, float(value))
        maps.append(plane)
        exam.tick()
    return maps


def _encoded(network: SequenceClassifier, exam: _Exam) -> Iterator[Tensor]:
    for x in neighbourhoods(exam.steps(), network.neighbours):
        yield network.encode(x[None])[0]
        exam.tick()


def _image(maps: Sequence[Tensor], exam: _Exam, model: Model, method: str) -> ImageSequence:
    framing, image = exam.framing, exam.channels[0]
    # attention is one weight per cell of the encoder, and is shown as such
    mode = "bilinear" if method == "grad-cam" else "nearest-exact"
    out: NDArray[np.float32] = np.zeros((framing.thick, framing.steps, *framing.size), np.float32)
    for i, plane in enumerate(maps):
        check_finite(plane.float(), model, f"step {i % framing.steps + 1} of {image.name}")
        full = functional.interpolate(plane[None, None].float(), size=framing.padded, mode=mode)[0, 0]
        out[divmod(i, framing.steps)] = framing.uncrop(full, labels=False)
    shaped = to_image_axes(out, (framing.across, *framing.axes), image)
    return _scaled(shaped, image, model, exam.target, method)


def _scaled(values: NDArray[np.float32], image: ImageSequence, model: Model, target: int, method: str) -> ImageSequence:
    """A map on an image's grid, in the order of its axes, its largest value set to one."""
    largest = float(values.max())
    facts = {
        "method": method,
        "target": model.info.classes.get(target, str(target)),
        "model": f"{model.info.name} {model.info.version}",
        "largest": largest,
    }
    return image.like(
        values / np.float32(largest) if largest > 0 else values,
        axes=tuple(a for a in image.axes if a != "c"),
        name=f"{image.name}_{method}",
        kind="image",
        modality=None,
        meta={**image.meta, "contrast_limits": [0.0, 1.0], "colormap": "inferno", "explanation": facts},
    )
