"""Losses for sequences of labelled steps; voxels labelled -1 are unlabelled and count for nothing.

The region and focal terms are MONAI's; what is added here is the mask of unlabelled voxels, class weights and hard voxels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from napari_medseq.errors import SettingsError
from napari_medseq.models import targets
from napari_medseq.models.sequence_classifier import SequenceLogits
from napari_medseq.models.sequence_network import ExtraInput, SequenceNetwork
from napari_medseq.settings import Settings

#: added to numerator and denominator of the region term, so that a batch without the class has a defined loss
_SMOOTH = 1.0
_TINY = 1e-6  # of a sum of weights, which is 0 where no step is known
STEP_WEIGHT = 0.5  # weight of the loss of the steps relative to that of the exam, where exams have answers


class LossSettings(Settings):
    """The loss of a segmentation network: a term over regions plus a term per voxel, equally weighted.

    Attributes
    ----------
    region : {"dice", "tversky", "none"}
        Soft Dice (Milletari et al. 2016) or Tversky index (Salehi et al. 2017), over the whole batch, without background.
    voxel : {"cross_entropy", "focal", "none"}
        Cross-entropy, or focal loss (Lin et al. 2017) that plays down what is easy.
    false_positives, false_negatives : float
        Tversky's α and β; more weight on false negatives finds more of small lesions.
    gamma : float
        Exponent of the focal loss.
    class_weights : tuple of float, "balanced" or None
        Weights in the voxel term, background first; "balanced": inverse to the classes' share of the labelled training voxels.
    hard_share : float
        Share of the labelled voxels, those with the largest loss, that the voxel term averages (hard-example mining;
        Shrivastava et al. 2016); 1: all.
    """

    region: Literal["dice", "tversky", "none"] = "dice"
    voxel: Literal["cross_entropy", "focal", "none"] = "cross_entropy"
    false_positives: float = Field(0.3, gt=0)
    false_negatives: float = Field(0.7, gt=0)
    gamma: float = Field(2.0, ge=0)
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None
    hard_share: float = Field(1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _something(self) -> LossSettings:
        if self.region == "none" and self.voxel == "none":
            raise ValueError("region and voxel are both 'none': there would be nothing to learn from")
        if isinstance(self.class_weights, tuple) and (
            min(self.class_weights, default=0) < 0 or sum(self.class_weights) <= 0
        ):
            raise ValueError("class_weights must be 0 or more, and not all 0")
        return self


def _region(p: Tensor, truth: Tensor, s: LossSettings) -> Tensor:
    from monai.losses import DiceLoss, TverskyLoss

    common: dict[str, Any] = {"include_background": False, "batch": True, "smooth_nr": _SMOOTH, "smooth_dr": _SMOOTH}
    dice = s.region == "dice"
    term = DiceLoss(**common) if dice else TverskyLoss(alpha=s.false_positives, beta=s.false_negatives, **common)
    value: Tensor = term(p, truth)
    return value


def _voxel(logits: Tensor, labels: Tensor, s: LossSettings, weights: Tensor | None) -> Tensor:
    is_known, truth = labels >= 0, labels.clamp_min(0)
    if s.voxel == "cross_entropy":
        loss = functional.cross_entropy(logits, truth, reduction="none")
    else:
        from monai.losses import FocalLoss

        loss = FocalLoss(use_softmax=True, to_onehot_y=True, gamma=s.gamma, reduction="none")(
            logits, truth[:, None]
        ).sum(1)
    w = is_known.to(loss.dtype) if weights is None else weights.to(loss)[truth] * is_known
    if s.hard_share < 1:
        loss = loss * is_known
        bar = loss.detach().flatten().topk(max(1, math.ceil(s.hard_share * int(is_known.sum())))).values[-1]
        w = w * (loss.detach() >= bar)
    total: Tensor = (loss * w).sum() / (w.sum().clamp_min(1) if weights is None else w.sum().clamp_min(1e-6))
    return total


def voxel_loss(
    logits: Tensor,
    labels: Tensor,
    settings: LossSettings | None = None,
    weights: Tensor | None = None,
    classes: Sequence[int] | None = None,
) -> Tensor:
    """The segmentation loss that `settings` describe.

    Parameters
    ----------
    logits : Tensor, shape (n, class, y, x)
    labels : Tensor, shape (n, y, x), int64
        Class per voxel, -1 where unlabelled.
    settings : LossSettings, optional
    weights : Tensor, shape (class,), optional
        Weights of the classes in the voxel term.
    classes : sequence of int, optional
        The classes that there are in addition to the background, where not every output of the network is one.
    """
    s = settings or LossSettings()
    logits = logits.float()
    if classes is not None:
        classes_kept = torch.tensor([0, *sorted(classes)], device=logits.device)
        # class value → its place among those kept; -1 stays, as the last entry
        place = torch.full((logits.shape[1] + 1,), -1, device=logits.device)
        place[classes_kept] = torch.arange(len(classes_kept), device=logits.device)
        logits, labels = logits[:, classes_kept], place[labels]
        weights = weights[classes_kept.to(weights.device)] if weights is not None else None
    loss = torch.zeros((), device=logits.device)
    if s.voxel != "none":
        loss = loss + _voxel(logits, labels, s, weights)
    if s.region != "none":
        is_known = labels >= 0
        truth = functional.one_hot(labels.clamp_min(0), logits.shape[1]).movedim(-1, 1) * is_known[:, None]
        loss = loss + _region(logits.softmax(1) * is_known[:, None], truth, s)
    return loss


def deeply_supervised(
    heads: Sequence[Tensor],
    labels: Tensor,
    settings: LossSettings | None = None,
    weights: Tensor | None = None,
    classes: Sequence[int] | None = None,
) -> Tensor:
    """`voxel_loss` of every head, coarse to fine, each half the weight of the next (Isensee et al. 2021), against shrunken labels."""
    total, shares = torch.zeros((), device=labels.device), 0.0
    for k, logits in enumerate(reversed(list(heads))):
        small = labels[(slice(None), *[slice(None, None, 2**k)] * (labels.ndim - 1))]
        total = total + voxel_loss(logits, small, settings, weights, classes=classes) * 0.5**k
        shares += 0.5**k
    return total / shares


class Wrapper(nn.Module):
    """A network inside another module, for the time of a loss."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.module = network


