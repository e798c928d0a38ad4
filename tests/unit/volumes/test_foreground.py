"""The mask of the body does not depend on the order in which an array holds the voxels."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import permutations, product

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.geometry import Reorientation
from napari_medseq.volumes.foreground import foreground
from napari_medseq.volumes.turning import turned
from tests.unit.training.small import blob


@pytest.fixture(scope="module")
def hollow() -> ms.ImageSequence:
    """A body with a hole that slices along one axis enclose, and noise that matters to samples of it."""
    image = blob(0, (12, 48, 44))
    data = np.array(image.data)
    data[:, 20:26, 20:24] = 5
    return image.replace(data=data)


def test_the_body_is_the_same_however_the_array_lies(hollow: ms.ImageSequence) -> None:
    mask = foreground(hollow.data)
    assert mask[6, 22, 22]
    apart = 0
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        turn = Reorientation((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]))
        other = turned(hollow, turn)
        expected = turn.apply_zyx(mask)
        assert np.array_equal(foreground(other.data, other.affine), expected)
        apart += not np.array_equal(foreground(other.data), expected)
    assert apart  # it matters


@pytest.mark.parametrize(
    "step", ["brain", "n3", "nlm", {"kind": "zscore", "inside": "foreground"}, {"kind": "crop"}], ids=str
)
def test_steps_that_look_at_the_body_do_not_depend_on_the_order_of_axes(
    hollow: ms.ImageSequence, step: str | dict[str, str]
) -> None:
    turn = Reorientation((1, 2, 0), (True, False, True))
    with pytest.warns(ms.MedseqWarning) if step == "brain" else nullcontext():
        one, other = (ms.preprocess(seq, [step]) for seq in (hollow, turned(hollow, turn)))
    assert np.array_equal(turned(one, turn).data, other.data)
    assert other.same_grid(turned(one, turn))
