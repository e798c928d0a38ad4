"""Filters along time for dynamic series, at the true times: smoothing, drift, frequency bands, and baseline
subtraction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from napari_medseq.errors import MedseqError
from napari_medseq.preprocessing.step import Job, Step
from napari_medseq.progress import check
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.padding import with_new_values
from napari_medseq.wording import how_many

Curves = NDArray[np.float64]
Times = NDArray[np.float64]

#: largest deviation from an even time step, as a share of it, at which times still count as even
_JITTER = 0.01


class TemporalFilter(Step):
    """Filter every voxel's curve over time."""

    title: ClassVar[str] = "filter along time"
    kind: Literal["temporal"] = "temporal"
    method: Literal["gaussian", "median", "detrend", "band"] = Field(
        "gaussian",
        description=(
            '"gaussian": mean weighted by exp(-Δt² / (2 width²)) (Nadaraya 1964, doi:10.1137/1109020), on any times; '
            '"median": of the frames within `width`; "detrend": minus the best-fitting polynomial of `order` in time, '
            'with the mean preserved; "band": a Butterworth filter run forwards and backwards, for even times only.'
        ),
    )
    width_s: float = Field(
        2.0,
        gt=0,
        title="width",
        description='Width of the neighbourhood, for "gaussian" and "median".',
        json_schema_extra={"unit": "s"},
    )
    order: int = Field(1, ge=1, le=8, description="Order of the polynomial, or of the Butterworth filter.")
    low_hz: Annotated[float, Field(gt=0)] | None = Field(
        None,
        title="low",
        description="The lower end of the pass band; None leaves it open.",
        json_schema_extra={"unit": "Hz"},
    )
    high_hz: Annotated[float, Field(gt=0)] | None = Field(
        None,
        title="high",
        description="The upper end of the pass band; None leaves it open.",
        json_schema_extra={"unit": "Hz"},
    )

    @model_validator(mode="after")
    def _a_band(self) -> TemporalFilter:
        if self.method == "band" and self.low_hz is None and self.high_hz is None:
            raise ValueError("a band needs low_hz, high_hz or both")
        if self.low_hz is not None and self.high_hz is not None and self.low_hz >= self.high_hz:
            raise ValueError(f"low_hz ({self.low_hz}) must be below high_hz ({self.high_hz})")
        return self

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """All frames of the voxel."""
        del seq
        return {"t": inf}

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return float32 with the same frames.

        Raises
        ------
        MedseqError
            If there are no frames, or a band is requested for uneven times or lies beyond the frequencies that the
            frames can show.
        """
        times = _times(seq, self.title)
        work = {"gaussian": self._gaussian, "median": self._median, "detrend": self._detrend, "band": self._band}
        return with_new_values(_map_curves(seq, job, work[self.method](seq, times)))

    def _gaussian(self, _: ImageSequence, times: Times) -> Callable[[Curves], Curves]:
        weights = np.exp(-0.5 * ((times[:, None] - times[None]) / self.width_s) ** 2)
        weights /= weights.sum(axis=1, keepdims=True)
        return lambda curves: np.asarray(np.tensordot(weights, curves, axes=1))

    def _median(self, _: ImageSequence, times: Times) -> Callable[[Curves], Curves]:
        near = np.abs(times[:, None] - times[None]) <= self.width_s * (1 + 1e-9)
        return lambda curves: np.stack([np.median(curves[row], axis=0) for row in near])

    def _detrend(self, seq: ImageSequence, times: Times) -> Callable[[Curves], Curves]:
        if len(times) <= self.order:
            raise MedseqError(
                f"{seq.name} has {how_many(len(times), 'frame')}; a polynomial of order {self.order} needs more."
            )
        scaled = (times - times.mean()) / max(float(np.ptp(times)), 1e-12)
        basis, _ = np.linalg.qr(np.vander(scaled, self.order + 1))

        def without(curves: Curves) -> Curves:
            flat = curves.reshape(len(times), -1)
            residual = flat - basis @ (basis.T @ flat) + flat.mean(axis=0)
            return np.asarray(residual.reshape(curves.shape))

        return without

    def _band(self, seq: ImageSequence, times: Times) -> Callable[[Curves], Curves]:
        from scipy import signal

        steps = np.diff(times)
        if len(steps) == 0 or float(np.ptp(steps)) > _JITTER * float(steps.mean()):
            raise MedseqError(f"{seq.name}: its frames are not evenly spaced in time, as a band needs; use 'gaussian'.")
        highest = 1 / (2 * float(steps.mean()))
        for bound in (self.low_hz, self.high_hz):
            if bound is not None and bound >= highest:
                raise MedseqError(f"{seq.name}: {bound:g} Hz lies beyond what its frames can show, {highest:.4g} Hz.")
        if self.low_hz is not None and self.high_hz is not None:
            sections = signal.butter(self.order, (self.low_hz, self.high_hz), "bandpass", fs=2 * highest, output="sos")
        elif self.low_hz is not None:
            sections = signal.butter(self.order, self.low_hz, "highpass", fs=2 * highest, output="sos")
        else:
            sections = signal.butter(self.order, self.high_hz, "lowpass", fs=2 * highest, output="sos")
        needed = 3 * (2 * len(sections) + 1)
        if len(times) <= needed:
            raise MedseqError(
                f"{seq.name} has {how_many(len(times), 'frame')}; this band needs more than {needed}, or a lower order."
            )
        return lambda curves: np.asarray(signal.sosfiltfilt(sections, curves, axis=0))


class Baseline(Step):
    """Subtract the mean of the frames before contrast arrives from every frame, or give the change as a share of it."""

    title: ClassVar[str] = "baseline subtraction"
    kind: Literal["baseline"] = "baseline"
    frames: int = Field(
        1, ge=1, description="Number of the first frames that are the baseline.", json_schema_extra={"unit": "frames"}
    )
    relative: bool = Field(
        False,
        description=(
            "Whether the change is given in percent of the baseline, 100 (S − S₀) / S₀; voxels whose baseline is not "
            "above `floor` become 0."
        ),
    )
    floor: float = Field(
        0.0,
        description="Value in the image's unit below which a baseline counts as air, whose percentages have no meaning.",
    )

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """All frames of the voxel."""
        del seq
        return {"t": inf}

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return float32 with the same frames.

        Raises
        ------
        MedseqError
            If there are no frames, or none after the baseline.
        """
        times = _times(seq, self.title)
        if self.frames >= len(times):
            raise MedseqError(
                f"{seq.name} has {how_many(len(times), 'frame')}; a baseline of {self.frames} leaves none to compare with it."
            )

        def change(curves: Curves) -> Curves:
            base = curves[: self.frames].mean(axis=0)
            rise = curves - base
            if not self.relative:
                return np.asarray(rise)
            above = base > self.floor
            return np.asarray(np.where(above, 100 * rise / np.where(above, base, 1.0), 0.0))

        return with_new_values(_map_curves(seq, job, change))


def _times(seq: ImageSequence, title: str) -> Times:
    if "t" not in seq.axes or seq.times is None:
        raise MedseqError(f"{seq.name} has axes {seq.axes}; {title} needs frames, an axis 't'.")
    return seq.times


def _map_curves(seq: ImageSequence, job: Job, work: Callable[[Curves], Curves]) -> ImageSequence:
    """Apply ``work(curves)`` to all voxels slab by slab, so that a lazy series is never in memory twice.

    `work` takes and returns arrays (t, …).
    """
    deepest = "z" if "z" in seq.axes else "y"
    at, where = seq.axis(deepest), seq.axis("t")
    result = np.empty(seq.data.shape, np.float32)
    for number in range(seq.size(deepest)):
        check(job.cancelled)
        place = (slice(None),) * at + (number,)
        block = job.finite(np.asarray(seq.data[place]), seq.name).astype(np.float64)
        result[place] = np.moveaxis(work(np.moveaxis(block, where, 0)), 0, where)
        if job.progress is not None:
            job.progress(number + 1, seq.size(deepest), job.title)
    return seq.like(result)
