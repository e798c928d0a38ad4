"""Noise reduction: median, non-local means, curvature flow and anisotropic diffusion, by SimpleITK and
scikit-image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol, cast

import numpy as np
from pydantic import Field

from napari_medseq.errors import OperationCancelled
from napari_medseq.geometry import Affine, Volume
from napari_medseq.preprocessing.step import ONE_FRAME, Floats, Job, Step, one_slice
from napari_medseq.progress import part
from napari_medseq.sequence import SPACE, ImageSequence
from napari_medseq.volumes.grid import to_itk
from napari_medseq.volumes.iterate import count_volumes
from napari_medseq.volumes.padding import with_new_values
from napari_medseq.volumes.turning import upright_meanwhile

if TYPE_CHECKING:
    import SimpleITK as sitk

#: the largest step that is stable in three dimensions on voxels of size 1: 1 / 2^(3 + 1) (ITK Software Guide, anisotropic diffusion)
_STABLE = 0.0625


class ItkFilter(Protocol):
    """The part of SimpleITK's filters of one image that is used here, whose own types are incomplete."""

    def Execute(self, image: sitk.Image, /) -> sitk.Image: ...
    def AddCommand(self, event: int, command: Callable[[], None], /) -> object: ...
    def GetProgress(self) -> float: ...
    def Abort(self) -> object: ...


class _ItkDiffusion(ItkFilter, Protocol):
    def SetTimeStep(self, value: float, /) -> object: ...
    def SetConductanceParameter(self, value: float, /) -> object: ...
    def SetConductanceScalingUpdateInterval(self, value: int, /) -> object: ...
    def SetNumberOfIterations(self, value: int, /) -> object: ...


class Median(Step):
    """Replace each voxel by the median of its neighbourhood: single outliers vanish, edges stay."""

    title: ClassVar[str] = "median filter"
    kind: Literal["median"] = "median"
    radius: int = Field(
        1,
        ge=1,
        le=10,
        description=(
            "Radius in voxels along the finest axis; along the others the number of voxels that comes nearest to the same "
            "distance, so that thick slices are not mixed."
        ),
        json_schema_extra={"unit": "voxels"},
    )

    def radii(self, seq: ImageSequence) -> dict[str, int]:
        """Number of voxels to either side along each spatial axis."""
        present = [a for a in SPACE if a in seq.axes]
        finest = min(seq.spacing[a] for a in present)
        return {a: round(self.radius * finest / seq.spacing[a]) if a in present else 0 for a in SPACE}

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """The neighbourhood."""
        return dict(self.radii(seq))

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return voxels of the same type, or float32 if they are not integers; edge voxels are repeated beyond the
        edge."""
        import SimpleITK as sitk

        radii = self.radii(seq)
        number = count()

        def filtered(volume: Volume) -> Volume:
            whole = volume.dtype.kind in "iu" and volume.dtype.itemsize < 8
            data = volume if whole else job.finite(volume, seq.name)
            median = sitk.MedianImageFilter()
            median.SetRadius([radii[a] for a in "xyz"])
            image = executed(cast("ItkFilter", median), to_itk(data, seq.affine), job, next(number), count_volumes(seq))
            return np.asarray(sitk.GetArrayFromImage(image), dtype=volume.dtype if whole else np.float32)

        return job.map(seq, filtered, report=False)


class NonLocalMeans(Step):
    """Replace each voxel by the mean of those with similar surroundings (Buades et al. 2005,
    doi:10.1109/CVPR.2005.38).

    scikit-image's fast version, with distances corrected for the noise (Darbon et al. 2008,
    doi:10.1109/ISBI.2008.4541250). The noise is assumed to be Gaussian: in the dark parts of a magnitude MR image,
    where it is Rician, the mean stays a little too high.
    """

    title: ClassVar[str] = "non-local means"
    kind: Literal["nlm"] = "nlm"
    sigma: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Standard deviation of the noise, in the image's unit; by default it is estimated in each slice (`noise_sigma`).",
    )
    strength: float = Field(
        0.8,
        gt=0,
        le=10,
        description="Filter strength h as a multiple of sigma; 0.8 is what scikit-image advises for the fast version.",
    )
    patch: int = Field(
        5,
        ge=3,
        le=15,
        description="Side length of the surroundings that are compared, in pixels.",
        json_schema_extra={"unit": "voxels"},
    )
    distance: int = Field(
        6,
        ge=1,
        le=30,
        description="Distance within which similar surroundings are searched, in pixels.",
        json_schema_extra={"unit": "voxels"},
    )

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """The slice itself."""
        return one_slice(seq)

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return float32, slice by slice; a slice without noise is unchanged."""
        # the fast version gives another mean at the borders of a slice whose rows run the other way
        return upright_meanwhile(seq, lambda upright: self._applied(upright, job))

    def _applied(self, seq: ImageSequence, job: Job) -> ImageSequence:
        from skimage.restoration import denoise_nl_means

        def filtered(plane: Volume) -> Volume:
            data = job.finite(plane, seq.name).astype(np.float32)
            sigma = noise_sigma(data) if self.sigma is None else self.sigma
            if sigma == 0:
                return data
            denoised = denoise_nl_means(
                data,
                patch_size=self.patch,
                patch_distance=self.distance,
                h=self.strength * sigma,
                sigma=sigma,
                fast_mode=True,
            )
            return np.asarray(denoised, dtype=np.float32)

        return with_new_values(job.map_slices(seq, filtered))


