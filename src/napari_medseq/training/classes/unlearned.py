"""A warning where a classifier of exams learned nothing: its loss hardly fell below that of an answer given without the image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from napari_medseq.errors import warn
from napari_medseq.models.targets import Target
from napari_medseq.training.loops.losses import STEP_WEIGHT

#: share of the loss without any image, above which the images taught nothing; the phase of the heart in one processor minute, which no
#: method told from chance, ended at 0.99, the size of nodules at 0.66 (benchmarks/exam_classes.py)
_HARDLY = 0.95
_END = 0.2  # share of the iterations whose mean is the loss at the end


def loss_of_shares(answers: Tensor, weights: Tensor, kind: Target) -> float:
    """`classification_loss` of a network that answers every exam, and every step, with the shares of the classes: their entropy.

    Parameters
    ----------
    answers : Tensor, shape (exam, class)
        0 and 1, NaN where unknown.
    weights : Tensor, shape (exam,)
        How often each exam is drawn.
    kind : {"multilabel", "exclusive", "ordinal"}
    """
    known = weights[:, None] * answers.isfinite()
    share = (answers.nan_to_num(0.0) * known).sum(0) / known.sum(0).clamp_min(torch.finfo(torch.float32).tiny)
    entropy = torch.special.entr(share).sum()
    if kind == "multilabel":  # the mean over questions, each with yes and no
        entropy = (torch.special.entr(share) + torch.special.entr(1 - share)).mean()
    return (1 + STEP_WEIGHT) * float(entropy)


def unlearned_of_steps(shares: Tensor, weights: Tensor) -> float:
    """`loss_of_steps` of a network that answers each step with every class alike, and each exam with the mean share of the classes.

    Parameters
    ----------
    shares : Tensor, shape (exam, class)
        Of the steps of each exam.
    weights : Tensor, shape (exam,)
        How often each exam is drawn.
    """
    mean = (shares * weights[:, None]).sum(0) / weights.sum()
    return math.log(shares.shape[1]) + STEP_WEIGHT * float(torch.special.entr(mean).sum())


def warn_if_unlearned(losses: Sequence[float], reference: float, advice: str) -> None:
    """Warn where the losses of a training end close to the `reference`, the loss without any image.

    Parameters
    ----------
    losses : sequence of float
        The loss of each iteration.
    reference : float
        See `loss_of_shares`.
    advice : str
        What to do, after a semicolon.
    """
    if not losses or reference <= 0:
        return
    end = float(np.mean(losses[-max(1, round(_END * len(losses))) :]))
    if end > _HARDLY * reference:
        warn(
            f"The classifier learned next to nothing: the loss of its training ended at {end:.2f}, and answering with the shares of the "
            f"classes gives {reference:.2f}. Either the time did not suffice, or the images do not show the classes; {advice}."
        )
