"""A captioner's sentences about each visit and those before it, from the slice with the largest lesion area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.models.captioner import MARK
from napari_medseq.progression.matrix import visit_name
from napari_medseq.sequence import SPACE, ImageSequence

if TYPE_CHECKING:
    from napari_medseq.models import ModelLike
    from napari_medseq.progression.tracked import Tracked


@dataclass(frozen=True)
class Captions:
    """The sentences that a captioner wrote.

    Attributes
    ----------
    model : str
        Name and version of the captioner.
    lines : tuple of str
        One per visit, each with `MARK`; or why nothing is written about a visit.
    """

    model: str
    lines: tuple[str, ...]


def captions(progression: Tracked, captioner: ModelLike) -> Captions:
    """A line for each visit that has enough visits before it.

    The place is where the latest of these visits has most lesion, or the last one that has any; all of them show the slice of their
    own grid that is nearest to it in the common space.

    Raises
    ------
    ModelError
        If the model is not a captioner.
    """
    from napari_medseq.inference.captioning import caption, captioner_settings

    model, settings = captioner_settings(captioner)
    lines = []
    for last in range(settings.steps - 1, len(progression.dates)):
        visits = range(last - settings.steps + 1, last + 1)
        named = visit_name(last, progression.dates)
        named = f"{named[:1].upper()}{named[1:]}"
        pictures = _pictures(progression, visits)
        if isinstance(pictures, str):
            lines.append(f"{named}: nothing is written; {pictures}.")
            continue
        text = caption(pictures, model).text.removeprefix(MARK)
        lines.append(f"{named}: {MARK}{text}")
    if not lines:
        lines.append(f"Nothing is written; the model writes about {settings.steps} visits at a time.")
    return Captions(f"{model.info.name} {model.info.version}", tuple(lines))


def _pictures(progression: Tracked, visits: range) -> list[NDArray[np.float64]] | str:
    """A slice of each visit's image through the same place, or why there is none."""
    at = next((p for visit in reversed(visits) if (p := _place(progression, visit)) is not None), None)
    if at is None:
        return "no lesion is there"
    pictures = []
    for visit in visits:
        image = progression.images[visit]
        if image is None or set(image.axes) & {"t", "c"}:
            return f"there is no image of {visit_name(visit, progression.dates)} that it could see"
        along = SPACE.index(image.slice_axis)
        to_voxel = np.asarray(np.linalg.inv(progression.to_common(visit) @ image.affine))
        number = round(float(geometry.apply_points(to_voxel, at[None])[0][::-1][along]))
        volume = image.volume_zyx()
        if not 0 <= number < volume.shape[along]:
            return f"the place is out of view at {visit_name(visit, progression.dates)}"
        pictures.append(np.take(volume, number, axis=along).astype(np.float64))
    return pictures


def _place(progression: Tracked, visit: int) -> NDArray[np.float64] | None:
    """The middle of the lesions in the slice that has most of them, in common RAS mm; None where the visit has none."""
    mask: ImageSequence | None = progression.labels[visit]
    if mask is None:
        return None
    volume = mask.volume_zyx() != 0
    if not volume.any():
        return None
    along = SPACE.index(mask.slice_axis)
    number = int(volume.sum(axis=tuple(k for k in range(3) if k != along)).argmax())
    places = np.argwhere(np.take(volume, [number], axis=along)).mean(axis=0)
    places[along] += number
    to_common = progression.to_common(visit) @ mask.affine
    return np.asarray(geometry.apply_points(to_common, places[::-1][None])[0])