class _Flow(Step):
    """The common part of the two flows: settings, and voxels whose finest side has length 1."""

    iterations: int = Field(5, ge=1, le=200, description="Number of iterations of the flow; more of them smooth more.")
    time_step: float = Field(
        _STABLE,
        gt=0,
        le=_STABLE,
        description="Time step of each iteration, for voxels whose finest side has length 1; above 0.0625 it is "
        "not stable in three dimensions.",
    )

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """One and a half voxels for each iteration, because ITK uses the neighbours of neighbours."""
        return {a: 2.0 * self.iterations for a in SPACE if a in seq.axes}

    def _run(self, seq: ImageSequence, job: Job, make_filter: Callable[[], ItkFilter]) -> ImageSequence:
        import SimpleITK as sitk

        number = count()

        def filtered(volume: Volume) -> Volume:
            data = job.finite(volume, seq.name).astype(np.float32)
            image = to_itk(data, _finest_is_one(seq))
            flat = data.shape[0] == 1
            done = executed(make_filter(), image[:, :, 0] if flat else image, job, next(number), count_volumes(seq))
            values = sitk.GetArrayFromImage(done)
            return np.asarray(values[np.newaxis] if flat else values, dtype=np.float32)

        return with_new_values(job.map(seq, filtered, report=False))


class CurvatureFlow(_Flow):
    """Move lines of equal brightness with their curvature, so that small wiggles vanish and smooth edges stay (ITK).

    Sources: Sethian 1996; Malladi and Sethian 1995, doi:10.1006/gmip.1995.1042. The flow rounds corners and shrinks
    small objects: a disc of radius R becomes one of √(R² − 2 t), t = iterations × time step, in voxels.
    """

    title: ClassVar[str] = "curvature flow"
    kind: Literal["curvature-flow"] = "curvature-flow"

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return float32, frame by frame in three dimensions."""
        import SimpleITK as sitk

        def made() -> ItkFilter:
            flow = sitk.CurvatureFlowImageFilter()
            flow.SetTimeStep(self.time_step)
            flow.SetNumberOfIterations(self.iterations)
            return cast("ItkFilter", flow)

        return self._run(seq, job, made)


class AnisotropicDiffusion(_Flow):
    """Diffuse brightness within regions and hardly across edges (Perona and Malik 1990, doi:10.1109/34.56205; ITK)."""

    title: ClassVar[str] = "anisotropic diffusion"
    kind: Literal["diffusion"] = "diffusion"
    conductance: float = Field(
        3.0,
        gt=0,
        le=1000,
        description=(
            "Steepness of edges that are preserved, as a multiple of the image's mean gradient; a higher value smooths more edges away."
        ),
    )
    equation: Literal["gradient", "curvature"] = Field(
        "gradient",
        description=(
            "Perona and Malik's, or the modified curvature equation (Whitaker and Xue 2001, "
            "doi:10.1109/ICIP.2001.958094), which keeps contrast better."
        ),
    )

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """The whole volume, because its mean gradient is the measure of an edge."""
        del seq
        return ONE_FRAME

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return float32, frame by frame in three dimensions."""
        import SimpleITK as sitk

        def made() -> ItkFilter:
            kinds: dict[str, Callable[[], object]] = {
                "gradient": sitk.GradientAnisotropicDiffusionImageFilter,
                "curvature": sitk.CurvatureAnisotropicDiffusionImageFilter,
            }
            diffusion = cast("_ItkDiffusion", kinds[self.equation]())
            diffusion.SetTimeStep(self.time_step)
            diffusion.SetConductanceParameter(self.conductance)
            diffusion.SetConductanceScalingUpdateInterval(1)
            diffusion.SetNumberOfIterations(self.iterations)
            return diffusion

        return self._run(seq, job, made)


def executed(work: ItkFilter, image: sitk.Image, job: Job, number: int = 0, total: int = 1) -> sitk.Image:
    """The result of a SimpleITK filter, with progress as one of several volumes; it can be cancelled.

    Parameters
    ----------
    work : a filter of SimpleITK
    image : SimpleITK.Image
    job : Job
    number, total : int
        Number of this volume, and of all volumes.

    Raises
    ------
    OperationCancelled
        As soon as the filter can stop.
    """
    import SimpleITK as sitk

    stopped = False
    report = part(job.progress, number / total, (number + 1) / total)

    def look() -> None:
        nonlocal stopped
        if report is not None:
            report(round(1000 * work.GetProgress()), 1000, job.title)
        if job.cancelled is not None and job.cancelled():
            stopped = True
            work.Abort()

    work.AddCommand(sitk.sitkProgressEvent, look)
    result: sitk.Image | None = None
    try:
        result = work.Execute(image)
    except RuntimeError:
        if not stopped:
            raise
    if stopped or result is None:
        raise OperationCancelled("Cancelled: nothing was changed.")
    return result


def noise_sigma(plane: Floats) -> float:
    """Standard deviation of Gaussian noise in a slice: the scaled median of |image ∗ N| where it is not 0.

    N is the difference of two Laplacians, which is insensitive to smooth variation (Immerkær 1996,
    doi:10.1006/cviu.1996.0060). The median is used instead of the mean because edges do not influence it, and padding
    of one value is left out.

    Parameters
    ----------
    plane : ndarray, shape (rows, columns)
    """
    from scipy import ndimage

    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float64)
    residual = np.abs(ndimage.convolve(plane.astype(np.float64), mask, mode="nearest"))
    residual = residual[residual > 0]
    # 0.6745: the median of |x| for a normal x; 6: the root of the sum of the mask's squares
    return float(np.median(residual) / 0.6745 / 6) if residual.size else 0.0


def _finest_is_one(seq: ImageSequence) -> Affine:
    """The affine scaled so that the finest axis has 1 mm, which makes a time step stable for any voxel size."""
    finest = min(seq.spacing[a] for a in SPACE if a in seq.axes)
    scaled = np.array(seq.affine)
    scaled[:3] /= finest
    return np.asarray(scaled, dtype=np.float64)
