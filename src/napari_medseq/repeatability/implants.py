"""Lesions of known volume that are added to a patient's own scan, and grown by known amounts.

An added lesion has the contrast of the patient's own lesions to their surroundings, the noise and texture of its
position, and edges with partial volumes, so that its true volume is known to a fraction of a voxel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.geometry import Affine
from napari_medseq.sequence import ImageSequence

#: ratio of the lengths of an ellipsoid's axes, and their variation between lesions
_AXES, _AXES_SD = (0.85, 1.0, 1.18), 0.08
#: gap between an added lesion and the edge of the body, and to other lesions, in mm
_TO_EDGE_MM, _APART_MM = 3.0, 8.0
#: extent of the surroundings of a lesion, in mm from it
_NEAR_MM, _FAR_MM = 2.0, 6.0


@dataclass(frozen=True)
class Blob:
    """An ellipsoid.

    Attributes
    ----------
    centre : (3,) ndarray
        Centre, RAS mm.
    axes : (3, 3) ndarray
        Its principal axes as rows, with lengths whose product is 1.
    volume_ml : float
        Its true volume.
    """

    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    volume_ml: float

    def grown(self, share: float) -> Blob:
        """The same shape with its volume larger by a share."""
        return Blob(self.centre, self.axes, self.volume_ml * (1 + share))

    @property
    def radius_mm(self) -> float:
        """Radius of the ball of its volume."""
        return float((3000 * self.volume_ml / (4 * np.pi)) ** (1 / 3))

    def share(self, affine: Affine, shape: tuple[int, int, int]) -> NDArray[np.float32]:
        """Share of each voxel (z, y, x) that lies within it, 0 to 1."""
        coverage = np.zeros(shape, np.float32)
        reach = 1.5 * self.radius_mm + 2 * float(geometry.spacing(affine).max())
        middle = geometry.apply_points(np.asarray(np.linalg.inv(affine)), self.centre[None])[0]
        steps = reach / geometry.spacing(affine)
        low = np.maximum(np.floor(middle - steps).astype(int), 0)
        high = np.minimum(np.ceil(middle + steps).astype(int) + 1, np.array(shape[::-1]))
        if (low >= high).any():
            return coverage
        # each voxel is sampled at 3 × 3 × 3 points
        fine = [np.arange(3 * a, 3 * b) / 3 - 1 / 3 for a, b in zip(low, high, strict=True)]
        z, y, x = np.meshgrid(fine[2], fine[1], fine[0], indexing="ij")
        points = geometry.apply_points(affine, np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)) - self.centre
        outside = np.linalg.norm(points @ self.axes.T, axis=1) - self.radius_mm
        within = np.clip(0.5 - outside / (float(geometry.spacing(affine).mean()) / 3), 0.0, 1.0).reshape(z.shape)
        counts = tuple(int(b - a) for a, b in zip(low, high, strict=True))[::-1]
        mean = within.reshape(counts[0], 3, counts[1], 3, counts[2], 3).mean(axis=(1, 3, 5))
        coverage[low[2] : high[2], low[1] : high[1], low[0] : high[0]] = mean
        return coverage


def draw_blobs(
    rng: np.random.Generator,
    body: NDArray[np.bool_],
    lesions: NDArray[np.bool_],
    affine: Affine,
    volumes_ml: list[float],
    room: list[float],
) -> list[Blob]:
    """Random blobs in the body, away from its edge, from lesions and from each other; fewer if there is no room.

    Parameters
    ----------
    rng : Generator
    body, lesions : bool arrays (z, y, x)
    affine : (4, 4) ndarray
    volumes_ml : list of float
        Volume of each blob.
    room : list of float
        The volume that each may grow to.
    """
    from scipy import ndimage
    from scipy.spatial.transform import Rotation

    spacing = geometry.spacing(affine)[::-1]
    inside = np.pad(body, 1)
    depth = ndimage.distance_transform_edt(inside, sampling=spacing)[1:-1, 1:-1, 1:-1]
    away = ndimage.distance_transform_edt(~lesions, sampling=spacing) if lesions.any() else np.full(body.shape, np.inf)
    blobs: list[Blob] = []
    for volume, largest in zip(volumes_ml, room, strict=True):
        reach = 1.3 * Blob(np.zeros(3), np.eye(3), largest).radius_mm
        allowed = np.flatnonzero((depth > reach + _TO_EDGE_MM) & (away > reach + _APART_MM))
        if not len(allowed):
            continue
        at = np.array(np.unravel_index(int(rng.choice(allowed)), body.shape))
        centre = geometry.apply_points(affine, at[None, ::-1].astype(float))[0]
        lengths = np.array(_AXES) * np.exp(rng.normal(0, _AXES_SD, 3))
        lengths /= np.prod(lengths) ** (1 / 3)
        turn = Rotation.random(random_state=np.random.RandomState(int(rng.integers(2**32)))).as_matrix()
        blobs.append(Blob(centre, turn / lengths[:, None], volume))
        z, y, x = (((np.arange(n) - a) * s) ** 2 for n, a, s in zip(body.shape, at, spacing, strict=True))
        away = np.minimum(away, np.sqrt(z[:, None, None] + y[None, :, None] + x[None, None, :]) - reach)
    return blobs


def with_blobs(image: ImageSequence, shares: NDArray[np.float32], contrast: float) -> ImageSequence:
    """The image with `contrast` added where blobs are, in proportion to the share of each voxel."""
    data = image.volume_zyx().astype(np.float32) + np.float32(contrast) * shares
    return image.replace(data=data.reshape(image.data.shape))


def contrast_of(image: ImageSequence, lesions: NDArray[np.bool_]) -> float | None:
    """Brightness of lesions above their surroundings (medians); None if there is no lesion."""
    from scipy import ndimage

    if not lesions.any():
        return None
    spacing = geometry.spacing(image.affine)[::-1]
    away = ndimage.distance_transform_edt(~lesions, sampling=spacing)
    around = (away > _NEAR_MM) & (away <= max(_FAR_MM, _NEAR_MM + 2 * float(spacing.max())))
    volume = image.volume_zyx().astype(np.float64)
    return float(np.median(volume[lesions]) - np.median(volume[around])) if around.any() else None
