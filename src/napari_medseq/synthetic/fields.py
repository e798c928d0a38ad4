"""Sampling grids in millimetres, and smooth random fields over them, from which the generator builds images.

Everything is float32 and seeded. Smooth quantities are evaluated on few nodes per slice and interpolated to full
resolution by two small matrix products, so that a whole head takes about a second. The products are in float64, so
that the result does not depend on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import CubicSpline

Array = NDArray[np.float32]
Points = tuple[Array, Array, Array]


@lru_cache(maxsize=256)
def spline_basis(nodes: int, size: int, start: float, stop: float) -> NDArray[np.float64]:
    """Matrix (size, nodes): cubic interpolation of evenly spread samples at `size` places from `start` to `stop`."""
    places = np.linspace(start, stop, size)
    matrix = np.ones((size, 1)) if nodes == 1 else CubicSpline(np.arange(nodes), np.eye(nodes))(places)
    return np.ascontiguousarray(matrix, dtype=np.float64)


@dataclass(frozen=True)
class Grid:
    """A scan's voxel grid, each slice divided into thinner ones, and how the head lies in it.

    Parameters
    ----------
    shape : tuple of int
        (z, y, x) voxels of the scan.
    spacing : tuple of float
        (z, y, x) mm.
    centre : tuple of float
        (x, y, z) scanner position, mm LPS, of the middle of the grid; the head's own origin is at (0, 0, 0) + `shift`.
    rotation : tuple of float
        Head rotation about x, y, z in degrees, scanner → head.
    shift : tuple of float
        Head translation in mm along x, y, z.
    thin : int
        Sub-slices per slice; their mean is the partial-volume effect of a thick slice.
    window : tuple of int
        y0, y1, x0, x1: the part of each slice that is computed (the rest is air).
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    thin: int = 2
    window: tuple[int, int, int, int] | None = None

    @property
    def span(self) -> tuple[int, int, int, int]:
        """The window; the whole slice if none is set."""
        return self.window or (0, self.shape[1], 0, self.shape[2])

    @property
    def matrix(self) -> NDArray[np.float64]:
        """4×4, scanner position (mm LPS) → position in the head's own space."""
        rx, ry, rz = np.deg2rad(self.rotation)
        cx, sx, cy, sy, cz, sz = np.cos(rx), np.sin(rx), np.cos(ry), np.sin(ry), np.cos(rz), np.sin(rz)
        turn = (
            np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
            @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
            @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        )
        matrix = np.eye(4)
        matrix[:3, :3] = turn
        matrix[:3, 3] = -turn @ np.asarray(self.shift)
        return matrix

    def _axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Scanner positions of sub-slices (z), rows (y) and columns (x), mm."""
        along: list[NDArray[np.float64]] = [
            np.asarray(c + (np.arange(n) - (n - 1) / 2) * s, dtype=np.float64)
            for n, s, c in zip(self.shape, self.spacing, self.centre[::-1], strict=True)
        ]
        offsets = ((np.arange(self.thin) + 0.5) / self.thin - 0.5) * self.spacing[0] * 0.85
        z: NDArray[np.float64] = (along[0][:, None] + offsets).ravel()
        return z, along[1], along[2]

    def _to_head(self, z: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> Points:
        m = self.matrix
        z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
        px, py, pz = (
            (m[k, 0] * x + m[k, 1] * y + m[k, 2] * z + m[k, 3]).astype(np.float32, copy=False) for k in range(3)
        )
        return px, py, pz

    def nodes(self, step: int) -> Points:
        """Head-space x, y, z at every `step`-th pixel of the window: (sub-slices, rows, columns) each."""
        z, y, x = self._axes()
        y0, y1, x0, x1 = self.span
        rows = np.linspace(y[y0], y[y1 - 1], self._count(y1 - y0, step))
        columns = np.linspace(x[x0], x[x1 - 1], self._count(x1 - x0, step))
        return self._to_head(z, rows, columns)

    def box(self, lo: NDArray[np.float64], hi: NDArray[np.float64]) -> tuple[tuple[slice, slice, slice], Points]:
        """Slices into a window-sized array, and its points, that cover the head-space box `lo`..`hi` (x, y, z mm)."""
        back = np.linalg.inv(self.matrix)
        corners = np.array(np.meshgrid(*zip(lo, hi, strict=True))).reshape(3, -1).T @ back[:3, :3].T + back[:3, 3]
        low, high = corners.min(0)[::-1], corners.max(0)[::-1]
        axes = list(self._axes())
        y0, y1, x0, x1 = self.span
        axes[1], axes[2] = axes[1][y0:y1], axes[2][x0:x1]
        edges = [np.searchsorted(a, (p, q)) for a, p, q in zip(axes, low, high, strict=True)]
        where = [slice(int(p), int(q)) for p, q in edges]
        parts = [a[s] for a, s in zip(axes, where, strict=True)]
        return (where[0], where[1], where[2]), self._to_head(parts[0], parts[1], parts[2])

    @staticmethod
    def _count(size: int, step: int) -> int:
        return max(2, -(-(size - 1) // step) + 1)

    def up(self, values: Array) -> Array:
        """Interpolate values at `nodes` to every pixel of the window: (sub-slices, rows, columns)."""
        y0, y1, x0, x1 = self.span
        rows = spline_basis(values.shape[1], y1 - y0, 0.0, values.shape[1] - 1.0)
        columns = spline_basis(values.shape[2], x1 - x0, 0.0, values.shape[2] - 1.0)
        full: Array = np.matmul(rows, np.matmul(values.astype(np.float64), columns.T)).astype(np.float32)
        return full

    def thicken(self, values: Array) -> Array:
        """Mean over sub-slices, which gives full slices (z, y, x); 0 outside the window."""
        y0, y1, x0, x1 = self.span
        full = np.zeros(self.shape, dtype=np.float32)
        full[:, y0:y1, x0:x1] = values.reshape(self.shape[0], self.thin, y1 - y0, x1 - x0).mean(1)
        return full


class Field:
    """A smooth Gaussian-like random field in head space with mean 0 and standard deviation about 1.

    Parameters
    ----------
    rng : numpy.random.Generator
    scale : float
        Distance between independent values, mm.
    extent : float
        Half the side of the cube that is covered, mm; beyond it the field is mirrored.
    """

    def __init__(self, rng: np.random.Generator, scale: float, extent: float = 125.0) -> None:
        count = max(4, int(np.ceil(2 * extent / scale)) + 1)
        fine = 3 * (count - 1) + 1
        lattice = rng.standard_normal((count, count, count))
        matrix = spline_basis(count, fine, 0.0, count - 1.0)
        for _ in range(3):
            lattice = np.tensordot(lattice, matrix, axes=(0, 1))
        self.lattice: Array = np.ascontiguousarray(lattice / lattice.std(), dtype=np.float32)
        self.extent, self.step = extent, 2 * extent / (fine - 1)
        self.scale = scale

    def __call__(self, x: Array, y: Array, z: Array) -> Array:
        """Values at head-space points (mm)."""
        at = np.stack(np.broadcast_arrays(x, y, z)).astype(np.float32, copy=False)
        at = (at + np.float32(self.extent)) / np.float32(self.step)
        values: Array = ndimage.map_coordinates(self.lattice, at, order=1, mode="mirror", output=np.float32)
        return values


def inside(distance: Array, width: float = 1.0) -> Array:
    """Soft membership 0..1 of points with signed `distance` (mm, negative inside), over an edge `width` mm wide."""
    ramp = distance * np.float32(-1.0 / width)
    ramp += np.float32(0.5)
    return np.clip(ramp, 0.0, 1.0, out=ramp)


def over(signal: Array, amount: Array, value: Array | float | np.float32) -> None:
    """Paint `value` over `signal` in place, with opacity `amount` (0..1)."""
    signal += amount * (np.asarray(value, dtype=np.float32) - signal)
