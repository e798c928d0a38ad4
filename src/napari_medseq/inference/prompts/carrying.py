"""Objects from their painted steps to all others: windows are filled, carried together where they are alike, and grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_medseq.inference.prompts.chain import carried_on, is_long, steps_beyond, steps_of_a_round
from napari_medseq.inference.prompts.contrast import limit
from napari_medseq.inference.prompts.ends import beyond_even_ends, ends_within
from napari_medseq.inference.prompts.objects import PromptedObject
from napari_medseq.inference.prompts.passes import Carry
from napari_medseq.inference.prompts.planes import Planes
from napari_medseq.inference.prompts.trust import hidden_steps, shape_weight, with_shape
from napari_medseq.inference.prompts.window import (
    Growth,
    PromptSettings,
    Window,
    first_growth,
    grown,
    window_around,
)
from napari_medseq.models.prompting import PromptedSequence
from napari_medseq.progress import Cancelled, Progress, check

_HELD = 128 << 20  # bytes of windows that are held at once
#: bytes per step and pixel of the window of the object that is carried, beside the features of the network
KEPT = 52
_SEEN = 8  # steps on either side of a step that influence the network's answer there
#: bytes that windows take that run as one batch: a processor gains nothing by more than keeps it busy
_TOGETHER, _TOGETHER_CPU = 256 << 20, 16 << 20


@dataclass(frozen=True, eq=False)
class CarriedObject:
    """An object on every step of its window.

    Attributes
    ----------
    object : PromptedObject
    window : Window
    painted : Tensor of bool, (step, row, column)
        What is painted, in the window.
    logits : Tensor, (step, row, column)
        Logits of the window, on the CPU.
    at_first : Tensor, (step, row, column)
        What the network said at first, before the object was carried on from its own answers or ended for being painted evenly.
    """

    object: PromptedObject
    window: Window
    painted: Tensor
    logits: Tensor
    at_first: Tensor

    @property
    def annotated(self) -> Tensor:
        """Which steps of the window are annotated, bool."""
        return _flags(self.object, self.window)


def _flags(one: PromptedObject, window: Window) -> Tensor:
    flags = torch.zeros(window.shape[0], dtype=torch.bool)
    flags[torch.from_numpy(one.steps - window.steps[0])] = True
    return flags


@dataclass(frozen=True, eq=False)
class FilledWindow:
    """A window and what lies in it.

    Attributes
    ----------
    object : PromptedObject
    growth : Growth
        How far the window reaches beyond what is painted.
    window : Window
    image : Tensor, (step, row, column)
    painted : Tensor of bool, (step, row, column)
        False on steps that are not annotated.
    annotated : Tensor of bool, (step,)
    """

    object: PromptedObject
    growth: Growth
    window: Window
    image: Tensor
    painted: Tensor
    annotated: Tensor

    @classmethod
    def blank(cls, one: PromptedObject, growth: Growth, window: Window) -> FilledWindow:
        """A window of an object into which nothing was read yet."""
        image, painted = torch.empty(window.shape), torch.zeros(window.shape, dtype=torch.bool)
        return cls(one, growth, window, image, painted, _flags(one, window))

    def part(self, cut: slice) -> FilledWindow:
        """Some of its steps."""
        start = self.window.steps[0]
        window = replace(self.window, steps=(start + cut.start, start + cut.stop))
        image, painted, annotated = self.image[cut], self.painted[cut], self.annotated[cut]
        return replace(self, window=window, image=image, painted=painted, annotated=annotated)


def fill(
    windows: Sequence[FilledWindow],
    planes: Planes,
    labels: NDArray[np.generic],
    contrast: float | None,
    cancelled: Cancelled | None = None,
) -> None:
    """Read the image and what is painted into windows, each plane once.

    Parameters
    ----------
    windows : sequence of FilledWindow
        Their tensors are written to.
    planes : Planes
    labels : ndarray, (*across, step, row, column)
    contrast : float or None
        Deviations from the object's median at which intensities end; see `prompts.contrast.limit`.
    cancelled : callable, optional
    """
    wanted: dict[tuple[tuple[int, ...], int], list[FilledWindow]] = {}
    for filled in windows:
        for step in range(*filled.window.steps):
            wanted.setdefault((filled.object.place, step), []).append(filled)
    for (place, step), several in wanted.items():
        check(cancelled)
        plane = planes.read(place, step)
        for filled in several:
            at = step - filled.window.steps[0]
            filled.image[at] = filled.window.small(plane)
            if filled.annotated[at]:
                shown = (labels[(*place, step)] == filled.object.value) & filled.object.painted
                filled.painted[at] = filled.window.small_mask(shown)
    if contrast is not None:
        for filled in windows:
            limit(filled.image, filled.painted, filled.annotated, contrast)


@dataclass(frozen=True, eq=False)
class Carrier:
    """Carries objects: a network on a device, over the planes of an image.

    Attributes
    ----------
    planes : Planes
    labels : ndarray, (*across, step, row, column)
        What is painted.
    network : Carry
        The network as `prompts.passes.ready` returns it.
    settings : PromptSettings
    device : torch.device
    chunk : int or None
        Steps that go through a convolution together.
    progress, cancelled : callable, optional
    """

    planes: Planes
    labels: NDArray[np.generic]
    network: Carry
    settings: PromptSettings
    device: torch.device
    chunk: int | None = None
    progress: Progress | None = None
    cancelled: Cancelled | None = None

    def carry(self, objects: Sequence[PromptedObject], take: Callable[[CarriedObject], None]) -> None:
        """Hand each object to `take` once, in any order; those that are annotated throughout are left out.

        Nothing of an object is kept here after that, so that the next one finds its memory free.
        """
        open_ = [o for o in objects if len(o.steps) < o.within[1] - o.within[0]]
        pending = [(o, first_growth(o.painted, self.planes.spacing, self.planes.steps)) for o in open_]
        total, finished = len(pending), count(1)

        def give(found: CarriedObject) -> None:
            take(found)
            if self.progress is not None:
                self.progress(next(finished), total, f"propagating in {self.planes.image.name}")

        while pending:
            held = self._first_portion(pending)
            pending = pending[len(held) :]
            windows = [FilledWindow.blank(*one) for one in held]
            fill(windows, self.planes, self.labels, self.settings.contrast, self.cancelled)
            for group in self._alike(windows):
                pending += self._group(group, give)

    def _group(
        self, group: Sequence[FilledWindow], take: Callable[[CarriedObject], None]
    ) -> list[tuple[PromptedObject, Growth]]:
        """Hand the objects that lie within their windows to `take`; the others, each with its next growth, come back."""
        further = []
        for filled, said in zip(group, self._logits(group), strict=True):
            more = self._one(filled, said, take)
            if more is not None:
                further.append((filled.object, more))
        return further

    def _one(self, filled: FilledWindow, said: Tensor, take: Callable[[CarriedObject], None]) -> Growth | None:
        """Hand an object to `take`, or say how far its window has to grow."""
        fall = self._fall(filled)
        at_first = said - fall if fall.any() else said
        more = self._grown(filled, at_first)
        if more is not None:
            return more
        logits = self._carried_on(filled, self._with_shape(filled, at_first), fall)
        more = self._grown(filled, logits)
        if more is None:
            take(CarriedObject(filled.object, filled.window, filled.painted, logits, said))
        return more

    def _first_portion(
        self, pending: Sequence[tuple[PromptedObject, Growth]]
    ) -> list[tuple[PromptedObject, Growth, Window]]:
        """As many objects as have windows that fit into memory at once, but at least one."""
        room, held, planes = _HELD, list[tuple[PromptedObject, Growth, Window]](), self.planes
        for one, growth in pending:
            window = window_around(one.painted, one.steps, planes.spacing, one.within, growth, self.settings)
            room -= 5 * int(np.prod(window.shape))  # image and what is painted, bytes
            if held and room < 0:
                break
            held.append((one, growth, window))
        return held

    def _alike(self, windows: Sequence[FilledWindow]) -> Iterator[list[FilledWindow]]:
        """Windows of one shape together, as many as there is room for what they take while they are carried."""
        by_shape: dict[tuple[int, int, int], list[FilledWindow]] = {}
        for w in windows:
            by_shape.setdefault(w.window.shape, []).append(w)
        for (steps, *size), group in by_shape.items():
            each = steps * (self.network.bytes_per_step((size[0], size[1])) + KEPT * size[0] * size[1])
            room = _TOGETHER_CPU if self.device.type == "cpu" else _TOGETHER
            together = max(1, room // each)
            for k in range(0, len(group), together):
                yield group[k : k + together]

    def _gap(self, filled: FilledWindow) -> float:
        """From step to step in window pixels; 0 between frames."""
        return self.planes.spacing[0] / filled.window.pixel_mm

    def _logits(self, group: Sequence[FilledWindow]) -> Tensor:
        """Logits (window, step, row, column) of windows of one shape."""
        with torch.inference_mode():
            sequence = self._sequence(group)
        return self.network.logits(sequence, self.chunk, self.cancelled).cpu()

    def _sequence(self, group: Sequence[FilledWindow]) -> PromptedSequence:
        """The network's input of windows of one shape."""

        def stacked(name: str) -> Tensor:
            several: list[Tensor] = [getattr(w, name) for w in group]
            return (torch.stack(several) if len(several) > 1 else several[0][None]).to(self.device)

        gap = torch.tensor([self._gap(w) for w in group], device=self.device)
        horizon = self.settings.horizon_along(self.planes.spacing[0] > 0)
        return PromptedSequence.of(stacked("image"), stacked("painted"), stacked("annotated"), gap, horizon)

    def _with_shape(self, filled: FilledWindow, at_first: Tensor) -> Tensor:
        """The logits between the outermost painted steps, with the interpolated shape weighted as hidden steps show."""
        hidden = hidden_steps(filled.painted, filled.annotated)
        if self.settings.shape_gain is None or not hidden or not self._gap(filled):
            return at_first
        shown = filled.painted.flatten(1).any(1).nonzero()[:, 0]
        first, last = int(shown[0]), int(shown[-1]) + 1
        cut = slice(max(0, first - _SEEN), min(len(at_first), last + _SEEN))
        part = filled.part(cut)
        places = [h - cut.start for h in hidden]
        painted, annotated = part.painted.clone(), part.annotated.clone()
        painted[places], annotated[places] = False, False
        left = replace(part, painted=painted, annotated=annotated)
        answer, distance = self._logits([left])[0][places], self._shape([left])[places]
        weight = shape_weight(answer, distance, part.painted[places], self.settings.shape_gain)
        if not weight:
            return at_first
        logits = at_first.clone()
        shape = self._shape([part])[first - cut.start : last - cut.start]
        logits[first:last] = with_shape(logits[first:last], shape, weight)
        return logits

    def _shape(self, group: Sequence[FilledWindow]) -> Tensor:
        with torch.inference_mode():
            return self._sequence(group).prior()[0].cpu()

    def _fall(self, filled: FilledWindow) -> Tensor:
        """By how much logits fall because the object was painted evenly, (step, 1, 1)."""
        if not self.settings.even_ends:
            return torch.zeros(len(filled.annotated), 1, 1)
        return beyond_even_ends(filled.painted, filled.annotated, self._gap(filled))[:, None, None]

    def _carried_on(self, filled: FilledWindow, at_first: Tensor, fall: Tensor) -> Tensor:
        """The logits, in which those beyond the outermost painted slices continue what was found near them."""
        gap = self._gap(filled)
        if not gap or not self.settings.rounds or is_long(at_first, filled.painted, filled.annotated, gap):
            return at_first
        beyond = steps_of_a_round(filled.painted, gap, self.settings.reach)
        if ends_within(fall, filled.annotated, beyond):
            return at_first
        logits, round_ = at_first.clone(), filled
        for number in range(self.settings.rounds):
            further = carried_on(logits, round_.painted, round_.annotated, beyond)
            if further is None:
                break
            round_ = replace(round_, painted=further[0], annotated=further[1])
            if number < self.settings.rounds - 1:  # the next round looks no further
                self._update(logits, round_, fall, beyond)
        if round_ is not filled:
            self._update(logits, round_, fall, steps_beyond(torch.maximum(at_first, logits), round_.annotated))
        return logits.add_(at_first).div_(2)  # the rounds alone end some objects early, the first pass ends most

    def _update(self, logits: Tensor, round_: FilledWindow, fall: Tensor, reach: int) -> None:
        """Replace the logits beyond the outermost steps of a round, as far as they count for what is `reach` steps beyond."""
        steps = round_.annotated.nonzero()[:, 0]
        first, last = int(steps[0]), int(steps[-1]) + 1
        cut = slice(max(0, first - reach - _SEEN), min(len(logits), last + reach + _SEEN))
        found = self._logits([round_.part(cut)])[0] - fall[cut]
        logits[cut.start : first] = found[: first - cut.start]
        logits[last : cut.stop] = found[last - cut.start :]

    def _grown(self, filled: FilledWindow, logits: Tensor) -> Growth | None:
        inside = torch.where(filled.annotated[:, None, None], filled.painted, logits > 0)
        return grown(filled.growth, filled.window, inside, self.planes.size, filled.object.within)
