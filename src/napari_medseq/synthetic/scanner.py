"""The influence of a scanner on a signal: coil shading, contrast, sharpness, ghosts, noise, gain and rounding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_medseq.synthetic.fields import Array, spline_basis


@dataclass(frozen=True)
class Scanner:
    """Settings of one scan; `Scanner.random` draws usual ones.

    Parameters
    ----------
    gain : float
        Stored value of white matter.
    gamma : float
        Exponent of the relative signal, which changes the contrast.
    bias : float
        Strength of the coil shading (0.2: ±20 %).
    noise : float
        Standard deviation of complex noise relative to white matter; magnitude images get Rician noise.
    blur : float
        In-plane Gaussian blur, pixels.
    ghost : float
        Strength of a motion ghost along y.
    empty : int
        Padding slices at the top that hold zeros only.
    masked : bool
        Whether the air at the border was set to 0.
    """

    gain: float = 1000.0
    gamma: float = 1.0
    bias: float = 0.15
    noise: float = 0.02
    blur: float = 0.6
    ghost: float = 0.01
    empty: int = 0
    masked: bool = False

    @staticmethod
    def random(rng: np.random.Generator) -> Scanner:
        """A scan with settings as they occur in a hospital's archive."""
        u = rng.uniform
        return Scanner(
            gain=float(np.exp(u(np.log(250), np.log(2500)))),
            gamma=u(0.85, 1.15),
            bias=u(0.05, 0.3),
            noise=u(0.012, 0.04),
            blur=float(rng.choice([u(0.15, 0.5), u(0.5, 1.0)], p=(0.8, 0.2))),
            ghost=u(0.0, 0.02),
            empty=int(rng.integers(0, 5)) if rng.random() < 0.5 else 0,
            masked=bool(rng.random() < 0.35),
        )

    def acquire(self, signal: Array, rng: np.random.Generator) -> NDArray[np.int16]:
        """Turn a relative `signal` (z, y, x), white matter = 1, into stored int16 values."""
        image = signal if self.gamma == 1 else np.power(np.maximum(signal, 1e-4), np.float32(self.gamma))
        image = image * self._shading(signal.shape, rng)
        per_slice = 1 + rng.normal(0, 0.012, (signal.shape[0], 1, 1)).astype(np.float32)
        image *= per_slice
        if self.blur > 0:
            image = ndimage.gaussian_filter(image, (0.0, self.blur, self.blur), truncate=3.0)
        if self.ghost > 0:
            shift = image.shape[1] // int(rng.choice([2, 3, 4]))
            image = image + np.float32(self.ghost) * (np.roll(image, shift, 1) + np.roll(image, -shift, 1))
        real, imaginary = rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(self.noise)
        # interpolation by the scanner smooths the noise a little
        real, imaginary = (ndimage.uniform_filter1d(n, 2, axis=2) * np.float32(1.3) for n in (real, imaginary))
        image = np.hypot(image + real, imaginary)
        if self.masked:
            edge = max(2, image.shape[2] // 16)
            image[:, :, :edge] = image[:, :, -edge:] = image[:, :edge] = image[:, -edge:] = 0
        if self.empty:
            image[-self.empty :] = 0
        stored: NDArray[np.int16] = np.clip(np.rint(image * np.float32(self.gain)), 0, 32767).astype(np.int16)
        return stored

    def _shading(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """A smooth positive field around 1, larger towards the coil's elements."""
        field = rng.standard_normal((3, 4, 4))
        # the rim of a head is nearer to the coil than its centre
        y, x = np.meshgrid(np.linspace(-1, 1, 4), np.linspace(-1, 1, 4), indexing="ij")
        field = field * 0.6 + (x**2 + y**2 - 1) * rng.uniform(0.0, 0.8)
        for size, count in zip(shape, (3, 4, 4), strict=True):
            field = np.tensordot(field, spline_basis(count, size, 0.0, count - 1.0), axes=(0, 1))
        shading: Array = np.exp(self.bias * np.clip(field, -2.5, 2.5)).astype(np.float32)
        return shading
