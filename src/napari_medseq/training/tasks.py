"""The tasks that can be learned: each with the source of its target, its loss, and its score on a whole case.

Adding a task is one entry in `TASKS`. Every network takes windows (batch, step, channel · (2 · neighbours + 1), y, x); a
segmentation network gives logits (batch, step, class, y, x), a classifier `SequenceLogits`, a denoiser or autoencoder the
image (batch, step, channel, y, x).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.inference.streaming import stream
from napari_medseq.models import targets
from napari_medseq.models.recurrent_unet import with_neighbours
from napari_medseq.models.sequence_classifier import SequenceClassifier
from napari_medseq.models.sequence_network import ExtraInput, SequenceNetwork
from napari_medseq.models.stepwise import Stepwise
from napari_medseq.training.cases import Case
from napari_medseq.training.config import TrainConfig
from napari_medseq.training.dataset import balanced_weights
from napari_medseq.training.loops.losses import classification_loss, image_loss, segmentation_loss
from napari_medseq.training.loops.sequences import Loss
from napari_medseq.training.loops.windows import Target
from napari_medseq.volumes.sampling import spread


@dataclass(frozen=True)
class LearningTask:
    """One task: its target, its loss and its score.

    Attributes
    ----------
    measure : str
        What its score is called.
    target : callable
        Config → what a window's target is.
    loss : callable
        Config and cases → loss.
    scores : callable
        Network (in evaluation mode), case and config → the measure, more is better, and others; NaN where undefined.
    """

    measure: str
    target: Callable[[TrainConfig], Target]
    loss: Callable[[TrainConfig, Sequence[Case]], Loss]
    scores: Callable[[SequenceNetwork, Case, TrainConfig], dict[str, float]]


def whole(network: SequenceNetwork, case: Case, image: Tensor | None = None) -> Any:
    """The output of a network for a whole case, as a batch of one.

    Where a case has positions (the slices of frames or visits) each is a sequence of its own, and what is said of them lies
    along an axis before y; a network for volumes sees them together. Rows and columns are padded to the network's stride as `Framing.read`
    does in use, each plane with its own darkest value; the padding is part of the answer.

    Parameters
    ----------
    network : SequenceNetwork
    case : Case
    image : Tensor, optional
        An image that replaces the case's own.
    """
    image = case.image.float() if image is None else image
    where = next(network.parameters()).device
    stride, deep = network.stride, network.volumes
    *_, d, h, w = image.shape
    # edges repeat along slices, as in training
    if deep and -d % stride:
        image = torch.cat([image, image[:, :, -1:].expand(-1, -1, -d % stride, -1, -1)], 2)
    x = image.amin((1, -2, -1), keepdim=True).repeat(
        1, image.shape[1], *[1] * (image.ndim - 4), h + -h % stride, w + -w % stride
    )
    x[..., :h, :w] = image
    x = x.to(where)
    if x.ndim == 4 or deep:
        return _of_sequence(network, x, case)
    if isinstance(network, SequenceClassifier):
        if x.shape[2] == 1:
            return _of_sequence(network, x[:, :, 0], case)
        raise MedseqError(
            f"{case.name} has {x.shape[2]} slices; this classifier takes one, or build it with dimensions=3."
        )
    outputs = [_of_sequence(network, x[:, :, k], case) for k in range(x.shape[2])]
    return torch.stack([s[0] if isinstance(s, tuple | list) else s for s in outputs], -3)


def _of_sequence(network: SequenceNetwork, x: Tensor, case: Case) -> Any:
    """The network's output (1, …) for one sequence (step, channel, y, x) or (step, channel, z, y, x)."""
    times = case.times if network.gap_unit is not None else None
    if isinstance(network, Stepwise):  # as in use: long sequences need no more memory than short ones
        seconds = None if times is None else times.tolist()
        return torch.stack([y.cpu() for y in stream(network, x, times=seconds)])[None]
    extra: dict[ExtraInput, Tensor] = {}
    if times is not None and "times" in network.extra_inputs:
        extra["times"] = times[None].to(x.device)
    if case.table is not None and network.table_values:
        extra["tabular"] = case.table[None].to(x.device)
    return network(with_neighbours(x, network.neighbours)[None], **extra)


def _segmentation_loss(c: TrainConfig, cases: Sequence[Case]) -> Loss:
    classes = max(c.classes) + 1
    weights: Tensor | None = None
    if c.loss.class_weights == "balanced":
        weights = balanced_weights(cases, classes)
    elif c.loss.class_weights is not None:
        if len(c.loss.class_weights) != classes:
            raise SettingsError(
                f"loss.class_weights has {len(c.loss.class_weights)} weights; with background there are {classes} classes."
            )
        weights = torch.tensor(c.loss.class_weights)
    labelled = tuple(c.classes) if len(c.classes) < classes - 1 else None
    return lambda network, x, y: segmentation_loss(network, x, y, c.loss, weights, labelled)


