"""The slice that is shown, or the region that is drawn, as `ms.segment` takes them, whichever way the slices run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_medseq import viewer as verbs
from napari_medseq.errors import MedseqError
from napari_medseq.sequence import ImageSequence, affine_from

SHAPE = (6, 8, 10)
#: the block that is bright, in voxels of the sequence
BLOCK = {"z": (2, 5), "y": (1, 4), "x": (3, 9)}


@pytest.fixture(params=["z", "y"])
def shown(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """A viewer with an image whose slices run along z or y, and a bright block in it."""
    viewer = ViewerModel()
    data = np.zeros(SHAPE, np.float32)
    data[tuple(slice(*BLOCK[a]) for a in "zyx")] = 1
    seq = ImageSequence(
        data, ("z", "y", "x"), affine_from((1, 1.5, 2)), slice_axis=request.param, name="T1", modality="MR"
    )
    return viewer, verbs.add_sequence(viewer, seq)


def corners(image: Any) -> Any:
    """Those of the bright block, in the world."""
    bright = np.argwhere(np.asarray(image.data))
    return [np.asarray(image.data_to_world(at)) for at in (bright.min(axis=0), bright.max(axis=0))]


def test_the_slice_that_is_shown(shown: tuple[Any, Any]) -> None:
    viewer, image = shown
    seq = verbs.to_sequence(image)
    for step in (0, 3, seq.size(seq.slice_axis) - 1):
        verbs.go_to_slice(viewer, image, step)
        assert verbs.part_of(viewer, image, "slice") == {"steps": [step]}
    assert verbs.part_of(viewer, image) == {}
    with pytest.raises(MedseqError, match="no part"):
        verbs.part_of(viewer, image, "half")


def test_a_layer_of_others_and_a_flat_one_have_a_slice_that_is_shown() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(SHAPE, np.float32))  # no axis has a name
    viewer.dims.set_point(0, 4)
    assert verbs.shown_slice(viewer, image) == 4
    flat = ViewerModel()
    assert verbs.shown_slice(flat, flat.add_image(np.zeros((5, 7), np.float32))) == 0


def test_the_region_that_is_drawn(shown: tuple[Any, Any]) -> None:
    viewer, image = shown
    with pytest.raises(MedseqError, match="No region is drawn"):
        verbs.part_of(viewer, image, "region")
    low, high = corners(image)
    along = list(image.axis_labels).index(verbs.to_sequence(image).slice_axis)
    middle = (low + high) / 2
    low[along] = high[along] = middle[along]  # as a rectangle is drawn on one slice
    drawn = [low.copy() for _ in range(4)]
    across = [k for k in range(3) if k != along]
    for corner, (a, b) in zip(drawn, ((0, 0), (0, 1), (1, 1), (1, 0)), strict=True):
        corner[across[0]] = (low, high)[a][across[0]]
        corner[across[1]] = (low, high)[b][across[1]]
    viewer.add_shapes([np.array(drawn)], shape_type="rectangle")
    names = [a for a in "zyx" if a != verbs.to_sequence(image).slice_axis]
    assert verbs.part_of(viewer, image, "region") == {"region": {a: BLOCK[a] for a in names}}


def test_a_region_beside_the_image_is_refused(shown: tuple[Any, Any]) -> None:
    viewer, image = shown
    far = np.array([[0, 500, 500], [0, 500, 520], [0, 520, 520], [0, 520, 500]], float)
    shapes = viewer.add_shapes([far], shape_type="rectangle")
    with pytest.raises(MedseqError, match="does not touch T1"):
        verbs.region_of_shapes(image, shapes)
