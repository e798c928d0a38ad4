"""Changing the order and direction of the voxel axes, without interpolation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from napari_medseq import geometry
from napari_medseq.errors import GeometryError, MedseqError
from napari_medseq.preprocessing.step import ONE_FRAME, Job, Step
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.turning import turned


class Reorient(Step):
    """Permute and flip the axes so that they run in given directions of the body; values and positions of voxels do
    not change."""

    title: ClassVar[str] = "reorient"
    takes_labels: ClassVar[bool] = True
    kind: Literal["reorient"] = "reorient"
    codes: str = Field(
        "LPS",
        description=(
            "Directions in which the indices along (x, y, z) increase: three of R or L, A or P, S or I, as nibabel "
            'and 3D Slicer name them. This package holds every image as "LPS".'
        ),
    )

    @field_validator("codes")
    @classmethod
    def _usable(cls, value: str) -> str:
        codes = tuple(value.upper())
        try:
            if len(codes) != 3:
                raise GeometryError(f"{value!r} is not an orientation; use three of R/L, A/P, S/I, such as 'LPS'")
            geometry.to_codes(geometry.as_affine(geometry.RAS_LPS), (codes[0], codes[1], codes[2]))
        except GeometryError as problem:
            raise ValueError(str(problem)) from None
        return "".join(codes)

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """The whole volume, because axes may be permuted."""
        del seq
        return ONE_FRAME

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return the turned sequence, lazy if the input was; affine and slice axis follow. An oblique image is turned
        to the nearest axes.

        Raises
        ------
        MedseqError
            If the orientation of the image is unknown, or a single slice would have to be seen edge on.
        """
        del job
        if not seq.oriented:
            raise MedseqError(f"the orientation of {seq.name} is unknown, so it cannot be turned to {self.codes}.")
        codes = self.codes
        turn = geometry.to_codes(seq.affine, (codes[0], codes[1], codes[2]))
        if "z" not in seq.axes and turn.order[2] != 2:
            raise MedseqError(
                f"{seq.name} is a single slice ({''.join(geometry.axis_codes(seq.affine))}); as {self.codes} it would be seen edge on."
            )
        return turned(seq, turn)
