"""The plan of a training that learns the class of whole exams, decided from their shapes and the time."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from napari_medseq.models.plain import Definition
from napari_medseq.training.augment import AugmentSettings
from napari_medseq.training.plan_file import PlanFile

_VOXELS_PER_SECOND = 1_000_000.0  # learned per second and core by the network of the plan (1.4 million were measured)
_COARSE = 5.0  # times as many where the first level halves the image (6.5 were measured)
_COARSE_FROM = 64  # pixels of the shorter side
_PASSES = 60.0  # times that every exam should be seen
_LARGEST_EXAM = 1_500_000  # voxels of an exam as the network sees it; more fill the memory with what gradients need
_SMALLEST_SIDE = (
    32  # pixels that are left of the shorter side of an image, as the second level sees it where the first halves
)
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
        That it was made for.
    along : {"slices", "t"}
        What the sequence is: the slices of a volume, or frames.
    pixel_mm : float or None
        Size of the pixels that the network sees; None: each image's own.
    steps, slices : int
        Steps of a window, and slices at each of them where these are frames of volumes.
    size : (int, int)
        Rows and columns of a window.
    batch : int
    widths : tuple of int
        Channels of the encoder's levels.
    coarse : bool
        Whether the first level halves the image, as the others do.
    neighbours : int
    rnn : {"gru", "lstm", "transformer", "dense", "none"}
    dropout : float
    flip : float
        How often left and right are mirrored.
    augment : float
        How far images are turned, moved, zoomed, bent and recoloured: a factor on the ranges of `AugmentSettings`, which are made for
        outlines.
    rate : float
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
    """Decide.

    Parameters
    ----------
    shapes : sequence of ExamShape
        Of the exams that were measured.
    exams : mapping of str to int
        Class → exams of it.
    channels : sequence of str
    along : {"slices", "t"}
    seconds : float
        For training.
    cores : int
        That compute together.
    """
    why: dict[str, str] = {}
    steps, slices = (_most([getattr(s, name) for s in shapes]) for name in ("steps", "slices"))
    own = float(np.median([s.row_mm for s in shapes]))
    rows, columns = (
        _most([s.rows * s.row_mm / own for s in shapes]),
        _most([s.columns * s.column_mm / own for s in shapes]),
    )
    total = sum(exams.values())
    coarse = slices == 1 and min(rows, columns) >= _COARSE_FROM
    halved = 2 if coarse else 1
    speed = _VOXELS_PER_SECOND * cores * (_COARSE if coarse else 1)
    affordable = min(_LARGEST_EXAM, seconds * speed / (_PASSES * total))
    factor = math.sqrt(max(1.0, steps * slices * rows * columns / affordable))
    factor = max(1.0, min(factor, min(rows, columns) / (_SMALLEST_SIDE * halved)))
    alike = all(max(v / own, own / v) < _SAME for s in shapes for v in (s.row_mm, s.column_mm))
    pixel = None if factor < _SAME and alike else float(f"{own * factor:.3g}")
    why["pixel_mm"] = (
        "the images' own: there is time enough for all pixels"
        if pixel is None
        else f"{own:.3g} mm would be {steps * slices * rows * columns / 1e6:.2g} million voxels in each of {total} exams; at this size "
        f"each can be seen about {_PASSES:.0f} times"
        if factor >= _SAME
        else "the images' pixels differ in size, and the network learns at one"
    )
    size = (math.ceil(rows / factor), math.ceil(columns / factor))
    widths = _WIDTHS[: max(2, min(len(_WIDTHS), int(math.log2(max(1, min(size) / halved / _SMALLEST_CELL))) + 1))]
    stride = halved * 2 ** (len(widths) - 1)
    size = (-(-size[0] // stride) * stride, -(-size[1] // stride) * stride)
    most = max(1, int(_LARGEST_EXAM / (slices * size[0] * size[1])))
    seen = min(steps, most)
    what = "frames" if along == "t" else "slices"
    why["along"] = (
        "the exams have frames, which follow each other in time" if along == "t" else "the slices of each exam"
    )
    why["steps"] = (
        f"the longest exams have {steps} {what}: each is seen whole"
        if seen == steps
        else f"exams have up to {steps} {what}, of which {seen} in a row are seen at a time: most must show the class"
    )
    why["rnn"] = (
        "one step has no order" if steps == 1 else f"a recurrence reads the {what} in order, and attention weighs them"
    )
    sided = [name for name in exams if _SIDES.search(name.replace("_", " "))]
    why["flip"] = (
        f"the class {sided[0]} is told by its side, so nothing is mirrored"
        if sided
        else "left and right are taken to be alike for the classes"
    )
    why["coarse"] = (
        "its first level halves the image: several times as fast, so that the pixels can be finer in the same time"
        if coarse
        else "the images are small"
        if slices == 1
        else "each step is a volume of few slices"
    )
    batch = max(2, min(8, int(_BATCH_VOXELS * halved / (seen * slices * size[0] * size[1]))))
    why["augment"] = "less than for outlines, since size and contrast may be what tells the classes apart"
    why["dropout"] = "with it the loss of the training falls more slowly"
    why["batch"] = "exams at once, each class as often as the others"
    return ClassPlan(
        channels=tuple(channels),
        classes=tuple(exams),
        along=along,
        pixel_mm=pixel,
        steps=seen,
        slices=-(-slices // stride) * stride if slices > 1 else 1,
        size=size,
        batch=batch,
        widths=widths,
        coarse=coarse,
        neighbours=1 if along == "slices" and steps > 2 else 0,
        rnn="none" if steps == 1 else "gru",
        flip=0.0 if sided else 0.5,
        reasons=why,
    )


def _most(values: Sequence[float]) -> int:
    """What nearly all of the values do not exceed (their 95th percentile)."""
    return max(1, math.ceil(float(np.percentile(values, 95))))
