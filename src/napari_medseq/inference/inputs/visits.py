"""A patient's visits as one sequence: their order, the days between them, and the grid that they are brought to.

Each visit is segmented on its own grid: the images of the others are brought there, in patient space, and the labels of that visit
are taken from there. So no label is ever resampled, and visits that share a grid are looked at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from napari_medseq import geometry
from napari_medseq.errors import MedseqError, ModelError, warn
from napari_medseq.geometry import Affine
from napari_medseq.inference.inputs.frame import Framing, Region, frame
from napari_medseq.inference.inputs.images import Images, exams
from napari_medseq.inference.inputs.intensity import Intensity, measure
from napari_medseq.models import Model
from napari_medseq.progress import Cancelled, check
from napari_medseq.registration.transform import Position, to_common
from napari_medseq.sequence import ImageSequence, Visit, check_same_grid
from napari_medseq.wording import how_many

Registration = Literal["auto", "none", "translation", "rigid", "affine"]
_SAME_PLACE_MM = 1e-2


@dataclass(frozen=True, eq=False)
class VisitStack:
    """A patient's visits on the grid of one of them, as an image whose frames are the visits.

    Attributes
    ----------
    channels : list of ImageSequence
        One per channel, axis "t" for the visits in the order of their dates.
    visits : list of int
        The index of each frame's visit among those that were given.
    own : list of int
        The frames whose own grid this is.
    each : tuple of tuple of Intensity
        Per visit and channel, measured where the visit was acquired.
    days : tuple of float or None
        Since the first visit; None where a date is missing.
    """

    channels: list[ImageSequence]
    visits: list[int]
    own: list[int]
    each: tuple[tuple[Intensity, ...], ...]
    days: tuple[float, ...] | None

    def framing(self, *, pixel_mm: float | None, stride: int, region: Region | None = None) -> Framing:
        """How the visits become network steps; see `frame.frame`."""
        return frame(
            self.channels,
            along="t",
            pixel_mm=pixel_mm,
            stride=stride,
            region=region,
            each=self.each,
            times=self.days,
        )


@dataclass(frozen=True, eq=False)
class Patient:
    """The visits of a patient that have an image, as a model along visits reads them.

    Attributes
    ----------
    exams : list of list of ImageSequence
        Channels per visit.
    index : list of int
        Indices of these visits among all given ones.
    days : list of int or None
        Day number of each; None where unknown.
    to_common : list of 4×4
        Visit → common space, RAS mm.
    """

    exams: list[list[ImageSequence]]
    index: list[int]
    days: list[int | None]
    to_common: list[Affine]


def patient_of(
    images: Images,
    model: Model,
    transforms: Sequence[Position] | None,
    *,
    force: bool = False,
    cancelled: Cancelled | None = None,
) -> Patient:
    """The images of a patient for a model along visits; a single image counts as a patient's only visit.

    Visits without an image are left out with a warning.

    Raises
    ------
    ModelError
        If no visit has an image, or the model does not fit one.
    MedseqError
        If there is not one transform per visit.
    RegistrationError
        If a visit has to be registered and the result cannot be trusted.
    """
    visits: list[Visit] | None = list(images) if isinstance(images, Sequence) else None
    if visits is None or not all(isinstance(v, Visit) for v in visits):
        return Patient(exams(images, model, force=force), [0], [0], [np.eye(4)])
    if transforms is not None and len(transforms) != len(visits):
        raise MedseqError(
            f"{how_many(len(transforms), 'transform')} for {how_many(len(visits), 'visit')}; give one per visit."
        )
    index = [k for k, v in enumerate(visits) if any(i.kind == "image" for i in v.images)]
    if not index:
        raise ModelError("No visit has an image; give visits with the image that the model looks at.")
    for k in sorted(set(range(len(visits))) - set(index)):
        text = f"Visit {k + 1} ({visits[k].name or visits[k].date or 'undated'}) is left out: it has no image."
        warn(text)
    ordered = [visits[k] for k in index]
    exam_list = exams(ordered, model, force=force)
    first = [c[0] for c in exam_list]
    chosen_transforms = None if transforms is None else [transforms[k] for k in index]
    return Patient(
        exam_list, index, days_of(ordered, first), to_common_space(first, chosen_transforms, cancelled=cancelled)
    )


def days_of(visits: Sequence[Visit], images: Sequence[ImageSequence]) -> list[int | None]:
    """The day number of each visit, from its date or else its image's; None where neither is known."""
    dates = [v.date or (i.acquired and i.acquired.date()) for v, i in zip(visits, images, strict=True)]
    return [d.toordinal() if d is not None else None for d in dates]


