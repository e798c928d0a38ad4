"""Labelled frames of dynamic series as cases of their own: experts often outline two phases of a cine, not all of
them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from napari_medseq.errors import MedseqError
from napari_medseq.sequence import ImageSequence


def labelled_frames(
    case: str, images: Mapping[str, ImageSequence], labels: ImageSequence
) -> Iterator[tuple[str, dict[str, ImageSequence], ImageSequence]]:
    """Each frame that has a label, with a name of its own; an image without frames is returned as it is.

    Raises
    ------
    MedseqError
        If no frame has a label: unlabelled frames are not known to be empty.
    """
    if not labels.is_dynamic:
        yield case, dict(images), labels
        return
    frames = [k for k in range(labels.size("t")) if np.any(np.asarray(labels.frame(k).data) > 0)]
    if not frames:
        raise MedseqError(f"{case}: none of its {labels.size('t')} frames has a label.")
    for k in frames:
        of_frame = {n: i.frame(k) if "t" in i.axes else i for n, i in images.items()}
        yield f"{case} frame {k}", of_frame, labels.frame(k)
