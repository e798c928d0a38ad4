"""Outlining an object on one image plane from points, scribbles or a box by GrabCut, without training.

Seeds state what is the object and what is not; intensities inside and outside are learned from them as histograms, and
the cheapest outline, along edges of the image, is the minimum cut of a graph of the pixels (Boykov and Jolly 2001,
doi:10.1109/ICCV.2001.937505). The histograms are learned again from the result until it no longer changes (GrabCut,
Rother et al. 2004, doi:10.1145/1015706.1015720). The cut is found by SciPy's maximum flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.masks.intensities import finite

Mask = NDArray[np.bool_]
Plane = NDArray[np.float64]

_LONGEST = 96  # longest side, in pixels, of the window in which the cut is computed: about 0.3 s
_ROOM = 0.35  # margin around the box, as a share of its sides
_ROUNDS = 5
_BINS = 32
_SURE = 4.0  # limit of the log ratio of likelihoods of one pixel
_PLACE = 2.5  # log odds of a pixel in the centre of the box, or at a point inside, by its position alone
_FIRST = 0.4  # share of that prior above which a pixel belongs to the initial guess
_EDGES = 3.0  # cost of an outline per pixel where the image is uniform, in units of log likelihood
_WHOLE = 1000  # fractions of a unit, because the flow is in integers
_BOUND = 1 << 24  # capacity that no cut crosses


@dataclass(frozen=True, eq=False)
class Hints:
    """The user's hints about an object on one plane; positions are (row, column) of pixels.

    Attributes
    ----------
    inside, outside : array_like, (n, 2)
        Points inside the object, and outside of it; for a scribble its pixels (``np.argwhere``).
    box : ((row, column), (row, column)), optional
        Two opposite corners of a box that encloses the object tightly.
    """

    inside: ArrayLike = ()
    outside: ArrayLike = ()
    box: tuple[Sequence[float], Sequence[float]] | None = None


def outline(plane: NDArray[np.generic], hints: Hints, spacing: Sequence[float] = (1.0, 1.0)) -> Mask:
    """Outline the object that is hinted at.

    Parameters
    ----------
    plane : ndarray, (row, column)
        Intensities; NaN and infinities count as the lowest and the highest of the others.
    hints : Hints
        At least a box or a point inside. Without a box the object is searched within two fifths of the plane around
        the points.
    spacing : (float, float)
        Millimetres per row and column.

    Returns
    -------
    ndarray of bool, (row, column)
        The mask; each component contains a point inside, if there are any. Points inside are True, and points outside
        False.

    Raises
    ------
    MedseqError
        If there is neither a box nor a point inside, a hint lies outside the plane, one pixel is both, or nothing is found.
    """
    if plane.ndim != 2:
        raise MedseqError(f"A plane of rows and columns is needed, not {plane.ndim} axes; choose a slice.")
    inside, outside = (_pixels(p, plane.shape, n) for p, n in ((hints.inside, "inside"), (hints.outside, "outside")))
    if hints.box is None and not inside.any():
        raise MedseqError("Nothing says where the object is; draw a box around it, or set a point inside.")
    if (inside & outside).any():
        row, column = np.argwhere(inside & outside)[0]
        raise MedseqError(
            f"Pixel ({row}, {column}) is hinted to be both inside and outside; remove one of the two hints."
        )
    box = _box(hints.box, plane.shape) if hints.box is not None else None
    view = _window(box, inside, plane.shape)
    seeds = _seeds(box, inside, outside, view)
    mask = np.zeros(plane.shape, bool)
    mask[view] = _cut_out(finite(plane[view]), seeds, spacing)
    if box is not None:
        mask &= box
    mask = _held(mask, inside) & ~outside
    mask |= inside
    if not mask.any():
        raise MedseqError("Nothing in the box stands out from what is around it; set a point inside, or paint it.")
    return mask


def _pixels(points: ArrayLike, shape: tuple[int, ...], name: str) -> Mask:
    """Points as pixels of the plane."""
    at = np.round(np.asarray(points, np.float64).reshape(-1, 2)).astype(np.int64)
    beyond = ((at < 0) | (at >= shape)).any(1)
    if beyond.any():
        row, column = at[beyond][0]
        raise MedseqError(
            f"A point {name}, ({row}, {column}), lies beyond the image of {shape[0]} × {shape[1]} pixels."
        )
    out = np.zeros(shape, bool)
    out[tuple(at.T)] = True
    return out


def _box(corners: tuple[Sequence[float], Sequence[float]], shape: tuple[int, ...]) -> Mask:
    low, high = np.sort(np.asarray(corners, np.float64), 0)
    first = np.clip(np.round(low), 0, None).astype(int)
    last = np.minimum(np.round(high) + 1, shape).astype(int)
    if (last - first < 2).any():
        raise MedseqError(
            f"The box from {low.tolist()} to {high.tolist()} holds nothing of the image; draw a larger one."
        )
    out = np.zeros(shape, bool)
    out[first[0] : last[0], first[1] : last[1]] = True
    return out


def _window(box: Mask | None, inside: Mask, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The box with its margin; or two fifths of the plane around the points."""
    rows, columns = (np.flatnonzero((inside if box is None else box | inside).any(a)) for a in (1, 0))
    cut = []
    for at, n in ((rows, shape[0]), (columns, shape[1])):
        room = max(4, round(_ROOM * (at[-1] - at[0] + 1))) if box is not None else max(12, n // 5)
        cut.append(slice(max(0, int(at[0]) - room), min(n, int(at[-1]) + 1 + room)))
    return cut[0], cut[1]


@dataclass(frozen=True, eq=False)
class _Seeds:
    """Within the window: certain pixels of the object, certain pixels outside, and the prior by position for the
    rest."""

    sure: Mask
    never: Mask
    place: Plane


def _seeds(box: Mask | None, inside: Mask, outside: Mask, view: tuple[slice, slice]) -> _Seeds:
    sure, never = inside[view], outside[view]
    if box is None:
        away = _distance(sure)
        edge = away > 0.9 * away.max()  # outside of the window
        return _Seeds(sure, never | edge, _nearer(sure, never | edge) + _against(sure, never))
    within = box[view]
    rows, columns = np.nonzero(within)
    y, x = np.indices(within.shape)
    away = ((y - rows.mean()) / (np.ptp(rows) + 1)) ** 2 + ((x - columns.mean()) / (np.ptp(columns) + 1)) ** 2
    place = np.clip(1 - 4 * away, -1, 1)  # 0 on the ellipse that touches the box
    place += _against(sure if sure.any() else place > _FIRST, never)
    return _Seeds(sure, never | ~within, place)


def _against(sure: Mask, never: Mask) -> Plane:
    """Pixels nearer to a point outside than to one inside, which are not part of the object whatever their
    intensity."""
    return 4 * np.minimum(_nearer(sure, never), 0) if never.any() else np.zeros(sure.shape)


def _distance(mask: Mask) -> Plane:
    return np.asarray(scipy.ndimage.distance_transform_edt(~mask))


def _nearer(sure: Mask, never: Mask) -> Plane:
    """1 at the seeds of the object, −1 at those of its surroundings, 0 halfway."""
    inner, outer = _distance(sure), _distance(never)
    return np.asarray((outer - inner) / np.maximum(outer + inner, 1e-9))


def _cut_out(plane: Plane, seeds: _Seeds, spacing: Sequence[float]) -> Mask:
    """The object in a window, computed at a size for which a cut takes less than a second."""
    factor = min(1.0, _LONGEST / max(plane.shape))
    size = [max(2, round(n * factor)) for n in plane.shape]
    zoom = [m / n for m, n in zip(size, plane.shape, strict=True)]
    small = scipy.ndimage.zoom(scipy.ndimage.gaussian_filter(plane, 0.4 / factor if factor < 1 else 0.0), zoom, order=1)
    place = scipy.ndimage.zoom(seeds.place, zoom, order=1)
    sure = _shrunk(seeds.sure, small.shape)
    never = _shrunk(seeds.never, small.shape) & ~sure
    steps = [s / z for s, z in zip(spacing, zoom, strict=True)]
    features = [_ranks(small), _ranks(scipy.ndimage.gaussian_filter(small, 1.5))]
    graph = _neighbours(small, (steps[0] / min(steps), steps[1] / min(steps)))
    mask = (place > _FIRST) & ~never | sure
    for _ in range(_ROUNDS):
        cost = sum(_log_ratio(f, mask, ~mask) for f in features) / len(features) + _PLACE * place
        refined = _minimum_cut(graph, np.where(sure, _BOUND, np.where(never, -_BOUND, cost * _WHOLE)))
        if not refined.any() or (refined == mask).all():
            break
        mask = refined
    shares = scipy.ndimage.zoom(
        mask.astype(np.float64), [n / m for n, m in zip(plane.shape, mask.shape, strict=True)], order=1
    )
    return np.asarray(shares > 0.5)


def _shrunk(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """A mask at another size, in which no pixel vanishes."""
    out = np.zeros(shape, bool)
    at = np.argwhere(mask)
    out[tuple((at * shape // mask.shape).T)] = True
    return out


def _ranks(plane: Plane) -> NDArray[np.intp]:
    """Intensities as bins with about equal numbers of pixels."""
    edges = np.unique(np.quantile(plane, np.linspace(0, 1, _BINS + 1)[1:-1]))
    return np.digitize(plane, edges)


def _log_ratio(bins: NDArray[np.intp], inside: Mask, outside: Mask) -> Plane:
    """How much more frequent each pixel's intensity is inside, as a bounded log ratio of smoothed histograms."""
    shares = []
    for where in (inside, outside):
        counts = scipy.ndimage.gaussian_filter1d(np.bincount(bins[where], minlength=_BINS).astype(np.float64), 1.0)
        shares.append((counts + 0.5) / (counts.sum() + 0.5 * _BINS))
    return np.asarray(np.clip(np.log(shares[0] / shares[1]), -_SURE, _SURE)[bins])


def _neighbours(plane: Plane, steps: tuple[float, float]) -> scipy.sparse.coo_matrix:
    """The cost of separating neighbouring pixels, which is high if they are similar; 8 neighbours."""
    index = np.arange(plane.size).reshape(plane.shape)
    pairs, differences, lengths = [], [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        pixel = (slice(0, plane.shape[0] - down), slice(max(0, -right), plane.shape[1] - max(0, right)))
        neighbour = (slice(down, None), slice(max(0, right), plane.shape[1] + min(0, right)))
        pairs.append(np.stack([index[pixel].ravel(), index[neighbour].ravel()]))
        differences.append(((plane[pixel] - plane[neighbour]) ** 2).ravel())
        lengths.append(np.full(index[pixel].size, np.hypot(down * steps[0], right * steps[1])))
    (a, b), difference, length = np.concatenate(pairs, 1), np.concatenate(differences), np.concatenate(lengths)
    usual = max(2 * float(difference.mean()), 1e-12)
    cost = np.round(_WHOLE * _EDGES * np.exp(-difference / usual) / length / 2).astype(np.int32)
    return scipy.sparse.coo_matrix((np.tile(cost, 2), (np.r_[a, b], np.r_[b, a])), (plane.size,) * 2)


def _minimum_cut(graph: scipy.sparse.coo_matrix, cost: Plane) -> Mask:
    """The pixels on the object's side; `cost` is each pixel's preference for that side."""
    n = cost.size
    wish = np.round(cost.ravel()).astype(np.int32)
    gains, losses = np.flatnonzero(wish > 0), np.flatnonzero(wish < 0)
    rows = np.r_[graph.row, np.full(len(gains), n), losses]
    columns = np.r_[graph.col, gains, np.full(len(losses), n + 1)]
    capacity = np.r_[graph.data, wish[gains], -wish[losses]].astype(np.int32)
    full = scipy.sparse.csr_matrix((capacity, (rows, columns)), (n + 2, n + 2))
    flow = scipy.sparse.csgraph.maximum_flow(full, n, n + 1).flow
    residual = full - flow
    residual.data = (residual.data > 0).astype(np.int8)
    residual.eliminate_zeros()
    reached = scipy.sparse.csgraph.breadth_first_order(residual, n, return_predecessors=False)
    side = np.zeros(n + 2, bool)
    side[reached] = True
    return side[:n].reshape(cost.shape)


def _held(mask: Mask, inside: Mask) -> Mask:
    """The mask without holes, restricted to the components with a point inside, or to the largest one."""
    filled = scipy.ndimage.binary_fill_holes(mask)
    parts, count = scipy.ndimage.label(filled)
    if not count:
        return np.asarray(filled)
    numbers = np.unique(parts[inside & (parts > 0)])
    if not len(numbers):
        numbers = np.array([np.bincount(parts.ravel())[1:].argmax() + 1])
    return np.asarray(np.isin(parts, numbers))
