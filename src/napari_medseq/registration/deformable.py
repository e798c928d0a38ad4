"""The deformation that remains after the affine map: a free-form deformation on a cubic B-spline grid (Rueckert et al.
1999).

Few control points and a bending penalty keep it smooth; the local volume change (Jacobian) is measured everywhere and
shows where space folds. The optimiser is SciPy's L-BFGS with analytic gradients. The weights of the splines are one
sparse matrix, so that a step takes a few products with it, whereas ITK's own B-spline metric handles a full Jacobian
per sample.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.geometry import Affine
from napari_medseq.registration.linear import Pair
from napari_medseq.registration.measure import Bending, Sampler
from napari_medseq.registration.optimise import Level, Watch
from napari_medseq.registration.transform import Spline

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: control cells along the longest side
CELLS = 8
#: weight of the bending penalty against mutual information (nats)
STIFFNESS = 0.2
_BINS = 20
_ROUNDS = (40, 40)
_REACH = 0.02


def bend(pair: Pair, compare: Sampler, matrix: Affine, *, seed: int, watch: Watch) -> tuple[Spline | None, Bending]:
    """Refine an affine result by a B-spline deformation of the fixed space (Rueckert et al. 1999, doi:10.1109/42.796284).

    It maximises mutual information with a cubic Parzen window (Thévenaz and Unser 2000, doi:10.1109/83.887976) minus a
    bending penalty, first on the coarse images, then on the middle ones.

    Parameters
    ----------
    pair : Pair
        The two images, at each resolution.
    compare : Sampler
        The points at which the images are compared.
    matrix : ndarray, shape (4, 4)
        The affine result, fixed → moving in the pair's frame; the deformation is applied before it.
    seed : int
        Of the random choice of voxels.
    watch : Watch
        Progress and cancelling.

    Returns
    -------
    spline : Spline or None
        None if the deformation does not raise the mutual information.
    bending : Bending
    """
    from scipy import optimize

    grid = ControlGrid.over(pair.levels[1], CELLS)
    values = np.zeros(3 * grid.count)
    for level, rounds in zip(pair.levels[:2], _ROUNDS, strict=True):
        task = _Task(level, grid, matrix, seed, watch)
        solution = optimize.minimize(
            task, values, jac=True, method="L-BFGS-B", options={"maxiter": rounds, "maxfun": 2 * rounds, "ftol": 1e-6}
        )
        values = np.asarray(solution.x, dtype=np.float64)
    watch.check()
    return measured(pair, compare, matrix, grid, values)


def measured(
    pair: Pair, compare: Sampler, matrix: Affine, grid: ControlGrid, values: NDArray[np.float64]
) -> tuple[Spline | None, Bending]:
    """A spline as `bend` returns it, with its measures; None if it does not raise the mutual information."""
    spline = Spline(pair.fixed_frame, grid.fixed_parameters, values)
    bent = compare.points + (grid.weights(compare.points) @ values.reshape(3, -1).T)
    straight, after = compare.at(matrix), compare.at(matrix, points=bent)
    if after.mi <= straight.mi:
        return None, Bending(straight.mi, straight.nmi)
    local = jacobian(grid, values, pair.levels[1])[pair.levels[1].zone]
    return spline, Bending(
        after.mi, after.nmi, float(local.min()), float(local.max()), folded=float((local <= 0).mean())
    )


@dataclass(frozen=True)
class ControlGrid:
    """The control points of a cubic B-spline, as ITK's BSplineTransform describes them.

    Attributes
    ----------
    size : tuple of int
        Number of control points along (x, y, z).
    fixed_parameters : tuple of float
        Size, origin, spacing and direction.
    to_index : ndarray, shape (4, 4)
        Frame → index of control points.
    spacing : ndarray, shape (3,)
    """

    size: tuple[int, int, int]
    fixed_parameters: tuple[float, ...]
    to_index: Affine
    spacing: NDArray[np.float64]

    @classmethod
    def over(cls, level: Level, cells: int) -> ControlGrid:
        """A grid over a level's fixed image, with `cells` cells along its longest side and cells as nearly cubic as
        possible."""
        import SimpleITK as sitk

        fixed, _, _ = level.itk()
        lengths = np.array(fixed.GetSize()) * np.array(fixed.GetSpacing())
        counts = [max(1, round(cells * float(s) / float(lengths.max()))) for s in lengths]
        transform = sitk.BSplineTransformInitializer(fixed, counts, 3)
        return cls.of(transform.GetFixedParameters())

    @classmethod
    def of(cls, fixed_parameters: Iterable[float]) -> ControlGrid:
        """The grid that ITK describes by size, origin, spacing and direction."""
        parameters = tuple(float(v) for v in fixed_parameters)
        origin, spacing = np.array(parameters[3:6]), np.array(parameters[6:9])
        place = np.eye(4)
        place[:3, :3] = np.array(parameters[9:18]).reshape(3, 3) * spacing
        place[:3, 3] = origin
        x, y, z = (int(v) for v in parameters[:3])
        return cls((x, y, z), parameters, np.asarray(np.linalg.inv(place)), spacing)

    @property
    def count(self) -> int:
        """Total number of control points."""
        return int(np.prod(self.size))

    def weights(self, points: NDArray[np.float64]) -> csr_matrix:
        """The sparse matrix (points, control points) from coefficients to displacements; 0 outside the grid."""
        from scipy import sparse

        u = geometry.apply_points(self.to_index, points)
        first = np.floor(u).astype(np.intp) - 1
        size = np.array(self.size)
        inside: NDArray[np.bool_] = np.all((first >= 0) & (first + 3 < size), axis=1)
        first = np.clip(first, 0, np.maximum(size - 4, 0))
        basis = _cubic(u[:, :, None] - (first[:, :, None] + np.arange(4)))  # (points, axis, 4)
        weight = np.einsum("pi,pj,pk->pkji", basis[:, 0], basis[:, 1], basis[:, 2]).reshape(len(u), 64)
        offset = np.arange(4)
        at = (
            (first[:, 2, None, None, None] + offset[:, None, None]) * size[1] * size[0]
            + (first[:, 1, None, None, None] + offset[None, :, None]) * size[0]
            + (first[:, 0, None, None, None] + offset[None, None, :])
        ).reshape(len(u), 64)
        rows = np.arange(0, 64 * len(u) + 1, 64)
        return sparse.csr_matrix(((weight * inside[:, None]).ravel(), at.ravel(), rows), shape=(len(u), self.count))


def _cubic(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value of the cubic B-spline at distance d."""
    a = np.abs(d)
    return np.where(a < 1, 2 / 3 - a**2 + a**3 / 2, np.where(a < 2, (2 - a) ** 3 / 6, 0.0))


