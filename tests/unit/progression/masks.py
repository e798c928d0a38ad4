"""Small label volumes of visits whose lesions are known, and the events that were found in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from napari_medseq import Progression
from napari_medseq.sequence import ImageSequence, affine_from

#: Where a lesion lies: z0, z1, y0, y1, x0, x1 in voxels.
Box: TypeAlias = tuple[int, int, int, int, int, int]


def mask(
    *boxes: Box,
    shape: tuple[int, int, int] = (20, 40, 40),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    values: Sequence[int] | None = None,
    **facts: Any,
) -> ImageSequence:
    """A label volume of boxes, each (z0, z1, y0, y1, x0, x1), on one grid."""
    data = np.zeros(shape, np.uint8)
    for k, (z0, z1, y0, y1, x0, x1) in enumerate(boxes):
        data[z0:z1, y0:y1, x0:x1] = 1 if values is None else values[k]
    return ImageSequence(data, ("z", "y", "x"), affine_from(spacing), kind="labels", name="m", **facts)


A = (2, 8, 2, 8, 2, 10)


B = (2, 8, 2, 8, 14, 20)


BRIDGE = (3, 6, 3, 6, 10, 14)


C = (10, 16, 20, 26, 20, 26)


def events(p: Progression) -> dict[tuple[int, int], tuple[str, str]]:
    return {(int(r["visit"]), int(r["lesion"])): (r["event"], r["parents"]) for _, r in p.lesions.iterrows()}
