"""Intensity windows: Hounsfield windows by name for CT, and percentiles for everything else."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.preprocessing.step import StepBase, doubt, finite, refuse_labels
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.foreground import Region, region
from napari_medseq.volumes.grid import each_volume

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


class Window(StepBase):
    """Clip to a window of Hounsfield units (or any unit), and scale it to 0–1.

    Attributes
    ----------
    preset : str or None
        One of `PRESETS`; a modality known to be other than CT is refused.
    level, width : float or None
        The window's middle and width, instead of a preset.
    rescale : bool
        Whether the window becomes 0–1; else values are only clipped.
    """

    kind: Literal["window"] = "window"
    preset: str | None = None
    level: float | None = None
    width: Annotated[float, Field(gt=0)] | None = None
    rescale: bool = True

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

    def apply(
        self,
        seq: ImageSequence,
        *,
        reference: ImageSequence | None = None,  # noqa: ARG002
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> ImageSequence:
        """Return float32 values inside the window (0–1 if rescaled).

        Raises
        ------
        MedseqError
            If a preset is asked for and the image is known not to be CT, or it holds labels.
        """
        refuse_labels(seq, "an intensity window")
        if self.preset is not None and seq.modality not in (None, "CT"):
            raise MedseqError(
                f"{seq.name} is {seq.modality}; the window {self.preset!r} is in Hounsfield units of CT. "
                "Give level and width, or use percentiles."
            )
        low, high = self.limits
        notes: set[str] = set()

        def one(volume: NDArray[Any], _: int) -> NDArray[Any]:
            data, note = finite(seq, volume)
            if note:
                notes.add(note)
            return _limited(data, low, high, (0.0, 1.0) if self.rescale else None)

        result = each_volume(seq, one, message="Window", progress=progress, cancelled=cancelled)
        return doubt(_with_limits(result, (0.0, 1.0) if self.rescale else (low, high)), notes)


class Percentile(StepBase):
    """Clip to percentiles of the intensities, and scale to a range.

    Attributes
    ----------
    lower, upper : float
        Percentiles, 0–100.
    inside : {"foreground", "nonzero", "all"}
        Which voxels they are taken over.
    to : tuple of float or None
        The range that the clipped values are scaled to; None only clips.
    """

    kind: Literal["percentile"] = "percentile"
    lower: float = Field(0.5, ge=0, lt=100)
    upper: float = Field(99.5, gt=0, le=100)
    inside: Region = "all"
    to: tuple[float, float] | None = (0.0, 1.0)

    @model_validator(mode="after")
    def _ordered(self) -> Percentile:
        if self.lower >= self.upper:
            raise ValueError(f"lower ({self.lower}) must be below upper ({self.upper})")
        if self.to is not None and self.to[0] >= self.to[1]:
            raise ValueError(f"the range {self.to} must rise")
        return self

    def apply(
        self,
        seq: ImageSequence,
        *,
        reference: ImageSequence | None = None,  # noqa: ARG002
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> ImageSequence:
        """Return float32; the percentiles are those of all frames together. A constant image goes to the range's start."""
        refuse_labels(seq, "percentile clipping")
        notes: set[str] = set()
        pools: list[NDArray[Any]] = []

        def collect(volume: NDArray[Any], _: int) -> NDArray[Any]:
            data, note = finite(seq, volume)
            if note:
                notes.add(note)
            pools.append(data[region(data, self.inside)])
            return np.zeros((1, 1, 1), np.float32)

        each_volume(seq, collect, message="Percentiles", cancelled=cancelled)
        low, high = (float(v) for v in np.percentile(np.concatenate(pools), (self.lower, self.upper)))
        if low == high:
            notes.add("all values are equal, so there is no range to scale")

        def one(volume: NDArray[Any], _: int) -> NDArray[Any]:
            return _limited(finite(seq, volume)[0], low, high, self.to)

        result = each_volume(seq, one, message="Percentiles", progress=progress, cancelled=cancelled)
        return doubt(_with_limits(result, (low, high) if self.to is None else self.to), notes)


def _limited(data: NDArray[Any], low: float, high: float, to: tuple[float, float] | None) -> NDArray[Any]:
    clipped = np.clip(data, low, high)
    if to is not None:
        scaled = (clipped - low) / (high - low) if high > low else np.zeros_like(clipped)
        clipped = to[0] + scaled * (to[1] - to[0])
    return np.asarray(clipped, dtype=np.float32)


def _with_limits(seq: ImageSequence, limits: tuple[float, float]) -> ImageSequence:
    """The sequence shown over the range that it now has."""
    return (
        seq.replace(meta={**seq.meta, "contrast_limits": [float(v) for v in limits]}) if limits[0] < limits[1] else seq
    )


def preset(name: str) -> Window:
    """The window of a preset.

    Raises
    ------
    SettingsError
        If there is none of this name.
    """
    if name not in PRESETS:
        raise SettingsError(f"Window preset {name!r} is unknown; use one of {', '.join(PRESETS)}.")
    return Window(preset=name)
