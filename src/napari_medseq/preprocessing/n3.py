"""N3: the bias field by sharpening the histogram (Sled et al. 1998), beside the N4 of `bias`.

The method of Sled, Zijdenbos and Evans 1998 (doi:10.1109/42.668698): in log intensities the scan is tissue plus field,
and the field blurs the tissue's histogram. The histogram is deconvolved with a Gaussian, each voxel gets the expected
tissue value at its intensity, and the difference, smoothed by a cubic B-spline, is the field. N4 (Tustison et al.
2010) differs in the spline fit and in going from coarse to fine.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from math import log, pi, sqrt
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_medseq import geometry
from napari_medseq.errors import MedseqError
from napari_medseq.geometry import Volume
from napari_medseq.preprocessing.step import ONE_FRAME, Floats, Job, Step
from napari_medseq.progress import check
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.foreground import foreground
from napari_medseq.volumes.iterate import count_volumes
from napari_medseq.volumes.padding import with_new_values
from napari_medseq.volumes.turning import upright_meanwhile

Values = NDArray[np.float64]

#: bins of the histogram (Sled et al. 1998, section III-C)
_BINS = 200
#: noise term of the Wiener filter (same, eq. 12: Z² = 0.1)
_WIENER = 0.1
#: number of body voxels that the field is fitted to; more add nothing for such a smooth field
_SAMPLES = 60_000
#: least number of body voxels for a meaningful histogram
_LEAST = 100
#: stiffness of the spline outside of the body, as a share of the fit's mean weight
_STIFFNESS = 1e-3


class N3(Step):
    """N3-style bias field correction, for MR; slower than N4.

    The field is estimated inside the body (Otsu), from a sample of its voxels. Each frame has its own field. The mean brightness
    of the body is kept.
    """

    title: ClassVar[str] = "N3 bias correction"
    kind: Literal["n3"] = "n3"
    fwhm: float = Field(
        0.15,
        gt=0,
        le=2,
        description=(
            "Width at half height of the Gaussian by which the field is assumed to blur the histogram of log intensities."
        ),
    )
    iterations: int = Field(200, ge=1, le=1000, description="The most iterations.")
    convergence: float = Field(
        0.001,
        gt=0,
        lt=1,
        description=(
            "The iterations stop when the coefficient of variation of the field's change falls below this value."
        ),
    )
    cells: int = Field(
        2,
        ge=1,
        le=16,
        description="Spline cells along the longest side. More cells follow finer variations, but begin to take real contrast for bias.",
    )

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """The whole volume, because the field is that of the body."""
        del seq
        return ONE_FRAME

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return float32 voxels without the bias field; a constant image is unchanged, with a warning.

        Raises
        ------
        MedseqError
            If the body is not brighter than 0.
        """
        return upright_meanwhile(seq, lambda upright: self._applied(upright, job))

    def _applied(self, seq: ImageSequence, job: Job) -> ImageSequence:
        numbers = count()
        total = count_volumes(seq) * self.iterations

        if seq.modality in ("CT", "PT"):
            job.doubts.append(f"bias correction is made for MR; in {seq.modality} it changes values that have a unit")

        def corrected(volume: Volume) -> Volume:
            data = job.finite(volume, seq.name)
            start = next(numbers) * self.iterations
            if data.min() == data.max():
                job.doubts.append("a constant image has no bias field to remove; it is unchanged")
                return data
            field = self._field(data, seq, job, start, total)
            body = foreground(data)
            divided = data / field
            mean = float(divided[body].mean())
            return np.asarray(divided * (float(data[body].mean()) / mean) if mean else divided, dtype=np.float32)

        result = job.map(seq, corrected, report=False)
        if job.progress is not None:
            job.progress(1, 1, self.title)
        return with_new_values(result)

    def _field(self, data: Floats, seq: ImageSequence, job: Job, start: int, total: int) -> Values:
        body = foreground(data) & (data > 0)
        where = np.argwhere(body)
        if len(where) < _LEAST:
            raise MedseqError(
                f"{seq.name}: N3 works on logarithms and needs a body brighter than 0; found {len(where)} such voxels. "
                "Leave N3 out, or shift the intensities first."
            )
        where = where[:: max(1, len(where) // _SAMPLES)]
        spline = _Spline(data.shape, geometry.spacing(seq.affine)[::-1], self.cells)
        fit = spline.fitted_to(where)
        scan = np.log(data[tuple(where.T)].astype(np.float64))
        field = np.zeros_like(scan)
        coefficients = np.zeros(spline.size)
        for number in range(self.iterations):
            check(job.cancelled)
            coefficients = fit.coefficients(scan - sharpened(scan - field, self.fwhm))
            field_log = fit.values(coefficients)
            field_log -= field_log.mean()
            ratio = np.exp(field_log - field)
            field = field_log
            if job.progress is not None:
                job.progress(start + number + 1, total, self.title)
            if float(ratio.std() / ratio.mean()) < self.convergence:
                break
        else:
            job.doubts.append(f"the bias field still changed after {self.iterations} iterations")
        return np.exp(spline.everywhere(coefficients))


def sharpened(values: Values, fwhm: float) -> Values:
    """The expected tissue value at each log intensity, if a Gaussian blurred the histogram.

    Sled et al. 1998, eq. 11 to 13: V is the histogram, F the Gaussian's spectrum; U = V · F* / (|F|² + Z²) is the sharp one, and
    E[u|v] = ∫ u F(v − u) U(u) du / ∫ F(v − u) U(u) du.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Log intensities.
    fwhm : float
        Width at half height of the Gaussian, in the same unit.
    """
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9:
        return values.copy()
    step = (high - low) / (_BINS - 1)
    # each value is divided between its two neighbouring bins
    place = (values - low) / step
    lower_bin = np.clip(np.floor(place).astype(int), 0, _BINS - 2)
    share = place - lower_bin
    counts = np.bincount(lower_bin, 1 - share, _BINS) + np.bincount(lower_bin + 1, share, _BINS)
    size = 2 ** int(np.ceil(np.log2(2 * _BINS)))
    offset = (size - _BINS) // 2
    padded = np.zeros(size)
    padded[offset : offset + _BINS] = counts
    sigma = fwhm / sqrt(8 * log(2)) / step
    away = np.minimum(np.arange(size), size - np.arange(size))
    blur = np.exp(-0.5 * (away / sigma) ** 2) / (sigma * sqrt(2 * pi))
    spectrum = np.fft.rfft(blur)
    sharp = np.fft.irfft(np.fft.rfft(padded) * spectrum.conj() / (np.abs(spectrum) ** 2 + _WIENER), size)
    sharp = np.maximum(sharp, 0)
    centres = low + (np.arange(size) - offset) * step
    upper = np.fft.irfft(np.fft.rfft(centres * sharp) * spectrum, size)
    lower = np.fft.irfft(np.fft.rfft(sharp) * spectrum, size)
    expected = np.where(lower > 1e-12 * lower.max(), upper / np.maximum(lower, 1e-300), centres)
    return np.asarray(np.interp(values, centres, expected))


class _Spline:
    """A tensor product of cubic B-splines over a volume."""

    def __init__(self, shape: tuple[int, ...], spacing: Values, cells: int) -> None:
        lengths = np.array(shape) * spacing
        self.shape = shape
        self.cells = [
            max(1, round(cells * float(n) / float(lengths.max()))) if s > 1 else 0
            for n, s in zip(lengths, shape, strict=True)
        ]
        self.counts = [c + 3 if c else 1 for c in self.cells]
        self.size = int(np.prod(self.counts))

    def basis(self, axis: int, places: NDArray[np.intp]) -> Values:
        """Values of each spline along one axis at voxel indices, shape (n, splines)."""
        from scipy.interpolate import BSpline

        cells = self.cells[axis]
        if not cells:
            return np.ones((len(places), 1))
        knots = np.arange(-3, cells + 4, dtype=np.float64)
        at = np.clip(places / (self.shape[axis] - 1) * cells, 0, cells * (1 - 1e-12))
        return np.asarray(BSpline.design_matrix(at, knots, 3).toarray())

    def fitted_to(self, where: NDArray[np.intp]) -> _Fit:
        """A least-squares fit for values at these voxels, shape (n, 3)."""
        rows = [self.basis(axis, where[:, axis]) for axis in range(3)]
        design = np.einsum("ni,nj,nk->nijk", *rows).reshape(len(where), self.size)
        return _Fit(design)

    def everywhere(self, coefficients: Values) -> Values:
        """The spline at every voxel, shape (z, y, x)."""
        cube = coefficients.reshape(self.counts)
        rows = [self.basis(axis, np.arange(self.shape[axis])) for axis in range(3)]
        return np.asarray(np.einsum("ijk,ai,bj,ck->abc", cube, *rows, optimize=True))


class _Fit:
    """Least squares with slight regularisation towards small coefficients, factorised once."""

    def __init__(self, design: Values) -> None:
        from scipy.linalg import cho_factor

        normal = design.T @ design
        self.design = design
        self.factor = cho_factor(normal + np.eye(len(normal)) * (_STIFFNESS * np.trace(normal) / len(normal)))

    def coefficients(self, values: Values) -> Values:
        from scipy.linalg import cho_solve

        mean = values.mean()
        return np.asarray(cho_solve(self.factor, self.design.T @ (values - mean)))

    def values(self, coefficients: Values) -> Values:
        return np.asarray(self.design @ coefficients)
