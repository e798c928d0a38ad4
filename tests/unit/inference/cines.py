"""A small dynamic series."""

from __future__ import annotations

import numpy as np

from napari_medseq.sequence import ImageSequence, affine_from
from tests.unit.training.small import blob


def cine(times: tuple[float, ...] = (0, 1, 2, 7), z: int | None = 3, seed: int = 0) -> ImageSequence:
    data = np.stack([blob(seed + k, (z or 1, 20, 18)).data for k in range(len(times))])
    axes = ("t", "z", "y", "x") if z else ("t", "y", "x")
    return ImageSequence(
        data if z else data[:, 0], axes, affine_from((1, 1, 5)), times=np.array(times, float), name="T1", modality="MR"
    )
