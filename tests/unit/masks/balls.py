"""Label arrays of the tests of masks: random ones, and balls whose shape is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

#: millimetres along z, y, x: thick slices and oblong pixels among them
spacings = st.tuples(*[st.sampled_from([0.5, 1.0, 1.5, 3.0])] * 3)
#: labels 0 to 3 on a small grid, one slice sometimes
label_arrays = arrays.arrays(
    np.uint8, arrays.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7), elements=st.integers(0, 3)
)


def ball(shape: Sequence[int], middle: Sequence[float], radius: float, spacing: Sequence[float] = (1, 1, 1)) -> Mask:
    """Voxels whose centre is within `radius` mm of `middle` (in voxels)."""
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    squares = sum(((g - m) * s) ** 2 for g, m, s in zip(grid, middle, spacing, strict=True))
    return np.asarray(squares <= radius**2)
