"""Simulated prompts for training: which steps a person paints, and how accurately."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_medseq.masks.interpolation import signed_distance
from napari_medseq.models.prompting import FAR

#: where in an object's extent steps are painted, where somebody paints them evenly
FRACTIONS = {3: (1 / 6, 1 / 2, 5 / 6), 5: (0.1, 0.3, 0.5, 0.7, 0.9)}
_LEAST = 6  # least pixels of a step that a person would paint


def even_steps(area: NDArray[np.float64], count: int) -> list[int]:
    """The largest step; or 3 or 5 evenly in the extent of the object, each on the nearest step that shows it."""
    filled = np.flatnonzero(area > 0)
    if count == 1:
        return [int(area.argmax())]
    targets = [filled[0] + f * (filled[-1] + 1 - filled[0]) - 0.5 for f in FRACTIONS[count]]
    return sorted({int(filled[np.abs(filled - w).argmin()]) for w in targets})


def painted_steps(
    area: NDArray[np.float64], rng: np.random.Generator, real: NDArray[np.bool_] | None = None
) -> list[int]:
    """One to five random steps of an object with these areas, sometimes with an empty one beyond an end; none if it is too small.

    Only of those that are `real`, if given.
    """
    real = np.ones(len(area), bool) if real is None else real
    area = np.where(real, area, 0)
    filled = np.flatnonzero(area >= _LEAST)
    if not filled.size:
        return []
    count = int(rng.choice([1, 2, 3, 4, 5], p=[0.34, 0.1, 0.28, 0.08, 0.2]))
    if count in (1, 3, 5) and rng.random() < 0.65:
        steps = even_steps(np.where(area >= _LEAST, area, 0), count)
    else:
        chance = np.sqrt(area[filled])
        steps = rng.choice(filled, min(count, len(filled)), replace=False, p=chance / chance.sum()).tolist()
    empty = np.flatnonzero(real & (area == 0))
    if empty.size and rng.random() < 0.12:
        steps += rng.choice(empty, min(len(empty), int(rng.integers(1, 3))), replace=False).tolist()
    return [int(s) for s in steps]


def hurried(mask: Tensor, share: float = 0.2) -> Tensor:
    """Masks (n, y, x) of which a share is too large or too small, wavy, or a coarse polygon; no shape vanishes."""
    n = len(mask)
    if not n:
        return mask
    device = mask.device
    kind = torch.where(torch.rand(n, device=device) < share, torch.randint(1, 4, (n,), device=device), 0)
    distance = signed_distance(mask).clamp(-FAR, FAR)
    thickness = distance.flatten(1).amax(1).clamp_min(1)
    change = (torch.rand(n, device=device) * 2 - 1) * (thickness * 0.3).clamp(0.5, 3)
    sized = distance + change[:, None, None] > 0
    noise = torch.randn(n, 1, 7, 7, device=device)
    noise = functional.interpolate(noise, size=mask.shape[1:], mode="bilinear", align_corners=True)[:, 0]
    wavy = distance + noise * (thickness * 0.2).clamp(0.4, 2)[:, None, None] > 0
    coarse = functional.avg_pool2d(mask.float()[:, None], 4)
    coarse = functional.interpolate(coarse, size=mask.shape[1:], mode="bilinear")[:, 0] > 0.5
    kind = kind[:, None, None]
    hurried_mask = torch.where(kind == 1, sized, torch.where(kind == 2, wavy, torch.where(kind == 3, coarse, mask)))
    return torch.where(hurried_mask.flatten(1).any(1)[:, None, None], hurried_mask, mask)
