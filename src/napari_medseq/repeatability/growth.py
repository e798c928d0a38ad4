"""Growing a patient's own lesion by a known share: the image is stretched about its centre, and the tissue around it
gives way.

Within the lesion's radius the stretch is uniform, so that its volume grows by exactly that share whatever its outline;
outside, the stretch fades to nothing at twice the new radius. Texture, rim and surroundings stay those of the patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.geometry import Affine
from napari_medseq.sequence import ImageSequence

#: distance at which the stretch has faded, as a multiple of the new radius
_FADED = 2.0


@dataclass(frozen=True)
class Growth:
    """A radial stretch.

    Attributes
    ----------
    centre : (3,) ndarray
        Centre, RAS mm.
    radius_mm : float
        Radius of the ball that encloses the lesion before it grows.
    share : float
        Growth of its volume, as a share.
    """

    centre: NDArray[np.float64]
    radius_mm: float
    share: float

    @property
    def stretch(self) -> float:
        """Ratio of lengths after and before the growth, within the lesion."""
        return float((1 + self.share) ** (1 / 3))

    @property
    def reach_mm(self) -> float:
        """Distance from the centre beyond which nothing moves."""
        return _FADED * self.stretch * self.radius_mm

    def sources(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions before the growth of the tissue at (n, 3) RAS points."""
        away = points - self.centre
        radius = np.linalg.norm(away, axis=1)
        inner, outer = self.stretch * self.radius_mm, self.reach_mm
        faded = self.radius_mm + (radius - inner) * (outer - self.radius_mm) / (outer - inner)
        before = np.where(radius <= inner, radius / self.stretch, np.where(radius < outer, faded, radius))
        factor = np.divide(before, radius, out=np.ones_like(radius), where=radius > 0)
        return np.asarray(self.centre + away * factor[:, None])


def ball_of(lesion: NDArray[np.bool_], affine: Affine) -> tuple[NDArray[np.float64], float]:
    """Centre (RAS mm) and radius (mm) of a ball that encloses a lesion's voxels (z, y, x)."""
    points = geometry.apply_points(affine, np.argwhere(lesion)[:, ::-1].astype(np.float64))
    centre = points.mean(axis=0)
    half_a_voxel = float(np.linalg.norm(geometry.spacing(affine))) / 2
    return centre, float(np.linalg.norm(points - centre, axis=1).max()) + half_a_voxel


def with_growth(image: ImageSequence, growth: Growth) -> ImageSequence:
    """The image after the growth, on its own grid; voxels beyond its reach do not change."""
    from scipy import ndimage

    volume = image.volume_zyx().astype(np.float32)
    to_voxel = np.asarray(np.linalg.inv(image.affine))
    middle = geometry.apply_points(to_voxel, growth.centre[None])[0]
    steps = growth.reach_mm * np.linalg.norm(to_voxel[:3, :3], axis=1)
    low = np.maximum(np.floor(middle - steps).astype(int), 0)
    high = np.minimum(np.ceil(middle + steps).astype(int) + 1, np.array(volume.shape[::-1]))
    if (low >= high).any():
        return image
    ranges = [np.arange(a, b, dtype=np.float64) for a, b in zip(low, high, strict=True)]
    z, y, x = np.meshgrid(ranges[2], ranges[1], ranges[0], indexing="ij")
    points = geometry.apply_points(image.affine, np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1))
    at = geometry.apply_points(to_voxel, growth.sources(points))[:, ::-1].T
    grown = ndimage.map_coordinates(volume, at, order=1, mode="nearest").reshape(z.shape)
    data = volume.copy()
    data[low[2] : high[2], low[1] : high[1], low[0] : high[0]] = grown
    return image.replace(data=data.reshape(image.data.shape))
