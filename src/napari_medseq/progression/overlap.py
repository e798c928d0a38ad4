"""The overlap of two lesions at any dilation, measured on their native grids without warping.

Instead of dilating volumes, each voxel of one lesion is looked up in the other's mask or distance map, on the other's native
grid: all radii at once, and a cost that follows the lesions and not the volume.
"""

from __future__ import annotations

from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.geometry import Affine
from napari_medseq.progression.components import Lesion

#: more voxels than this are sampled evenly when a share is measured
_SAMPLE = 20_000
#: affines closer than this belong to grids that differ by a shift alone
_SAME = 1e-6
V = TypeVar("V", bound=np.generic)


def _voxel_map(a: Lesion, b: Lesion) -> Affine:
    """4×4 from voxel (x, y, z) of `a` to voxel (x, y, z) of `b`, through common space."""
    return np.asarray(np.linalg.solve(b.common_affine, a.common_affine))


def _sample(index: NDArray[np.int32]) -> NDArray[np.int32]:
    return index if len(index) <= _SAMPLE else index[np.linspace(0, len(index) - 1, _SAMPLE).astype(int)]


def look_up(
    a: Lesion, b: Lesion, crop: NDArray[V], pad: NDArray[np.int64], outside: float, *, sample: bool = True
) -> NDArray[V]:
    """Values of `crop` (`b`'s bounding box with `pad` voxels around it) at the voxels of `a`."""
    index, matrix = _sample(a.index) if sample else a.index, _voxel_map(a, b)
    offset = b.start - pad
    if (
        np.abs(matrix[:3, :3] - np.eye(3)).max() < _SAME
    ):  # voxels of one grid, or of one shifted by whole voxels or parts
        at = index - (offset - np.rint(matrix[2::-1, 3]).astype(np.int64))
    else:
        at = np.rint(geometry.apply_points(matrix, index[:, ::-1])[:, ::-1] - offset).astype(np.int64)
    inside = ((at >= 0) & (at < crop.shape)).all(axis=1)
    values = np.full(len(at), outside, dtype=crop.dtype)
    values[inside] = crop[tuple(at[inside].T)]
    return values


class Pair:
    """Shares of two lesions in one another at any dilation, computed when first asked for."""

    def __init__(self, a: Lesion, b: Lesion, error_mm: float | None) -> None:
        self.a, self.b, self._error = a, b, error_mm
        self._far: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    @cached_property
    def inside_a(self) -> float:
        """Share of `b` that lies in `a`."""
        return float(look_up(self.b, self.a, self.a.mask, np.zeros(3, np.int64), 0).mean())

    @cached_property
    def inside_b(self) -> float:
        """Share of `a` that lies in `b`."""
        return float(look_up(self.a, self.b, self.b.mask, np.zeros(3, np.int64), 0).mean())

    @property
    def share(self) -> float:
        """The larger of both shares, without dilation."""
        return max(self.inside_a, self.inside_b)

    def dilated_share(self, radius: float, reach: float) -> float:
        """The larger share after dilating by `radius` voxel units, at most `reach`."""
        if self._far is None:
            self._far = self._distances(self.a, self.b, reach), self._distances(self.b, self.a, reach)
        return max(float((d <= radius + 1e-6).mean()) for d in self._far)

    def _distances(self, a: Lesion, b: Lesion, reach: float) -> NDArray[np.float32]:
        """Distance of each voxel of `a` from `b`, in voxels of the coarser grid."""
        from scipy import ndimage

        unit = units_zyx(a, b, self._error)
        sampling = b.spacing_zyx / unit
        pad = np.ceil(reach / sampling).astype(np.int64)
        far = ndimage.distance_transform_edt(~b.crop(pad), sampling=sampling).astype(np.float32)
        return look_up(a, b, far, pad, np.inf)


def units_zyx(a: Lesion, b: Lesion, error_mm: float | None) -> NDArray[np.float64]:
    """Size of one voxel unit in mm along `b`'s (z, y, x): the coarser of both grids, or the registration error if larger."""
    of_a = np.abs(_voxel_map(a, b)[:3, :3]).max(axis=1)[::-1] * b.spacing_zyx
    return np.asarray(np.maximum(np.maximum(of_a, b.spacing_zyx), error_mm or 0.0))