class WithExtraInputs(Wrapper):
    """A network whose ``forward`` also gets the steps' times, which of them are present, and values from a table."""

    def __init__(self, network: nn.Module, extra: Mapping[ExtraInput, Tensor]) -> None:
        super().__init__(network)
        self.extra = dict(extra)

    def forward(self, x: Tensor, **more: Any) -> Any:
        """The network's answer."""
        return self.module(x, **more, **self.extra)


def unwrapped(network: nn.Module) -> SequenceNetwork:
    """The network inside wrappers and torch's DistributedDataParallel.

    Raises
    ------
    SettingsError
        If it is not a network along a sequence.
    """
    while isinstance(network, Wrapper | DistributedDataParallel):
        network = network.module
    if not isinstance(network, SequenceNetwork):
        raise SettingsError(f"{type(network).__name__} is not a network along a sequence; it cannot be trained here.")
    return network


def segmentation_loss(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    settings: LossSettings | None = None,
    weights: Tensor | None = None,
    classes: Sequence[int] | None = None,
) -> Tensor:
    """`deeply_supervised` of a network on windows (batch, step, channel, y, x) and labels (batch, step, y, x).

    A network with deep supervision gives its logits coarse to fine; any other gives one tensor.
    """
    out = network(x, every_head=True) if unwrapped(network).deep_supervision else network(x)
    heads = list(out) if isinstance(out, list | tuple) else [out]
    return deeply_supervised([h.flatten(0, 1) for h in heads], y.flatten(0, 1), settings, weights, classes)


