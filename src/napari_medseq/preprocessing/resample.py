"""Resampling to a chosen voxel size, or onto the grid of another image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from napari_medseq import geometry
from napari_medseq.errors import SettingsError
from napari_medseq.geometry import Affine
from napari_medseq.preprocessing.step import ONE_FRAME, Job, Step
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.grid import Interpolation, resample

#: number of voxels (8 GB as float32) above which the spacing is considered a typing error
_MOST_VOXELS = 2_000_000_000


class Resample(Step):
    """Resample to a voxel size, or (without `spacing`) onto the reference's grid."""

    title: ClassVar[str] = "resample"
    takes_labels: ClassVar[bool] = True
    takes_reference: ClassVar[bool] = True
    kind: Literal["resample"] = "resample"
    spacing: tuple[float, float, float] | None = Field(
        None,
        description="Millimetres along (z, y, x), or one number for all; 0 keeps an axis. The field of view does not change.",
        json_schema_extra={"unit": "mm"},
    )
    interpolation: Interpolation | None = Field(
        None,
        description=(
            'Interpolation of images; default linear. Labels always use nearest, or "label" '
            "(the label with the largest share)."
        ),
    )
    antialias: bool = Field(True, description="Smooth images before they become coarser.")
    fill: float | None = Field(None, description="Value outside; default the image's smallest.")

    @field_validator("spacing", mode="before")
    @classmethod
    def _three(cls, value: object) -> object:
        return (value, value, value) if isinstance(value, int | float) else value

    @field_validator("spacing")
    @classmethod
    def _positive(cls, value: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        if value is not None and (min(value) < 0 or max(value) == 0 or not np.isfinite(value).all()):
            raise ValueError("spacing must be positive millimetres along (z, y, x); 0 keeps an axis")
        return value

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """The whole volume, because the new grid covers all of it."""
        del seq
        return ONE_FRAME

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return the sequence on the new grid; the affine follows.

        Raises
        ------
        SettingsError
            If there is neither a spacing nor a reference, or the new grid would be absurdly large.
        """
        if self.spacing is not None:
            affine, grid = _respaced(seq, self.spacing)
        elif job.reference is not None:
            affine, grid = job.reference.affine, job.reference.grid
        else:
            raise SettingsError("Resampling needs a voxel size (spacing=) or another image as target (reference=).")
        if float(np.prod([float(n) for n in grid])) > _MOST_VOXELS:
            raise SettingsError(f"{seq.name}: the new grid of {grid} voxels is too large; choose a coarser spacing.")
        how: Interpolation | None = self.interpolation
        if seq.kind == "labels":
            how = "label" if how == "label" else "nearest"
        return resample(
            seq,
            affine,
            grid,
            interpolation=how,
            fill=self.fill,
            antialias=self.antialias,
            progress=job.progress,
            cancelled=job.cancelled,
        )


def _respaced(seq: ImageSequence, spacing: tuple[float, float, float]) -> tuple[Affine, tuple[int, int, int]]:
    """The grid of another voxel size whose outer faces stay in place as nearly as whole voxels allow."""
    old = geometry.spacing(seq.affine)
    size = np.array(seq.grid, dtype=np.float64)
    new = np.array([s if s > 0 else o for s, o in zip(spacing[::-1], old, strict=True)])
    if "z" not in seq.axes:
        new[2] = old[2]
    count = np.maximum(1, np.round(size * old / new)).astype(int)
    change = np.diag([*(new / old), 1.0])
    # the centre of the box stays
    change[:3, 3] = (size - 1) / 2 - (new / old) * (count - 1) / 2
    grid = (int(count[0]), int(count[1]), int(count[2]))
    return geometry.as_affine(seq.affine @ change), grid
