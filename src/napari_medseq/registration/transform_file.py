"""The file of a transform: the measures of a registration, and the JSON that stores everything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_medseq import files
from napari_medseq.errors import ReadError
from napari_medseq.settings import problems

Kind = Literal["translation", "rigid", "affine", "deformable"]
Rows = list[list[float]]


class Quality(BaseModel):
    """The measures of a registration. Distances are in mm, angles in degrees.

    Attributes
    ----------
    mi_before, mi_after, mi_chance : float
        Mutual information (nats, bias-corrected) at the images' own positions, at the result, and the best at positions
        wrong by 40 % of the body's extent.
    nmi_before, nmi_after, correlation_after : float
        Normalised mutual information; absolute correlation.
    covered, dice : float
        Share of the fixed foreground inside the moving image; Dice of the two foregrounds.
    rotation_deg, shift_mm, scale_min, scale_max : float
        Rotation, displacement of the foreground's centre, and the linear part's smallest and largest stretch.
    error_mm : float
        Root-mean-square distance, over the foreground, between this result and those of other random samples and other
        starts: an estimate of the registration error, never below a tenth of the finest voxel used.
    jacobian_min, jacobian_max, folded : float or None
        For deformable transforms: local volume change, and the share of the foreground where space folds (≤ 0).
    seconds : float
        Time taken.
    trustworthy : bool
    doubts : tuple of str
        The reasons if it is not trustworthy.
    """

    model_config = ConfigDict(frozen=True)

    mi_before: float = 0.0
    mi_after: float = 0.0
    mi_chance: float = 0.0
    nmi_before: float = 1.0
    nmi_after: float = 1.0
    correlation_after: float = 0.0
    covered: float = 1.0
    dice: float = 0.0
    rotation_deg: float = 0.0
    shift_mm: float = 0.0
    scale_min: float = 1.0
    scale_max: float = 1.0
    error_mm: float = 0.0
    jacobian_min: float | None = None
    jacobian_max: float | None = None
    folded: float | None = None
    seconds: float = 0.0
    trustworthy: bool = True
    doubts: tuple[str, ...] = ()


class SplineRecord(BaseModel):
    """A B-spline: its frame, ITK's description of the control grid, and the coefficients in mm."""

    frame: Rows
    fixed_parameters: tuple[float, ...]
    parameters: tuple[float, ...]


class TransformRecord(BaseModel):
    """A transform as JSON; see `Transform` for its fields."""

    format: Literal["napari-medseq transform"] = "napari-medseq transform"
    version: Literal[1] = 1
    kind: Kind
    maps: str = "fixed RAS+ mm to moving RAS+ mm"
    linear: Rows
    spline: SplineRecord | None = None
    fixed_affine: Rows | None = None
    fixed_grid: tuple[int, int, int] | None = None
    fixed_name: str = ""
    moving_name: str = ""
    quality: Quality

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the record, whole or not at all."""
        return files.write_text(path, self.model_dump_json(indent=1))

    @classmethod
    def read(cls, path: Path) -> TransformRecord:
        """Read what `write` wrote.

        Raises
        ------
        ReadError
            If the file is not such a record, or is of a later version.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ReadError(problems(error, cls, "not a transform of this package, or of a later version")) from None
