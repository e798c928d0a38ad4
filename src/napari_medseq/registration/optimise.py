"""One resolution level of a registration: SimpleITK's optimiser of Mattes' mutual information, made reproducible.

With one thread and a fixed seed the terms of the metric are added in the same order, so that results are equal bit for
bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.errors import OperationCancelled
from napari_medseq.geometry import Affine
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.volumes.grid import affine_of, matrix_of, one_thread, to_itk

if TYPE_CHECKING:
    import SimpleITK as sitk

Linear = Literal["translation", "rigid", "affine"]
#: largest deviation from an orthogonal matrix that is still accepted as a rotation
_ORTHOGONAL = 1e-6
#: the parameters that a flat (2D) registration may change
_FLAT = {
    "translation": [1, 1, 0],
    "rigid": [0, 0, 1, 1, 1, 0],
    "affine": [1, 1, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0],
}


@dataclass
class Watch:
    """Counts optimiser steps for the caller's `progress`, and stops the optimiser when the caller asks to."""

    total: int
    message: str
    progress: Progress | None = None
    cancelled: Cancelled | None = None
    done: int = 0
    stopped: bool = field(default=False, init=False)

    def attach(self, process: sitk.ProcessObject, stop: Callable[[], object]) -> None:
        """Report progress and check for cancelling after each iteration of a SimpleITK process."""
        import SimpleITK as sitk

        def step() -> None:
            self.done = min(self.done + 1, self.total)
            if self.progress is not None:
                self.progress(self.done, self.total, self.message)
            if self.cancelled is not None and self.cancelled():
                self.stopped = True
                stop()

        process.AddCommand(sitk.sitkIterationEvent, step)

    def check(self) -> None:
        """Raise `OperationCancelled` if the caller asked to stop."""
        if self.stopped or (self.cancelled is not None and self.cancelled()):
            raise OperationCancelled("Cancelled: nothing was changed.")

    def advance_to(self, share: float) -> None:
        """Advance progress to a share of the whole, for stages that ended early."""
        self.done = max(self.done, int(share * self.total))


@dataclass(frozen=True)
class Level:
    """Two images of one resolution, in a common frame.

    Attributes
    ----------
    fixed, moving : ndarray, shape (z, y, x)
    fixed_affine, moving_affine : ndarray, shape (4, 4)
        Voxel (x, y, z) → frame, mm.
    zone : ndarray of bool, shape (z, y, x)
        Fixed voxels that count.
    spacing : float
        Intended edge length of the voxels, mm.
    """

    fixed: NDArray[np.float32]
    fixed_affine: Affine
    moving: NDArray[np.float32]
    moving_affine: Affine
    zone: NDArray[np.bool_]
    spacing: float

    @property
    def flat(self) -> bool:
        """Whether the images are 2D, without motion out of the plane."""
        return bool(self.fixed.shape[0] == 1)

    def itk(self) -> tuple[sitk.Image, sitk.Image, sitk.Image]:
        """Fixed image, moving image and zone as SimpleITK images; a 2D image becomes four equal slices, because ITK
        needs them."""
        n = 4 if self.flat else 1
        identity = np.eye(4)
        fixed = to_itk(np.repeat(self.fixed, n, axis=0), self.fixed_affine, frame=identity)
        moving = to_itk(np.repeat(self.moving, n, axis=0), self.moving_affine, frame=identity)
        zone = to_itk(np.repeat(self.zone, n, axis=0), self.fixed_affine, frame=identity)
        return fixed, moving, zone


