"""The axis along which somebody painted: planes of any direction, vessels, and what is painted in two directions."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medseq.errors import MedseqError
from napari_medseq.inference.prompts.planes import painted_axis
from napari_medseq.sequence import ImageSequence, affine_from

SHAPE = (40, 48, 52)
IMAGE = ImageSequence(np.zeros(SHAPE, np.uint8), ("z", "y", "x"), affine_from((1, 1, 1)))


def ball() -> np.ndarray:
    z, y, x = np.ogrid[:40, :48, :52]
    return np.asarray((z - 20) ** 2 + (y - 24) ** 2 + (x - 26) ** 2 < 15**2, bool)


def only(mask: np.ndarray, axis: int, steps: list[int]) -> np.ndarray:
    """A mask on some planes across an axis alone."""
    at = (slice(None),) * axis + (steps,)
    out = np.zeros(mask.shape, np.uint8)
    out[at] = mask[at]
    return out


def axis_of(data: np.ndarray) -> str:
    return painted_axis(IMAGE, IMAGE.labels_like(data, name="painted", label_names={}))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("steps", [[22], [18, 26], [14, 22, 30], [22, 23, 24]])
def test_planes_of_any_direction_are_known(axis: int, steps: list[int]) -> None:
    assert axis_of(only(ball(), axis, steps)) == "zyx"[axis]


def test_a_vessel_that_is_painted_slice_by_slice_is_no_coronal_plane() -> None:
    vessel = np.zeros(SHAPE, np.uint8)
    vessel[5:25, 20:28, 22:30] = 1
    assert axis_of(vessel) == "z"
    thin = np.zeros(SHAPE, np.uint8)
    thin[[4, 10, 16, 22, 28, 34], 20:22, 22:30] = 1  # slices with gaps are those that were painted
    assert axis_of(thin) == "z"


def test_an_object_on_planes_of_two_directions_is_refused() -> None:
    both = only(ball(), 0, [20]) | only(ball(), 2, [30])
    with pytest.raises(MedseqError, match="Object 1 of painted is painted on slices of two directions"):
        axis_of(both)


def test_objects_on_planes_of_different_directions_are_refused_by_their_numbers() -> None:
    data = only(ball(), 2, [30])
    data[:, 24:] = 0
    other = 3 * only(ball(), 0, [20])
    other[:, :25] = 0
    with pytest.raises(MedseqError, match=r"1 on slices along x; 3 on slices along z"):
        axis_of(data + other)
