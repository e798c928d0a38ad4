"""Registration as a step: an image is registered to another layer or visit."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from napari_medseq.errors import SettingsError
from napari_medseq.preprocessing.follow import with_transforms
from napari_medseq.preprocessing.step import Job, Step
from napari_medseq.registration import frames
from napari_medseq.registration.registration import register
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.grid import Interpolation


class Register(Step):
    """Register to the reference image and resample onto its grid."""

    title: ClassVar[str] = "registration"
    takes_labels: ClassVar[bool] = True
    takes_reference: ClassVar[bool] = True
    kind: Literal["register"] = "register"
    transform: Literal["rigid", "translation", "affine", "deformable"] = Field(
        "rigid",
        description="What the transform may change: position and angle, position only, also size and shear, or the shape too.",
    )
    interpolation: Interpolation | None = Field(
        None, description="Interpolation between voxels; default linear for images and nearest for labels."
    )
    resample: bool = Field(
        True,
        description=(
            "Whether the voxels are resampled onto the reference's grid. If not, only the affine changes (not "
            "for deformable), so that the image keeps its voxels in the reference's space without loss."
        ),
    )
    seed: int = Field(0, ge=0, description="Seed of the random samples; the same seed gives the same result.")

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return the image in the reference's space; all frames of a ``t`` sequence move as its middle frame does.

        Raises
        ------
        SettingsError
            Without a reference.
        RegistrationError
            If the result cannot be trusted.
        """
        reference = job.reference
        if reference is None:
            raise SettingsError("Registration needs a target image; give reference= (in the viewer: choose a layer).")
        moving = seq.frame(seq.size("t") // 2) if "t" in seq.axes else seq
        fixed = reference.frame(reference.size("t") // 2) if "t" in reference.axes else reference
        transform = register(
            moving, fixed, kind=self.transform, seed=self.seed, progress=job.progress, cancelled=job.cancelled
        )
        if not self.resample:
            moved = seq.replace(affine=transform.to_fixed_matrix @ seq.affine)
        else:
            moved = transform.apply(seq, reference=fixed, interpolation=self.interpolation, cancelled=job.cancelled)
        facts = {
            "matrix": transform.linear.tolist(),
            "quality": transform.quality.model_dump(mode="json"),
            "fixed": fixed.name,
        }
        return with_transforms(moved.replace(meta={**moved.meta, "registration": facts}), [transform])


class MotionCorrection(Step):
    """Register every frame of a dynamic series to one of them."""

    title: ClassVar[str] = "motion correction"
    kind: Literal["motion"] = "motion"
    transform: Literal["rigid", "translation", "affine"] = Field(
        "rigid", description="What the transform may change from frame to frame."
    )
    frame: int | None = Field(None, description="The frame that the others are registered to; default the middle one.")
    seed: int = Field(0, ge=0, description="Seed of the random samples; the same seed gives the same result.")

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return the series with its frames aligned."""
        motion = frames(
            seq,
            reference=self.frame,
            kind=self.transform,
            seed=self.seed,
            progress=job.progress,
            cancelled=job.cancelled,
        )
        return with_transforms(motion.corrected, motion.transforms)
