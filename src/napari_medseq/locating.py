"""The step that looks before it cuts: a model locates what is sought, and the steps after it see that region only.

It stands above `inference`, which `preprocessing` does not know; the package offers it by an entry point, as other packages do theirs.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from napari_medseq.errors import MedseqError
from napari_medseq.preprocessing.step import Job, Step
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.part import part_of


class Locate(Step):
    """Cut out the region around what a model finds (`napari_medseq.locate`)."""

    title: ClassVar[str] = "locate, then cut out"
    kind: Literal["locate"] = "locate"
    model: str = Field(
        "brain-tumor",
        description="Name or bundle folder of a model; a path given in a file of steps is one on the machine that runs it.",
    )
    margin_mm: float = Field(
        15.0,
        ge=0,
        title="margin",
        description="What is kept around everything found, on every side.",
        json_schema_extra={"unit": "mm"},
    )
    min_score: float = Field(0.3, gt=0, lt=1, description="Probability from which on a place counts.")
    device: str = Field("auto", description='"auto", "cpu", "cuda", "cuda:N" or "mps".')

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return the region, its voxels as they are; what is sought is looked for in the middle frame where there are several.

        Raises
        ------
        MedseqError
            If nothing is found.
        ModelError
            If the model does not fit the image.
        """
        from napari_medseq.inference import locate

        still = seq.frame(seq.size("t") // 2) if "t" in seq.axes else seq
        locations = locate(
            still,
            self.model,
            min_score=self.min_score,
            device=self.device,
            progress=job.progress,
            cancelled=job.cancelled,
        )
        if not len(locations):
            raise MedseqError(
                f"{seq.name}: {self.model} finds nothing surer than {self.min_score:g}; there is no region to cut out. Lower `min_score`, "
                "or give the place by labels or a box (step 'region')."
            )
        region = locations.region(self.margin_mm)
        cut = part_of(seq, {axis: slice(start, stop) for axis, (start, stop) in region.items()})
        return cut.replace(meta={**cut.meta, "located_by": locations.model})
