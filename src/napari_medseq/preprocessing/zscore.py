"""Z-score: mean 0 and standard deviation 1 over the body."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_medseq.geometry import Volume
from napari_medseq.preprocessing.step import EVERYTHING, ONE_FRAME, Job, Step
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.foreground import Region, region
from napari_medseq.volumes.padding import with_new_values, without_padding

#: a spread below this share of the mean is rounding: doubles hold 16 digits, sums of many voxels some fewer
_CONSTANT = 1e-12


class ZScore(Step):
    """Subtract the mean and divide by the standard deviation."""

    title: ClassVar[str] = "Z-score"
    kind: Literal["zscore"] = "zscore"
    inside: Region = Field(
        "foreground",
        description=(
            "Which voxels the two are taken over: the body (Otsu, largest piece, holes filled), those that are not 0,"
            " or all."
        ),
    )
    per_frame: bool = Field(
        False,
        description="Whether each frame of a ``t`` sequence has its own; default one for all, so that changes over time stay.",
    )
    clip: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Clip the result to ± so many standard deviations."
    )

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """The voxels that the mean is taken over."""
        del seq
        return ONE_FRAME if self.per_frame else EVERYTHING

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return float32 scores; a constant image becomes 0, with a warning."""
        shared = None if self.per_frame else self._over_frames(seq, job)
        channel = cycle(range(seq.size("c")))

        def scores_of(volume: Volume) -> Volume:
            data, c = job.finite(volume, seq.name), next(channel)
            if shared is not None:
                mean, spread = shared[c]
            else:
                values = without_padding(data[region(data, self.inside, seq.affine)], seq).astype(np.float64)
                mean, spread = float(values.mean()), float(values.std())
            if spread <= _CONSTANT * max(1.0, abs(mean)):
                job.doubts.append("all values are equal, so its z-scores are 0")
                return np.zeros(data.shape, np.float32)
            scores = ((data - mean) / spread).astype(np.float32)
            return np.clip(scores, -self.clip, self.clip) if self.clip is not None else scores

        return with_new_values(job.map(seq, scores_of))

    def _over_frames(self, seq: ImageSequence, job: Job) -> list[tuple[float, float]]:
        """Mean and standard deviation over all frames, one pair per colour channel, in one streamed pass."""
        channels = seq.size("c")
        sums = np.zeros((channels, 3))
        origin = np.full(channels, np.nan)  # shifted sums keep their digits where the mean is large
        for c, volume in zip(cycle(range(channels)), job.volumes(seq), strict=False):
            data = job.finite(volume, seq.name)
            values = without_padding(data[region(data, self.inside, seq.affine)], seq).astype(np.float64)
            if np.isnan(origin[c]):
                origin[c] = values.mean()
            values = values - origin[c]
            sums[c] += values.size, values.sum(), (values**2).sum()
        result = []
        for c, (n, total, squares) in enumerate(sums):
            shift = total / n
            result.append((float(origin[c] + shift), float(np.sqrt(max(0.0, squares / n - shift**2)))))
        return result
