"""The window that follows an object: a box around what is painted, at the size that the network knows, that grows when it must.

A nodule of 5 mm and a whole heart come to the network equally large. Where the object reaches the edge of its window, or is still
there on the outermost step, the window grows and the object is carried again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from napari_medseq.models.prompting import HORIZON
from napari_medseq.settings import Settings

_CELL = 8  # pixels: windows are multiples of it, as the network's levels need
_LEAST = 24  # least pixels of a window's side
_GROWTH = 0.6  # share of the object's longest side by which a window grows at an edge
_REACH = 16  # least number of steps on either side of the painted ones that are processed first
#: factor on the steps where the object continues: one that is longer than its own size is often much longer
_FURTHER = 4
_LONG = 1.5  # length along the steps that is processed first, in multiples of the object's longest side


class PromptSettings(Settings):
    """How a prompted network is run: the ``inference`` part of its bundle.

    Attributes
    ----------
    span : (float, float)
        Least and greatest length of the painted shape's longest side, in window pixels.
    margin : float
        Room around the painted shape, as a share of its longest side.
    largest : int
        Greatest number of pixels of a window's side; a window that grows further takes larger pixels.
    contrast : float or None
        Deviations from the object's median to which intensities are limited; see `prompts.contrast.limit`. None: no limit.
    shape_gain : float or None
        Gain in Dice on hidden painted steps from which on the interpolated shape counts in the answer; see `prompts.trust`. None: it never
        does.
    threshold : float
        Probability from which on a voxel belongs to the object.
    horizon : (float, float)
        Steps, and radii of the object, beyond which distances to the painted steps are not distinguished; see
        `napari_medseq.models.prompting.PromptedSequence.of`.
    horizon_frames : float
        The same in steps for frames and visits, where the time since an object was painted does not show where it ends.
    connected : bool
        Drop components that touch no painted voxel, where the steps are slices of a volume.
    even_ends : bool
        Whether an object that is painted evenly ends about half a gap beyond its outermost painted steps; see `prompts.ends`.
    parts : bool
        Whether pieces that lie far apart, and stretches of an object that runs obliquely, have windows of their own; see
        `prompts.parts`.
    rounds : int
        Number of rounds in which the object is continued beyond the outermost painted slices; see `prompts.chain`.
    reach : float
        How far each round goes, in radii of the painted shape.
    precision : {"float32", "bfloat16"}
        "bfloat16": convolutions on a CPU with bf16 units are computed in it.
    """

    span: tuple[float, float] = (40.0, 48.0)
    margin: float = Field(0.6, ge=0)
    largest: int = Field(160, ge=_LEAST)
    contrast: float | None = Field(None, gt=0)
    shape_gain: float | None = Field(None, ge=0)
    threshold: float = Field(0.5, gt=0, lt=1)
    horizon: tuple[float, float] = HORIZON
    horizon_frames: float = Field(HORIZON[0], gt=0)
    connected: bool = False
    even_ends: bool = False
    parts: bool = False
    rounds: int = Field(0, ge=0)
    reach: float = Field(0.6, gt=0)
    precision: Literal["float32", "bfloat16"] = "float32"

    def horizon_along(self, space: bool) -> tuple[float, float]:
        """The horizon where steps are slices, or where they are frames or visits."""
        return self.horizon if space else (self.horizon_frames, self.horizon[1])


@dataclass(frozen=True)
class Window:
    """A box of native pixels and steps, and the size that it is resampled to.

    Attributes
    ----------
    rows, columns, steps : (int, int)
        First and last + 1.
    size : (int, int)
        Pixels of the window along rows and columns.
    pixel_mm : float
        Pixel size of the window.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    steps: tuple[int, int]
    size: tuple[int, int]
    pixel_mm: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Steps, rows and columns of the window."""
        return self.steps[1] - self.steps[0], *self.size

    def small(self, plane: NDArray[np.float32]) -> Tensor:
        """The part of a native plane within the window, (row, column), without aliasing."""
        cut = np.ascontiguousarray(plane[slice(*self.rows), slice(*self.columns)], np.float32)
        x = torch.from_numpy(cut)[None, None]
        return functional.interpolate(x, size=self.size, mode="bilinear", align_corners=False, antialias=True)[0, 0]

    def small_mask(self, plane: NDArray[np.bool_]) -> Tensor:
        """A painted plane in the window, bool; what is painted never vanishes."""
        share = self.small(plane.astype(np.float32))
        return share > min(0.5, 0.5 * float(share.max()))

    def native(self, small: Tensor) -> Tensor:
        """Windows (n, row, column) at the native pixels of the box."""
        size = (self.rows[1] - self.rows[0], self.columns[1] - self.columns[0])
        return functional.interpolate(small[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


@dataclass(frozen=True)
class Growth:
    """How far a window lies beyond what is painted: shares of the object's longest side, and steps, before and after."""

    rows: tuple[float, float] = (0.0, 0.0)
    columns: tuple[float, float] = (0.0, 0.0)
    steps: tuple[int, int] = (0, 0)
    rounds: int = 0


