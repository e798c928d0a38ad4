"""What every preprocessing step is: frozen settings with a `kind` and an `apply`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError, MedseqWarning, SettingsError
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.sequence import ImageSequence
from napari_medseq.settings import Settings


class StepBase(Settings):
    """Base of the steps; a subclass adds ``kind: Literal[...]``, its settings and `apply`."""

    def apply(
        self,
        seq: ImageSequence,
        *,
        reference: ImageSequence | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> ImageSequence:
        """Return the sequence with this step applied; `reference` is for steps that need another image."""
        raise NotImplementedError

    @property
    def changes_intensity(self) -> bool:
        """Whether the step makes no sense on labels."""
        return True


def refuse_labels(seq: ImageSequence, what: str) -> None:
    """Raise if the sequence holds labels.

    Raises
    ------
    SettingsError
    """
    if seq.kind == "labels":
        raise SettingsError(
            f"{seq.name} holds labels, whose values are names; {what} is for images. Leave this step out."
        )


def finite(seq: ImageSequence, volume: NDArray[Any]) -> tuple[NDArray[Any], str | None]:
    """The volume as floating point without NaN or infinities, and what was put in their place.

    NaN and −∞ become the smallest finite value, +∞ the largest.

    Raises
    ------
    MedseqError
        If no voxel is finite.
    """
    data: NDArray[Any] = np.array(volume, dtype=np.float64 if volume.dtype == np.float64 else np.float32)
    good = np.isfinite(data)
    if good.all():
        return data, None
    if not good.any():
        raise MedseqError(f"{seq.name} has no finite voxel; there is nothing to work on.")
    low, high = float(data[good].min()), float(data[good].max())
    count = int(data.size - np.count_nonzero(good))
    return np.nan_to_num(data, nan=low, neginf=low, posinf=high), f"{count} voxels were NaN or infinite and were filled"


def doubt(seq: ImageSequence, notes: set[str]) -> ImageSequence:
    """The sequence with notes added to its warnings, each said aloud once as a `MedseqWarning`."""
    for note in sorted(notes):
        warnings.warn(f"{seq.name}: {note}.", MedseqWarning, stacklevel=3)
    return seq.replace(warnings=(*seq.warnings, *sorted(notes))) if notes else seq
