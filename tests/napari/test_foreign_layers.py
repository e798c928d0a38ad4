"""Layers that others opened or made: of too many axes, in arrays on disk, in pixels; none of them stops the work on the
rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.study_widget import StudyWidget
from napari_medseq.errors import MedseqError
from napari_medseq.viewer.editing.marks import read_at, write_at
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.layers.conversion import from_layer
from tests.napari.at_work import at_work
from tests.napari.helpers import as_plugins_see_it
from tests.napari.test_every_control import DOCKS


def chunked(data: np.ndarray) -> Any:
    return da.from_array(data, chunks=2)


@pytest.mark.parametrize("kind", [np.array, chunked])
def test_voxels_are_read_and_written_in_arrays_and_in_what_is_like_one(kind: Any) -> None:
    before = np.arange(60).reshape(3, 4, 5)
    data, voxels = kind(before), np.array([7, 23, 41])
    assert read_at(data, voxels).tolist() == [7, 23, 41]
    write_at(data, voxels, np.array([1, 2, 3]))
    expected = before.copy()
    expected.reshape(-1)[voxels] = [1, 2, 3]
    np.testing.assert_array_equal(np.asarray(data), expected)
    write_at(data, voxels[:0], np.array([], int))


def test_a_mask_in_an_array_on_disk_is_painted_in_and_undone() -> None:
    viewer = ViewerModel()
    editing = editing_of(viewer)
    layer = viewer.add_labels(chunked(np.zeros((4, 9, 9), np.uint8)))
    layer.brush_size = 3
    layer.paint((2, 4, 4), 1)
    painted = np.asarray(layer.data)
    assert painted.sum() == verbs.painted(viewer)["Labels"] > 0
    layer.paint((2, 4, 7), 2)
    editing.undo()
    np.testing.assert_array_equal(np.asarray(layer.data), painted)
    editing.undo()
    assert not np.asarray(layer.data).any()
    editing.redo()
    np.testing.assert_array_equal(np.asarray(layer.data), painted)


def test_a_layer_of_too_many_axes_is_no_image_or_mask_to_work_on_and_keeps_its_own_undo() -> None:
    viewer = ViewerModel()
    editing_of(viewer)
    layer: Labels = viewer.add_labels(np.zeros((2, 2, 4, 9, 9), np.uint8))
    with pytest.raises(MedseqError, match="Labels has 5 axes; at most frames, z, y and x"):
        from_layer(layer)
    layer.paint((0, 0, 2, 4, 4), 1)
    assert layer.data.any()
    assert not verbs.painted(viewer)
    layer.undo()
    assert not layer.data.any()


def test_a_session_keeps_the_rest_and_names_what_is_not_in_it(ball_study: Path, tmp_path: Path) -> None:
    viewer = at_work(ball_study)
    names = [layer.name for layer in viewer.layers]
    viewer.add_labels(np.ones((2, 2, 4, 9, 9), np.uint8), name="cells").paint((0, 0, 2, 4, 4), 2)
    viewer.add_points(np.zeros((1, 3)), name="spots")
    verbs.show_diameters(viewer)  # which Display draws again
    assert verbs.autosave(viewer) is not None
    with pytest.warns(ms.MedseqWarning, match=r"Not in the session.*: cells, spots\."):
        folder = verbs.save_session(viewer, tmp_path / "work.medseq")
    again = ViewerModel()
    verbs.open_session(again, folder)
    assert [layer.name for layer in again.layers] == names


def test_labels_on_an_image_in_pixels_are_in_pixels() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((3, 9, 9)), scale=(2, 1, 1))
    labels = verbs.new_labels(viewer, image)
    assert labels.units == image.units
    answer = ms.inference.Segmentation(from_layer(labels), None, None, "m")
    assert verbs.show_segmentation(viewer, image, answer)[0].units == image.units
    assert viewer.layers.extent.units is not None


@pytest.mark.viewer
def test_every_widget_lives_with_layers_of_too_many_axes(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer(show=False)
    docks = [make(as_plugins_see_it(viewer)) for make in DOCKS]
    image = viewer.add_image(np.random.default_rng(0).random((2, 2, 4, 9, 9)))
    viewer.add_labels(np.zeros((2, 2, 4, 9, 9), np.uint8))
    viewer.add_image(np.zeros((4, 9, 9)))
    viewer.layers.remove(image)
    viewer.layers.clear()
    for dock in docks:
        dock.close()
        dock.deleteLater()


@pytest.mark.viewer
def test_a_scan_that_belongs_to_no_patient_can_be_saved_in_a_session(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer(show=False)
    dock = StudyWidget(as_plugins_see_it(viewer))
    assert not dock.save_button.isEnabled()
    assert dock.save_button.toolTip() == "Open an image first"
    viewer.add_image(np.zeros((4, 9, 9)))
    assert dock.save_button.isEnabled()
    assert not dock.masks_button.isEnabled()
    dock.deleteLater()


@pytest.mark.parametrize(
    "place",
    [
        {"scale": (-2, 1, 1), "translate": (3, 4, 5)},
        {"scale": (1, -1, 2), "translate": (0, 40, 0)},
        {"scale": (-2, 1, 1), "affine": np.array([[1.0, 0, 0, 7], [0, 0.8, -0.6, 0], [0, 0.6, 0.8, 0], [0, 0, 0, 1]])},
    ],
)
@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")  # of napari, about the turned image itself
def test_labels_lie_on_an_image_in_pixels_however_its_axes_run(place: dict[str, Any]) -> None:
    viewer = ViewerModel()
    data = np.random.default_rng(0).normal(size=(4, 6, 5))
    image = viewer.add_image(data, name="scan", **place)
    labels = verbs.new_labels(viewer, image)
    corners = [(0, 0, 0), (3, 5, 4), (1, 2, 3)]
    for corner in corners:
        np.testing.assert_allclose(labels.data_to_world(corner), image.data_to_world(corner))
    assert not verbs.why_not_together(image, labels)
    labels.data_setitem((np.array([1, 1]), np.array([2, 2]), np.array([3, 1])), 1)
    labels.data_setitem((np.array([3, 3]), np.array([2, 2]), np.array([3, 1])), 1)
    answer = verbs.propagate(viewer, image, labels, None)
    viewer.dims.order = (1, 0, 2)  # a view from another side moves nothing
    for corner in corners:
        np.testing.assert_allclose(answer.data_to_world(corner), image.data_to_world(corner))
        np.testing.assert_allclose(labels.data_to_world(corner), image.data_to_world(corner))