@torch.no_grad()
def _dice(network: SequenceNetwork, case: Case, c: TrainConfig) -> dict[str, float]:
    """Dice of each class over the labelled voxels, at the network's resolution; NaN for one in neither."""
    from monai.metrics import compute_dice

    logits = _cut(whole(network, case)[0], case.labels).float()
    single_class = logits.shape[1] == 2
    chosen = (logits.softmax(1)[:, 1] > c.inference.threshold).long() if single_class else logits.argmax(1)
    is_known = case.labels >= 0
    k = max(c.classes) + 1
    hot = [
        functional.one_hot((v.long() * is_known).clamp_min(0), k).movedim(-1, 0)[None]
        for v in (chosen.cpu(), case.labels)
    ]
    each = compute_dice(hot[0], hot[1], include_background=True, ignore_empty=False)[0]
    scores = {}
    for value, name in c.classes.items():
        empty = not bool(hot[0][0, value].any() or hot[1][0, value].any())
        scores[f"dice {name}"] = math.nan if empty else float(each[value])
    return {"dice": mean(scores.values()), **(scores if len(scores) > 1 else {})}


@torch.no_grad()
def _likelihood(network: SequenceNetwork, case: Case, c: TrainConfig) -> dict[str, float]:
    """Mean log-likelihood of the answers: of the exam, or of its steps if labels are predicted."""
    logits = whole(network, case)
    if case.target is not None:
        truth, logit = case.target, logits.exam[0].float().cpu()
        kind = network.target
        if kind != "multilabel":  # one of the classes is true
            right = math.nan if not bool(truth.isfinite().all()) else float(logit.argmax() == truth.argmax())
            return {"log_likelihood": -float(targets.loss(logit[None], truth[None], kind)), "accuracy": right}
    else:
        logit = logits.steps[0].float().cpu()
        masks = [case.labels > 0] if len(c.classes) == 1 else [case.labels == k + 1 for k in c.classes]
        pixels = torch.stack([t.flatten(1).sum(1) for t in masks], 1)
        truth = (pixels >= 4).float()
        truth[((pixels > 0) & (pixels < 4)) | (case.labels < 0).flatten(1).any(1)[:, None] & (pixels == 0)] = math.nan
    is_known = truth.isfinite()
    loss = functional.binary_cross_entropy_with_logits(logit, truth.nan_to_num(0.0), reduction="none")
    right = ((logit > 0) == (truth > 0.5))[is_known]
    return {
        "log_likelihood": float(-loss[is_known].mean()) if bool(is_known.any()) else math.nan,
        "accuracy": float(right.float().mean()) if bool(is_known.any()) else math.nan,
    }


@torch.no_grad()
def _fidelity(network: SequenceNetwork, case: Case, c: TrainConfig) -> dict[str, float]:
    """Peak signal-to-noise ratio in dB of the image that comes out; the peak is the image's range between its 1st and 99th percentile,
    and without any range it is NaN.

    A denoiser sees noise in the middle of its range, the same each time.
    """
    image = case.image.float()
    seen = image
    if c.task == "denoising":
        level = sum(c.noise) / 2
        seen = image + level * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    out = whole(network, case, seen)
    out = _cut((out[0] if isinstance(out, tuple | list) else out)[0], image).float().cpu()
    some = torch.from_numpy(spread(image.numel(), 100_000))
    low, high = torch.quantile(image.flatten()[some], torch.tensor([0.01, 0.99])).tolist()

    def ratio(x: Tensor) -> float:
        if high == low:
            return math.nan
        return 10 * math.log10((high - low) ** 2 / max(float(((x - image) ** 2).mean()), 1e-12))

    return {"psnr": ratio(out), **({"psnr of the input": ratio(seen)} if c.task == "denoising" else {})}


def _cut(output: Tensor, like: Tensor) -> Tensor:
    """The output (step, channel, …) without its padding: as long along the spatial axes as `like`."""
    space = [slice(n) for n in like.shape[2 - output.ndim :]]
    return output[(slice(None), slice(None), *space)]


def mean(values: Any) -> float:
    """The mean of the values that are not NaN; NaN if there are none."""
    defined = [v for v in values if v == v]
    return sum(defined) / len(defined) if defined else math.nan


def _labels_or_exam(c: TrainConfig) -> Target:
    return "labels" if c.targets is None else "exam"


TASKS: dict[str, LearningTask] = {
    "segmentation": LearningTask("dice", lambda _: "labels", _segmentation_loss, _dice),
    "classification": LearningTask("log_likelihood", _labels_or_exam, lambda *_: classification_loss, _likelihood),
    "denoising": LearningTask("psnr", lambda _: "image", lambda *_: image_loss, _fidelity),
    "autoencoder": LearningTask("psnr", lambda _: "image", lambda *_: image_loss, _fidelity),
}
