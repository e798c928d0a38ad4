"""The lesions of one visit: connected components of a mask, on the mask's own grid before any warping.

Work is done on runs of foreground voxels, so that after one pass over the volume the cost depends on the lesions alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry

#: (visit, number within the visit): names a lesion of one visit for good
Key = tuple[int, int]

#: neighbouring rows as (dz, dy, tolerance in x), the half that comes later in memory
_ROWS = {
    6: ((0, 1, 0), (1, 0, 0)),
    18: ((0, 1, 1), (1, 0, 1), (1, -1, 0), (1, 1, 0)),
    26: ((0, 1, 1), (1, 0, 1), (1, -1, 1), (1, 1, 1)),
}


@dataclass(frozen=True, eq=False)
class Lesion:
    """One lesion at one visit, on that visit's grid.

    Parameters
    ----------
    visit, number : int
        The visit (from 0) and the lesion's number within it (from 1): together its `key`.
    label : str
        Name of its class.
    index : ndarray of int, shape (n, 3)
        Its voxels as (z, y, x).
    affine : ndarray, shape (4, 4)
        Voxel (x, y, z) → the visit's RAS mm.
    to_common : ndarray, shape (4, 4)
        The visit's RAS mm → common RAS mm.
    slice_axis : str
        The axis along which slices were acquired.
    grid_zyx : tuple of int, optional
        Size of the visit's grid along (z, y, x); without it nothing is known of the edge of the field of view.
    """

    visit: int
    number: int
    label: str
    index: NDArray[np.int32]
    affine: NDArray[np.float64]
    to_common: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    slice_axis: str = "z"
    grid_zyx: tuple[int, int, int] | None = None

    @property
    def key(self) -> Key:
        """(visit, number)."""
        return self.visit, self.number

    @property
    def voxels(self) -> int:
        """How many voxels it has."""
        return len(self.index)

    @cached_property
    def volume_mm3(self) -> float:
        """Voxels times the native voxel volume."""
        return self.voxels * geometry.voxel_volume_mm3(self.affine)

    @cached_property
    def spacing_zyx(self) -> NDArray[np.float64]:
        """Voxel size in mm along (z, y, x)."""
        return np.asarray(geometry.spacing(self.affine)[::-1])

    @cached_property
    def start(self) -> NDArray[np.int32]:
        """First (z, y, x) of its bounding box."""
        return np.asarray(self.index.min(axis=0), dtype=np.int32)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Size of its bounding box along (z, y, x)."""
        z, y, x = (int(n) for n in self.index.max(axis=0) - self.start + 1)
        return z, y, x

    @cached_property
    def is_cut_off(self) -> bool:
        """Whether it reaches the edge of the field of view, so that its full extent is unknown.

        An axis of one voxel (a single slice) has no edge.
        """
        if self.grid_zyx is None:
            return False
        stop = self.start + np.array(self.shape)
        return any(
            n > 1 and (low == 0 or high == n) for n, low, high in zip(self.grid_zyx, self.start, stop, strict=True)
        )

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Its voxels within its bounding box."""
        return self.crop(0)

    def crop(self, pad: int | NDArray[np.int64]) -> NDArray[np.bool_]:
        """Its voxels within its bounding box, with `pad` empty voxels on each side (one number, or per axis z, y, x)."""
        pad = np.broadcast_to(np.asarray(pad), 3)
        crop = np.zeros(tuple(np.array(self.shape) + 2 * pad), dtype=bool)
        crop[tuple((self.index - self.start + pad).T)] = True
        return crop

    @cached_property
    def common_affine(self) -> NDArray[np.float64]:
        """Voxel (x, y, z) → common RAS mm."""
        return np.asarray(self.to_common @ self.affine)

    @cached_property
    def centroid(self) -> NDArray[np.float64]:
        """Mean voxel position in the visit's own RAS mm, shape (3,)."""
        return np.asarray(geometry.apply_points(self.affine, self.index.mean(axis=0)[None, ::-1])[0])

    @cached_property
    def common_centroid(self) -> NDArray[np.float64]:
        """Mean voxel position in common RAS mm, shape (3,)."""
        return np.asarray(geometry.apply_points(self.to_common, self.centroid[None])[0])

    @cached_property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest common RAS mm of its bounding box, voxels' faces included."""
        corners = geometry.corners(self.shape[::-1], outer=True) + self.start[::-1]
        points = geometry.apply_points(self.common_affine, corners)
        return points.min(axis=0), points.max(axis=0)


def label_components(
    volume: NDArray[np.generic], connectivity: int = 26
) -> tuple[NDArray[np.int32], NDArray[np.int64], int]:
    """Connected components of equal values.

    Parameters
    ----------
    volume : ndarray of int, shape (z, y, x)
        0 is background; voxels of different value are never connected.
    connectivity : {6, 18, 26}

    Returns
    -------
    index : ndarray, shape (n, 3)
        Foreground voxels as (z, y, x), in memory order.
    component : ndarray, shape (n,)
        Component of each, from 0, in order of the first voxel.
    count : int
        How many components there are.
    """
    volume = np.ascontiguousarray(volume)
    nz, ny, nx = volume.shape
    flat = np.flatnonzero(volume)
    if not flat.size:
        return np.zeros((0, 3), np.int32), np.zeros(0, np.int64), 0
    value = volume.ravel()[flat]
    row = flat // nx
    first = np.concatenate(([True], (np.diff(flat) != 1) | (np.diff(row) != 0) | (value[1:] != value[:-1])))
    begin = np.flatnonzero(first)
    length = np.diff(np.append(begin, flat.size))
    run_row, run_value = row[begin], value[begin]
    x0 = flat[begin] % nx
    x1 = x0 + length - 1
    width = nx + 4  # keeps a tolerance in x from reaching into the next row
    starts, ends = run_row * width + x0, run_row * width + x1
    y, z = run_row % ny, run_row // ny
    pairs = []
    for dz, dy, tolerance in _ROWS[connectivity]:
        inside = np.flatnonzero((y + dy >= 0) & (y + dy < ny) & (z + dz < nz))
        target = (run_row[inside] + dz * ny + dy) * width
        low = np.searchsorted(ends, target + x0[inside] - tolerance, "left")
        high = np.searchsorted(starts, target + x1[inside] + tolerance, "right")
        overlap = np.maximum(high - low, 0)
        one = np.repeat(inside, overlap)
        other = np.repeat(low - np.concatenate(([0], np.cumsum(overlap)[:-1])), overlap) + np.arange(overlap.sum())
        same_value = run_value[one] == run_value[other]
        pairs.append((one[same_value], other[same_value]))
    one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
    n = len(begin)
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count, of_run = connected_components(coo_matrix((np.ones(one.size, np.int8), (one, other)), shape=(n, n)), False)
    # number components by their first voxel
    _, seen = np.unique(of_run, return_index=True)
    rank = np.empty(count, np.int64)
    rank[np.argsort(seen)] = np.arange(count)
    index = np.stack([row // ny, row % ny, flat % nx], axis=1).astype(np.int32)
    return index, np.repeat(rank[of_run], length), int(count)


def groups(index: NDArray[np.int32], member: NDArray[np.int64], count: int) -> list[NDArray[np.int32]]:
    """Split voxels by the group each belongs to: a list of `count` (n, 3) arrays."""
    if not count:
        return []
    order = np.argsort(member, kind="stable")
    edges = np.cumsum(np.bincount(member, minlength=count))[:-1]
    return np.split(index[order], edges)
