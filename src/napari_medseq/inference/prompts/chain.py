"""Beyond the outermost painted slices: what was found near them is taken as painted, and the object is carried on from there.

The network is surest near a painted slice. So the answer a little beyond the outermost ones becomes a prompt of its own, round by
round, as trackers of objects in videos do it; slices between painted ones, and painted ones themselves, are not touched by it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_NOT = -20.0  # logit of pixels outside of the object
_LONG = 1.75  # radii; tubes continue further than that, and few organs do


def connected(logits: Tensor, painted: Tensor, annotated: Tensor) -> Tensor:
    """Logits (step, row, column) without pieces that hang on no painted voxel.

    Parameters
    ----------
    logits : Tensor
    painted : Tensor of bool, (step, row, column)
    annotated : Tensor of bool, (step,)
    """
    from scipy import ndimage

    inside = torch.where(annotated[:, None, None], painted, logits > 0)
    parts, count = ndimage.label(inside.numpy(), structure=np.ones((3, 3, 3)))
    loose = np.ones(count + 1, bool)
    loose[parts[painted.numpy()]] = loose[0] = False
    return logits.masked_fill(torch.from_numpy(loose[parts]), _NOT) if loose.any() else logits


def is_long(logits: Tensor, painted: Tensor, annotated: Tensor, gap: float) -> bool:
    """Whether an object continues for more than `_LONG` radii beyond its outermost annotated steps, so that it is followed as it is.

    Parameters
    ----------
    logits : Tensor, (step, row, column)
    painted : Tensor of bool, (step, row, column)
    annotated : Tensor of bool, (step,)
    gap : float
        Distance from step to step in window pixels.
    """
    return steps_beyond(connected(logits, painted, annotated), annotated) * gap > _LONG * _radius(painted)


def _radius(painted: Tensor) -> float:
    return float((painted.flatten(1).sum(1).max() / torch.pi).sqrt())


def steps_of_a_round(painted: Tensor, gap: float, reach: float) -> int:
    """How many steps each round goes further: `reach` radii of the largest painted shape, one step at least.

    Parameters
    ----------
    painted : Tensor of bool, (step, row, column)
    gap : float
        Distance from step to step in window pixels.
    reach : float
    """
    return max(1, round(reach * _radius(painted) / gap))


def steps_beyond(logits: Tensor, annotated: Tensor) -> int:
    """How many steps beyond the outermost annotated ones something is found, on the side on which it reaches further.

    Parameters
    ----------
    logits : Tensor, (step, row, column)
    annotated : Tensor of bool, (step,)
    """
    there, steps = (logits > 0).flatten(1).any(1).nonzero()[:, 0], annotated.nonzero()[:, 0]
    return max(int(steps[0] - there[0]), int(there[-1] - steps[-1]), 0) if len(there) else 0


def carried_on(logits: Tensor, painted: Tensor, annotated: Tensor, beyond: int) -> tuple[Tensor, Tensor] | None:
    """The prompts of the next round and their steps; None if the object does not continue.

    Parameters
    ----------
    logits : Tensor, (step, row, column)
        Logits of this round.
    painted : Tensor of bool, (step, row, column)
    annotated : Tensor of bool, (step,)
        Prompted steps of this round.
    beyond : int
        How many steps beyond the outermost ones of this round.
    """
    steps = annotated.nonzero()[:, 0]
    inside = connected(logits, painted, annotated) > 0
    more = [int(s) for s in (steps[0] - beyond, steps[-1] + beyond) if 0 <= s < len(annotated) and inside[s].any()]
    if not more:
        return None
    painted, annotated = painted.clone(), annotated.clone()
    painted[more], annotated[more] = inside[more], True
    return painted, annotated
