"""A region of interest as the first step: a box around labels, or a box in millimetres."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from napari_medseq import geometry
from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.preprocessing.step import Job, Step
from napari_medseq.sequence import SPACE, ImageSequence
from napari_medseq.volumes.part import part_of

Range = tuple[float, float]


class RegionOfInterest(Step):
    """Crop to a box, so that the following steps see nothing else.

    The box is given in the patient's millimetres, so that the same region is cut from other sequences and registered
    visits on any grid, or it is the box around the reference's labels.
    """

    title: ClassVar[str] = "region of interest"
    takes_labels: ClassVar[bool] = True
    takes_reference: ClassVar[bool] = True
    kind: Literal["region"] = "region"
    box_mm: tuple[Range, Range, Range] | None = Field(
        None,
        title="box",
        description="From and to along R, A and S; without it the box is that around the reference's labels.",
        json_schema_extra={"unit": "mm"},
    )
    margin_mm: float = Field(
        10.0,
        ge=0,
        title="margin",
        description="Margin that is kept around it on every side.",
        json_schema_extra={"unit": "mm"},
    )

    @field_validator("box_mm")
    @classmethod
    def _rising(cls, value: tuple[Range, Range, Range] | None) -> tuple[Range, Range, Range] | None:
        if value is not None and any(low >= high for low, high in value):
            raise ValueError("each pair of the box must be ascending: (from, to) along R, A and S")
        return value

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return the unchanged voxels of the box; of an oblique image the smallest box along its own axes that
        contains it.

        Raises
        ------
        SettingsError
            If there is neither a box nor a reference with labels.
        MedseqError
            If the reference is empty, or the box does not touch the image.
        """
        if self.box_mm is not None:
            box = np.array(self.box_mm, dtype=np.float64).T
            points = box[list(np.ndindex(2, 2, 2)), [0, 1, 2]]
        elif job.reference is not None and job.reference.kind == "labels":
            points = labelled_corners(job.reference)
        else:
            raise SettingsError(
                "A region needs box_mm=, or labels to enclose (reference=; in the viewer: choose a layer)."
            )
        return cut_around(seq, points, self.margin_mm)


def cut_around(seq: ImageSequence, points_mm: NDArray[np.float64], margin_mm: float) -> ImageSequence:
    """The smallest box of voxels that holds points of the patient's space and a margin.

    Parameters
    ----------
    seq : ImageSequence
    points_mm : ndarray, shape (n, 3)
        RAS mm.
    margin_mm : float

    Raises
    ------
    MedseqError
        If the box does not touch the image."""
    # rounded, so that an edge between two voxels does not take in the next one by the last bit
    voxels = np.round(geometry.apply_points(np.asarray(np.linalg.inv(seq.affine)), points_mm), 6)
    index = {}
    for column, axis in enumerate("xyz"):
        if axis not in seq.axes:
            continue
        margin = margin_mm / seq.spacing[axis]
        # a voxel extends half a voxel to either side of its centre
        start = int(np.floor(voxels[:, column].min() - margin + 0.5))
        stop = int(np.ceil(voxels[:, column].max() + margin + 0.5))
        index[axis] = slice(max(0, start), min(seq.size(axis), max(stop, start + 1)))
        if index[axis].start >= index[axis].stop:
            raise MedseqError(
                f"{seq.name}: the region of interest lies outside of the image along {axis!r}; check that both show the same place."
            )
    return part_of(seq, index)


def labelled_corners(labels: ImageSequence) -> NDArray[np.float64]:
    """The corners, in RAS mm, of the smallest box of voxels that contains all labels of all frames.

    Raises
    ------
    MedseqError
        If nothing is labelled."""
    mask = np.asarray(labels.data) != 0
    low, high = np.full(3, -0.5), np.full(3, 0.5)
    for axis in SPACE:
        if axis not in labels.axes:
            continue
        used = np.flatnonzero(mask.any(axis=tuple(k for k, a in enumerate(labels.axes) if a != axis)))
        if not used.size:
            raise MedseqError(f"{labels.name} has no label; there is no region to cut out.")
        column = "xyz".index(axis)
        low[column], high[column] = used[0] - 0.5, used[-1] + 0.5
    box = np.stack([low, high])
    return geometry.apply_points(labels.affine, box[list(np.ndindex(2, 2, 2)), [0, 1, 2]])
