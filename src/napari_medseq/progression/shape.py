"""Size and shape of one lesion in millimetres, on its native grid: volume and its doubt, diameters, surface, sphericity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError, SphericalVoronoi

from napari_medseq import geometry
from napari_medseq.progression.components import Lesion
from napari_medseq.sequence import SPACE

#: standard deviation of the covered share of a boundary voxel, if all shares are equally likely: 1/√12
_PARTIAL = 0.2887
#: lengths that differ by less (mm) are equal; of so many equal ones the perpendicular is compared
_TIE, _MOST_TIES = 1e-6, 16
#: so many points are compared pair by pair sooner than their hull is found
_FEW_POINTS = 220
#: a hull with more vertices than this is thinned before all pairs are compared
_MOST_VERTICES = 1500


@dataclass(frozen=True)
class Diameters:
    """Calliper measures in mm.

    Parameters
    ----------
    longest_mm : float
        Longest diameter within one slice, over all slices.
    perpendicular_mm : float
        Longest chord at a right angle to it, in the same slice.
    longest_3d_mm : float
        Longest diameter in any direction.
    slice_index : int
        The slice (along the lesion's slice axis) of the longest diameter.
    ends : ndarray, shape (2, 3)
        Both ends of the longest in-slice diameter, RAS mm.
    perpendicular_ends : ndarray, shape (2, 3)
        Both ends of the perpendicular one.
    """

    longest_mm: float
    perpendicular_mm: float
    longest_3d_mm: float
    slice_index: int
    ends: NDArray[np.float64]
    perpendicular_ends: NDArray[np.float64]


def boundary_voxels(lesion: Lesion) -> int:
    """Voxels with a face on the background."""
    mask = lesion.crop(1)
    return int(mask.sum() - ndimage.binary_erosion(mask).sum())


def volume_sd_mm3(
    lesion: Lesion,
    segmentation_error_voxels: float,
    boundary: int,
    surface_mm2: float,
    segmentation_error_percent: float = 0.0,
) -> float:
    """Standard deviation of the volume in mm³.

    Four independent parts. The unknown covered share of each boundary voxel: uniform, so 1/√12 of a voxel each, adding in
    squares. The chance of where thick slices fall, which moves whole slices at both ends: `slice_sd` of the sphere of equal
    volume. A shift of the whole outline by `segmentation_error_voxels` of the mean voxel edge, times the surface. And
    `segmentation_error_percent` of the volume, for what differs when the same lesion is outlined again.
    """
    voxel = geometry.voxel_volume_mm3(lesion.affine)
    partial = _PARTIAL * voxel * np.sqrt(boundary)
    outline = segmentation_error_voxels * voxel ** (1 / 3) * surface_mm2
    radius = (3 * lesion.volume_mm3 / (4 * np.pi)) ** (1 / 3)
    slices = slice_sd(radius / float(lesion.spacing_zyx.max())) * lesion.volume_mm3
    repeat = segmentation_error_percent / 100 * lesion.volume_mm3
    return float(np.sqrt(partial**2 + slices**2 + outline**2 + repeat**2))


def slice_sd(radius_in_slices: float) -> float:
    """Relative standard deviation of a sphere's volume from slices that fall where they like.

    Exact for the sphere (its slices' areas summed over all offsets that hit it), averaged over sizes within 15 %, because a lesion
    is no sphere and its size is not known better; from four slices on by Euler–Maclaurin for Cavalieri's estimator,
    3/2·√(2/720)/radius² (Gundersen et al., J Microsc 1999, 193:199).
    """
    at, sd = _slice_sds()
    if radius_in_slices >= at[-1]:
        return float(1.5 * np.sqrt(2 / 720) / radius_in_slices**2)
    return float(np.interp(radius_in_slices, at, sd))


@lru_cache(maxsize=1)
def _slice_sds() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radii in slices and the relative standard deviation at each."""
    radii = np.linspace(0.2, 5.0, 481)
    height = (np.arange(101) + 0.5) / 101 + np.arange(-6, 7)[:, None]  # of each slice, by offset
    areas = np.clip(radii[:, None] ** 2 - height[:, None] ** 2, 0, None).sum(axis=0)
    seen = np.where(areas > 0, areas, np.nan)
    exact = np.nanstd(seen, axis=1) / np.nanmean(seen, axis=1)
    at = radii[(radii >= 0.25) & (radii <= 4.0)]
    sizes = at[:, None] * np.linspace(0.85, 1.15, 13)
    return at, np.sqrt((np.interp(sizes, radii, exact) ** 2).mean(axis=1))


def surface_mm2(lesion: Lesion) -> float:
    """Surface area by the discrete Crofton formula: crossings of the outline along 13 directions, weighted by solid angle.

    Works for any voxel spacing, sheared grids too. Source: G. Lehmann and D. Legland, "Efficient N-dimensional surface
    estimation using Crofton formula and run-length encoding", Insight Journal 2012.
    """
    steps, weights, lengths = _directions(tuple(np.round(lesion.affine[:3, :3], 6).ravel().tolist()))
    mask = lesion.crop(1)
    voxel = geometry.voxel_volume_mm3(lesion.affine)
    area = 0.0
    for (dz, dy, dx), weight, length in zip(steps, weights, lengths, strict=True):
        one, other = _shifted(mask, (dz, dy, dx))
        area += weight * np.count_nonzero(one != other) * voxel / length
    return float(2 * area)


def _shifted(mask: NDArray[np.bool_], step: tuple[int, int, int]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """`mask` and its neighbour at `step`, where both are inside the array."""
    voxel = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(step, mask.shape, strict=True))
    neighbour = tuple(slice(max(s, 0), n - max(-s, 0)) for s, n in zip(step, mask.shape, strict=True))
    return mask[voxel], mask[neighbour]


@lru_cache(maxsize=64)
def _directions(
    matrix: tuple[float, ...],
) -> tuple[tuple[tuple[int, int, int], ...], tuple[float, ...], tuple[float, ...]]:
    """The 13 neighbour steps (z, y, x), the share of all directions that each stands for, and their lengths in mm."""
    steps = [(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if (z, y, x) > (0, 0, 0)]
    world = np.array([[s[2], s[1], s[0]] for s in steps], float) @ np.array(matrix).reshape(3, 3).T
    lengths = np.linalg.norm(world, axis=1)
    unit = world / lengths[:, None]
    areas = SphericalVoronoi(np.concatenate([unit, -unit])).calculate_areas()
    weights = (areas[:13] + areas[13:]) / (4 * np.pi)
    return tuple(steps), tuple(weights.tolist()), tuple(lengths.tolist())


def sphericity(volume_mm3: float, surface: float) -> float:
    """Surface of the sphere of equal volume over the surface: 1 for a sphere (Wadell 1935)."""
    return float(min(np.pi ** (1 / 3) * (6 * volume_mm3) ** (2 / 3) / surface, 1.0)) if surface > 0 else float("nan")


def diameters(lesion: Lesion) -> Diameters:
    """Longest in-slice, perpendicular and longest 3D diameter.

    Measured between the midpoints of boundary voxel faces, so that n voxels in a row are n voxels long. The chord is taken through the
    convex hull of the slice, as RANO and RECIST calliper measures are.
    """
    axis = SPACE.index(lesion.slice_axis)
    mask = lesion.crop(1)
    steps = lesion.affine[:3, 2::-1].T  # one voxel along z, y, x in mm
    across = [k for k in range(3) if k != axis]
    basis = _basis(steps[across])
    flat = steps[across] @ basis.T  # the same within the slice's own plane
    best, chord, at, best_ends = -1.0, 0.0, 0, np.zeros((4, 2))
    for bound, n in _by_extent(mask, axis, flat):
        if bound < best - _TIE:
            break
        points = _outermost(np.take(mask, n, axis=axis)) @ flat
        points = points if len(points) <= _FEW_POINTS else _hull(points)
        for length, one, other in _longest(points, best):
            width, begin, right = _chord(points, one, other)
            if length > best + _TIE or width > chord:  # of equally long ones the one with the widest chord
                best, chord, at, best_ends = max(length, best), width, n, np.stack([one, other, begin, right])
    world = np.zeros((4, 3))
    world[:, across] = best_ends @ np.linalg.inv(flat)
    world[:, axis] = at
    ends = geometry.apply_points(lesion.affine, (world + lesion.start - 1)[:, ::-1])
    solid = _longest(_hull(_outermost(mask) @ steps))[0][0]
    return Diameters(
        float(best), float(chord), float(max(solid, best)), at - 1 + int(lesion.start[axis]), ends[:2], ends[2:]
    )


def _basis(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two orthonormal directions (2, 3) of the plane that two steps (2, 3) span."""
    one = steps[0] / np.linalg.norm(steps[0])
    other = steps[1] - (steps[1] @ one) * one
    return np.stack([one, other / np.linalg.norm(other)])


def _by_extent(mask: NDArray[np.bool_], axis: int, flat: NDArray[np.float64]) -> list[tuple[float, int]]:
    """Slices with the diagonal of their bounding box in mm, longest first: no chord in a slice is longer."""
    planes = np.moveaxis(mask, axis, 0)
    lengths = []
    for n in np.flatnonzero(planes.any(axis=(1, 2))).tolist():
        rows, columns = (np.flatnonzero(planes[n].any(axis=k)) for k in (1, 0))
        one, other = (rows[-1] - rows[0] + 1) * flat[0], (columns[-1] - columns[0] + 1) * flat[1]
        lengths.append((float(max(np.linalg.norm(one + other), np.linalg.norm(one - other))), n))
    return sorted(lengths, reverse=True)


def _outermost(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Midpoints of the first and last face of every line of voxels along every axis, in voxels of `mask`: they span its hull."""
    points = []
    for axis in range(mask.ndim):
        where = np.nonzero(np.asarray(mask.any(axis=axis)))
        faces = np.empty((2, len(where[0]), mask.ndim))
        faces[:, :, [k for k in range(mask.ndim) if k != axis]] = np.stack(where, axis=1)
        faces[0, :, axis] = mask.argmax(axis=axis)[where] - 0.5
        faces[1, :, axis] = mask.shape[axis] - 0.5 - np.flip(mask, axis).argmax(axis=axis)[where]
        points.append(faces.reshape(-1, mask.ndim))
    return np.concatenate(points)


def _hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vertices of the convex hull; the points themselves where there is none (all in a plane or line)."""
    try:
        vertices: NDArray[np.float64] = points[ConvexHull(points).vertices]
    except (QhullError, ValueError):
        vertices = np.unique(points, axis=0)
    if len(vertices) > _MOST_VERTICES:  # thin along many directions: keeps the extremes
        angles = np.random.default_rng(0).normal(size=(_MOST_VERTICES, points.shape[1]))
        vertices = vertices[np.unique((vertices @ angles.T).argmax(axis=0))]
    return vertices


def _longest(
    points: NDArray[np.float64], least: float = -1.0
) -> list[tuple[float, NDArray[np.float64], NDArray[np.float64]]]:
    """The longest distance between two of the points (few, such as those of a hull) with the two; all pairs where several tie.

    Nothing where it is shorter than `least`.
    """
    v = points - points[0]
    squared = (v**2).sum(axis=1)
    apart = squared[:, None] + squared[None] - 2 * v @ v.T
    longest = float(np.sqrt(apart.max()))
    if longest < least - _TIE:
        return []
    pairs = np.argwhere(apart >= max(longest - _TIE, 0.0) ** 2)
    return [(longest, points[i], points[j]) for i, j in pairs[pairs[:, 0] < pairs[:, 1]][:_MOST_TIES]]


def _chord(
    uv: NDArray[np.float64], one: NDArray[np.float64], other: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Longest chord of the hull of 2D points at a right angle to the line from `one` to `other`, with its two ends."""
    along = (other - one) / np.linalg.norm(other - one)
    across = np.array([-along[1], along[0]])
    v = _hull(uv)
    s, h = (
        np.round(v @ along, 9),
        v @ across,
    )  # points above one another stand at the same place, whatever the last bit says
    stops = np.unique(s)
    upper, lower = _chain(s, h, stops, 1.0), _chain(s, h, stops, -1.0)
    k = int((upper - lower).argmax())
    ends = [stops[k] * along + height[k] * across for height in (upper, lower)]
    return float(upper[k] - lower[k]), ends[0], ends[1]


def _chain(
    s: NDArray[np.float64], h: NDArray[np.float64], stops: NDArray[np.float64], side: float
) -> NDArray[np.float64]:
    """Height of the hull's upper (`side` 1) or lower (-1) outline at `stops`: the concave envelope of its vertices."""
    order = np.lexsort((-side * h, s))
    keep: list[int] = []
    for k in order:
        if keep and s[k] == s[keep[-1]]:
            continue
        while len(keep) >= 2:
            a, b = keep[-2], keep[-1]
            if side * ((h[b] - h[a]) * (s[k] - s[a]) - (h[k] - h[a]) * (s[b] - s[a])) <= 0:
                keep.pop()
            else:
                break
        keep.append(int(k))
    return np.asarray(np.interp(stops, s[keep], h[keep]))
