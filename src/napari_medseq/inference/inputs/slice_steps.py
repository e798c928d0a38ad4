"""Thin slices as steps that lie as far apart as those a network learned from, and its probabilities back at the slices.

A network with a recurrence along slices has learned one distance between them. Of thinner slices it sees averages, as a scanner with
thicker ones would have measured them, and its probabilities are interpolated along the axis before they become labels. The slice at which
the
averages begin is arbitrary, so there are two rows of them, half a step apart, whose probabilities are averaged. Both directions hold only
the slices or steps that the next one needs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_medseq.inference.inputs.frame import Framing
from napari_medseq.inference.settings import InferenceSettings
from napari_medseq.sequence import SPACE, ImageSequence


@dataclass(frozen=True)
class SliceSteps:
    """A row of steps along an axis of slices.

    Attributes
    ----------
    slices, steps : int
        How many there are of each.
    width : float
        Slices that a step is as wide as, and as far from the next one; at least 1.
    first : float
        The centre of the first step, in slices from the outer border of the first slice.
    """

    slices: int
    steps: int
    width: float
    first: float

    def weights(self, step: int) -> tuple[int, NDArray[np.float32]]:
        """The first slice that a step is the average of, and the shares of the slices from there on, which sum to one."""
        centre = self.first + step * self.width
        low, high = max(0.0, centre - self.width / 2), min(float(self.slices), centre + self.width / 2)
        first, stop = int(low + _TINY), int(np.ceil(high - _TINY))
        at = np.arange(first, stop)
        covered = np.minimum(at + 1, high) - np.maximum(at, low)
        return first, (covered / covered.sum()).astype(np.float32)

    def averaged(self, slices: Iterable[Tensor]) -> Iterator[Tensor]:
        """The steps, of slices that come one after the other."""
        source, held, number = iter(slices), deque[Tensor](), 0  # the number of the first slice held
        for step in range(self.steps):
            first, shares = self.weights(step)
            for _ in range(min(first - number, len(held))):
                held.popleft()
                number += 1
            while number + len(held) < first + len(shares):
                held.append(next(source))
            total = held[0] * float(shares[0])
            for k in range(1, len(shares)):
                total = total + held[k] * float(shares[k])
            yield total

    def interpolated(self, steps: Iterable[Tensor]) -> Iterator[Tensor]:
        """What is known of steps that come one after the other, at each slice: linear, and beyond the outermost steps as there."""
        source, number = iter(steps), 0
        before = next(source)
        after = next(source, before)
        for k in range(self.slices):
            at = min(max(0.0, (k + 0.5 - self.first) / self.width), self.steps - 1.0)
            while at > number + 1:
                before, after, number = after, next(source), number + 1
            yield before * (1 - (at - number)) + after * (at - number)

    def times(self, of_slices: Sequence[float]) -> tuple[float, ...]:
        """Where the steps lie, in the unit in which the places of the slices are given."""
        each = map(self.weights, range(self.steps))
        return tuple(float(np.dot(shares, of_slices[first : first + len(shares)])) for first, shares in each)


def are_averaged(image: ImageSequence, axis: str, settings: InferenceSettings) -> bool:
    """Whether the network sees averages of an image's slices along an axis; see `rows_of_steps`."""
    if settings.step_mm is None or settings.along not in ("slices", "z") or axis not in SPACE or not image.oriented:
        return False
    return settings.step_mm / image.spacing[axis] >= THIN


def rows_of_steps(image: ImageSequence, framing: Framing, settings: InferenceSettings) -> tuple[SliceSteps, ...]:
    """The two rows of steps for an image of thin slices; none where slices are taken as they are.

    They are taken as they are where the bundle names no distance (`InferenceSettings.step_mm`), the image's own is unknown, its steps
    are not slices, or they do not lie much closer than those of the training.
    """
    axis = framing.axes[0]
    if not are_averaged(image, axis, settings):
        return ()
    assert settings.step_mm is not None
    steps = max(1, round(framing.steps * image.spacing[axis] / settings.step_mm))
    width = framing.steps / steps
    return (
        SliceSteps(framing.steps, steps, width, width / 2),
        SliceSteps(framing.steps, steps + 1, width, 0.0),
    )


def notes_of_image(image: ImageSequence, framing: Framing, settings: InferenceSettings, model: str) -> list[str]:
    """The doubts of an image, without its padding, for a model with these settings, each warned of once."""
    if settings.doubt is None:
        return []
    return settings.doubt.of_image(image, model, averaged=are_averaged(image, framing.axes[0], settings))


#: so many times as close as those of the training slices are averaged; at 1.25 and 1.33 times two rows gained nothing on three patients
THIN = 1.5
#: parts of a slice below this are errors of rounding
_TINY = 1e-9
