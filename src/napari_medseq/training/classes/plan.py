"""The plan of a training that learns the class of whole exams, decided from their shapes and the time."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from napari_medseq.inference.doubts import Doubt
from napari_medseq.models.plain import Definition
from napari_medseq.training.automatic.kind import Kind, four_digits
from napari_medseq.training.automatic.plan_file import PlanFile
from napari_medseq.training.loops.augment import AugmentSettings

_VOXELS_PER_SECOND = 1_000_000.0  # learned per second and core by the network of the plan (1.4 million were measured)
_COARSE = 5.0  # factor on it where the first level halves the image (6.5 was measured)
_COARSE_FROM = 64  # pixels of the shorter side from which on the first level halves the image
_PASSES = 60.0  # how often every exam should be seen
#: voxels of an exam as the network sees it; more would fill the memory with the features that gradients need
_LARGEST_EXAM = 1_500_000
_SMALLEST_SIDE = 32  # pixels of the shorter side that the first level sees, or the second where the first halves
_BATCH_VOXELS = 800_000
_WIDTHS = (16, 32, 64, 96)
_RANGES = ("rotate_degrees", "move", "zoom", "stretch", "elastic", "bias", "gain", "shift", "gamma", "noise", "blur")
_SMALLEST_CELL = 4  # rows and columns of the coarsest level, at least
_SAME = 1.05  # ratio of pixel sizes under which they count as one
_SIDES = re.compile(r"\b(left|right|links|rechts|gauche|droite?|[lr])\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ExamShape:
    """The shape of an exam's foreground: steps, slices at each step, rows, columns and the size of its pixels in mm."""

    steps: int
    slices: int
    rows: int
    columns: int
    row_mm: float
    column_mm: float


class ClassPlan(PlanFile):
    """Everything that training and inference need to know to learn the class of whole exams.

    Attributes
    ----------
    channels, classes : tuple of str
        The channels of an exam, and the classes that are told apart.
    along : {"slices", "t"}
        What the sequence is: the slices of a volume, or frames.
    pixel_mm : float or None
        Size of the pixels that the network sees; None: each image's own.
    steps, slices : int
        Steps of a window, and slices at each of them where these are frames of volumes.
    size : (int, int)
        Rows and columns of a window.
    batch : int
        Exams that are learned from at once.
    widths : tuple of int
        Channels of the encoder's levels.
    coarse : bool
        Whether the first level halves the image, as the others do.
    neighbours : int
        Slices on each side that the network sees together with a slice.
    rnn : {"gru", "lstm", "transformer", "dense", "none"}
    dropout : float
    flip : float
        How often left and right are mirrored.
    augment : float
        How far images are turned, moved, zoomed, bent and recoloured: a factor on the ranges of `AugmentSettings`, which are made for
        outlines.
    rate : float
        Learning rate.
    trimmed : bool
        As in `InferenceSettings`.
    middle_mm : float or None
        As in `InferenceSettings`; never chosen without being asked for.
    step_mm : float or None
        As in `InferenceSettings`: the least distance of slices that was learned from.
    doubt : Doubt or None
        From where on an image is doubted.
    """

    task: Literal["classification"] = "classification"
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    along: Literal["slices", "t"]
    pixel_mm: float | None = Field(None, gt=0)
    steps: int = Field(ge=1)
    slices: int = Field(1, ge=1)
    size: tuple[int, int]
    batch: int = Field(4, ge=1)
    widths: tuple[int, ...] = _WIDTHS
    coarse: bool = False
    neighbours: int = Field(0, ge=0)
    rnn: Literal["gru", "lstm", "transformer", "dense", "none"] = "gru"
    dropout: float = Field(0.0, ge=0, lt=1)
    flip: float = Field(0.5, ge=0, le=1)
    augment: float = Field(0.4, ge=0, le=2)
    rate: float = Field(2e-3, gt=0)
    trimmed: bool = False
    middle_mm: float | None = Field(None, gt=0)
    step_mm: float | None = Field(None, gt=0)
    doubt: Doubt | None = None

    def of_kind(self, kind: Kind, settings: Mapping[str, object]) -> ClassPlan:
        """The plan with what all exams together say, but for what the settings do."""
        doubt = kind.doubt(values=False, always_there=False)
        step_mm = None if self.along == "t" or kind.step_mm is None else four_digits(kind.step_mm[0])
        found: dict[str, tuple[object, str]] = {"doubt": (doubt, kind.why(doubt))}
        if step_mm is not None:
            why = (
                f"no slices that were learned from lie less than {step_mm:.3g} mm apart: much thinner ones are averaged"
            )
            found["step_mm"] = (step_mm, why)
        found = {name: value for name, value in found.items() if name not in settings}
        reasons = {**self.reasons, **{name: why for name, (_, why) in found.items()}}
        return self.model_copy(update={**{name: value for name, (value, _) in found.items()}, "reasons": reasons})

    @property
    def inference(self) -> Definition:
        """How the network is to be run."""
        doubt = None if self.doubt is None else self.doubt.model_dump(mode="json")
        own: Definition = {"along": self.along, "pixel_mm": self.pixel_mm, "size": list(self.size)}
        return {**own, "trimmed": self.trimmed, "middle_mm": self.middle_mm, "step_mm": self.step_mm, "doubt": doubt}

    @property
    def augmentation(self) -> AugmentSettings:
        """How windows are changed: the ranges that outlines are learned with, times `augment`."""
        ranges = AugmentSettings().model_dump(include=set(_RANGES))
        return AugmentSettings(flip=self.flip, **{name: self.augment * value for name, value in ranges.items()})

    @property
    def definition(self) -> Definition:
        """The network of the plan."""
        blocks: Definition = {"_target_": "Blocks", "widths": list(self.widths), "coarse": True}
        return {
            "_target_": "SequenceClassifier",
            **({"encoder": blocks} if self.coarse else {}),
            "in_channels": len(self.channels),
            "classes": len(self.classes),
            "widths": list(self.widths),
            "neighbours": self.neighbours,
            "rnn": self.rnn,
            "hidden": 48,
            "dropout": self.dropout,
            "dimensions": 3 if self.slices > 1 else 2,
            "target": "exclusive",
        }