def first_growth(painted: NDArray[np.bool_], spacing: tuple[float, float, float], steps: int) -> Growth:
    """Number of steps that are processed first: enough for a ball of the painted size, or all frames of a video."""
    if spacing[0] == 0:
        return Growth(steps=(steps, steps))
    reach = max(_REACH, int(np.ceil(_LONG * longest_side(painted, spacing) / spacing[0])))
    return Growth(steps=(reach, reach))


def window_around(
    painted: NDArray[np.bool_],
    annotated: NDArray[np.intp],
    spacing: tuple[float, float, float],
    within: tuple[int, int],
    growth: Growth,
    settings: PromptSettings,
) -> Window:
    """The window of an object.

    Parameters
    ----------
    painted : ndarray of bool, (row, column)
        The pixels that are painted on some step; at least one.
    annotated : ndarray of int
        The annotated steps.
    spacing : (float, float, float)
        mm from step to step, row to row and column to column.
    within : (int, int)
        First and last + 1 of the steps on which the object is looked for.
    growth : Growth
    settings : PromptSettings
    """
    span, fine = longest_side(painted, spacing), min(spacing[1:])
    pixel = max(span / min(max(span / fine, settings.span[0]), settings.span[1]), fine / 4)
    room = max(settings.margin * span, 12 * pixel)
    cut = []
    for (low, high), mm, n, more in zip(
        _extent(painted), spacing[1:], painted.shape, (growth.rows, growth.columns), strict=True
    ):
        first, last = low - (room + more[0] * span) / mm, high + (room + more[1] * span) / mm
        cut.append((max(0, int(first)), min(n, int(last) + 1)))
    sides = [(b - a) * mm for (a, b), mm in zip(cut, spacing[1:], strict=True)]
    pixel = max(pixel, max(sides) / settings.largest)
    size = [max(_LEAST, round(side / pixel / _CELL) * _CELL) for side in sides]
    along = (
        max(within[0], int(annotated[0]) - growth.steps[0]),
        min(within[1], int(annotated[-1]) + 1 + growth.steps[1]),
    )
    return Window(cut[0], cut[1], along, (size[0], size[1]), pixel)


def grown(
    growth: Growth, window: Window, inside: Tensor, size: tuple[int, int], within: tuple[int, int]
) -> Growth | None:
    """The growth of the next round, or None where the object lies within its window.

    Parameters
    ----------
    growth, window
        Of this round.
    inside : Tensor of bool, (step, row, column)
        The object in its window.
    size : (int, int)
        Rows and columns of the planes.
    within : (int, int)
        See `window_around`.
    """
    ends = {
        "rows": (inside[:, :2].any() and window.rows[0] > 0, inside[:, -2:].any() and window.rows[1] < size[0]),
        "columns": (
            inside[..., :2].any() and window.columns[0] > 0,
            inside[..., -2:].any() and window.columns[1] < size[1],
        ),
        "steps": (inside[:2].any() and window.steps[0] > within[0], inside[-2:].any() and window.steps[1] < within[1]),
    }
    rows, columns, along = ((bool(a), bool(b)) for a, b in ends.values())
    if growth.rounds >= 3:  # a flood fills more of the image each time
        rows = columns = (False, False)
    if not any((*rows, *columns, *along)):
        return None
    return replace(
        growth,
        rows=_more(growth.rows, rows),
        columns=_more(growth.columns, columns),
        steps=(growth.steps[0] * (_FURTHER if along[0] else 1), growth.steps[1] * (_FURTHER if along[1] else 1)),
        rounds=growth.rounds + 1,
    )


def _more(growth: tuple[float, float], touched: tuple[bool, bool]) -> tuple[float, float]:
    return growth[0] + _GROWTH * touched[0], growth[1] + _GROWTH * touched[1]


def _extent(painted: NDArray[np.bool_]) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last + 1 of the painted rows and columns."""
    rows, columns = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


def longest_side(painted: NDArray[np.bool_], spacing: tuple[float, float, float]) -> float:
    """The longest side of the box of what is painted, in mm.

    Parameters
    ----------
    painted : ndarray of bool, (row, column)
    spacing : (float, float, float)
        mm from step to step, row to row and column to column.
    """
    rows, columns = _extent(painted)
    return max((rows[1] - rows[0]) * spacing[1], (columns[1] - columns[0]) * spacing[2])
