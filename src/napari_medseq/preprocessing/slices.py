"""Selecting slices or frames: every n-th, evenly spaced ones, or the most informative ones."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_medseq.errors import MedseqError
from napari_medseq.geometry import as_affine
from napari_medseq.preprocessing.step import Job, Step, sliced_along
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.part import part_of

#: number of grey levels in the entropy of a slice
LEVELS = 256


class SelectSlices(Step):
    """Keep some of the slices, or of the frames, unchanged.

    Slices at uneven distances do not lie on one grid; the result then has their mean distance, their true positions in
    ``meta["slice_positions_mm"]``, and a warning.
    """

    title: ClassVar[str] = "select slices"
    takes_labels: ClassVar[bool] = True
    kind: Literal["slices"] = "slices"
    choose: Literal["every", "even", "informative"] = Field(
        "every",
        description=(
            '"every": each `step`-th one, beginning with `start`; "even": `count` slices from the first to the last at '
            'distances as equal as possible; "informative": the `count` slices of the largest Shannon '
            "entropy, in their order."
        ),
    )
    axis: Literal["slices", "frames"] = Field("slices", description="Whether slices or frames are chosen.")
    step: int = Field(
        2,
        ge=1,
        description='Distance between those that are kept, for "every".',
        json_schema_extra={"unit": "slices"},
    )
    start: int = Field(0, ge=0, description='The first one that is kept, for "every".')
    count: int = Field(
        16,
        ge=1,
        description='Number of those that are kept, for "even" and "informative"; all stay if there are fewer.',
        json_schema_extra={"unit": "slices"},
    )

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return the chosen slices, lazy if the sequence was (entropies are read once).

        Raises
        ------
        MedseqError
            If there is no axis to choose along, or `start` lies beyond the last.
        """
        axis = "t" if self.axis == "frames" else sliced_along(seq)
        if axis not in seq.axes:
            raise MedseqError(f"{seq.name} has axes {seq.axes}; there are no {self.axis} to choose among.")
        chosen = self._chosen(seq, axis, job)
        gaps = set(np.diff(chosen).tolist())
        if len(gaps) <= 1:
            step = gaps.pop() if gaps else 1
            return part_of(seq, {axis: slice(int(chosen[0]), int(chosen[-1]) + 1, step)})
        at = tuple(chosen if a == axis else slice(None) for a in seq.axes)
        if axis == "t":
            assert seq.times is not None
            return seq.replace(data=seq.data[at], times=seq.times[chosen])
        return self._uneven(seq, axis, chosen, at, job)

    def _chosen(self, seq: ImageSequence, axis: str, job: Job) -> NDArray[np.intp]:
        length = seq.size(axis)
        if self.choose == "every":
            if self.start >= length:
                raise MedseqError(f"{seq.name} has {length} {self.axis}; none is left from number {self.start} on.")
            return np.arange(self.start, length, self.step)
        if self.count >= length:
            return np.arange(length)
        if self.choose == "even":
            if self.count == 1:
                return np.array([length // 2])
            return np.round(np.linspace(0, length - 1, self.count)).astype(np.intp)
        entropy = slice_entropy(seq, axis, job)
        # of equal ones the earlier, so that the choice is reproducible
        return np.sort(np.argsort(-entropy, kind="stable")[: self.count])

    def _uneven(
        self,
        seq: ImageSequence,
        axis: str,
        chosen: NDArray[np.intp],
        at: tuple[NDArray[np.intp] | slice, ...],
        job: Job,
    ) -> ImageSequence:
        column = "xyz".index(axis)
        usual = float(chosen[-1] - chosen[0]) / (len(chosen) - 1)
        change = np.eye(4)
        change[column, column], change[column, 3] = usual, float(chosen[0])
        places = [round(float(k - chosen[0]) * seq.spacing[axis], 4) for k in chosen]
        job.doubts.append(
            f"the {len(chosen)} slices chosen are not evenly spaced ({usual * seq.spacing[axis]:.3g} mm apart on average); "
            "distances and volumes along them are not reliable"
        )
        return seq.replace(
            data=seq.data[at],
            affine=as_affine(seq.affine @ change),
            meta={**seq.meta, "slice_positions_mm": places},
        )


def slice_entropy(seq: ImageSequence, axis: str, job: Job | None = None) -> NDArray[np.float64]:
    """Shannon entropy of each slice or frame, in bits, over 256 grey levels between the sequence's 0.5th and 99.5th percentile.

    Parameters
    ----------
    seq : ImageSequence
    axis : {"t", "z", "y", "x"}
        The axis; entropies of images with the same index (frames, colours) are averaged.
    job : Job, optional

    Returns
    -------
    ndarray, shape (length of the axis,)
    """
    from skimage.measure import shannon_entropy

    job = Job() if job is None else job
    volumes = [job.finite(v, seq.name) for v in job.volumes(seq)]
    low, high = np.percentile(np.concatenate([v.ravel() for v in volumes]), (0.5, 99.5))
    width = float(high - low) or 1.0
    rows = []
    for volume in volumes:
        level = np.clip((volume - low) / width * LEVELS, 0, LEVELS - 1).astype(np.uint8)
        planes = [level] if axis == "t" else np.moveaxis(level, "zyx".index(axis), 0)
        rows.append([float(shannon_entropy(plane)) for plane in planes])
    entropies = np.array(rows)
    if axis == "t":  # the channels of one frame follow each other
        return np.asarray(entropies.reshape(seq.size("t"), -1).mean(axis=1))
    return np.asarray(entropies.mean(axis=0))
