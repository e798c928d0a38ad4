"""The brain without skull and scalp by classical image processing: threshold, cut thin bridges, keep the central
component, grow back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_medseq import geometry
from napari_medseq.errors import MedseqError
from napari_medseq.geometry import Volume
from napari_medseq.preprocessing.step import ONE_FRAME, Floats, Job, Step
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.foreground import foreground
from napari_medseq.volumes.padding import with_new_values
from napari_medseq.volumes.turning import upright_meanwhile

Mask = NDArray[np.bool_]

#: range of the brain in CT and lower limit of bone, in HU (Muschelli et al. 2015, doi:10.1016/j.neuroimage.2015.03.074)
_CT_BRAIN, _CT_BONE = (0.0, 100.0), 100.0
#: brains of adults measure 1000 to 1600 mL (Lüders et al. 2002, doi:10.1006/nimg.2002.1207); a mask far from that gives a warning
_PLAUSIBLE_ML = (500.0, 2200.0)
#: least and largest brightness of a voxel of the brain, as shares of the way from air to the median of the head's centre. Fluid of
#: T1-weighted MR lies at a third to a half of white matter, fat at about twice (Bottomley et al. 1984, doi:10.1118/1.595535)
_LIKE_BRAIN = (0.55, 1.6)


class BrainMask(Step):
    """Find the brain in a scan of a head, by thresholds and morphology (after Brummer et al. 1993, doi:10.1109/42.232244).

    MR: inside the head (Otsu), voxels about as bright as the median of a ball in its centre (as in BET: Smith 2002,
    doi:10.1002/hbm.10062), designed for T1 weighting; CT: 0 to 100 HU inside the skull. Bridges thinner than twice
    `open_mm` are cut, and the central component is kept, grown back, closed and filled. There is no training and no
    atlas: look at the result before you trust it, above all with contrast, in children, and if slices are thick.
    """

    title: ClassVar[str] = "brain mask"
    kind: Literal["brain"] = "brain"
    open_mm: float = Field(
        4.0,
        ge=0,
        le=20,
        title="open",
        description=(
            "Depth of the erosion before the central component is chosen; a larger value cuts thicker bridges to the scalp."
        ),
        json_schema_extra={"unit": "mm"},
    )
    close_mm: float = Field(
        4.0,
        ge=0,
        le=20,
        title="close",
        description="Gaps up to twice this width are closed afterwards.",
        json_schema_extra={"unit": "mm"},
    )
    output: Literal["mask", "image"] = Field(
        "mask", description="Labels with the brain as 1, or the image with everything else at its smallest value."
    )

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """The whole volume."""
        del seq
        return ONE_FRAME

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return the mask, or the image with everything outside of it at its smallest value; each frame has its own
        mask.

        Raises
        ------
        MedseqError
            If the image is in colour, or is known to be neither MR nor CT.
        """
        return upright_meanwhile(seq, lambda upright: self._applied(upright, job))

    def _applied(self, seq: ImageSequence, job: Job) -> ImageSequence:
        if seq.modality not in (None, "MR", "CT") or "c" in seq.axes:
            raise MedseqError(
                f"{seq.name} is {'in colour' if 'c' in seq.axes else seq.modality}; the brain is found in MR and CT only."
            )
        step = geometry.spacing(seq.affine)[::-1]
        volumes_ml: list[float] = []

        def mask(volume: Volume) -> Volume:
            data = job.finite(volume, seq.name)
            brain = self._brain(data, step, seq.modality == "CT")
            volumes_ml.append(float(np.count_nonzero(brain)) * geometry.voxel_volume_mm3(seq.affine) / 1000)
            if self.output == "image":
                return np.where(brain, data, data.min()).astype(np.float32)
            return brain.astype(np.uint8)

        result = job.map(seq, mask)
        low, high = _PLAUSIBLE_ML
        if "z" in seq.axes and any(not low <= ml <= high for ml in volumes_ml):
            job.doubts.append(
                f"the brain mask holds {min(volumes_ml):.0f} mL, which is not a usual size of a brain; look at it"
            )
        if self.output == "image":
            return with_new_values(result)
        return seq.labels_like(result.data, name=f"{seq.name} brain", label_names={1: "brain"})

    def _brain(self, data: Floats, step: NDArray[np.float64], ct: bool) -> Mask:
        from scipy import ndimage

        tissue = _inside_skull(data, step) if ct else _like_the_middle(data, step)
        core = _grown(tissue, step, -self.open_mm)
        if not core.any():
            core = tissue
        pieces, n = ndimage.label(core)
        if n > 1:  # the component that most of the head's centre belongs to; scalp and face lie around it
            middle = _in_the_middle(foreground(data), step)
            sizes = np.bincount(pieces[middle] if (pieces[middle] > 0).any() else pieces.ravel())
            sizes[0] = 0
            core = pieces == sizes.argmax()
        # grown back through tissue only, and no further than it was eroded (plus one diagonal step)
        brain = _grown(core, step, self.open_mm + float(step.min())) & tissue
        brain = _grown(_grown(brain, step, self.close_mm), step, -self.close_mm)
        for plane in brain:
            plane[:] = ndimage.binary_fill_holes(plane)
        return np.asarray(brain)


def _in_the_middle(head: Mask, step: NDArray[np.float64]) -> Mask:
    """A ball at the head's centre, with half the radius of a ball as large as the head (Smith 2002, section 2.1)."""
    where = np.argwhere(head)
    middle = where.mean(axis=0)
    radius = 0.5 * (3 * len(where) * float(step.prod()) / (4 * np.pi)) ** (1 / 3)
    z, y, x = np.ogrid[tuple(slice(0, n) for n in head.shape)]
    apart = ((z - middle[0]) * step[0]) ** 2 + ((y - middle[1]) * step[1]) ** 2 + ((x - middle[2]) * step[2]) ** 2
    return np.asarray(head & (apart <= radius**2))


def _like_the_middle(data: Floats, step: NDArray[np.float64]) -> Mask:
    """Voxels about as bright as the head's centre: brain, but not fluid and bone, which are darker, nor fat, which is
    brighter."""
    head = foreground(data)
    middle = _in_the_middle(head, step) if head.any() else head
    if not middle.any():
        return head
    level = float(np.median(data[middle]))
    air = float(np.percentile(data, 2))
    low, high = (air + share * (level - air) for share in _LIKE_BRAIN)
    return np.asarray(head & (data > low) & (data < high))


def _inside_skull(data: Floats, step: NDArray[np.float64]) -> Mask:
    """Voxels of 0 to 100 HU that bone encloses, slice by slice."""
    from scipy import ndimage

    bone = _grown(data > _CT_BONE, step, 2.0)  # sutures and foramina of the skull are thinner than this
    inside = np.zeros(data.shape, bool)
    for number, plane in enumerate(bone):
        inside[number] = ndimage.binary_fill_holes(plane) & ~(data[number] > _CT_BONE)
    return np.asarray(inside & (data >= _CT_BRAIN[0]) & (data <= _CT_BRAIN[1]))


def _grown(mask: Mask, step: NDArray[np.float64], by_mm: float) -> Mask:
    """The mask dilated by millimetres, or eroded if negative, by true distances; it continues beyond the edge of the
    volume."""
    from scipy import ndimage

    if by_mm == 0 or not mask.any() or mask.all():
        return mask
    if by_mm > 0:
        return np.asarray(ndimage.distance_transform_edt(~mask, sampling=step) <= by_mm)
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=step) > -by_mm)
