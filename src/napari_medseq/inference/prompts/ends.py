"""Where an evenly painted object ends: about half a gap beyond its outermost painted slices.

A person who paints every third slice of an object from end to end has shown where it ends: if it continued for another whole gap, the next
slice would be painted, too. A network that looks at the image alone carries the object on into what looks alike: a ventricle into the
atrium, a muscle into its tendon. One or two slices, neighbouring slices and uneven ones, as corrections leave them, do not show where
the ends are.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LEAST = 3  # least number of painted slices
#: largest ratio of the widest gap to the narrowest; with four slices or more one step of rounding is allowed in any case
_EVEN = 1.5
_STEPS = 1.5  # least mean number of steps from painted slice to painted slice: neighbouring slices are corrections
#: painted slices from which on it suffices that not all are neighbours, as in an object of six or seven slices
_MANY = 5
_COVERED = 1.5  # least distance of the outermost painted slices, in radii of the object
_OVER = 8.0  # fall of the logits from which on hardly any network is sure enough to contradict
#: where the object begins to end, in gaps, and by how much its logits fall per gap from there on; chosen on 76 objects of 26
#: patients (`benchmarks/propagate_cases.py` leaves them out of its tables) among 0.25 to 0.5 and 8 to 30; a steeper fall, and less to be
#: covered, gained on 56 of them and lost on others: of three painted slices the one exactly half a gap beyond often shows the object
START, FALL = 0.4, 30.0


def beyond_even_ends(painted: Tensor, annotated: Tensor, gap: float) -> Tensor:
    """By how much the logits of each step fall because the object was painted evenly, (step,); zeros where it was not.

    Nothing falls beyond an end that an empty annotated step already marks.

    Parameters
    ----------
    painted : Tensor of bool, (step, row, column)
        What is painted, in the window.
    annotated : Tensor of bool, (step,)
    gap : float
        Distance from step to step in window pixels; 0 for frames and visits, which have no ends in space.
    """
    fall = torch.zeros(len(annotated))
    area = painted.flatten(1).sum(1).cpu().numpy()
    steps = np.flatnonzero(area)
    if gap <= 0 or len(steps) < _LEAST:
        return fall
    gaps = np.diff(steps)
    radius = float(np.sqrt(area.max() / np.pi))
    covered = (steps[-1] - steps[0]) * gap
    apart = gaps.mean() >= _STEPS or (len(steps) >= _MANY and gaps.max() > 1)
    if not (_are_even(gaps) and apart and covered >= _COVERED * radius):
        return fall
    index, annotated_steps = np.arange(len(annotated)), np.flatnonzero(annotated.cpu().numpy())
    away = np.zeros(len(index))
    if annotated_steps[0] == steps[0]:
        away = np.maximum(away, steps[0] - index)
    if annotated_steps[-1] == steps[-1]:
        away = np.maximum(away, index - steps[-1])
    return torch.from_numpy(FALL * np.maximum(away / gaps.mean() - START, 0)).float()


def ends_within(fall: Tensor, annotated: Tensor, beyond: int) -> bool:
    """Whether an object ends within `beyond` steps of its outermost annotated ones, because it was painted evenly.

    Parameters
    ----------
    fall : Tensor, (step, …)
        See `beyond_even_ends`.
    annotated : Tensor of bool, (step,)
    beyond : int
    """
    steps = annotated.nonzero()[:, 0]
    further = [int(s) for s in (steps[0] - beyond - 1, steps[-1] + beyond + 1) if 0 <= s < len(fall)]
    return bool((fall.flatten(1).amax(1)[further] > _OVER).all() and fall.any())


def _are_even(gaps: NDArray[np.intp]) -> bool:
    rounded = len(gaps) > _LEAST - 1 and gaps.max() - gaps.min() <= 1
    return bool(rounded or gaps.max() <= _EVEN * gaps.min())
