"""Gabor filters: the strength of a texture of a given wavelength and direction, slice by slice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, log, pi, sqrt
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_medseq.errors import MedseqError
from napari_medseq.geometry import Volume
from napari_medseq.preprocessing.step import Floats, Job, Step, one_slice, sliced_along
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.sequence import SPACE, ImageSequence
from napari_medseq.volumes.padding import with_new_values

Waves = NDArray[np.complexfloating]
#: half-width of the kernel in standard deviations of its envelope (0.3 % of a Gaussian lies outside)
_STANDARD_DEVIATIONS = 3.0
#: octaves between the half-height frequencies of a filter without a given sigma; the average of simple cells of the cortex
#: (De Valois et al. 1982, doi:10.1016/0042-6989(82)90113-4)
_OCTAVES = 1.0
#: largest width of a filter as a multiple of the slice's, beyond which it sees mainly mirror images of the slice
_LARGEST = 4


class Gabor(Step):
    """A bank of Gabor filters applied to every slice: their responses combined, or their energy.

    With x' = x cos θ + y sin θ and y' = -x sin θ + y cos θ, in millimetres along a row and down a column of the slice, each filter is

        g(x, y) = exp(-(x'² + γ² y'²) / (2 σ²)) · exp(i (2 π f x' + ψ))

    divided by the sum of its envelope (Daugman 1985, doi:10.1364/JOSAA.2.001160; Petkov and Kruizinga 1997, doi:10.1007/s004220050356,
    eq. 1). Without `sigma_mm`, σ = (1/f) · (1/π) · √(ln 2 / 2) · (2ᵇ + 1) / (2ᵇ − 1) for a bandwidth of b = 1 octave (the same, eq. 3).
    """

    title: ClassVar[str] = "Gabor filters"
    kind: Literal["gabor"] = "gabor"
    frequencies: tuple[Annotated[float, Field(gt=0, le=5)], ...] = Field(
        (0.1, 0.2),
        min_length=1,
        max_length=16,
        description=(
            "Waves per millimetre, one or more; the wavelength is their inverse. In an image of unknown pixel size, waves per pixel."
        ),
        json_schema_extra={"unit": "1/mm"},
    )
    orientations: int = Field(
        4, ge=1, le=36, description="Directions of the waves, spread evenly over 180° from `first_angle`."
    )
    first_angle: float = Field(
        0.0,
        ge=-360,
        le=360,
        description="Direction of the first wave: 0° runs along a row, 90° down a column.",
        json_schema_extra={"unit": "°"},
    )
    phase: float = Field(
        0.0,
        ge=-360,
        le=360,
        description='ψ: 0° responds to bright ridges, 90° to edges. It changes "response" only.',
        json_schema_extra={"unit": "°"},
    )
    gamma: float = Field(
        0.5,
        gt=0,
        le=10,
        description="Aspect ratio γ of the envelope: below 1 it is longer along the ridge than across.",
    )
    sigma_mm: Annotated[float, Field(gt=0, le=100)] | None = Field(
        None,
        title="sigma",
        description="Standard deviation σ of the envelope across the ridge; by default it follows from the wavelength.",
        json_schema_extra={"unit": "mm"},
    )
    zero_mean: bool = Field(
        True, description="Whether a uniform image gives 0: a share of the envelope is subtracted from each filter."
    )
    output: Literal["energy", "strongest", "response"] = Field(
        "energy",
        description=(
            '"energy": √ of the sum over all filters of |response|²; "strongest": the largest |response|; "response": the'
            ' mean of the real parts. "energy" and "strongest" do not depend on the phase (Adelson and Bergen 1985, '
            "doi:10.1364/JOSAA.2.000284)."
        ),
    )

    @property
    def angles(self) -> tuple[float, ...]:
        """The directions of the waves, in degrees."""
        return tuple(self.first_angle + 180.0 * k / self.orientations for k in range(self.orientations))

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """The slice itself."""
        return one_slice(seq)

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return float32, per slice across the axis along which slices were acquired.

        Raises
        ------
        MedseqError
            If a filter is finer than the pixels can show, or larger than the slice.
        """
        bank = _Bank(self, seq)
        return with_new_values(job.map_slices(seq, lambda plane: bank.combined(plane, self.output)))


@dataclass(frozen=True, eq=False)
class GaborResponse:
    """The response of one filter of a bank.

    Attributes
    ----------
    frequency : float
        Waves per millimetre.
    angle : float
        Direction in degrees.
    response : ImageSequence
        Real part, with the phase.
    magnitude : ImageSequence
        Magnitude of the complex response; the energy is its square.
    """

    frequency: float
    angle: float
    response: ImageSequence
    magnitude: ImageSequence


def gabor_responses(
    seq: ImageSequence,
    *,
    settings: Gabor | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[GaborResponse]:
    """The responses of the single filters of a bank, frequency by frequency.

    Parameters
    ----------
    seq : ImageSequence
    settings : Gabor, optional
        The bank; `Gabor.output` is ignored.

    Raises
    ------
    MedseqError
        As the step raises.
    """
    settings = Gabor() if settings is None else settings
    bank = _Bank(settings, seq)
    responses = []
    for number, (frequency, angle) in enumerate(bank.filters):
        job = Job("Gabor filters", None, None, cancelled)
        name = f"{seq.name} {frequency:g}/mm {angle:g}°"

        def one(part: Literal["real", "magnitude"], number: int = number, job: Job = job) -> ImageSequence:
            return job.map_slices(seq, lambda plane: bank.single(plane, number, part))

        responses.append(
            GaborResponse(
                frequency, angle, one("real").replace(name=name), one("magnitude").replace(name=f"{name}, energy")
            )
        )
        if progress is not None:
            progress(number + 1, len(bank.filters), "Gabor filters")
    return responses


def gabor_kernel(
    frequency: float,
    angle: float,
    *,
    spacing: tuple[float, float],
    sigma: float | None = None,
    gamma: float = 0.5,
    phase: float = 0.0,
    zero_mean: bool = True,
) -> Waves:
    """One Gabor filter, sampled at the pixels of a slice.

    Parameters
    ----------
    frequency : float
        Waves per millimetre.
    angle, phase : float
        Direction and phase in degrees.
    spacing : tuple of float
        Millimetres from row to row, and from column to column.
    sigma : float, optional
        Standard deviation in millimetres; by default it follows from the frequency, see `Gabor`.
    gamma : float
    zero_mean : bool

    Returns
    -------
    ndarray of complex, shape (rows, columns)
        The kernel, of odd sizes; its origin is the centre.
    """
    across = _usual_sigma(frequency) if sigma is None else sigma
    along = across / gamma
    theta = np.deg2rad(angle)
    # of the ellipse of one standard deviation down the columns and along the rows; the larger part alone would cut oblique filters
    reach = [
        np.hypot(across * np.sin(theta), along * np.cos(theta)),
        np.hypot(across * np.cos(theta), along * np.sin(theta)),
    ]
    rows, columns = (max(1, ceil(_STANDARD_DEVIATIONS * r / s)) for r, s in zip(reach, spacing, strict=True))
    y, x = np.mgrid[-rows : rows + 1, -columns : columns + 1].astype(np.float64)
    y, x = y * spacing[0], x * spacing[1]
    turned_x, turned_y = x * np.cos(theta) + y * np.sin(theta), -x * np.sin(theta) + y * np.cos(theta)
    envelope = np.exp(-0.5 * ((turned_x / across) ** 2 + (turned_y / along) ** 2))
    # the integral of the envelope, close to its sum over pixels, so that responses do not depend on the pixel size
    envelope *= spacing[0] * spacing[1] / (2 * pi * across * along)
    wave = envelope * np.exp(1j * 2 * pi * frequency * turned_x)
    if zero_mean:
        wave = wave - envelope * (wave.sum() / envelope.sum())
    return np.asarray(wave * np.exp(1j * np.deg2rad(phase)))


def _usual_sigma(frequency: float) -> float:
    octaves: float = 2.0**_OCTAVES
    return (1 / frequency) / pi * sqrt(log(2) / 2) * (octaves + 1) / (octaves - 1)


class _Bank:
    """The filters of one image's slices, and their spectra."""

    def __init__(self, settings: Gabor, seq: ImageSequence) -> None:
        rows, columns = (a for a in SPACE if a != sliced_along(seq))
        steps = (seq.spacing[rows], seq.spacing[columns])
        finest = 1 / (2 * max(steps))
        too_fine = [f for f in settings.frequencies if f > finest]
        if too_fine:
            raise MedseqError(
                f"{seq.name}: a Gabor filter of {too_fine[0]:g} waves per mm is finer than its pixels of {max(steps):.3g} mm can show; "
                f"use frequencies up to {finest:.3g} per mm."
            )
        self.filters = [(f, a) for f in settings.frequencies for a in settings.angles]
        self.kernels = [
            gabor_kernel(
                f,
                a,
                spacing=steps,
                sigma=settings.sigma_mm,
                gamma=settings.gamma,
                phase=settings.phase,
                zero_mean=settings.zero_mean,
            )
            for f, a in self.filters
        ]
        largest = [max(k.shape[n] for k in self.kernels) for n in (0, 1)]
        if any(k > _LARGEST * seq.size(a) for k, a in zip(largest, (rows, columns), strict=True)):
            raise MedseqError(
                f"{seq.name}: the coarsest Gabor filter is {largest[0]}×{largest[1]} pixels, the slices are "
                f"{seq.size(rows)}×{seq.size(columns)}; use higher frequencies or a smaller sigma."
            )
        self._pad = [n // 2 for n in largest]
        self._name = seq.name
        self._spectra: dict[tuple[int, int], list[Waves]] = {}

    def answers(self, plane: Floats, only: int | None = None) -> Iterator[Waves]:
        """The complex response of each filter; the slice is mirrored at its edges."""
        from scipy import fft

        padded = np.pad(np.asarray(plane, np.float32), [(n, n) for n in self._pad], mode="symmetric")
        shape = (fft.next_fast_len(padded.shape[0]), fft.next_fast_len(padded.shape[1]))
        spectrum = fft.fft2(padded, shape)
        if shape not in self._spectra:
            self._spectra[shape] = [fft.fft2(k.astype(np.complex64), shape) for k in self.kernels]
        for number, (kernel, own) in enumerate(zip(self.kernels, self._spectra[shape], strict=True)):
            if only in (None, number):
                whole = fft.ifft2(spectrum * own)
                first = [p + n // 2 for p, n in zip(self._pad, kernel.shape, strict=True)]
                yield whole[first[0] : first[0] + plane.shape[0], first[1] : first[1] + plane.shape[1]]

    def combined(self, plane: Volume, output: Literal["energy", "strongest", "response"]) -> Volume:
        data = Job().finite(plane, self._name)
        total = np.zeros(data.shape, np.float32)
        for answer in self.answers(data):
            if output == "energy":
                total += np.abs(answer) ** 2
            elif output == "strongest":
                total = np.maximum(total, np.abs(answer))
            else:
                total += answer.real
        if output == "energy":
            return np.asarray(np.sqrt(total), np.float32)
        return np.asarray(total / len(self.kernels) if output == "response" else total, np.float32)

    def single(self, plane: Volume, number: int, part: Literal["real", "magnitude"]) -> Volume:
        answer = next(self.answers(Job().finite(plane, self._name), number))
        return np.asarray(answer.real if part == "real" else np.abs(answer), np.float32)
