"""Objects in parts, each with a window of its own: pieces that lie far apart, and stretches of an object that runs obliquely.

A window takes its pixel size from what is painted. Two kidneys may be one label, but in one window they would be seen at half the
resolution or less; so would a vessel that crosses the image from slice to slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from napari_medseq.inference.prompts.objects import PromptedObject
from napari_medseq.inference.prompts.window import longest_side

#: least distance of a piece from the others, in longest sides of the smaller of two; pieces that lie nearer are better seen together. This
#: and the next were chosen among 0.05 to 0.3 and 0.1 to 0.5 on cases that `benchmarks/propagate_parts.py` leaves out or marks
_APART = 0.3
_LARGE = 0.25  # least area of a piece, as a share of the largest: specks go with the piece that is nearest
_MOST = 8  # pieces: what is scattered more widely is one object, for each window costs time
#: longest side of all that is painted, in longest sides of a single step, from which on an object is carried in stretches; from 2 or 3 on,
#: drawn vessels lost as often as they gained, for a stretch does not know that the whole was painted evenly (`prompts.ends`)
_MOVED = 4.0


def in_parts(
    objects: Iterable[PromptedObject], labels: NDArray[np.generic], spacing: tuple[float, float, float]
) -> list[PromptedObject]:
    """Objects, or in their place their parts, which are objects with the same label.

    Parameters
    ----------
    objects : iterable of PromptedObject
    labels : ndarray, (*across, step, row, column)
    spacing : (float, float, float)
        mm from step to step, row to row and column to column.
    """
    parts: list[PromptedObject] = []
    for one in objects:
        for piece in distant_pieces(one, labels, spacing):
            parts += _stretches(replace(one, painted=piece), labels, spacing)
    return parts


def masks_by_step(one: PromptedObject, labels: NDArray[np.generic]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """What is painted of an object, (row, column), step by step; one step at a time is held.

    Parameters
    ----------
    one : PromptedObject
    labels : ndarray, (*across, step, row, column)
    """
    for step in one.steps.tolist():
        here = (labels[(*one.place, step)] == one.value) & one.painted
        if here.any():
            yield step, here


def distant_pieces(
    one: PromptedObject, labels: NDArray[np.generic], spacing: tuple[float, float, float]
) -> list[NDArray[np.bool_]]:
    """The pixels that are painted of an object on some step, (row, column), piece by piece.

    Pieces that are never painted on the same step may be one object that moves, and stay together.

    Parameters
    ----------
    one : PromptedObject
    labels : ndarray, (*across, step, row, column)
    spacing : (float, float, float)
    """
    from scipy import ndimage
    from scipy.sparse.csgraph import connected_components

    whole = one.painted
    parts, _ = ndimage.label(whole, structure=np.ones((3, 3)))
    area = np.bincount(parts.ravel())[1:]
    large = np.flatnonzero(area >= _LARGE * area.max()) + 1
    if not 1 < len(large) <= _MOST:
        return [whole]
    side = [longest_side(parts == k, spacing) for k in large]
    on_step = [set(np.unique(parts[here])) for _, here in masks_by_step(one, labels)]
    together = np.zeros((len(large), len(large)), bool)
    for a, b in combinations(range(len(large)), 2):
        distance = ndimage.distance_transform_edt(parts != large[a], sampling=spacing[1:])
        near = distance[parts == large[b]].min() < _APART * min(side[a], side[b])
        together[a, b] = near or not any({large[a], large[b]} <= there for there in on_step)
    count, group = connected_components(together, directed=False)
    if count == 1:
        return [whole]
    nearest = ndimage.distance_transform_edt(
        ~np.isin(parts, large), sampling=spacing[1:], return_distances=False, return_indices=True
    )
    owner = parts[tuple(nearest)]
    return [whole & np.isin(owner, large[group == k]) for k in range(count)]


def _stretches(
    one: PromptedObject, labels: NDArray[np.generic], spacing: tuple[float, float, float]
) -> Iterator[PromptedObject]:
    """The object from painted step to painted step where it moves far across the planes, or the object as it is."""
    sides = {step: longest_side(here, spacing) for step, here in masks_by_step(one, labels)}
    if len(sides) < 3 or longest_side(one.painted, spacing) < _MOVED * max(sides.values()):
        yield one
        return
    painted = dict(masks_by_step(one, labels))
    pairs = list(pairwise(painted))
    for a, b in pairs:
        first = one.within[0] if (a, b) == pairs[0] else a
        stop = one.within[1] if (a, b) == pairs[-1] else b + 1
        steps = one.steps[(one.steps >= first) & (one.steps < stop)]
        yield replace(one, steps=steps, painted=painted[a] | painted[b], within=(first, stop))
