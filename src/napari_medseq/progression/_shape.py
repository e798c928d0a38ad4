"""Size and shape of one lesion in millimetres, on its native grid: volume and its doubt, diameters, surface, sphericity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError, SphericalVoronoi

from napari_medseq import geometry
from napari_medseq.progression._components import Lesion
from napari_medseq.sequence import SPACE

#: standard deviation of the covered share of a boundary voxel, if all shares are equally likely: 1/√12
_PARTIAL = 0.2887
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
    """

    longest_mm: float
    perpendicular_mm: float
    longest_3d_mm: float
    slice_index: int
    ends: NDArray[np.float64]


def boundary_voxels(lesion: Lesion) -> int:
    """Voxels with a face on the background."""
    mask = lesion.crop(1)
    return int(mask.sum() - ndimage.binary_erosion(mask).sum())


def volume_sd_mm3(lesion: Lesion, segmentation_error_voxels: float, boundary: int, surface_mm2: float) -> float:
    """Standard deviation of the volume in mm³.

    Three independent parts. The unknown covered share of each boundary voxel: uniform, so 1/√12 of a voxel each, adding in
    squares. The chance of where thick slices fall, which moves whole slices at both ends: for a sphere of radius r and slices T
    apart 2πr T² √(2/720), by Euler–Maclaurin for Cavalieri's estimator (Gundersen et al., J Microsc 1999, 193:199). And a
    shift of the whole outline by `segmentation_error_voxels` of the mean voxel edge, times the surface.
    """
    voxel = geometry.voxel_volume_mm3(lesion.affine)
    partial = _PARTIAL * voxel * np.sqrt(boundary)
    outline = segmentation_error_voxels * voxel ** (1 / 3) * surface_mm2
    radius = (3 * lesion.volume_mm3 / (4 * np.pi)) ** (1 / 3)
    slices = 2 * np.pi * radius * float(lesion.spacing_zyx.max()) ** 2 * np.sqrt(2 / 720)
    return float(np.sqrt(partial**2 + slices**2 + outline**2))


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
    here = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(step, mask.shape, strict=True))
    there = tuple(slice(max(s, 0), n - max(-s, 0)) for s, n in zip(step, mask.shape, strict=True))
    return mask[here], mask[there]


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
    best, chord, at = -1.0, 0.0, 0
    ends = np.zeros((2, 3))
    step = [k for k in range(3) if k != axis]
    spacing = lesion.spacing_zyx
    for n in range(1, mask.shape[axis] - 1):
        plane = np.take(mask, n, axis=axis)
        rows, columns = plane.any(axis=1), plane.any(axis=0)
        box = rows.sum() * spacing[step[0]], columns.sum() * spacing[step[1]]
        # a sheared grid may be longer than its box; the bound below holds for the sum
        if sum(box) <= best:
            continue
        flat = _faces(plane)
        points = np.insert(flat, axis, float(n), axis=1)
        world = geometry.apply_points(lesion.affine, (points + lesion.start - 1)[:, ::-1])
        uv, origin, basis = _in_plane(world)
        length, one, other = _longest(uv)
        if length > best:
            best, at = length, n - 1 + int(lesion.start[axis])
            chord = _chord(uv, one, other)
            ends = origin + np.array([one, other]) @ basis
    solid = geometry.apply_points(lesion.affine, (_faces(mask) + lesion.start - 1)[:, ::-1])
    return Diameters(float(best), float(chord), float(max(_longest(solid)[0], best)), at, ends)


def _faces(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Midpoints of the faces between inside and outside, as (…, y, x) in voxels of `mask` (which has an empty rim)."""
    points = []
    for axis in range(mask.ndim):
        crossing = np.argwhere(np.diff(mask.astype(np.int8), axis=axis)).astype(np.float64)
        crossing[:, axis] += 0.5
        points.append(crossing)
    return np.concatenate(points)


def _in_plane(world: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates of points of one plane along two orthonormal directions of it, the origin and the directions (2, 3)."""
    origin = world.mean(axis=0)
    basis = np.linalg.svd(world - origin, full_matrices=False)[2][:2]
    return np.asarray((world - origin) @ basis.T), origin, basis


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


def _longest(points: NDArray[np.float64]) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Longest distance between two of the points, and the two."""
    v = _hull(points)
    squared = (v**2).sum(axis=1)
    apart = squared[:, None] + squared[None] - 2 * v @ v.T
    i, j = np.unravel_index(int(apart.argmax()), apart.shape)
    return float(np.linalg.norm(v[i] - v[j])), v[i], v[j]


def _chord(uv: NDArray[np.float64], one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Longest chord of the hull of 2D points at a right angle to the line from `one` to `other`."""
    along = (other - one) / np.linalg.norm(other - one)
    across = np.array([-along[1], along[0]])
    v = _hull(uv)
    s, h = v @ along, v @ across
    stops = np.unique(np.round(s, 9))
    upper, lower = _chain(s, h, stops, 1.0), _chain(s, h, stops, -1.0)
    return float((upper - lower).max())


def _chain(
    s: NDArray[np.float64], h: NDArray[np.float64], stops: NDArray[np.float64], side: float
) -> NDArray[np.float64]:
    """Height of the hull's upper (`side` 1) or lower (-1) outline at `stops`: the concave envelope of its vertices."""
    order = np.lexsort((-side * h, s))
    keep: list[int] = []
    for k in order:
        if keep and abs(s[k] - s[keep[-1]]) < 1e-9:
            continue
        while len(keep) >= 2:
            a, b = keep[-2], keep[-1]
            if side * ((h[b] - h[a]) * (s[k] - s[a]) - (h[k] - h[a]) * (s[b] - s[a])) <= 0:
                keep.pop()
            else:
                break
        keep.append(int(k))
    return np.asarray(np.interp(stops, s[keep], h[keep]))