def _cubic_slope(d: NDArray[np.float64]) -> NDArray[np.float64]:
    a = np.abs(d)
    return np.sign(d) * np.where(a < 1, -2 * a + 1.5 * a**2, np.where(a < 2, -((2 - a) ** 2) / 2, 0.0))


class _Task:
    """Mutual information and its gradient with respect to the coefficients at one resolution, as the optimiser calls
    it."""

    def __init__(self, level: Level, grid: ControlGrid, matrix: Affine, seed: int, watch: Watch) -> None:
        from scipy import ndimage

        at = np.flatnonzero(level.zone)
        if at.size > 25_000:
            at = np.sort(np.random.default_rng(seed).choice(at, 25_000, replace=False))
        z, y, x = np.unravel_index(at, level.fixed.shape)
        self.points = geometry.apply_points(level.fixed_affine, np.stack([x, y, z], axis=1))
        self.weights = grid.weights(self.points)
        low, high = float(level.fixed.min()), float(level.fixed.max())
        scaled = (level.fixed.ravel()[at] - low) * (_BINS / (high - low))
        self.bins = np.clip(scaled.astype(np.intp), 0, _BINS - 1)
        # two bins at each end hold the Parzen window's tails
        low, high = float(level.moving.min()), float(level.moving.max())
        self.moving = ndimage.gaussian_filter((level.moving - low) * ((_BINS - 5) / (high - low)) + 2, 0.7)
        self.to_voxel = np.asarray(np.linalg.inv(level.moving_affine) @ matrix)
        self.grid, self.watch, self.flat = grid, watch, level.flat

    def __call__(self, values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        self.watch.check()
        self.watch.done = min(self.watch.done + 3, self.watch.total)
        if self.watch.progress is not None:
            self.watch.progress(self.watch.done, self.watch.total, self.watch.message)
        coefficients = values.reshape(3, -1)
        shift = np.asarray(self.weights @ coefficients.T)
        information, by_point = self._information(self.points + shift)
        gradient = np.asarray(self.weights.T @ by_point).T
        if self.flat:
            gradient[2] = 0
        penalty, slope = self._bending(coefficients)
        return penalty - information, (slope - gradient).ravel()

    def _information(self, points: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Mutual information, and its derivative with respect to each point's position, (points, 3)."""
        from scipy import ndimage

        voxels = geometry.apply_points(self.to_voxel, points)[:, ::-1].T
        size = np.array(self.moving.shape)[:, None]
        inside = np.all((voxels > -0.5) & (voxels < size - 0.5), axis=0)
        n = max(1, int(inside.sum()))
        value = ndimage.map_coordinates(self.moving, voxels, order=1, mode="nearest")
        first = np.floor(value).astype(np.intp) - 1
        gap = value[:, None] - (first[:, None] + np.arange(4))
        share, slope = _cubic(gap), _cubic_slope(gap)
        cell = self.bins[:, None] * _BINS + first[:, None] + np.arange(4)
        joint = np.bincount(cell[inside].ravel(), share[inside].ravel(), _BINS * _BINS).reshape(_BINS, _BINS) / n
        a, b = joint.sum(axis=1, keepdims=True), joint.sum(axis=0, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(joint > 0, np.log(joint / (a * b)), 0.0)
            conditional = np.where(joint > 0, np.log(joint / b), 0.0).ravel()
        information = float((joint * ratio).sum())
        by_value = (slope * conditional[cell]).sum(axis=1) * inside / n
        # (x, y, z): the gradient of the interpolated image itself, not of its voxels
        by_voxel = np.zeros((len(points), 3))
        for axis in range(3):
            if self.moving.shape[axis] > 1:
                ahead = np.zeros((3, 1))
                ahead[axis] = _REACH
                forward, less = (
                    ndimage.map_coordinates(self.moving, voxels + sign * ahead, order=1, mode="nearest")
                    for sign in (1, -1)
                )
                by_voxel[:, 2 - axis] = (forward - less) / (2 * _REACH)
        return information, by_value[:, None] * (by_voxel @ self.to_voxel[:3, :3])

    def _bending(self, coefficients: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Mean squared second difference of the coefficients, in cells, and its derivative."""
        nx, ny, nz = self.grid.size
        c = coefficients.reshape(3, nz, ny, nx) / float(self.grid.spacing.mean())
        total, slope = 0.0, np.zeros_like(c)
        for axis in (1, 2, 3):
            if c.shape[axis] < 3:
                continue
            second = np.diff(c, 2, axis=axis)
            total += float((second**2).sum())
            ends = [(0, 0)] * 4
            ends[axis] = (2, 2)
            # the transpose of a second difference is a second difference of the padded result
            slope += 2 * np.diff(np.pad(second, ends), 2, axis=axis)
        scale = STIFFNESS * 100 / c.size
        return scale * total, (scale / float(self.grid.spacing.mean()) * slope).reshape(3, -1)


def jacobian(grid: ControlGrid, values: NDArray[np.float64], level: Level) -> NDArray[np.float64]:
    """Local volume change of a deformation at each fixed voxel of a level, shape (z, y, x): 1 keeps volume, ≤ 0
    folds."""
    shape = level.fixed.shape
    z, y, x = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    points = geometry.apply_points(level.fixed_affine, np.stack([x, y, z], axis=-1).reshape(-1, 3))
    coefficients = values.reshape(3, -1).T
    change = np.zeros((len(points), 3, 3))
    step = 0.05 * float(grid.spacing.min())
    for axis in range(3):
        if level.flat and axis == 2:
            continue
        ahead = np.zeros(3)
        ahead[axis] = step
        for sign in (1, -1):
            # in blocks, because the weights of a whole volume would be large
            for start in range(0, len(points), 50_000):
                part = slice(start, start + 50_000)
                shift = grid.weights(points[part] + sign * ahead) @ coefficients
                change[part, :, axis] += sign * shift / (2 * step)
    return np.asarray(np.linalg.det(change + np.eye(3)).reshape(shape))
