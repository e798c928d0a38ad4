"""Intensity windows: Hounsfield windows by name for CT, and percentiles for everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from napari_medseq.errors import MedseqError
from napari_medseq.geometry import Volume
from napari_medseq.preprocessing.step import ONE_VOXEL, Floats, Job, Step
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.foreground import Region, region
from napari_medseq.volumes.padding import with_new_values, without_padding

#: name → (level, width) in Hounsfield units. Source: "Windowing (CT)", Radiopaedia.org, rID 52108.
PRESETS: dict[str, tuple[float, float]] = {
    "brain": (40.0, 80.0),
    "subdural": (75.0, 215.0),
    "stroke": (40.0, 40.0),
    "temporal bone": (600.0, 2800.0),
    "head soft tissue": (40.0, 375.0),
    "lung": (-600.0, 1500.0),
    "mediastinum": (50.0, 350.0),
    "soft tissue": (50.0, 400.0),
    "liver": (30.0, 150.0),
    "spine": (50.0, 250.0),
    "bone": (400.0, 1800.0),
}


class Window(Step):
    """Clip to a window of Hounsfield units (or any unit), and scale it to 0–1."""

    title: ClassVar[str] = "intensity window (HU presets)"
    by_modality: ClassVar[Mapping[str, Mapping[str, object]]] = {"CT": {"preset": "soft tissue"}}
    kind: Literal["window"] = "window"
    preset: str | None = Field(None, description="One of `PRESETS`; a modality known to be other than CT is refused.")
    level: float | None = Field(None, description="The window's middle, instead of a preset.")
    width: Annotated[float, Field(gt=0)] | None = Field(None, description="The window's width, instead of a preset.")
    rescale: bool = Field(True, description="Whether the window becomes 0–1; else values are only clipped.")

    @model_validator(mode="after")
    def _one_window(self) -> Window:
        own = self.level is not None and self.width is not None
        if (self.level is None) != (self.width is None):
            raise ValueError("give level and width together")
        if own == (self.preset is not None):
            raise ValueError(f"give either a preset ({', '.join(PRESETS)}) or level and width")
        if self.preset is not None and self.preset not in PRESETS:
            raise ValueError(f"preset {self.preset!r} is unknown; use one of {', '.join(PRESETS)}")
        return self

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest value of the window."""
        if self.preset is not None:
            level, width = PRESETS[self.preset]
        else:
            level, width = self.level or 0.0, self.width or 1.0
        return level - width / 2, level + width / 2

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """A voxel alone."""
        del seq
        return ONE_VOXEL

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return float32 values inside the window (0–1 if rescaled).

        Raises
        ------
        MedseqError
            If a preset is asked for and the image is known not to be CT.
        """
        if self.preset is not None and seq.modality not in (None, "CT"):
            raise MedseqError(
                f"{seq.name} is {seq.modality}; the window {self.preset!r} is in Hounsfield units of CT. "
                "Give level and width, or use percentiles."
            )
        low, high = self.limits
        to = (0.0, 1.0) if self.rescale else None
        result = job.map(seq, lambda volume: _limited(job.finite(volume, seq.name), low, high, to))
        return _with_limits(result, to or (low, high))


class Percentile(Step):
    """Clip to percentiles of the intensities, and scale to a range."""

    title: ClassVar[str] = "percentile clipping"
    kind: Literal["percentile"] = "percentile"
    lower: float = Field(0.5, ge=0, lt=100, description="The percentile that becomes the smallest value.")
    upper: float = Field(99.5, gt=0, le=100, description="The percentile that becomes the largest value.")
    inside: Region = Field("all", description="Which voxels the percentiles are taken over.")
    to: tuple[float, float] | None = Field(
        (0.0, 1.0), description="The range that the clipped values are scaled to; None only clips."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Percentile:
        if self.lower >= self.upper:
            raise ValueError(f"lower ({self.lower}) must be below upper ({self.upper})")
        if self.to is not None and self.to[0] >= self.to[1]:
            raise ValueError(f"the range {self.to} must rise")
        return self

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return float32; the percentiles are those of all frames together. A constant image goes to the range's start."""
        pools = []
        for volume in job.volumes(seq):
            data = job.finite(volume, seq.name)
            pools.append(without_padding(data[region(data, self.inside, seq.affine)], seq))
        low, high = (float(v) for v in np.percentile(np.concatenate(pools), (self.lower, self.upper)))
        if low == high:
            job.doubts.append("all values are equal, so there is no range to scale")
        result = job.map(seq, lambda volume: _limited(job.finite(volume, seq.name), low, high, self.to))
        return _with_limits(result, self.to or (low, high))


def _limited(data: Floats, low: float, high: float, to: tuple[float, float] | None) -> Volume:
    clipped = np.clip(data, low, high)
    if to is not None:
        scaled = (clipped - low) / (high - low) if high > low else np.zeros_like(clipped)
        clipped = to[0] + scaled * (to[1] - to[0])
    return np.asarray(clipped, dtype=np.float32)


def _with_limits(seq: ImageSequence, limits: tuple[float, float]) -> ImageSequence:
    """The sequence shown over the range that it now has."""
    seq = with_new_values(seq)
    return (
        seq.replace(meta={**seq.meta, "contrast_limits": [float(v) for v in limits]}) if limits[0] < limits[1] else seq
    )
