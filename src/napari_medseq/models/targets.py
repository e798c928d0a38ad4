"""The relation between a classifier's classes, which decides how logits become probabilities and what the loss is.

Each class has one logit, one probability and one column of the truth; an unknown truth is NaN.

* "multilabel": each class is a yes/no question of its own (sigmoid);
* "exclusive": exactly one class is true (softmax);
* "ordinal": exactly one is true, and they have an order (grades), see `OrdinalHead` (softmax).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medseq.errors import ModelError

Target = Literal["multilabel", "exclusive", "ordinal"]


class OrdinalHead(nn.Module):
    """Log-probabilities of ordered classes from one score (proportional odds; McCullagh 1980, J R Stat Soc B 42, eq. 2.1).

    ``P(class ≤ k) = σ(b_k - s)`` with a score s that is linear in the features and ascending cut points b, so that a feature
    that speaks for a higher grade speaks so at every grade.

    Parameters
    ----------
    features : int
    classes : int
        At least 2.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise ModelError(f"An ordinal target needs 2 classes or more, not {classes}.")
        self.score = nn.Linear(features, 1)
        self.first = nn.Parameter(torch.tensor(1.0 - classes / 2))
        self.widths = nn.Parameter(torch.full((classes - 2,), 0.54))  # softplus(0.54) = 1

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities (…, class), which are logits too: their softmax is what they are the logarithm of."""
        s: Tensor = self.score(x)
        width = functional.softplus(self.widths)
        cuts = torch.cat([self.first[None], self.first + width.cumsum(0)])
        below = functional.logsigmoid(cuts - s)  # log P(class ≤ k), k up to the last but one
        above = functional.logsigmoid(s - cuts)
        # σ(a) - σ(b) = σ(a) σ(-b) (1 - exp(b - a)), in logarithms
        between = below[..., 1:] + above[..., :-1] + torch.log(-torch.expm1(-width))
        return torch.cat([below[..., :1], between, above[..., -1:]], -1)


def head(features: int, classes: int, target: Target) -> nn.Module:
    """The layer that gives one logit per class.

    Raises
    ------
    ModelError
        If the target is not known.
    """
    if target not in ("multilabel", "exclusive", "ordinal"):
        raise ModelError(f"target {target!r} is not known; choose from multilabel, exclusive and ordinal.")
    return OrdinalHead(features, classes) if target == "ordinal" else nn.Linear(features, classes)


def probabilities(logits: Tensor, target: Target) -> Tensor:
    """Probabilities (…, class) from logits (…, class)."""
    return logits.sigmoid() if target == "multilabel" else logits.softmax(-1)


def loss(logits: Tensor, truth: Tensor, target: Target) -> Tensor:
    """Mean negative log-likelihood of the known answers.

    Parameters
    ----------
    logits : Tensor, shape (…, class)
    truth : Tensor, shape (…, class)
        0 and 1, NaN where unknown; of exclusive and ordinal classes one is 1, or shares add up to 1.
    target : {"multilabel", "exclusive", "ordinal"}

    Returns
    -------
    Tensor, a scalar
        0 where nothing is known.
    """
    logits, is_known = logits.float(), truth.isfinite()
    truth = truth.nan_to_num(0.0).float()
    if target == "multilabel":
        each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    else:
        is_known = is_known.all(-1)
        each = -(truth * logits.log_softmax(-1)).sum(-1)
    return (each * is_known).sum() / is_known.sum().clamp_min(1)
