"""How well two images agree under a transform, measured independently of the optimiser: mutual information, overlap,
distances.

The same numbers choose the starting position, tell whether a registration improved the agreement, and decide whether
it can be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.geometry import Affine
from napari_medseq.volumes.foreground import foreground

_BINS = 32


@dataclass(frozen=True)
class Agreement:
    """Agreement of two images at one relative position.

    Attributes
    ----------
    mi : float
        Mutual information in nats, from a joint histogram of 32×32 bins (bias-corrected after Miller and Madow: smaller by
        (32−1)²/2n, so that unrelated noise gives about 0).
    nmi : float
        Normalised mutual information (H(a)+H(b))/H(a,b), 1 to 2 (Studholme et al. 1999, doi:10.1016/S0031-3203(98)00091-0).
    correlation : float
        Absolute value of Pearson's correlation.
    covered : float
        Share of the fixed foreground that lies inside the moving image's field of view, 0 to 1.
    dice : float
        Dice overlap of the two foregrounds, on the fixed image's points that the moving image covers.
    """

    mi: float
    nmi: float
    correlation: float
    covered: float
    dice: float


@dataclass(frozen=True)
class Bending:
    """Measures of a deformation.

    Attributes
    ----------
    mi, nmi : float
        Mutual information in nats, and normalised, of the deformed images.
    jacobian_min, jacobian_max : float
        Local volume change in the fixed zone.
    folded : float
        Share of the zone in which space folds (a Jacobian of 0 or less).
    """

    mi: float
    nmi: float
    jacobian_min: float = 1.0
    jacobian_max: float = 1.0
    folded: float = 0.0


class Sampler:
    """Compares a fixed image's points with a moving image under any 4×4 matrix (fixed point → moving point).

    Parameters
    ----------
    fixed, moving : ndarray, shape (z, y, x)
    fixed_affine, moving_affine : ndarray, shape (4, 4)
        Voxel (x, y, z) → the frame of the matrices.
    mask : ndarray of bool, shape (z, y, x), optional
        Fixed voxels that count.
    limit : int
        Approximate largest number of fixed voxels, drawn with `seed`.
    """

    def __init__(
        self,
        fixed: NDArray[np.float32],
        fixed_affine: Affine,
        moving: NDArray[np.float32],
        moving_affine: Affine,
        *,
        mask: NDArray[np.bool_] | None = None,
        limit: int = 20_000,
        seed: int = 0,
    ) -> None:
        body = foreground(fixed)
        # a margin of air around the body distinguishes shifts, while air far away only dilutes the measure
        zone = near(body) if mask is None else mask
        at = np.flatnonzero(zone)
        if at.size < 50:
            at = np.arange(fixed.size)
        if at.size > limit:
            at = np.sort(np.random.default_rng(seed).choice(at, limit, replace=False))
        z, y, x = np.unravel_index(at, fixed.shape)
        self.points = geometry.apply_points(fixed_affine, np.stack([x, y, z], axis=1))
        self.body = body.ravel()[at] if body.any() else np.ones(at.size, bool)
        self._fixed = fixed.ravel()[at].astype(np.float64)
        self._fixed_bins = _binned(self._fixed, float(fixed.min()), float(fixed.max()))
        self._moving = np.asarray(moving, dtype=np.float32)
        self._moving_body = foreground(moving).astype(np.float32)
        self._range = float(moving.min()), float(moving.max())
        self._to_voxel = np.linalg.inv(moving_affine)
        self.centre = self.points[self.body].mean(axis=0)
        weights = np.argwhere(self._moving_body > 0)[:, ::-1]
        size = np.array(moving.shape[::-1], dtype=float)
        middle = weights.mean(axis=0) if len(weights) else (size - 1) / 2
        self.moving_centre = geometry.apply_points(moving_affine, middle[None])[0]

    def at(self, matrix: Affine, *, points: NDArray[np.float64] | None = None) -> Agreement:
        """The agreement with the moving image at ``matrix`` (fixed point → moving point).

        `points`, if given, stand in for the fixed points before the matrix is applied (a deformation's result).
        """
        from scipy import ndimage

        points = self.points if points is None else points
        voxels = geometry.apply_points(np.asarray(self._to_voxel @ matrix), points)[:, ::-1].T
        size = np.array(self._moving.shape)[:, None]
        inside: NDArray[np.bool_] = np.all((voxels > -0.5) & (voxels < size - 0.5), axis=0)
        covered = float(inside[self.body].mean()) if self.body.any() else 0.0
        if np.count_nonzero(inside) < 50:
            return Agreement(0.0, 1.0, 0.0, covered, 0.0)
        where = voxels[:, inside]
        values = ndimage.map_coordinates(self._moving, where, order=1, mode="nearest").astype(np.float64)
        body = ndimage.map_coordinates(self._moving_body, where, order=1, mode="nearest") > 0.5
        body_here = self.body[inside]
        together = int(np.count_nonzero(body_here) + np.count_nonzero(body))
        dice = 2.0 * float(np.count_nonzero(body_here & body)) / together if together else 0.0
        mi, nmi = _information(self._fixed_bins[inside], _binned(values, *self._range))
        a, b = self._fixed[inside], values
        spread = float(a.std() * b.std())
        correlation = abs(float(((a - a.mean()) * (b - b.mean())).mean()) / spread) if spread > 0 else 0.0
        return Agreement(mi, nmi, correlation, covered, dice)

    def apart(self, one: Affine, other: Affine) -> float:
        """Root-mean-square distance, over the fixed foreground, between the images of points under two matrices."""
        points = self.points[self.body]
        d = geometry.apply_points(one, points) - geometry.apply_points(other, points)
        return float(np.sqrt((d**2).sum(axis=1).mean()))

    @property
    def extent(self) -> float:
        """Size of the fixed foreground: twice its root-mean-square distance from its centre."""
        points = self.points[self.body] - self.centre
        return 2.0 * float(np.sqrt((points**2).sum(axis=1).mean()))

    def chance(self, matrix: Affine, *, flat: bool = False) -> float:
        """The largest mutual information at six positions that are wrong by 40 % of the foreground's extent.

        An agreement that is not clearly above this value occurs anywhere, so that it does not show how the images are
        aligned.
        """
        best = 0.0
        for axis in range(2 if flat else 3):
            for sign in (-1, 1):
                wrong = np.eye(4)
                wrong[axis, 3] = sign * 0.4 * self.extent
                agreement = self.at(np.asarray(matrix @ wrong))
                if agreement.covered > 0.2:
                    best = max(best, agreement.mi)
        return best


def near(body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy import ndimage

    around = max(2, round(0.06 * max(body.shape)))
    plane = np.zeros((3, 3, 3), bool)
    plane[1] = True
    return np.asarray(ndimage.binary_dilation(body, structure=plane, iterations=around))


def _binned(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.intp]:
    scaled = (values - low) * (_BINS / (high - low)) if high > low else np.zeros_like(values)
    return np.clip(scaled.astype(np.intp), 0, _BINS - 1)


def _information(a: NDArray[np.intp], b: NDArray[np.intp]) -> tuple[float, float]:
    joint = np.bincount(a * _BINS + b, minlength=_BINS * _BINS).reshape(_BINS, _BINS) / a.size

    def entropy(p: NDArray[np.float64]) -> float:
        p = p[p > 0]
        return -float((p * np.log(p)).sum())

    ha, hb, hab = entropy(joint.sum(axis=1)), entropy(joint.sum(axis=0)), entropy(joint.ravel())
    cells = np.count_nonzero(joint)
    rows, columns = np.count_nonzero(joint.sum(axis=1)), np.count_nonzero(joint.sum(axis=0))
    bias = (cells - rows - columns + 1) / (2 * a.size)
    return float(max(0.0, ha + hb - hab - max(0.0, bias))), (ha + hb) / hab if hab > 0 else 1.0
