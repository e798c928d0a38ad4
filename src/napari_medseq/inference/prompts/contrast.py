"""Intensities of a window limited to those near the painted object's own, so that its borders keep their contrast.

The network sees intensities in units of their spread in and around the painted shape. Where air lies beside a liver, that spread is ten
times the difference between liver and muscle, which is then lost. The network learned from windowed images, but people have CT in
Hounsfield units. Intensities far from the object's own can be limited without loss: they differ enough from it all the same.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from napari_medseq.models.prompting import RING

_LEAST = 0.1  # least limit, as a share of the window's spread; narrower ones are the object's noise
_FAR = 30.0  # deviations from the object beyond which nothing widens the window's spread: padding, metal
_NORMAL = 1.4826  # standard deviations of a normal distribution in its median absolute deviation


def limit(image: Tensor, painted: Tensor, annotated: Tensor, times: float) -> None:
    """Limit the intensities of an image to `times` a deviation on either side of the painted object's median.

    The deviation is the larger one of two: the object's own (1.4826 times its median absolute deviation), and the median distance of its
    surroundings (`napari_medseq.models.prompting.RING`) from its median. So the limits are wide where most of the surroundings are air,
    as they are around a lung nodule, and narrow where a part of them is. It is a tenth of the window's own spread at least, for which
    nothing counts as further than 30 deviations away: padding may have any value.

    Parameters
    ----------
    image : Tensor, (step, row, column)
        In any unit; it is written to, where something is painted and anything deviates.
    painted : Tensor of bool, (step, row, column)
    annotated : Tensor of bool, (step,)
    times : float
    """
    shown = annotated & painted.flatten(1).any(1)
    if not shown.any():
        return
    inside, values = painted[shown], image[shown]
    size = 2 * int(RING) + 1
    near = inside.float()[:, None]
    for sides in ((size, 1), (1, size)):  # a square's maximum is that of its rows' maxima, and this is quicker
        near = functional.max_pool2d(near, sides, 1, (sides[0] // 2, sides[1] // 2))
    own, around = values[inside], values[(near[:, 0] > 0) & ~inside]
    middle = own.median()
    deviation = _NORMAL * (own - middle).abs().median()
    if around.numel():
        deviation = torch.maximum(deviation, (around - middle).abs().median())
    whole = image.clamp(middle - _FAR * deviation, middle + _FAR * deviation) if deviation > 0 else image
    deviation = torch.maximum(deviation, _LEAST * whole.std())
    if deviation > 0:
        image.clamp_(middle - times * deviation, middle + times * deviation)
