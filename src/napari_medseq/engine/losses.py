"""Losses for sequences of labelled steps; voxels labelled -1 are unlabelled and count for nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def dice_ce(logits: Tensor, labels: Tensor, smooth: float = 1.0) -> Tensor:
    """Soft Dice over the whole batch (Milletari et al. 2016) plus cross-entropy, equally weighted as in nnU-Net.

    Parameters
    ----------
    logits : Tensor, shape (n, class, y, x)
    labels : Tensor, shape (n, y, x), int64
        Class per voxel, -1 where unlabelled.
    smooth : float
        Added to numerator and denominator, so that a batch without the class has a defined loss.
    """
    logits = logits.float()
    known = labels >= 0
    ce = functional.cross_entropy(logits, labels, ignore_index=-1, reduction="sum") / known.sum().clamp_min(1)
    p = logits.softmax(1) * known[:, None]
    truth = functional.one_hot(labels.clamp_min(0), logits.shape[1]).movedim(-1, 1) * known[:, None]
    axes = (0, 2, 3)
    overlap = (p * truth).sum(axes)[1:]
    total = (p.sum(axes) + truth.sum(axes))[1:]
    return ce + 1 - ((2 * overlap + smooth) / (total + smooth)).mean()


def deeply_supervised(heads: Sequence[Tensor], labels: Tensor) -> Tensor:
    """`dice_ce` of every head, coarse to fine, each half the weight of the next (Isensee et al. 2021), against shrunken labels."""
    total, weights = torch.zeros(()), 0.0
    for k, logits in enumerate(reversed(list(heads))):
        small = labels if k == 0 else labels[:, :: 2**k, :: 2**k]
        total = total + dice_ce(logits, small) * 0.5**k
        weights += 0.5**k
    return total / weights


def segmentation_loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """`deeply_supervised` of a `RecurrentUNet` on windows (batch, step, channel, y, x) and labels (batch, step, y, x)."""
    heads = network(x, every_head=True)
    return deeply_supervised([h.flatten(0, 1) for h in heads], y.flatten(0, 1))


def classification_loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy per step, per window and on the evidence map of a `SequenceClassifier`.

    The question is whether there is any labelled voxel. A step counts as positive from four labelled pixels on; one to
    three, which experts leave behind as specks, count for nothing. The map's target is the labels' maximum in each of its
    cells; its positives weigh ten times, since a lesion fills few cells.
    """
    logits = network(x)
    pixels = (y > 0).flatten(2).sum(2)
    known = ((pixels == 0) | (pixels >= 4)).float()
    truth = (pixels >= 4).float()
    steps = functional.binary_cross_entropy_with_logits(logits.steps[..., 0].float(), truth, reduction="none")
    exam = functional.binary_cross_entropy_with_logits(logits.exam[:, 0].float(), truth.amax(1))
    evidence = logits.evidence[:, :, 0].float().flatten(0, 1)
    cells = functional.adaptive_max_pool2d((y > 0).float().flatten(0, 1), evidence.shape[-2:])
    where = functional.binary_cross_entropy_with_logits(evidence, cells, pos_weight=evidence.new_tensor(10.0))
    return (steps * known).sum() / known.sum().clamp_min(1) + 0.5 * exam + where
