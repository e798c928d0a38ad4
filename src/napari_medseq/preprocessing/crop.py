"""Cropping to the body."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_medseq.preprocessing.step import Job, Step
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.foreground import foreground
from napari_medseq.volumes.part import part_of


class Crop(Step):
    """Cut away the air around the body (or, for labels, around what is labelled)."""

    title: ClassVar[str] = "crop to the body"
    takes_labels: ClassVar[bool] = True
    takes_reference: ClassVar[bool] = True
    kind: Literal["crop"] = "crop"
    margin_mm: float = Field(
        5.0,
        ge=0,
        title="margin",
        description="Margin that is kept around it on every side.",
        json_schema_extra={"unit": "mm"},
    )

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return a part of the grid with unchanged voxels; the box is that of all frames together, or of the
        reference.

        With a reference on the same grid (the image that labels belong to) both are cropped alike.
        """
        source = job.reference if job.reference is not None and job.reference.same_grid(seq) else seq
        masks = [
            volume != 0 if source.kind == "labels" else foreground(volume, source.affine)
            for volume in job.volumes(source)
        ]
        body = np.logical_or.reduce(masks)
        if not body.any():
            return seq
        index = {}
        for at, axis in enumerate("zyx"):
            if axis not in seq.axes:
                continue
            used = np.flatnonzero(body.any(axis=tuple(k for k in range(3) if k != at)))
            margin = int(np.ceil(self.margin_mm / seq.spacing[axis]))
            index[axis] = slice(max(0, int(used[0]) - margin), int(used[-1]) + 1 + margin)
        return part_of(seq, index)
