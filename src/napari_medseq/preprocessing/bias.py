"""N4: the slow variation of brightness from an MR coil is estimated and divided out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_medseq import geometry
from napari_medseq.errors import MedseqError, OperationCancelled
from napari_medseq.geometry import Volume
from napari_medseq.preprocessing.step import ONE_FRAME, Floats, Job, Step
from napari_medseq.progress import Cancelled, Progress, part
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.foreground import foreground
from napari_medseq.volumes.grid import one_thread, to_itk
from napari_medseq.volumes.iterate import count_volumes
from napari_medseq.volumes.turning import upright_meanwhile

if TYPE_CHECKING:
    import SimpleITK as sitk


class N4(Step):
    """N4 bias field correction (Tustison et al. 2010, doi:10.1109/TMI.2010.2046908).

    The field is estimated inside the body (Otsu) on a shrunk copy and applied at full resolution. Each frame has its
    own field. The mean brightness of the body is preserved.
    """

    title: ClassVar[str] = "N4 bias correction"
    kind: Literal["n4"] = "n4"
    shrink: int = Field(
        6,
        ge=1,
        le=16,
        description=(
            "Factor by which the axis of the smallest spacing is shrunk before the estimate; others are shrunk "
            "less, so that voxels become more nearly cubic."
        ),
    )
    iterations: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (20, 20, 10),
        min_length=1,
        max_length=6,
        description="Largest number of iterations at each level; each level doubles the control points.",
    )
    convergence: float = Field(
        0.001, gt=0, lt=1, description="A level stops when the field's relative change falls below this value."
    )
    cells: int = Field(
        1,
        ge=1,
        le=32,
        description=(
            "Spline cells along the longest side at the first level; with three levels the last has four times as "
            "many. More cells follow finer variations, but begin to take real contrast (a large tumour) for bias."
        ),
    )

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """The whole volume, because the field is that of the body."""
        del seq
        return ONE_FRAME

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return float32 voxels without the bias field; a constant image is unchanged, with a warning."""
        return upright_meanwhile(seq, lambda upright: self._applied(upright, job))

    def _applied(self, seq: ImageSequence, job: Job) -> ImageSequence:
        share = 1 / count_volumes(seq)
        numbers = count()

        if seq.modality in ("CT", "PT"):
            job.doubts.append(f"bias correction is made for MR; in {seq.modality} it changes values that have a unit")

        def corrected(volume: Volume) -> Volume:
            number = next(numbers)
            data = job.finite(volume, seq.name)
            if data.min() == data.max():
                job.doubts.append("a constant image has no bias field to remove; it is unchanged")
                return data
            report = part(job.progress, number * share, (number + 1) * share)
            return self._corrected(data, seq, report, job.cancelled)

        result = job.map(seq, corrected, report=False)
        if job.progress is not None:
            job.progress(1, 1, self.title)
        return result

    def _corrected(
        self, data: Floats, seq: ImageSequence, progress: Progress | None, cancelled: Cancelled | None
    ) -> Volume:

        body = foreground(data) & (data > 0)  # N4 works on logarithms
        if np.count_nonzero(body) < 100:
            raise MedseqError(
                f"{seq.name}: N4 works on logarithms and needs a body brighter than 0; found {np.count_nonzero(body)} such "
                "voxels. Leave N4 out, or shift the intensities first."
            )
        field = self._field(data, body, seq, progress, cancelled)
        corrected = data / np.maximum(field, 1e-6)
        mean = float(corrected[body].mean())
        return np.asarray(corrected * (float(data[body].mean()) / mean) if mean else corrected, dtype=np.float32)

    def _field(
        self,
        data: Floats,
        body: NDArray[np.bool_],
        seq: ImageSequence,
        progress: Progress | None,
        cancelled: Cancelled | None,
    ) -> NDArray[np.float64]:
        """The multiplicative bias field, fitted on a coarser grid and evaluated on the image's own grid."""
        import SimpleITK as sitk

        edges = geometry.spacing(seq.affine)
        finest = float(edges[:2].min())
        factors = [
            max(1, min(round(self.shrink * finest / float(e)), n // 8))
            for e, n in zip(edges, data.shape[::-1], strict=True)
        ]
        flat = data.shape[0] == 1
        whole, mask = to_itk(data.astype(np.float32), seq.affine), to_itk(body.astype(np.uint8), seq.affine)
        if flat:  # ITK fits the field of a single slice in 2D
            whole, mask = whole[:, :, 0], mask[:, :, 0]
            factors = factors[:2]
        small, small_mask = sitk.Shrink(whole, factors), sitk.Shrink(mask, factors)
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations([int(i) for i in self.iterations])
        n4.SetConvergenceThreshold(self.convergence)
        n4.SetNumberOfControlPoints(self._control_points(edges, data.shape)[: 2 if flat else 3])
        self._fit(n4, small, small_mask, seq.name, progress, cancelled)
        field = np.exp(sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(whole)).astype(np.float64))
        return np.asarray(field[np.newaxis] if flat else field)

    def _control_points(self, edges: NDArray[np.float64], shape: tuple[int, ...]) -> list[int]:
        """Control points of the spline along x, y and z, with cells of about the same length in mm."""
        longest = float((edges * np.array(shape[::-1])).max())
        cells = [max(1, round(self.cells * float(e) * n / longest)) for e, n in zip(edges, shape[::-1], strict=True)]
        return [c + 3 for c in cells]  # a spline of order 3 has three more control points than cells

    def _fit(
        self,
        n4: sitk.N4BiasFieldCorrectionImageFilter,
        image: sitk.Image,
        mask: sitk.Image,
        name: str,
        progress: Progress | None,
        cancelled: Cancelled | None,
    ) -> None:
        """Run the filter, with progress per iteration; `n4` holds the field afterwards."""
        import SimpleITK as sitk

        iteration, stopped = 0, False

        def step() -> None:
            nonlocal iteration, stopped
            iteration += 1
            if progress is not None:
                progress(iteration, sum(self.iterations), self.title)
            if cancelled is not None and cancelled():
                stopped = True
                n4.Abort()

        n4.AddCommand(sitk.sitkIterationEvent, step)
        try:
            with one_thread():
                n4.SetNumberOfThreads(1)
                n4.Execute(image, mask)
        except RuntimeError as problem:
            if stopped:
                raise OperationCancelled("Cancelled: nothing was changed.") from problem
            raise MedseqError(
                f"{name}: N4 could not fit a bias field ({str(problem).strip().splitlines()[-1]}); "
                "use a smaller shrink factor, or leave N4 out."
            ) from problem
        if stopped:
            raise OperationCancelled("Cancelled: nothing was changed.")
