"""Affines, axis codes and lossless reorientation: pure arithmetic on small arrays.

Conventions used throughout the package:

* an *affine* is a 4×4 float64 matrix from voxel index (x, y, z) to patient RAS+ millimetres (nibabel's convention);
* arrays are indexed (z, y, x), so array axis ``-1`` of a volume is the affine's first column;
* the house orientation is (z, y, x) = (Superior, Posterior, Left): an axial slice drawn with y down and x to the right shows
  anterior up and the patient's left on the screen's right. Its axis codes, in the affine's (x, y, z) order, are ``LPS``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_medseq.errors import GeometryError

#: 4×4
Affine = NDArray[np.float64]
#: voxels of any type, (z, y, x)
Volume = NDArray[np.generic]

HOUSE_CODES = ("L", "P", "S")
#: RAS+ ↔ LPS+ (DICOM, ITK); its own inverse.
RAS_LPS: Affine = np.diag([-1.0, -1.0, 1.0, 1.0])
_NEGATIVE, _POSITIVE = ("L", "P", "I"), ("R", "A", "S")


def as_affine(matrix: ArrayLike) -> Affine:
    """Return a read-only, checked float64 copy of a 4×4 affine.

    Raises
    ------
    GeometryError
        If the matrix is not 4×4, not finite, singular, or its last row is not (0, 0, 0, 1).
    """
    try:
        affine = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        raise GeometryError(
            "The affine is not a matrix of numbers; give a 4×4 matrix from voxel (x, y, z) to RAS+ mm."
        ) from None
    if affine.shape != (4, 4):
        raise GeometryError(f"The affine has shape {affine.shape}; give a 4×4 matrix from voxel (x, y, z) to RAS+ mm.")
    if not np.isfinite(affine).all():
        raise GeometryError("The affine holds NaN or infinite numbers; check the orientation fields of the file.")
    if not np.allclose(affine[3], (0, 0, 0, 1)):
        raise GeometryError(f"The affine's last row is {affine[3].tolist()}; it must be 0 0 0 1.")
    lengths = spacing(affine)
    if (lengths <= 0).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
        raise GeometryError("The affine is singular: two voxel axes point the same way or have no length.")
    affine.setflags(write=False)
    return affine


def spacing(affine: Affine) -> NDArray[np.float64]:
    """Millimetres per voxel step along (x, y, z): the lengths of the affine's columns."""
    lengths: NDArray[np.float64] = np.linalg.norm(affine[:3, :3], axis=0)
    return lengths


def voxel_volume_mm3(affine: Affine) -> float:
    """Volume of one voxel in mm³: the determinant, so that a sheared grid (gantry tilt) is right too."""
    return float(abs(np.linalg.det(affine[:3, :3])))


def closest_axes(affine: Affine) -> tuple[tuple[int, int], ...]:
    """For each voxel axis (x, y, z), the world axis it runs along most closely and the sign with which it does.

    Each world axis (R, A, S) is given to one voxel axis; the assignment maximises the summed absolute direction cosines,
    so that it is unique except for exact ties, which go to the earlier permutation.

    Returns
    -------
    tuple of (world_axis, sign)
        `world_axis` 0, 1, 2 for R, A, S; `sign` +1 or -1.
    """
    cosines = affine[:3, :3] / spacing(affine)
    # rounding keeps exact ties (45°) from being decided by the last bit, so that flips and transposes round-trip
    best = max(permutations(range(3)), key=lambda p: round(sum(abs(cosines[p[k], k]) for k in range(3)), 9))
    return tuple((w, 1 if cosines[w, k] >= 0 else -1) for k, w in enumerate(best))


def axis_codes(affine: Affine) -> tuple[str, str, str]:
    """Anatomical direction, for each voxel axis (x, y, z), in which its index increases, e.g. ``("L", "P", "S")``."""
    a, b, c = (_POSITIVE[w] if s > 0 else _NEGATIVE[w] for w, s in closest_axes(affine))
    return a, b, c


