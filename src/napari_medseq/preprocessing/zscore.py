"""Z-score: mean 0 and standard deviation 1 over the body."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_medseq.preprocessing.step import StepBase, doubt, finite, refuse_labels
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.foreground import Region, region
from napari_medseq.volumes.grid import each_volume


class ZScore(StepBase):
    """Subtract the mean and divide by the standard deviation.

    Attributes
    ----------
    inside : {"foreground", "nonzero", "all"}
        Which voxels the two are taken over: the body (Otsu, largest piece, holes filled), those that are not 0, or all.
    per_frame : bool
        Whether each frame of a ``t`` sequence has its own; default one for all, so that changes over time stay.
    clip : float or None
        Clip the result to ± so many standard deviations.
    """

    kind: Literal["zscore"] = "zscore"
    inside: Region = "foreground"
    per_frame: bool = False
    clip: Annotated[float, Field(gt=0)] | None = None

    def apply(
        self,
        seq: ImageSequence,
        *,
        reference: ImageSequence | None = None,  # noqa: ARG002
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> ImageSequence:
        """Return float32 scores; a constant image becomes 0, with a warning."""
        refuse_labels(seq, "z-score")
        notes: set[str] = set()
        shared = None if self.per_frame else self._over_frames(seq, notes, cancelled)

        def one(volume: NDArray[Any], number: int) -> NDArray[Any]:
            data, note = finite(seq, volume)
            if note:
                notes.add(note)
            if shared is not None:
                mean, spread = shared[number % seq.size("c")]
            else:
                values = data[region(data, self.inside)].astype(np.float64)
                mean, spread = float(values.mean()), float(values.std())
            if spread <= 1e-12 * max(1.0, abs(mean)):
                notes.add("all values are equal, so its z-scores are 0")
                return np.zeros(data.shape, np.float32)
            scores = ((data - mean) / spread).astype(np.float32)
            return np.clip(scores, -self.clip, self.clip) if self.clip is not None else scores

        return doubt(each_volume(seq, one, message="Z-score", progress=progress, cancelled=cancelled), notes)

    def _over_frames(
        self, seq: ImageSequence, notes: set[str], cancelled: Cancelled | None
    ) -> list[tuple[float, float]]:
        """Mean and standard deviation over all frames, one pair per colour channel, in one streamed pass."""
        channels = seq.size("c")
        sums = np.zeros((channels, 3))
        origin = np.full(channels, np.nan)  # shifted sums keep their digits where the mean is large

        def one(volume: NDArray[Any], number: int) -> NDArray[Any]:
            data, note = finite(seq, volume)
            if note:
                notes.add(note)
            c = number % channels
            values = data[region(data, self.inside)].astype(np.float64)
            if np.isnan(origin[c]):
                origin[c] = values.mean()
            values = values - origin[c]
            sums[c] += values.size, values.sum(), (values**2).sum()
            return np.zeros((1, 1, 1), np.float32)

        each_volume(seq, one, message="Z-score", cancelled=cancelled)
        result = []
        for c, (n, total, squares) in enumerate(sums):
            shift = total / n
            result.append((float(origin[c] + shift), float(np.sqrt(max(0.0, squares / n - shift**2)))))
        return result
