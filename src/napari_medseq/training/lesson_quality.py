"""The quality of a taught model, estimated on painted slices that it did not see, and the reason why its training
ended."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import SettingsError
from napari_medseq.inference import segment
from napari_medseq.masks.overlap import Overlap
from napari_medseq.progress import Cancelled, Progress, check, part
from napari_medseq.sequence import ImageSequence
from napari_medseq.settings import checked
from napari_medseq.training.teaching import TeachSettings, teach
from napari_medseq.training.trainer import TrainingResult

#: parts into which the painted slices are divided: each is judged by a model that learned from the others
_FOLDS = 3
#: a thread that computes all the time gets all of a core; below this share of one, others take it away
_STARVED = 0.6


Values = NDArray[np.integer]


@dataclass(frozen=True)
class LessonQuality:
    """Dice of painted slices, each labelled by a model that did not see it.

    Attributes
    ----------
    dice : mapping of int to float
        Step, from 0, to the overlap of what was painted there and what was found, over all classes.
    folds : int
        How many models were taught for it, each for that part of the time.
    """

    dice: Mapping[int, float]
    folds: int

    @property
    def mean(self) -> float:
        """Mean Dice over the slices."""
        return float(np.mean(list(self.dice.values())))

    @property
    def worst(self) -> int:
        """The step with the lowest Dice."""
        return min(self.dice, key=lambda step: self.dice[step])

    def __str__(self) -> str:
        low, high = min(self.dice.values()), max(self.dice.values())
        slices = f"{len(self.dice)} painted slices, worst in slice {self.worst + 1}"
        return (
            f"Estimated Dice {self.mean:.2f} ({low:.2f} to {high:.2f} over {slices}), "
            f"each slice judged by a model that had not seen it and had learned for a {_share(self.folds)} of the time."
        )


def _share(folds: int) -> str:
    return {2: "half", 3: "third"}.get(folds, f"{folds}th")


def judge_lesson(
    image: ImageSequence,
    labels: ImageSequence,
    settings: TeachSettings | Mapping[str, object],
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> LessonQuality:
    """Estimate how good `teach` would be with these settings: the painted slices are cross-validated.

    The slices with a label are divided into three parts (two, where two are painted). For each part a model is taught from the others,
    for a share of the minutes, and labels it. It takes as long as teaching once; nothing is kept.

    Parameters
    ----------
    image, labels
        As for `teach`.
    settings : TeachSettings or mapping
    progress, cancelled : callable, optional

    Raises
    ------
    SettingsError
        If fewer than two slices are painted.
    OperationCancelled
        When `cancelled` says so.
    """
    s = checked(TeachSettings, settings)
    truth = _by_step(labels, image)
    painted = [k for k in range(len(truth)) if truth[k].any()]
    looked_at = set(painted) | set(s.steps or ())
    if len(painted) < 2:
        raise SettingsError("Quality is estimated from two painted slices on. Paint another one, or go without.")
    folds = min(_FOLDS, len(painted))
    dice: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as place:
        for k in range(folds):
            check(cancelled)
            held_out = painted[k::folds]
            remaining = _without(labels, image, held_out)
            fold_settings = s.model_copy(
                update={
                    "out": str(Path(place) / f"fold-{k}"),
                    "steps": tuple(sorted(looked_at - set(held_out))),
                    "minutes": None if s.minutes is None else s.minutes / folds,
                }
            )
            now = part(progress, k / folds, (k + 1) / folds, f"estimating quality, {k + 1} of {folds}: ")
            taught = teach(image, remaining, fold_settings, progress=part(now, 0.0, 0.9), cancelled=cancelled)
            segmentation = segment(
                image, taught.model, device=s.device, progress=part(now, 0.9, 1.0), cancelled=cancelled
            )
            answer = _by_step(segmentation.labels, image)
            dice |= {step: _dice(answer[step], truth[step]) for step in held_out}
    return LessonQuality(dict(sorted(dice.items())), folds)


def _by_step(labels: ImageSequence, image: ImageSequence) -> Values:
    return np.moveaxis(np.asarray(labels.data), labels.axis(image.series_axis), 0)


def _without(labels: ImageSequence, image: ImageSequence, steps: Sequence[int]) -> ImageSequence:
    data = np.array(labels.data)
    np.moveaxis(data, labels.axis(image.series_axis), 0)[list(steps)] = 0
    return labels.replace(data=data)


def _dice(predicted: Values, truth: Values) -> float:
    """Mean Dice over the classes that are painted in a step."""
    painted_values = [v for v in np.unique(truth).tolist() if v > 0]
    return float(np.mean([Overlap.of(predicted == value, truth == value).dice for value in painted_values]))


@dataclass
class Pace:
    """How much processor time this process got since it was made.

    Attributes
    ----------
    wall, cpu : float
        Seconds on the clock, and of computing, at the beginning.
    """

    wall: float = field(default_factory=time.monotonic)
    cpu: float = field(default_factory=time.process_time)

    @property
    def share(self) -> float:
        """Seconds of computing for each second on the clock: 1 where one core computed all the time."""
        return (time.process_time() - self.cpu) / max(time.monotonic() - self.wall, 1e-9)

    @property
    def is_starved(self) -> bool:
        """Whether other programs took so much of the processor that training got less than one core would give."""
        return self.share < _STARVED


def why_it_ended(
    result: TrainingResult, settings: TeachSettings | Mapping[str, object], pace: Pace | None = None
) -> str:
    """Why a lesson's training ended, in a sentence; with `pace` also whether the computer had time for it.

    Parameters
    ----------
    result : TrainingResult
        Result of `teach`.
    settings : TeachSettings or mapping
        The settings that it was called with.
    pace : Pace, optional
        A pace that was made before the call.
    """
    s = checked(TeachSettings, settings)
    iterations_done = int(result.curve["iteration"].iloc[-1]) if len(result.curve) else 0
    if iterations_done >= s.iterations or s.minutes is None:
        text = f"Training ended after all of its {s.iterations} rounds."
    else:
        spent = f"its {s.minutes:g} minutes were over"
        text = f"Training ended because {spent}, after {iterations_done} of {s.iterations} rounds: more minutes may make it better."
    if pace is not None and pace.is_starved:
        text += f" Other programs kept the processor busy: training got {pace.share:.0%} of one core. Close them, and teach again."
    return text
