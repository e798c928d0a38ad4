"""The memory that the main job will need for a patient, estimated before it starts from the sizes of the images
alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from napari_medseq.memory import WORTH_SAYING, warn_if_short
from napari_medseq.models import Model
from napari_medseq.models.choosing import Chosen
from napari_medseq.sequence import ImageSequence, Study, Visit

#: bytes per voxel of the labels that lesions are numbered in
_NUMBERED = 2


@dataclass(frozen=True)
class Peak:
    """Bytes that the main job takes for a patient, beside the programs.

    Attributes
    ----------
    images : int
        All images and masks of the study, which are held from the start to the end.
    masks : int
        The labels of all visits, held to the end.
    registration, segmentation, following : int
        What each of these takes at its peak beside that; they come one after another. 0 where nothing is registered.
    """

    images: int
    masks: int
    registration: int
    segmentation: int
    following: int

    @property
    def work(self) -> int:
        """The peak in addition to the images."""
        return self.masks + max(self.registration, self.segmentation, self.following)

    @property
    def whole(self) -> int:
        """The peak with them."""
        return self.images + self.work


def expected_peak(visits: Sequence[Visit], chosen: Sequence[Chosen], model: Model, *, register: str = "auto") -> Peak:
    """The peak of the main job; images may be lazy, and no voxel is read.

    Parameters
    ----------
    visits : sequence of Visit
        All visits of the study.
    chosen : sequence of Chosen
        What the model looks at.
    model : Model
    register : str
        As for `run`. "auto" counts as if visits had to be registered, because only their voxels show whether they do.
    """
    from napari_medseq.inference.expected import expected_bytes
    from napari_medseq.registration.linear import prepared_bytes

    together = model.info.sequence_axis == "visit"
    images = [c.image for c in chosen]
    each = [expected_bytes(list(c.channels.values()), model) for c in chosen]
    voxels = [_voxels(i) for i in images]
    return Peak(
        images=sum(_bytes(s) for v in visits for s in (*v.images, *v.labels)),
        masks=sum(voxels),
        registration=0 if register == "none" or len(images) < 2 else prepared_bytes(*images),
        segmentation=sum(each) if together else max(each, default=0),
        following=_NUMBERED * (sum(voxels) + max(voxels, default=0)),
    )


def warn_of_peak(study: Study, chosen: Sequence[Chosen], model: Model, *, register: str, device: str) -> None:
    """Say before the work starts that memory may not suffice for a study that was read, and what needs less."""
    from napari_medseq.inference.resources import devices

    peak = expected_peak(study.visits, chosen, model, register=register)
    if devices.is_remote(device) or devices.choose(device)[0].type != "cpu":
        peak = replace(peak, segmentation=0)
    if peak.work < WORTH_SAYING:
        return
    instead = "or resample or crop the images (preprocess)"
    if peak.registration >= max(peak.segmentation, peak.following):
        instead += ", or leave visits that are aligned already as they lie (register='none')"
    warn_if_short(peak.work, study.name, instead=instead)


def _voxels(image: ImageSequence) -> int:
    return math.prod(image.size(a) for a in image.axes if a != "c")


def _bytes(seq: ImageSequence) -> int:
    return math.prod(seq.size(a) for a in seq.axes) * int(seq.data.dtype.itemsize)
