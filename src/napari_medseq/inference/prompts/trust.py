"""How much the interpolated shape counts beside the network's answer: judged on painted slices that are hidden.

Where an image shows no border, as between a muscle and bowel of nearly its density, the network loses the object that interpolated outlines
keep. Whether that is so can be seen: every second painted slice between the outermost ones is hidden, and the network and the shape
interpolated from the others are compared with what is painted there. Gaps are twice as wide then, which is harder for the shape than for
the network; so the shape counts only where it is clearly needed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_medseq.masks.overlap import Overlap

_LEAST = 3  # least number of steps that show the object
_FAR = 8.0  # pixels of the window; beyond them the interpolated shape is as sure as it gets
#: logits per pixel of the interpolated shape's signed distance that are tried
WEIGHTS = (0.15, 0.3, 0.6, 1.2, 2.4)


def hidden_steps(painted: Tensor, annotated: Tensor) -> list[int]:
    """Every second step that shows the object, between the outermost two; none if it is shown on fewer than three.

    Parameters
    ----------
    painted : Tensor of bool, (step, row, column)
    annotated : Tensor of bool, (step,)
    """
    shown: list[int] = (annotated & painted.flatten(1).any(1)).nonzero()[:, 0].tolist()
    return shown[1:-1:2] if len(shown) >= _LEAST else []


def shape_weight(logits: Tensor, distance: Tensor, painted: Tensor, gain: float) -> float:
    """The weight, out of `WEIGHTS`, of the interpolated shape with the best Dice on hidden steps; 0 where none gains enough.

    Parameters
    ----------
    logits : Tensor, (hidden step, row, column)
        The network's answer, from the other steps.
    distance : Tensor, (hidden step, row, column)
        Signed distance of the shape interpolated from the other steps, in pixels.
    painted : Tensor of bool, (hidden step, row, column)
    gain : float
        The gain in Dice over the network alone that is needed.
    """
    truth = painted.numpy()
    scores = [Overlap.of((with_shape(logits, distance, w) > 0).numpy(), truth).dice for w in (0.0, *WEIGHTS)]
    best = max(range(len(scores)), key=scores.__getitem__)
    return (0.0, *WEIGHTS)[best] if scores[best] - scores[0] > gain else 0.0


def with_shape(logits: Tensor, distance: Tensor, weight: float) -> Tensor:
    """Logits and `weight` times the signed distance of the interpolated shape, in pixels."""
    return logits + weight * torch.clamp(distance, -_FAR, _FAR)