def to_common_space(
    images: Sequence[ImageSequence],
    transforms: Sequence[Position] | None,
    *,
    mode: Registration = "auto",
    cancelled: Cancelled | None = None,
) -> list[Affine]:
    """The matrices from each visit's patient coordinates to those of the first, RAS mm.

    Parameters
    ----------
    images : sequence of ImageSequence
        One per visit.
    transforms : sequence of 4×4, Transform or None, optional
        Known already; see `registration.transform.to_common`. Without any they are found: see `register.visits`.
    mode : {"auto", "none", "translation", "rigid", "affine"}

    Raises
    ------
    RegistrationError
        If a visit has to be registered and the result cannot be trusted.
    """
    if transforms is None:
        from napari_medseq.registration import visits

        if len(images) == 1 or mode == "none":
            return [np.eye(4)] * len(images)
        return [np.asarray(a.to_baseline) for a in visits(images, mode=mode, cancelled=cancelled)]
    return [to_common(m) for m in transforms]


def stack_visits(
    exams: Sequence[Sequence[ImageSequence]],
    days: Sequence[int | None],
    to_common: Sequence[Affine],
    cancelled: Cancelled | None = None,
) -> list[VisitStack]:
    """The visits on each grid that there is among them.

    Parameters
    ----------
    exams : sequence of sequence of ImageSequence
        Channels per visit, (z, y, x) or (y, x).
    days : sequence of int or None
        Day number of each visit; with a date missing the order given is kept and there are no gaps.
    to_common : sequence of 4×4
        Visit → common space, RAS mm.

    Raises
    ------
    MedseqError
        If a visit's channels are not on one grid, or slices and volumes are mixed.
    """
    dates = [d for d in days if d is not None]
    dated = len(dates) == len(days)
    order = sorted(range(len(exams)), key=lambda i: dates[i]) if dated else list(range(len(exams)))
    since = tuple(float(dates[i] - dates[order[0]]) for i in order) if dated else None
    for channels in exams:
        check_same_grid(*channels)
        for other in channels:
            if other.axes != exams[0][0].axes:
                raise MedseqError(f"{other.name} has axes {other.axes}, but {exams[0][0].name} {exams[0][0].axes}.")
    each = tuple(tuple(measure(list(c.volume_zyx()), c.name) for c in exams[i]) for i in order)
    stacks: list[VisitStack] = []
    remaining = list(order)
    while remaining:
        base = remaining[0]
        own = [i for i in remaining if _same_place(exams[i][0], to_common[i], exams[base][0], to_common[base])]
        remaining = [i for i in remaining if i not in own]
        moved = []
        for i in order:
            check(cancelled)
            onto = np.linalg.inv(to_common[i]) @ to_common[base]
            moved.append([c if i in own else brought(c, exams[base][0], onto, cancelled) for c in exams[i]])
        channels = [_stacked([m[k] for m in moved], exams[base][0]) for k in range(len(exams[base]))]
        stacks.append(VisitStack(channels, list(order), [order.index(i) for i in own], each, since))
    return stacks


def _same_place(a: ImageSequence, a_to: Affine, b: ImageSequence, b_to: Affine) -> bool:
    placed = [s.replace(affine=m @ s.affine) for s, m in ((a, a_to), (b, b_to))]
    return a.slice_axis == b.slice_axis and placed[0].same_grid(placed[1], _SAME_PLACE_MM)


def brought(seq: ImageSequence, base: ImageSequence, onto: Affine, cancelled: Cancelled | None) -> ImageSequence:
    """An image on the grid of `base`; `onto` maps points of the base's world to points of its own."""
    from napari_medseq.volumes.grid import itk_affine, resample

    lps = geometry.RAS_LPS @ onto @ geometry.RAS_LPS
    return resample(seq, base.affine, base.grid, transform=itk_affine(lps), cancelled=cancelled)


def _stacked(visits: Sequence[ImageSequence], base: ImageSequence) -> ImageSequence:
    data = np.stack([np.asarray(v.data).reshape(base.data.shape) for v in visits])
    return base.replace(data=data, axes=("t", *base.axes), times=None)