def make_class_plan(
    shapes: Sequence[ExamShape],
    exams: Mapping[str, int],
    *,
    channels: Sequence[str],
    along: Literal["slices", "t"],
    seconds: float,
    cores: int,
) -> ClassPlan:
    """Decide; each decision that takes more than a line is a function of its own, which returns what it chose and why.

    Parameters
    ----------
    shapes : sequence of ExamShape
        The shapes of the exams that were measured.
    exams : mapping of str to int
        Class → number of its exams.
    channels : sequence of str
    along : {"slices", "t"}
    seconds : float
        Time for training.
    cores : int
        Number of cores that compute together.
    """
    exam = _large_exam(shapes)
    coarse, why_coarse = _coarse(exam)
    halved = 2 if coarse else 1
    speed = _VOXELS_PER_SECOND * cores * (_COARSE if coarse else 1)
    factor, pixel_mm, why_pixel = _pixels(shapes, exam, sum(exams.values()), seconds * speed, halved)
    size, widths, stride = _levels(exam, factor, halved)
    pixels = exam.slices * size[0] * size[1]
    steps = min(exam.steps, max(1, int(_LARGEST_EXAM / pixels)))
    flip, why_flip = _flip(exams)
    return ClassPlan(
        channels=tuple(channels),
        classes=tuple(exams),
        along=along,
        pixel_mm=pixel_mm,
        steps=steps,
        slices=-(-exam.slices // stride) * stride if exam.slices > 1 else 1,
        size=size,
        batch=max(2, min(8, int(_BATCH_VOXELS * halved / (steps * pixels)))),
        widths=widths,
        coarse=coarse,
        neighbours=1 if along == "slices" and exam.steps > 2 else 0,
        rnn="none" if exam.steps == 1 else "gru",
        flip=flip,
        trimmed=True,
        reasons={
            "pixel_mm": why_pixel,
            **_why_sequence(exam, steps, along),
            "flip": why_flip,
            "coarse": why_coarse,
            "trimmed": "borders of one value are padding, which must not change the answer",
            "augment": "less than for outlines, since size and contrast may be what tells the classes apart",
            "dropout": "with it the loss of the training falls more slowly",
            "batch": "exams at once, each class as often as the others",
        },
    )


@dataclass(frozen=True, kw_only=True)
class _LargeExam:
    """What nearly all exams do not exceed (95th percentiles), in pixels of the median size."""

    steps: int
    slices: int
    rows: int
    columns: int
    pixel_mm: float

    @property
    def side(self) -> int:
        return min(self.rows, self.columns)

    @property
    def voxels(self) -> int:
        return self.steps * self.slices * self.rows * self.columns


def _large_exam(shapes: Sequence[ExamShape]) -> _LargeExam:
    own = float(np.median([s.row_mm for s in shapes]))
    return _LargeExam(
        steps=_most([s.steps for s in shapes]),
        slices=_most([s.slices for s in shapes]),
        rows=_most([s.rows * s.row_mm / own for s in shapes]),
        columns=_most([s.columns * s.column_mm / own for s in shapes]),
        pixel_mm=own,
    )


def _most(values: Sequence[float]) -> int:
    """What nearly all of the values do not exceed (their 95th percentile)."""
    return max(1, math.ceil(float(np.percentile(values, 95))))


def _coarse(exam: _LargeExam) -> tuple[bool, str]:
    """Whether the first level halves the image."""
    if exam.slices > 1:
        return False, "each step is a volume of few slices"
    if exam.side < _COARSE_FROM:
        return False, "the images are small"
    why = "its first level halves the image: several times as fast, so that the pixels can be finer in the same time"
    return True, why


def _pixels(
    shapes: Sequence[ExamShape], exam: _LargeExam, exams: int, voxels: float, halved: int
) -> tuple[float, float | None, str]:
    """How many times larger than the exams' own the network's pixels are, and their size in mm (None: each image's own).

    `voxels` can be learned in the time; every exam should be seen `_PASSES` times.
    """
    affordable = min(_LARGEST_EXAM, voxels / (_PASSES * exams))
    factor = math.sqrt(max(1.0, exam.voxels / affordable))
    factor = max(1.0, min(factor, exam.side / (_SMALLEST_SIDE * halved)))
    own = exam.pixel_mm
    pixel_mm = float(f"{own * factor:.3g}")
    if factor >= _SAME:
        why = (
            f"{own:.3g} mm would be {exam.voxels / 1e6:.2g} million voxels in each of {exams} exams; at this size "
            f"each can be seen about {_PASSES:.0f} times"
        )
        return factor, pixel_mm, why
    if all(max(v / own, own / v) < _SAME for s in shapes for v in (s.row_mm, s.column_mm)):
        return factor, None, "the images' own: there is time enough for all pixels"
    return factor, pixel_mm, "the images' pixels differ in size, and the network learns at one"


def _levels(exam: _LargeExam, factor: float, halved: int) -> tuple[tuple[int, int], tuple[int, ...], int]:
    """Rows and columns of a window, the widths of the levels, and the stride of all levels, which divides both."""
    rows, columns = math.ceil(exam.rows / factor), math.ceil(exam.columns / factor)
    levels = int(math.log2(max(1, min(rows, columns) / halved / _SMALLEST_CELL))) + 1
    widths = _WIDTHS[: max(2, min(len(_WIDTHS), levels))]
    stride = halved * 2 ** (len(widths) - 1)
    return (-(-rows // stride) * stride, -(-columns // stride) * stride), widths, stride


def _flip(exams: Mapping[str, int]) -> tuple[float, str]:
    """How often left and right are mirrored: never where the name of a class holds a side."""
    sided = next((name for name in exams if _SIDES.search(name.replace("_", " "))), None)
    if sided is not None:
        return 0.0, f"the class {sided} is told by its side, so nothing is mirrored"
    return 0.5, "left and right are taken to be alike for the classes"


def _why_sequence(exam: _LargeExam, steps: int, along: Literal["slices", "t"]) -> dict[str, str]:
    """Why the sequence is what it is, why a window has so many steps, and why there is a recurrence or none."""
    what = "frames" if along == "t" else "slices"
    return {
        "along": "the exams have frames, which follow each other in time"
        if along == "t"
        else "the slices of each exam",
        "steps": (
            f"the longest exams have {steps} {what}: each is seen whole"
            if steps == exam.steps
            else f"exams have up to {exam.steps} {what}, of which {steps} in a row are seen at a time: most must show the class"
        ),
        "rnn": (
            "one step has no order"
            if exam.steps == 1
            else f"a recurrence reads the {what} in order, and attention weighs them"
        ),
    }
