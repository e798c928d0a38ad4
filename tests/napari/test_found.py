"""What a model found, in words, and the slice that shows most of it."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq.viewer.layers.conversion import to_layer_data
from napari_medseq.viewer.results.showing import add_layers


def shown(data: np.ndarray, axes: tuple[str, ...], names: dict[int, str]) -> tuple[ViewerModel, object]:
    """A viewer with an image, and labels on its grid of 2 mm cubes."""
    image = ms.ImageSequence(np.zeros(data.shape, np.float32), axes, np.diag([2.0, 2.0, 2.0, 1.0]), name="scan")
    viewer = ViewerModel()
    verbs.add_sequence(viewer, image)
    labels = image.labels_like(data, name="found", label_names=names)
    return viewer, add_layers(viewer, [to_layer_data(labels, name="scan labels")])[0]


def test_what_was_found_is_said_and_its_largest_slice_is_shown() -> None:
    data = np.zeros((12, 10, 10), np.uint8)
    data[7, :5] = 1
    data[8, :5, :5] = 1
    data[9, 0, 0] = 2
    viewer, labels = shown(data, ("z", "y", "x"), {1: "tumour"})
    viewer.dims.set_current_step(0, 2)
    assert verbs.found_in_words(viewer, labels) == "scan labels: tumour 0.6 mL, label 2 0.008 mL in slices 8 to 10."
    assert verbs.show_found(viewer, labels)
    assert verbs.identity(viewer)[-1] == "slice 8 of 12"
    viewer.dims.set_current_step(0, 9)
    assert not verbs.show_found(viewer, labels)  # some of it is shown
    assert verbs.identity(viewer)[-1] == "slice 10 of 12"
    verbs.step_through(viewer, "y")
    assert verbs.found_in_words(viewer, labels).endswith("in slices 6 to 10.")  # counted as on the canvas


def test_of_nothing_nothing_is_shown() -> None:
    viewer, labels = shown(np.zeros((6, 5, 5), np.uint8), ("z", "y", "x"), {})
    before = viewer.dims.point
    assert verbs.found_in_words(viewer, labels) == "scan labels is empty: nothing was found."
    assert not verbs.show_found(viewer, labels)
    assert viewer.dims.point == before


@pytest.mark.parametrize("axes", [("t", "y", "x"), ("y", "x")])
def test_films_and_pictures_have_no_volume(axes: tuple[str, ...]) -> None:
    data = np.zeros((6, 5, 5), np.uint8)
    data[3] = 1
    data = data if "t" in axes else data[3]
    viewer, labels = shown(data, axes, {1: "fold"})
    where = " in frame 4" if "t" in axes else ""
    assert verbs.found_in_words(viewer, labels) == f"scan labels: fold{where}."
    assert verbs.show_found(viewer, labels) == ("t" in axes)
