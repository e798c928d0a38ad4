"""Motion correction of one dynamic series: every frame is registered to one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from napari_medseq.errors import SettingsError
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.registration.registration import register
from napari_medseq.registration.transform import Transform
from napari_medseq.sequence import ImageSequence
from napari_medseq.wording import how_many


@dataclass(frozen=True)
class Motion:
    """A dynamic series after motion correction.

    Attributes
    ----------
    corrected : ImageSequence
        float32, on the series' own grid.
    transforms : tuple of (Transform or None)
        One per frame, fixed = the reference frame; None for the reference itself.
    """

    corrected: ImageSequence
    transforms: tuple[Transform | None, ...]


def frames(
    seq: ImageSequence,
    *,
    reference: int | None = None,
    kind: Literal["translation", "rigid", "affine"] = "rigid",
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Motion:
    """Register every frame of a ``t`` sequence to one of them.

    Parameters
    ----------
    seq : ImageSequence
    reference : int, optional
        Frame that the others are registered to; default the middle one.
    kind : {"translation", "rigid", "affine"}
    seed : int
        Of the random choice of voxels.

    Raises
    ------
    MedseqError
        If there is no axis ``t``.
    RegistrationError
        If a frame cannot be aligned; the message names it.
    """
    count = seq.data.shape[seq.axis("t")]
    at = count // 2 if reference is None else reference
    if not -count <= at < count:
        raise SettingsError(f"{seq.name} has {how_many(count, 'frame')}; frame {at} cannot be the reference.")
    at %= count
    fixed = seq.frame(at).compute()
    moved, transforms = [], []
    for number in range(count):
        check(cancelled)
        frame = seq.frame(number).compute().replace(name=f"{seq.name} frame {number}")
        transform = None if number == at else register(frame, fixed, kind=kind, seed=seed, cancelled=cancelled)
        image = frame if transform is None else transform.apply(frame)
        moved.append(np.asarray(image.data, dtype=np.float32))
        transforms.append(transform)
        if progress is not None:
            progress(number + 1, count, f"Frame {number + 1} of {count}")
    check(cancelled)
    return Motion(seq.like(np.stack(moved, axis=seq.axis("t"))), tuple(transforms))