def shrunk(volume: NDArray[np.float32], affine: Affine, spacing: float) -> tuple[NDArray[np.float32], Affine]:
    """Average whole blocks of voxels so that the spacing along each axis approaches `spacing` mm without exceeding it.

    Anisotropic volumes become more nearly isotropic, because thick slices stay as they are.
    """
    factors = shrinking(affine, volume.shape[::-1], spacing)
    fx, fy, fz = factors
    if fx == fy == fz == 1:
        return np.asarray(volume, dtype=np.float32), affine
    z, y, x = (n // f * f for n, f in zip(volume.shape, (fz, fy, fx), strict=True))
    blocks = np.asarray(volume[:z, :y, :x], dtype=np.float32).reshape(z // fz, fz, y // fy, fy, x // fx, fx)
    change = np.diag([fx, fy, fz, 1.0])
    change[:3, 3] = [(f - 1) / 2 for f in factors]
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32), np.asarray(affine @ change)


def shrinking(affine: Affine, grid: Sequence[int], spacing: float) -> list[int]:
    """Number of voxels along (x, y, z) that `shrunk` averages into one."""
    return [
        max(1, min(int(spacing / s + 1e-6), n // 8))
        for s, n in zip(geometry.spacing(affine).tolist(), grid, strict=True)
    ]


def optimise(
    level: Level,
    start: Affine,
    *,
    kind: Linear,
    centre: NDArray[np.float64],
    step: float,
    smallest: float,
    iterations: int,
    samples: int,
    seed: int,
    watch: Watch,
) -> Affine:
    """Improve `start` (fixed → moving, in the level's frame) by regular-step gradient descent on mutual information.

    Parameters
    ----------
    level : Level
        The images at one resolution.
    start : ndarray, shape (4, 4)
    kind : {"translation", "rigid", "affine"}
    centre : ndarray, shape (3,)
        Point of the frame about which rotations turn.
    step, smallest : float
        First and last step, mm.
    iterations : int
        At most.
    samples : int
        Approximate number of fixed voxels that the metric uses, drawn once with `seed`.
    seed : int
    watch : Watch
        Progress and cancelling.

    Returns
    -------
    ndarray, shape (4, 4)
        The improved map; `start` itself if the optimiser finds no overlap to work on.
    """
    import SimpleITK as sitk

    watch.check()
    fixed, moving, zone = level.itk()
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(sitk.Cast(zone, sitk.sitkUInt8))
    # ITK draws from all voxels and then discards those outside the mask
    share = samples / max(1, int(np.count_nonzero(level.zone))) / (4 if level.flat else 1)
    if share < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, seed % (2**31 - 2) + 1)  # 0 would take the seed from the clock
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=step,
        minStep=smallest,
        numberOfIterations=iterations,
        relaxationFactor=0.85,
        gradientMagnitudeTolerance=1e-10,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    if level.flat:
        method.SetOptimizerWeights([float(w) for w in _FLAT[kind]])
    transform = _itk_start(kind, start, centre)
    method.SetInitialTransform(transform, inPlace=True)
    watch.attach(method, method.StopRegistration)
    try:
        with one_thread():
            method.Execute(fixed, moving)
    except RuntimeError:  # every sample left the moving image; the caller's checks assess the result
        watch.check()
        return start
    watch.check()
    result = matrix_of(transform)
    if kind == "translation":
        result[:3, :3] = start[:3, :3]
    return result


def _itk_start(kind: Linear, start: Affine, centre: NDArray[np.float64]) -> sitk.Transform:
    import SimpleITK as sitk

    if kind == "translation":
        return sitk.TranslationTransform(3, [float(v) for v in start[:3, 3]])
    # the centre is mapped by the start
    c, shift = ([float(v) for v in p] for p in (centre, start[:3, :3] @ centre + start[:3, 3] - centre))
    if kind == "affine":
        return sitk.AffineTransform([float(v) for v in start[:3, :3].ravel()], shift, c)
    rigid = sitk.Euler3DTransform()
    rigid.SetCenter(c)
    rigid.SetMatrix([float(v) for v in nearest_rotation(start[:3, :3]).ravel()], _ORTHOGONAL)
    rigid.SetTranslation(shift)
    return rigid


def nearest_rotation(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation nearest to a 3×3 matrix (polar decomposition)."""
    u, _, v = np.linalg.svd(matrix)
    return np.asarray(u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v)


__all__ = ["Level", "Linear", "Watch", "affine_of", "nearest_rotation", "optimise", "shrunk"]
