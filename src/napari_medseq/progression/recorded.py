"""Finding the image of a visit again by what the record of a result says about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from napari_medseq.errors import ReadError
from napari_medseq.sequence import ImageSequence


def recorded_image(
    found: Sequence[ImageSequence], name: str, day: date | None, mask: ImageSequence | None
) -> ImageSequence:
    """Of the images that a file or folder holds, the one that a result was made from.

    A name alone does not say which: visits in one folder have series of the same name, of which later ones are numbered when all
    are read together. So the day of the visit counts first, then the name, then whether it lies on the grid of the visit's mask.

    Parameters
    ----------
    found : sequence of ImageSequence
        What the recorded file or folder holds now.
    name : str
        The recorded name.
    day : date or None
        Day of the visit.
    mask : ImageSequence or None
        The visit's mask.

    Raises
    ------
    ReadError
        If there is no image, or none of several is the one.
    """

    def likeness(seq: ImageSequence) -> tuple[bool, bool, bool]:
        days = {str(seq.meta.get("study_date")), f"{seq.acquired:%Y%m%d}" if seq.acquired else ""}
        return day is not None and f"{day:%Y%m%d}" in days, seq.name == name, mask is not None and seq.same_grid(mask)

    best = max(found, key=likeness, default=None)
    if best is None or (len(found) > 1 and best.name != name and not likeness(best)[2]):
        raise ReadError(f"{name} is not there any more")
    return best
