"""A simulated rescan: the patient is moved rigidly, the image resampled on its own grid, and new noise added."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.geometry import Affine
from napari_medseq.repeatability.settings import RetestSettings
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.foreground import foreground
from napari_medseq.volumes.grid import itk_affine, resample_volume

#: difference of two Laplacians, which does not respond to straight edges and ramps, and its standard deviation on unit noise
#: (Immerkær, Computer Vision and Image Understanding 1996, 64:300)
_LAPLACIANS = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
_ANSWER = 6.0
#: median of the absolute value of a standard normal variable, Φ⁻¹(3/4)
_MEDIAN_OF_NORMAL = 0.6745


@dataclass(frozen=True)
class Rescan:
    """One retest: the patient's motion, and the seed of its noise.

    Attributes
    ----------
    motion : (4, 4) ndarray
        Motion of each point of the patient, RAS mm → RAS mm.
    noise_seed : int
    """

    motion: Affine
    noise_seed: int


def draw_rescan(rng: np.random.Generator, centre: NDArray[np.float64], settings: RetestSettings) -> Rescan:
    """A random rigid motion about `centre` (RAS mm), within the settings' limits."""
    from scipy.spatial.transform import Rotation

    axis = rng.normal(size=3)
    angle = np.deg2rad(rng.uniform(-settings.turn_degrees, settings.turn_degrees))
    turn = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
    motion = np.eye(4)
    motion[:3, :3] = turn
    motion[:3, 3] = centre - turn @ centre + rng.uniform(-settings.shift_mm, settings.shift_mm, 3)
    return Rescan(motion, int(rng.integers(2**32)))


def rescan(
    image: ImageSequence, how: Rescan, noise_sd: float, settings: RetestSettings, channel: int = 0
) -> ImageSequence:
    """The image of the moved patient on its own grid, with `noise_sd` times ``settings.noise`` of Gaussian noise.

    Parameters
    ----------
    image : ImageSequence
        Axes z, y, x (or y, x).
    how : Rescan
    noise_sd : float
        Standard deviation of the image's own noise; see `noise_of`.
    settings : RetestSettings
    channel : int
        Number of the channel, so that the noise of each is its own.
    """
    volume = image.volume_zyx()
    known = volume[np.isfinite(volume)]
    back = geometry.RAS_LPS @ np.linalg.inv(how.motion) @ geometry.RAS_LPS
    moved = resample_volume(
        volume,
        image.affine,
        image.affine,
        image.grid,
        transform=itk_affine(back),
        interpolation=settings.interpolation,
        fill=float(known.min()) if known.size else 0.0,
    )
    rng = np.random.default_rng([how.noise_seed, channel])
    noisy = moved.astype(np.float32) + rng.normal(0.0, 1.0, moved.shape).astype(np.float32) * np.float32(
        settings.noise * noise_sd
    )
    return image.replace(data=noisy.astype(np.float32).reshape(image.data.shape))


def noise_of(image: ImageSequence) -> float:
    """Standard deviation of an image's noise inside the body, from the part that straight structures do not
    explain."""
    from scipy import ndimage

    volume = np.nan_to_num(image.volume_zyx().astype(np.float32))
    body = foreground(volume)
    answers = [
        np.abs(ndimage.convolve(plane, _LAPLACIANS, mode="reflect"))[inside]
        for plane, inside in zip(volume, body, strict=True)
        if inside.any()
    ]
    return float(np.median(np.concatenate(answers))) / (_MEDIAN_OF_NORMAL * _ANSWER) if answers else 0.0