@dataclass(frozen=True)
class Reorientation:
    """A lossless change of voxel axes: a permutation and flips.

    Attributes
    ----------
    order : tuple of int
        New voxel axis k (x, y, z) is old voxel axis ``order[k]``.
    flips : tuple of bool
        Whether new axis k runs against old axis ``order[k]``.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    @property
    def inverse(self) -> Reorientation:
        """The reorientation that undoes this one."""
        order, flips = [0, 0, 0], [False, False, False]
        for new, old in enumerate(self.order):
            order[old], flips[old] = new, self.flips[new]
        return Reorientation((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]))

    def apply_affine(self, affine: Affine, shape: tuple[int, int, int]) -> Affine:
        """The affine of the reoriented grid; `shape` is the old grid's size along (x, y, z)."""
        change = np.zeros((4, 4))
        change[3, 3] = 1.0
        for new, old in enumerate(self.order):
            change[old, new] = -1.0 if self.flips[new] else 1.0
            if self.flips[new]:
                change[old, 3] = shape[old] - 1
        return np.asarray(affine @ change, dtype=np.float64)

    def apply_zyx(self, volume: NDArray[np.generic]) -> NDArray[np.generic]:
        """Reorient an array whose last three axes are (z, y, x); leading axes stay. A view for numpy, lazy for dask."""
        lead = volume.ndim - 3
        # array axis of voxel axis k is lead + 2 - k
        axes = tuple(range(lead)) + tuple(lead + 2 - self.order[k] for k in (2, 1, 0))
        index = (slice(None),) * lead + tuple(slice(None, None, -1 if self.flips[k] else 1) for k in (2, 1, 0))
        return volume.transpose(axes)[index]


def to_codes(affine: Affine, codes: tuple[str, str, str] = HOUSE_CODES) -> Reorientation:
    """The reorientation that turns a grid with `affine` so that its axis codes become `codes` (in (x, y, z) order).

    Raises
    ------
    GeometryError
        If `codes` does not name each of the three anatomical axes once.
    """
    turns = []
    for code in codes:
        source = _POSITIVE if code in _POSITIVE else _NEGATIVE
        if code not in source:
            raise GeometryError(f"{''.join(codes)!r} is not an orientation; use three of R/L, A/P, S/I, such as 'LPS'.")
        turns.append((source.index(code), 1 if source is _POSITIVE else -1))
    if sorted(w for w, _ in turns) != [0, 1, 2]:
        raise GeometryError(f"{''.join(codes)!r} names an anatomical axis twice; use one each of R/L, A/P and S/I.")
    have = closest_axes(affine)
    order = tuple(next(k for k, (w, _) in enumerate(have) if w == world) for world, _ in turns)
    flips = tuple(have[old][1] != sign for old, (_, sign) in zip(order, turns, strict=True))
    return Reorientation((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]))


def apply_points(affine: Affine, points: ArrayLike) -> NDArray[np.float64]:
    """Map an (n, 3) array of (x, y, z) points through a 4×4 affine."""
    p = np.asarray(points, dtype=np.float64)
    return np.asarray(p @ affine[:3, :3].T + affine[:3, 3], dtype=np.float64)


def corners(grid: Sequence[int], *, outer: bool = False) -> NDArray[np.float64]:
    """The corners of a box of voxels, in voxels.

    Parameters
    ----------
    grid : sequence of int
        Voxels along each axis; in the affine's order (x, y, z) the answer is ready for `apply_points`.
    outer : bool
        The corners of the outermost voxels (−0.5 to n − 0.5); default the middles of these (0 to n − 1).

    Returns
    -------
    ndarray, shape (2 ** len(grid), len(grid))

    Examples
    --------
    >>> corners((4, 3)).tolist()
    [[0.0, 0.0], [0.0, 2.0], [3.0, 0.0], [3.0, 2.0]]
    """
    low, high = (-0.5, 0.5) if outer else (0.0, 0.0)
    return np.array(list(product(*((low, n - 1 + high) for n in grid))), dtype=np.float64)
