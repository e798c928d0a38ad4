"""A small asymmetric head-like phantom with structure everywhere, and the same seen through a known transform."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_medseq import geometry
from napari_medseq.registration.transform import Transform
from napari_medseq.sequence import ImageSequence, affine_from

SPACING = (2.5, 2.5, 4.0)
SHAPE = (32, 64, 64)


@cache
def _voxels(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    head = (x / 0.75) ** 2 + (y / 0.85) ** 2 + (z / 0.85) ** 2 < 1
    skull = head & ((x / 0.68) ** 2 + (y / 0.78) ** 2 + (z / 0.78) ** 2 > 1)
    tissue = ndimage.gaussian_filter(rng.normal(size=SHAPE), (1.5, 3, 3))
    tissue /= tissue.std()
    data = head * (100 + 18 * tissue) + skull * 90
    for cx, cy, cz, r, value in ((0.3, -0.2, 0.1, 0.2, 60), (-0.25, 0.3, -0.2, 0.15, -60), (-0.3, -0.3, 0.3, 0.12, 70)):
        data += head * (((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) < r**2) * value
    return np.asarray(np.maximum(data, 0))


def phantom(seed: int = 0, *, noise: float = 3.0, **more: Any) -> ImageSequence:
    data = _voxels(seed) + np.random.default_rng(seed + 1).normal(0, noise, SHAPE)
    return ImageSequence(np.abs(data).astype(np.float32), ("z", "y", "x"), affine_from(SPACING), name="fixed", **more)


def halved(image: ImageSequence) -> ImageSequence:
    """The image in voxels twice as long along each axis: an eighth of them, where their size proves nothing."""
    z, y, x = (n // 2 for n in image.data.shape)
    means = np.asarray(image.data).reshape(z, 2, y, 2, x, 2).mean(axis=(1, 3, 5))
    larger = np.diag([2.0, 2.0, 2.0, 1.0])
    larger[:3, 3] = 0.5  # the middle of the first eight voxels
    return image.replace(data=means.astype(np.float32), affine=image.affine @ larger)


def motion(angles: tuple[float, float, float], shift: tuple[float, float, float], scale: float = 1.0) -> np.ndarray:
    """Fixed world → moving world, turning about the phantom's centre."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * scale
    centre = geometry.apply_points(affine_from(SPACING), (np.array(SHAPE[::-1]) - 1)[None] / 2)[0]
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + shift
    return matrix


def seen_through(
    image: ImageSequence, matrix: np.ndarray, *, noise: float = 3.0, contrast: float = 1.4
) -> ImageSequence:
    """The image that `register(it, image)` should map with `matrix`: its voxel at matrix·p is the image's at p."""
    moved = Transform("affine", np.linalg.inv(matrix), image.affine, image.grid).apply(image)
    noisy = moved.data * contrast + np.random.default_rng(9).normal(0, noise, moved.data.shape)
    return moved.replace(data=np.abs(noisy).astype(np.float32), name="moving")


def target_error(found: np.ndarray, real: np.ndarray) -> float:
    """Largest distance, mm, between where two matrices send the body's points."""
    points = geometry.apply_points(affine_from(SPACING), np.argwhere(_voxels(0) > 20)[::50, ::-1])
    apart = geometry.apply_points(found, points) - geometry.apply_points(real, points)
    return float(np.linalg.norm(apart, axis=1).max())