def classification_loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy per step, per window and on the evidence map of a `SequenceClassifier`.

    From labels (batch, step, y, x) the question is whether there is any labelled voxel (one class), or any of value k + 1
    (class k of several). A step counts as positive from four labelled pixels on; one to three, which experts leave behind as
    specks, count for nothing, and so does a step where a voxel is unlabelled and none is positive. The map's target is the
    labels' maximum in each of its cells; its positives weigh ten times, since a lesion fills few cells.

    From answers per exam (batch, class), NaN where unknown, the exam's logits are taught, as the network's kind of target
    (independent, exclusive or ordinal classes) asks; and at half the weight those of each step that is there, so that a step says how
    far it speaks for the exam's class, and every step passes a gradient to the encoder however little attention it has.
    """
    logits = network(x)
    if y.ndim == 2:
        kind = unwrapped(network).target
        of_steps = y[:, None].expand(-1, logits.steps.shape[1], -1)
        present = network.extra.get("present") if isinstance(network, WithExtraInputs) else None
        if present is not None:
            of_steps = of_steps.masked_fill(~present[..., None], math.nan)
        return targets.loss(logits.exam, y, kind) + STEP_WEIGHT * targets.loss(logits.steps, of_steps, kind)
    classes = logits.steps.shape[-1]
    total: Tensor = torch.zeros((), device=x.device)
    for k in range(classes):
        is_positive = (y > 0) if classes == 1 else (y == k + 1)
        total = total + _one_question(logits, is_positive, y < 0, k)
    mean: Tensor = total / classes
    return mean


def loss_of_steps(weights: Tensor) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """The loss of a `SequenceClassifier` of exclusive classes that learns the class of each step.

    It is the cross-entropy of each step whose class is known, the classes weighted; and at half the weight that of the exam, whose
    answer is the share of each class among its steps.

    Parameters
    ----------
    weights : Tensor, shape (class,)

    Returns
    -------
    callable
        Of a network, images, and classes (batch, step, class), 0 and 1, NaN where unknown; the loss is 0 where none is known.
    """

    def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits, known = network(x), y.isfinite().all(-1, keepdim=True)
        truth = torch.where(known, y, 0.0).float()
        weighted = truth * weights.to(truth)
        of_steps: Tensor = -(weighted * logits.steps.float().log_softmax(-1)).sum() / weighted.sum().clamp_min(_TINY)
        share = torch.where(known.any(1), truth.sum(1) / known.sum(1).clamp_min(1), math.nan)
        return of_steps + STEP_WEIGHT * targets.loss(logits.exam, share, "exclusive")

    return loss


def _one_question(logits: SequenceLogits, is_positive: Tensor, unknown: Tensor, k: int) -> Tensor:
    pixels = is_positive.flatten(2).sum(2)
    positive = pixels >= 4
    seen = ~unknown.flatten(2).any(2)
    usable = (positive | ((pixels == 0) & seen)).float()
    truth = positive.float()
    steps = functional.binary_cross_entropy_with_logits(logits.steps[..., k].float(), truth, reduction="none")
    # a window with unlabelled steps is positive, or undecided
    decided = (positive.any(1) | seen.all(1)).float()
    exam = functional.binary_cross_entropy_with_logits(logits.exam[:, k].float(), truth.amax(1), reduction="none")
    evidence = logits.evidence[:, :, k].float().flatten(0, 1)
    pool = functional.adaptive_max_pool2d if evidence.ndim == 3 else functional.adaptive_max_pool3d
    cells = pool(is_positive.float().flatten(0, 1), evidence.shape[1:])
    blank = pool(unknown.float().flatten(0, 1), evidence.shape[1:])
    where = functional.binary_cross_entropy_with_logits(
        evidence, cells, pos_weight=evidence.new_tensor(10.0), reduction="none"
    )
    counted = ((blank == 0) | (cells > 0)).float()
    total: Tensor = (
        (steps * usable).sum() / usable.sum().clamp_min(1)
        + 0.5 * (exam * decided).sum() / decided.sum().clamp_min(1)
        + (where * counted).sum() / counted.sum().clamp_min(1)
    )
    return total


def image_loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute error of the image (batch, step, channel, y, x) that a network makes of `x`."""
    out = network(x)
    return functional.l1_loss((out[0] if isinstance(out, tuple | list) else out).float(), y)
