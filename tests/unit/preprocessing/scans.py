"""Small scans that the tests of steps share."""

from __future__ import annotations

import numpy as np

from napari_medseq.sequence import ImageSequence, affine_from

AFFINE = affine_from((1, 1.5, 4), (20, -30, 40))
SHAPE = (6, 20, 24)


def scan(seed: int = 0, **more: object) -> ImageSequence:
    """A bright cylinder with texture and noise, on anisotropic voxels."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 1, SHAPE[1]), np.linspace(-1, 1, SHAPE[2]), indexing="ij")
    body = np.broadcast_to(x**2 + y**2 < 0.6, SHAPE)
    data = body * (100 + rng.normal(0, 10, SHAPE)) + np.abs(rng.normal(0, 1, SHAPE))
    return ImageSequence(data.astype(np.float32), ("z", "y", "x"), AFFINE, name="scan").replace(**more)


def flat(volume: ImageSequence, z: int = 2) -> ImageSequence:
    """One slice of a volume, without the axis "z"."""
    return volume.like(volume.data[z], axes=("y", "x"))


def series(frames: int = 4) -> ImageSequence:
    """Frames whose body brightens, at uneven times."""
    data = np.stack([(1 + 0.3 * k) * scan(k).data for k in range(frames)])
    times = np.cumsum([0.0, *(1.0 + 0.5 * (k % 2) for k in range(frames - 1))])
    return ImageSequence(data, ("t", "z", "y", "x"), AFFINE, times=times, name="series")


def mask() -> ImageSequence:
    """A box with label 5 on the scan's grid."""
    data = np.zeros(SHAPE, np.uint8)
    data[2:4, 8:12, 8:14] = 5
    return scan().labels_like(data, name="mask", label_names={5: "lesion"})


def drifting() -> tuple[ImageSequence, np.ndarray, np.ndarray]:
    """A body of two tissues under a known drift of intensity; the drift, and the voxels well inside the body."""
    rng = np.random.default_rng(0)
    z, y, x = np.meshgrid(np.linspace(-1, 1, 12), np.linspace(-1, 1, 48), np.linspace(-1, 1, 48), indexing="ij")
    body = x**2 + y**2 < 0.8
    clean = body * np.where((x * 6).astype(int) % 2, 100, 140) + np.abs(rng.normal(0, 2, body.shape))
    drift = np.exp(0.5 * x - 0.4 * y + 0.2 * z)
    image = ImageSequence((clean * drift).astype(np.float32), ("z", "y", "x"), affine_from((2, 2, 5)), name="scan")
    return image, drift, body & (clean > 90)
