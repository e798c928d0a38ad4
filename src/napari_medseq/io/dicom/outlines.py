"""Outlines of a mask in a slice along the edges of its pixels, so that any program that fills them gets the same
pixels.

A polygon along pixel edges encloses exactly the centres of the pixels inside and has exactly their area; one through
pixel centres, as many programs write, loses half a pixel all around. A hole is joined to its outline by a channel of
zero width, as DICOM PS3.3 C.8.8.6.3 requires for closed planar contours, so that programs without support for inner
contours draw it too.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

_Corner = tuple[int, int]
_Edge = tuple[_Corner, _Corner]


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Closed polygons around the pixels of a mask, one for each component of pixels that share edges.

    Parameters
    ----------
    mask : bool array (rows, columns)

    Returns
    -------
    list of arrays (n, 2)
        Corners as (column, row), with pixel centres at whole numbers; the last corner does not repeat the first one.
        The inside is on the right of each polygon, with rows counting downwards.
    """
    loops = _loops(_edges(mask))
    area = [_twice_the_area(loop) for loop in loops]
    of_edge = {edge: k for k, loop in enumerate(loops) for edge in zip(loop, [*loop[1:], loop[0]], strict=True)}
    holes = sorted((min(loops[k]), k) for k in range(len(loops)) if area[k] < 0)
    for _, k in holes:
        _join(mask, loops, of_edge, k)
    return [_simple(loops[k]) for k in range(len(loops)) if area[k] > 0]


def _edges(mask: NDArray[np.bool_]) -> list[_Edge]:
    """The edges between inside and outside as (start, end) corners, with the inside on the right; corner (x, y) is the
    upper left one of pixel (y, x)."""
    inside = np.pad(np.asarray(mask, bool), 1)
    inner = inside[1:-1, 1:-1]
    edges: list[_Edge] = []
    for outside, start, end in (
        (inside[:-2, 1:-1], (0, 0), (1, 0)),  # above: to the right
        (inside[1:-1, 2:], (1, 0), (1, 1)),  # right: down
        (inside[2:, 1:-1], (1, 1), (0, 1)),  # below: to the left
        (inside[1:-1, :-2], (0, 1), (0, 0)),  # left: up
    ):
        for y, x in np.argwhere(inner & ~outside).tolist():
            edges.append(((x + start[0], y + start[1]), (x + end[0], y + end[1])))
    return edges


def _loops(edges: list[_Edge]) -> list[list[_Corner]]:
    """The edges chained into loops of corners; where two pixels touch only at a corner, a loop stays with its
    pixel."""
    after: dict[_Corner, list[_Corner]] = defaultdict(list)
    for start, end in edges:
        after[start].append(end)
    remaining = dict.fromkeys(edges)
    loops = []
    while remaining:
        edge = first = next(iter(remaining))
        loop = []
        while True:
            del remaining[edge]
            (x0, y0), (x1, y1) = edge
            loop.append((x0, y0))
            right = (x1 - (y1 - y0), y1 + (x1 - x0))
            edge = ((x1, y1), right if right in after[x1, y1] else after[x1, y1][0])
            if edge == first:
                break
        loops.append(loop)
    return loops


def _join(mask: NDArray[np.bool_], loops: list[list[_Corner]], of_edge: dict[_Edge, int], hole: int) -> None:
    """Join a hole to the loop on its left, there and back along one line on which all pixels are inside.

    The leftmost edge of a hole has an inside pixel on its left. From there to the left, the first outside pixel is
    either beyond the outline or in a hole farther left, which has been joined already.
    """
    own = loops[hole]
    at = min(k for k, corner in enumerate(own) if corner == min(own))
    x, y = own[at]
    row = mask[y]
    stop = x
    while stop > 0 and row[stop - 1]:
        stop -= 1
    edge = ((stop, y + 1), (stop, y))  # the left edge of the last pixel inside, upwards
    target = of_edge[edge]
    around = loops[target]
    place = next(k for k in range(len(around)) if (around[k - 1], around[k]) == edge)
    inner = [*own[at:], *own[:at], own[at]]
    loops[target] = [*around[: place + 1], *inner, *around[place:]]
    for e in zip(own, [*own[1:], own[0]], strict=True):
        of_edge[e] = target


def _twice_the_area(loop: list[_Corner]) -> int:
    """Shoelace formula; negative around a hole."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(loop, [*loop[1:], loop[0]], strict=True))


def _simple(loop: list[_Corner]) -> NDArray[np.float64]:
    """The loop without corners on straight runs, in pixel units with centres at whole numbers."""
    points = np.array(loop, float)
    come, go = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    straight = (come[:, 0] * go[:, 1] == come[:, 1] * go[:, 0]) & ((come * go).sum(axis=1) > 0)
    return np.asarray(points[~straight] - 0.5)
