"""Pieces of an object that lie far apart, each in a window of its own: two kidneys may be one label, but they are two places to look at.

A window takes its pixel size from what is painted. So a pair of organs in one window would be seen at half the resolution or less, and
mostly what lies between them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from napari_medseq.inference.prompt_window import longest_side
from napari_medseq.inference.prompted_objects import PromptedObject

#: least distance of a piece from the others, in longest sides of the smaller of two; pieces that lie nearer are better seen together. This
#: and the next were chosen among 0.05 to 0.3 and 0.1 to 0.5 on cases that `benchmarks/propagate_pieces.py` leaves out or marks
_APART = 0.3
_LARGE = 0.25  # least area of a piece, as a share of the largest: specks go with the piece that is nearest
_MOST = 8  # pieces: what is scattered more widely is one object, for each window costs time


def in_pieces(objects: Iterable[PromptedObject], spacing: tuple[float, float, float]) -> list[PromptedObject]:
    """Objects of which distant pieces are objects of their own, of the same label and with the same annotated steps.

    Parameters
    ----------
    objects : iterable of PromptedObject
    spacing : (float, float, float)
        mm from step to step, row to row and column to column.
    """
    return [replace(one, painted=piece) for one in objects for piece in distant_pieces(one.painted, spacing)]


def distant_pieces(painted: NDArray[np.bool_], spacing: tuple[float, float, float]) -> list[NDArray[np.bool_]]:
    """The pixels that are painted on some step, piece by piece; together they are `painted`.

    Parameters
    ----------
    painted : ndarray of bool, (row, column)
    spacing : (float, float, float)
    """
    from scipy import ndimage
    from scipy.sparse.csgraph import connected_components

    parts, _ = ndimage.label(painted, structure=np.ones((3, 3)))
    area = np.bincount(parts.ravel())[1:]
    large = np.flatnonzero(area >= _LARGE * area.max()) + 1
    if not 1 < len(large) <= _MOST:
        return [painted]
    side = [longest_side(parts == k, spacing) for k in large]
    near = np.zeros((len(large), len(large)), bool)
    for a, b in combinations(range(len(large)), 2):
        distance = ndimage.distance_transform_edt(parts != large[a], sampling=spacing[1:])
        near[a, b] = distance[parts == large[b]].min() < _APART * min(side[a], side[b])
    count, group = connected_components(near, directed=False)
    if count == 1:
        return [painted]
    nearest = ndimage.distance_transform_edt(
        ~np.isin(parts, large), sampling=spacing[1:], return_distances=False, return_indices=True
    )
    owner = parts[tuple(nearest)]
    return [painted & np.isin(owner, large[group == k]) for k in range(count)]
