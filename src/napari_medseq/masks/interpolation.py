"""Interpolating shapes between painted slices: signed distances to the painted outlines, blended from one slice to the
next.

Raya and Udupa 1990 (doi:10.1109/42.52980), with the two outlines aligned before they are blended, so that a shape that
moves from slice to slice keeps its size. The functions work on tensors, because the promptable network uses the same
distances as input channels (`napari_medseq.models.prompting`); `interpolate_slices` is for arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_medseq.errors import MedseqError, warn

LabelArray = NDArray[np.integer]

_AT_ONCE = 40_000_000  # sums of squares that are held at once: 160 MB


def squared_distance(inside: Tensor, pixel: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Exact squared Euclidean distance, (n, y, x), of every pixel to the nearest True of its image; very large if
    there is none.

    It is separable, as in Felzenszwalb and Huttenlocher 2012 (doi:10.4086/toc.2012.v008a019): the nearest True of each
    row, then a minimum over rows of the sums of squares.

    Parameters
    ----------
    inside : Tensor of bool, (n, y, x)
    pixel : (float, float)
        Length of a pixel along y and x.
    """
    n, height, width = inside.shape
    down, right_by = pixel
    big = 4.0 * (height * down + width * right_by)
    place = torch.arange(width, device=inside.device, dtype=torch.float32) * right_by
    nearest_left = torch.where(inside, place, -big).cummax(2).values
    right = torch.where(inside, place, big + width * right_by).flip(2).cummin(2).values.flip(2)
    row = torch.minimum(place - nearest_left, right - place).clamp_max(big).square()
    y = torch.arange(height, device=inside.device, dtype=torch.float32) * down
    between = (y[:, None] - y[None, :]).square()
    out = torch.empty_like(row)
    lines = max(1, min(height, _AT_ONCE // (height * width)))  # rows of the result that are computed together
    images = max(1, _AT_ONCE // (lines * height * width))
    for i in range(0, n, images):
        for k in range(0, height, lines):
            sums = row[i : i + images, None] + between[None, k : k + lines, :, None]
            out[i : i + images, k : k + lines] = sums.amin(2)
    return out


def signed_distance(mask: Tensor, pixel: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Distance to the outline, (n, y, x): positive inside, negative outside, zero halfway between the two sides."""
    inner, outer = squared_distance(torch.cat([~mask, mask]), pixel).sqrt().split(len(mask))
    half = min(pixel) / 2
    return torch.where(mask, inner - half, half - outer)


def nearest_annotated(annotated: Tensor) -> tuple[Tensor, Tensor]:
    """For every step the nearest annotated step at or before it, and at or after it, (batch, step); −1 where there is none."""
    steps = annotated.shape[1]
    index = torch.arange(steps, device=annotated.device).expand_as(annotated)
    before = torch.where(annotated, index, -1).cummax(1).values
    after = torch.where(annotated, index, steps).flip(1).cummin(1).values.flip(1)
    return before, torch.where(after == steps, -1, after)


def shifted(maps: Tensor, shift: Tensor) -> Tensor:
    """Maps shifted in their plane; values at the edge are repeated beyond it.

    Parameters
    ----------
    maps : Tensor, (n, channel, y, x)
    shift : Tensor, (n, 2)
        Shift in pixels along y and x.
    """
    n, _, height, width = maps.shape
    lines = []
    for k, size in enumerate((height, width)):
        at = torch.arange(size, device=maps.device, dtype=torch.float32) - shift[:, k : k + 1]
        lines.append((at + 0.5) * 2 / size - 1)
    y, x = lines[0][:, :, None].expand(n, height, width), lines[1][:, None, :].expand(n, height, width)
    return functional.grid_sample(maps, torch.stack([x, y], 3), padding_mode="border", align_corners=False)


def middles(mask: Tensor) -> Tensor:
    """Centres of mass (…, 2) along y and x of masks (…, y, x), in pixels; 0 if a mask is empty."""
    height, width = mask.shape[-2:]
    y = torch.arange(height, device=mask.device, dtype=torch.float32)
    x = torch.arange(width, device=mask.device, dtype=torch.float32)
    rows, columns = mask.sum(-1), mask.sum(-2)
    area = rows.sum(-1).clamp_min(1)
    return torch.stack([(rows * y).sum(-1) / area, (columns * x).sum(-1) / area], -1)


@dataclass(frozen=True)
class Between:
    """Positions of wanted steps between annotated ones, (batch, wanted step).

    Attributes
    ----------
    low, high : Tensor of int
        The annotated steps on either side; beyond the outermost one both are that step.
    share : Tensor
        Position between `low` and `high`, 0 to 1.
    """

    low: Tensor
    high: Tensor
    share: Tensor

    @classmethod
    def of(cls, before: Tensor, after: Tensor, steps: Tensor) -> Between:
        """From `nearest_annotated` at the wanted `steps` (step,)."""
        low = torch.where(before < 0, after, before).clamp_min(0)
        high = torch.where(after < 0, before, after).clamp_min(0)
        return cls(low, high, ((steps - low) / (high - low).clamp_min(1)).clamp(0, 1))

    @property
    def rests(self) -> bool:
        """Whether all wanted steps lie on or beyond the same outermost annotated step."""
        return bool((self.low == self.low[:, :1]).all()) and torch.equal(self.low, self.high)

    def first(self) -> Between:
        """The first wanted step only."""
        return Between(self.low[:, :1], self.high[:, :1], self.share[:, :1])

    def aligned(self, maps: Sequence[Tensor], middle: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
        """Maps of the steps on either side, shifted so that their shapes coincide at the interpolated position.

        Parameters
        ----------
        maps : sequence of Tensor, (batch, step, y, x)
        middle : Tensor, (batch, step, 2)
            Centres of the shapes on annotated steps; see `middles`.
        filled : Tensor of bool, (batch, step)
            Whether a step holds a shape.

        Returns
        -------
        low, high : Tensor, (batch, wanted step, map, y, x)
            Both are the same tensor if the steps on either side are the same.
        """
        row = torch.arange(len(middle), device=middle.device)[:, None]
        both = (filled[row, self.low] & filled[row, self.high])[..., None]
        target = torch.lerp(middle[row, self.low], middle[row, self.high], self.share[..., None])
        distances = []
        alike = torch.equal(self.low, self.high)
        for side in (self.low,) if alike else (self.low, self.high):
            aligned_distance = torch.stack([m[row, side] for m in maps], 2)
            shift = torch.where(both, target - middle[row, side], 0.0)
            moving = shift.abs().amax(2) > 1e-3
            aligned_distance[moving] = shifted(aligned_distance[moving], shift[moving])
            distances.append(aligned_distance)
        return distances[0], distances[-1]

    def blended(self, low: Tensor, high: Tensor) -> Tensor:
        """Signed distances interpolated between those on either side, (batch, wanted step, y, x)."""
        return torch.lerp(low, high, self.share[..., None, None])


def interpolate_slices(
    labels: LabelArray, values: Sequence[int], axis: int, pixel: tuple[float, float] = (1.0, 1.0)
) -> LabelArray:
    """Fill in the slices between painted ones of the same label.

    Parameters
    ----------
    labels : ndarray of int, three axes
    values : sequence of int
        The labels to interpolate; a voxel that two of them claim goes to the one that it lies deeper in.
    axis : int
        The axis along which slices follow one another.
    pixel : (float, float)
        Millimetres along the other two axes, in their order.

    Returns
    -------
    ndarray of int
        The labels; only background has changed, and only on slices without the label between two painted ones.

    Raises
    ------
    MedseqError
        If none of the labels is painted on two slices with a gap between them.
    """
    planes = np.moveaxis(labels, axis, 0)
    out = np.array(planes)
    deepest = np.zeros(planes.shape, np.float32)
    gaps, empty = 0, set()
    for value in values:
        mask = planes == value
        filled = np.flatnonzero(mask.any(axis=(1, 2)))
        steps = np.setdiff1d(np.arange(filled[0], filled[-1]), filled) if len(filled) > 1 else filled[:0]
        if not len(steps):
            continue
        gaps += 1
        rows, columns = (_around(mask.any(axis=(0, k))) for k in (2, 1))
        depth = _between(mask[:, rows, columns], filled, steps, pixel)
        where = np.ix_(steps, np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop))
        replaced = (depth > deepest[where]) & (planes[where] == 0)
        out[where] = np.where(replaced, value, out[where])
        deepest[where] = np.where(replaced, depth, deepest[where])
        empty |= {int(step) + 1 for step, one in zip(steps, depth > 0, strict=True) if not one.any()}
    if not gaps:
        raise MedseqError(
            "There is no gap to fill: paint the label on two slices or more and leave slices between them free."
        )
    if empty:
        warn(f"Slices {_ranges(empty)} stay empty: the outlines before and after do not overlap. Paint one in between.")
    return np.moveaxis(out, 0, axis)


def _between(
    mask: NDArray[np.bool_], filled: NDArray[np.intp], steps: NDArray[np.intp], pixel: tuple[float, float]
) -> NDArray[np.float32]:
    """Signed distance in mm on `steps`, which lie between the `filled` steps."""
    annotated = torch.zeros(1, len(mask), dtype=torch.bool)
    annotated[0, filled] = True
    distance = torch.zeros(1, *mask.shape)
    distance[0, filled] = signed_distance(torch.from_numpy(mask[filled]), pixel)
    before, after = (values[:, steps] for values in nearest_annotated(annotated))
    place = Between.of(before, after, torch.from_numpy(steps))
    masks = torch.from_numpy(mask)
    low, high = place.aligned([distance], middles(masks)[None], masks.flatten(1).any(1)[None])
    blended: NDArray[np.float32] = place.blended(low[:, :, 0], high[:, :, 0])[0].numpy()
    return blended


def _around(line: NDArray[np.bool_]) -> slice:
    """The range from one before the first to one after the last True, which contains the nearest background of all
    inside pixels."""
    places = np.flatnonzero(line)
    return slice(max(int(places[0]) - 1, 0), min(int(places[-1]) + 2, len(line)))


def _ranges(numbers: set[int]) -> str:
    """Integers as text with runs shortened: ``3–5, 9``."""
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
