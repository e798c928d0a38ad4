"""The slice view: where a volume is drawn so that napari's slider and clicks stay true to its slices.

napari's two-dimensional slicing looks at the hidden axis alone and ignores a rotation out of the shown plane. With a
tilted transform a click would land slices away from what is shown, and steps of the slider would be blank. The slice
view is the nearest transform without that part: the rotation within the slice is kept, voxel sizes and volume are kept,
and the volume's centre stays where it is. It serves display only; measures use the true affine.

World coordinates here are napari's for our layers: millimetres along (S, P, L), that is DICOM's LPS+ read as (z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseq.geometry import RAS_LPS, Affine, apply_points, corners
from napari_medseq.sequence import SPACE

Matrix = NDArray[np.float64]
_REVERSE: Matrix = np.eye(4)[[2, 1, 0, 3]]


def world_matrix(affine: Affine) -> Matrix:
    """Voxel (z, y, x) → world (S, P, L) in mm, 4×4, from an affine of voxel (x, y, z) → RAS+ mm."""
    return np.asarray(_REVERSE @ RAS_LPS @ affine @ _REVERSE, dtype=np.float64)


def ras_affine(matrix: Matrix) -> Affine:
    """The affine, voxel (x, y, z) → RAS+ mm, of a 4×4 `world_matrix`; the inverse of that function."""
    return np.asarray(RAS_LPS @ _REVERSE @ matrix @ _REVERSE, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class SliceView:
    """A transform of (z, y, x) as napari takes it: world = rotate · shear · (scale · index) + translate.

    Attributes
    ----------
    scale, translate : numpy.ndarray, shape (3,)
    rotate, shear : numpy.ndarray, shape (3, 3)
        Rotation within the slice; the shear is the identity unless the in-plane axes are oblique.
    moved_voxels : float
        The largest distance of any drawn voxel from its true place, in voxels along one of the grid's axes.
    """

    scale: Matrix
    rotate: Matrix
    shear: Matrix
    translate: Matrix
    moved_voxels: float

    @property
    def matrix(self) -> Matrix:
        """Voxel (z, y, x) → world (S, P, L), 4×4."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotate @ self.shear @ np.diag(self.scale)
        matrix[:3, 3] = self.translate
        return matrix

    @property
    def is_tilted(self) -> bool:
        """Whether the volume is really tilted, so that some voxel is drawn more than half a voxel from its place."""
        return self.moved_voxels > 0.5


def slice_view(affine: Affine, grid: tuple[int, int, int], slice_axis: str = "z") -> SliceView:
    """The nearest transform that does not mix `slice_axis` with the two axes of the slice.

    Parameters
    ----------
    affine : numpy.ndarray, shape (4, 4)
        Voxel (x, y, z) → RAS+ mm, of a grid in house orientation (axis codes LPS).
    grid : tuple of int
        Voxels along (x, y, z); the view turns about the grid's centre.
    slice_axis : {"z", "y", "x"}
        The axis that is stepped through.

    Returns
    -------
    SliceView
        Equal to the true transform if the volume is not tilted.

    Notes
    -----
    With M the true linear part, the in-plane columns are replaced by Q·L, where L (upper triangular) has their Gram
    matrix, so that lengths and angles within the slice stay, and Q is the rotation nearest to what they do in the plane
    (orthogonal Procrustes; Schönemann 1966). The slice step is the distance between slices, so |det| stays too.
    """
    true = world_matrix(affine)
    linear = true[:3, :3]
    s = SPACE.index(slice_axis)
    plane = [k for k in range(3) if k != s]
    gram = linear[:, plane].T @ linear[:, plane]
    lengths = np.linalg.cholesky(gram).T
    u, _, vt = np.linalg.svd(linear[np.ix_(plane, plane)] @ lengths.T)
    q = u @ np.diag([1.0, np.sign(np.linalg.det(u @ vt)) or 1.0]) @ vt
    if abs(q[0, 1]) < 1e-9:
        q = np.eye(2) * np.sign(q[0, 0])
    scale, rotate, shear = np.ones(3), np.eye(3), np.eye(3)
    scale[plane] = np.diag(lengths)
    scale[s] = abs(np.linalg.det(linear)) / np.sqrt(np.linalg.det(gram))
    rotate[np.ix_(plane, plane)] = q
    oblique = lengths[0, 1] / lengths[1, 1]
    shear[plane[0], plane[1]] = oblique if abs(oblique) > 1e-6 else 0.0
    centre = (np.array(grid[::-1], dtype=np.float64) - 1) / 2
    translate = linear @ centre + true[:3, 3] - rotate @ shear @ (scale * centre)
    view = SliceView(scale, rotate, shear, translate, 0.0)
    at = corners(grid[::-1])
    back = np.linalg.inv(true) @ view.matrix
    moved = np.abs(apply_points(back, at) - at).max()
    return SliceView(scale, rotate, shear, translate, float(moved))
