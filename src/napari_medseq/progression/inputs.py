"""The checked input of `track`: one mask (or None), date, image and position per visit, in the order of the dates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Protocol, TypeVar, cast

import numpy as np

from napari_medseq import geometry
from napari_medseq.errors import GeometryError, MedseqError
from napari_medseq.geometry import Affine
from napari_medseq.masks.imagelike import why_image
from napari_medseq.moments import as_date
from napari_medseq.registration.transform import Position, to_common
from napari_medseq.sequence import ImageSequence, Visit
from napari_medseq.wording import how_many

#: no expert and no network names more instances than this in one mask; an image has thousands of values
_MOST_VALUES = 1000


class HasLabels(Protocol):
    """The result of a segmentation, which has a label image."""

    @property
    def labels(self) -> ImageSequence: ...


Mask = ImageSequence | Visit | HasLabels | None
Day = date | datetime | str | None
T = TypeVar("T")


@dataclass(frozen=True)
class Inputs:
    """One entry per visit in each, in the order in which they are followed; `doubts` says what was doubtful."""

    masks: tuple[ImageSequence | None, ...]
    dates: tuple[date | None, ...]
    images: tuple[ImageSequence | None, ...]
    worlds: tuple[Affine, ...]
    doubts: tuple[str, ...] = ()

    def in_order(self, order: Sequence[int]) -> Inputs:
        """The visits in another order."""
        return replace(
            self,
            masks=tuple(self.masks[k] for k in order),
            dates=tuple(self.dates[k] for k in order),
            images=tuple(self.images[k] for k in order),
            worlds=tuple(self.worlds[k] for k in order),
        )

    def with_doubts(self, *doubts: str) -> Inputs:
        """The same with more doubts."""
        return replace(self, doubts=(*self.doubts, *doubts))


def check_inputs(
    labels: Sequence[Mask],
    dates: Sequence[Day] | None,
    images: Sequence[ImageSequence | None] | None,
    transforms: Sequence[Position] | None,
    *,
    force: bool,
) -> Inputs:
    """Check the arguments of `track` and return one entry per visit; the errors are those of `track`."""
    if isinstance(labels, ImageSequence) or not isinstance(labels, Iterable):
        raise MedseqError("track needs a list of masks, one per visit, in the order of the visits.")
    doubts: list[str] = []
    pairs = [_mask_and_date(item, n, doubts) for n, item in enumerate(labels, start=1)]
    masks = tuple(mask for mask, _ in pairs)
    if not any(mask is not None for mask in masks):
        raise MedseqError("There is no visit to track; give at least one mask.")
    n = len(masks)
    days = tuple(day for _, day in pairs)
    if dates is not None:
        if len(dates) != n:
            raise MedseqError(
                f"{how_many(len(dates), 'date')} for {how_many(n, 'visit')}; give one per visit (None if unknown)."
            )
        days = tuple(as_date(d, f"Visit {k}") for k, d in enumerate(dates, start=1))
    scans = tuple(scan.compute() if scan is not None else None for scan in _one_per_visit("images", images, n))
    positions = cast("list[Position]", _one_per_visit("transforms", transforms, n))
    worlds = tuple(to_common(p) for p in positions)
    inputs = _ordered(Inputs(masks, days, scans, worlds, tuple(doubts)))
    inputs = inputs.with_doubts(*(f"Visit {k}: it has no mask, so its lesions are unknown." for k in _unseen(inputs)))
    _check_overlap(inputs)
    return _with_one_patient(inputs, force)


def _unseen(inputs: Inputs) -> list[int]:
    return [k for k, mask in enumerate(inputs.masks, start=1) if mask is None]


def _ordered(inputs: Inputs) -> Inputs:
    """In the order of the dates, where all are known; equal dates are said."""
    days = inputs.dates
    dates = [d for d in days if d is not None]
    if len(dates) == len(days):
        order = sorted(range(len(days)), key=lambda k: dates[k])
        if order != list(range(len(days))):
            inputs = inputs.in_order(order).with_doubts(
                f"The visits were not in the order of their dates; they are now: {[str(dates[k]) for k in order]}."
            )
    if len(set(dates)) < len(dates):
        twice = sorted({str(d) for d in dates if dates.count(d) > 1})
        inputs = inputs.with_doubts(
            f"Several visits have the same date ({', '.join(twice)}): their order is the given one, and rates between them are blank."
        )
    return inputs


def _mask_and_date(item: Mask, visit: int, doubts: list[str]) -> tuple[ImageSequence | None, date | None]:
    """The checked mask of one visit, and its date as far as it says one."""
    if item is None:
        return None, None
    if isinstance(item, Visit):
        if len(item.labels) > 1:
            raise MedseqError(
                f"Visit {visit} ({item.name}) has {len(item.labels)} masks, not one; give the masks themselves."
            )
        mask, day = _mask_and_date(item.labels[0] if item.labels else None, visit, doubts)
        return mask, item.date or day
    mask = _the_mask(item)
    if mask is None:
        raise MedseqError(
            f"Visit {visit}: {type(item).__name__} is not an ImageSequence; read masks with napari_medseq.read."
        )
    if np.dtype(mask.data.dtype).kind not in "iub":
        raise MedseqError(f"Visit {visit}: {mask.name} holds {mask.data.dtype}, not whole numbers; it is not a mask.")
    if set(mask.axes) & {"t", "c"}:
        raise MedseqError(
            f"Visit {visit}: {mask.name} has axes {mask.axes}; a mask per visit has z, y, x. Choose a frame."
        )
    mask = mask.compute()
    carried = mask.meta.get("carried")
    if isinstance(carried, Mapping) and not carried.get("looked_at"):
        doubts.append(
            f"Visit {visit}: {mask.name} was carried from {carried.get('from', 'another visit')}, and nobody has checked it there: "
            "what it says of change is not seen in this visit's image."
        )
    if not mask.meta.get("lesion_identities"):
        _refuse_image(mask, visit)
    if np.dtype(mask.data.dtype).kind == "i" and (mask.data < 0).any():
        below = sorted(np.unique(mask.data[mask.data < 0]).tolist())
        doubts.append(
            f"Visit {visit}: values below 0 in {mask.name} ({', '.join(map(str, below))}) are taken as no lesion."
        )
        mask = mask.replace(data=np.where(mask.data < 0, 0, mask.data))
    return mask, mask.acquired.date() if mask.acquired else None


def _the_mask(item: ImageSequence | HasLabels) -> ImageSequence | None:
    inner = item if isinstance(item, ImageSequence) else getattr(item, "labels", None)
    return inner if isinstance(inner, ImageSequence) else None


def _refuse_image(mask: ImageSequence, visit: int) -> None:
    """Refuse an image that was saved, or named, as a mask.

    Raises
    ------
    MedseqError
        If it has more values than labels have.
    """
    why = why_image(mask.volume_zyx(), _MOST_VALUES)
    if why:
        raise MedseqError(
            f"Visit {visit}: {mask.name} has {why}: it is an image, not a mask. Segment it, or choose the mask that belongs to it."
        )


def _one_per_visit(noun: str, values: Sequence[T | None] | None, n: int) -> list[T | None]:
    listed: list[T | None] = [None] * n if values is None else list(values)
    if len(listed) != n:
        raise MedseqError(
            f"{len(listed)} {noun} for {how_many(n, 'visit')}; give one per visit (None where there is none)."
        )
    return listed


def _with_one_patient(inputs: Inputs, force: bool) -> Inputs:
    """Refuse masks that say they are of different patients; doubt images of different modality."""
    masks = [m for m in inputs.masks if m is not None]
    patients = {str(m.meta[key]) for m in masks for key in ("patient", "subject") if m.meta.get(key)}
    doubts = []
    if len(patients) > 1:
        message = f"The visits are of different patients: {', '.join(sorted(patients))}."
        if not force:
            raise MedseqError(f"{message} Give one patient's visits, or force=True if you know better.")
        doubts.append(message)
    kinds = {image.modality for image in inputs.images if image is not None and image.modality}
    if len(kinds) > 1:
        doubts.append(
            f"The images are of different modality ({', '.join(sorted(kinds))}): compare sizes, not intensities."
        )
    return inputs.with_doubts(*doubts)


def _check_overlap(inputs: Inputs) -> None:
    """Every visit's grid must meet the first one's in common space."""
    first: tuple[int, Affine, Affine] | None = None
    for visit, (mask, world) in enumerate(zip(inputs.masks, inputs.worlds, strict=True), start=1):
        if mask is None:
            continue
        points = geometry.apply_points(world @ mask.affine, geometry.corners(mask.grid, outer=True))
        low, high = points.min(axis=0), points.max(axis=0)
        if first is None:
            first = visit, low, high
        elif (low > first[2]).any() or (high < first[1]).any():
            raise GeometryError(
                f"Visit {visit} ({mask.name}) and visit {first[0]} do not overlap in space; register them, or check that "
                "they are of the same body part."
            )
