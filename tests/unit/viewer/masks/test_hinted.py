"""Points, boxes and scribbles in a viewer become a painted slice: where they were set, one step of undo, other labels untouched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_medseq import viewer as verbs
from napari_medseq.errors import MedseqError
from napari_medseq.sequence import ImageSequence, affine_from

SHAPE = (6, 40, 50)
Z, Y, X = np.indices(SHAPE)
BALL = (Z - 2) ** 2 * 9 + (Y - 18) ** 2 + (X - 22) ** 2 <= 81


@pytest.fixture
def scene() -> tuple[Any, Any, Any]:
    """A viewer with a bright ball, voxels of 0.5×0.5×3 mm, and empty labels on it."""
    viewer = ViewerModel()
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    seq = ImageSequence((100 + 60 * BALL + noise).astype(np.float32), ("z", "y", "x"), affine_from((0.5, 0.5, 3)))
    image = verbs.add_sequence(viewer, seq)
    labels = verbs.new_labels(viewer, image)
    labels.selected_label = 3
    return viewer, image, labels


def there(scene: tuple[Any, Any, Any]) -> Any:
    """The ball as the layer holds it."""
    _, image, _ = scene
    return np.asarray(image.data) > 130


def dice(found: Any, truth: Any) -> float:
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def middle(scene: tuple[Any, Any, Any]) -> tuple[int, Any, Any]:
    """The slice of the layer with most of the ball, and its pixels there."""
    ball = there(scene)
    step = int(ball.sum((1, 2)).argmax())
    return step, ball[step], np.argwhere(ball[step])


def test_a_box_becomes_a_painted_slice(scene: tuple[Any, Any, Any]) -> None:
    viewer, _, labels = scene
    step, truth, at = middle(scene)
    boxes = verbs.new_hints(viewer, labels, "boxes")
    assert viewer.layers.selection.active is boxes
    (top, left), (bottom, right) = at.min(0), at.max(0)
    boxes.add_rectangles([[step, top, left], [step, top, right], [step, bottom, right], [step, bottom, left]])
    assert verbs.outline_hinted(viewer, labels, boxes=boxes) == [step]
    assert set(np.unique(labels.data)) == {0, 3}
    assert dice(labels.data[step] == 3, truth) > 0.9
    assert not np.delete(labels.data, step, 0).any()
    assert verbs.editing_of(viewer).marks(labels).painted.sum() == (labels.data == 3).sum()
    verbs.undo(viewer)
    assert not labels.data.any()


def test_points_of_a_layer_with_its_own_pixels_lie_where_they_are_seen(scene: tuple[Any, Any, Any]) -> None:
    viewer, _, labels = scene
    step, truth, at = middle(scene)
    centre = labels.data_to_world([step, *at.mean(0)])
    inside = viewer.add_points([centre], scale=(1, 1, 1))  # clicked in millimetres
    assert verbs.outline_hinted(viewer, labels, inside=inside) == [step]
    assert dice(labels.data[step] == 3, truth) > 0.9


def test_scribbles_and_a_label_beside_them(scene: tuple[Any, Any, Any]) -> None:
    viewer, _, labels = scene
    step, truth, at = middle(scene)
    row, column = (int(v) for v in at.mean(0))
    labels.data[step, row, column - 2 : column + 3] = 3
    labels.data[step, :3] = 9
    labels.data[step, 30:, 40:] = 7
    other = labels.data.copy()
    assert verbs.outline_hinted(viewer, labels, background=9) == [step]
    assert dice(labels.data[step] == 3, truth) > 0.9
    assert not (labels.data == 9).any()
    assert ((labels.data == 7) == (other == 7)).all()
    verbs.undo(viewer)
    assert np.array_equal(labels.data, other)


def test_a_point_outside_is_left_out_and_hints_on_two_slices_give_two(scene: tuple[Any, Any, Any]) -> None:
    viewer, _, labels = scene
    step, _, at = middle(scene)
    row, column = at.mean(0)
    inside, outside = (verbs.new_hints(viewer, labels, f"points {n}") for n in ("inside", "outside"))
    inside.data = [[step, row, column], [step - 1, row, column]]
    outside.data = [[step, row + 4, column]]
    assert verbs.outline_hinted(viewer, labels, inside=inside, outside=outside) == [step - 1, step]
    assert labels.data[step, round(row + 4), round(column)] == 0
    assert labels.data[step - 1, round(row + 4), round(column)] == 3


def test_without_hints_or_image_nothing_changes(scene: tuple[Any, Any, Any]) -> None:
    viewer, image, labels = scene
    with pytest.raises(MedseqError, match="Nothing says where"):
        verbs.outline_hinted(viewer, labels)
    with pytest.raises(MedseqError, match="no hints 'lines'"):
        verbs.new_hints(viewer, labels, "lines")
    boxes = verbs.new_hints(viewer, labels, "boxes")
    assert verbs.new_hints(viewer, labels, "boxes") is boxes
    # those of another mask, which may be another patient's, are its own
    other = verbs.new_labels(viewer, viewer.layers[0])
    assert verbs.hints_of(viewer, other, "boxes") is None
    assert verbs.new_hints(viewer, other, "boxes") is not boxes
    boxes.name = "mine"
    assert verbs.hints_of(viewer, labels, "boxes") is boxes
    assert verbs.hints_of(viewer, labels, "points inside") is None
    named = viewer.add_points(ndim=labels.ndim, name="points inside")
    assert verbs.hints_of(viewer, labels, "points inside") is named
    viewer.layers.remove(image)
    with pytest.raises(MedseqError, match="No image lies on the grid"):
        verbs.outline_hinted(viewer, labels)
    assert not labels.data.any()


def test_hints_at_another_visit_wait(ball_study: Any) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    image = next(layer for layer in viewer.layers if "T1post" in layer.name)
    labels = verbs.new_labels(viewer, image)
    bright = np.argwhere(np.asarray(image.data) > 300).mean(0)
    inside = verbs.new_hints(viewer, labels, "points inside")
    inside.data = [bright]
    viewer.dims.set_point(0, float(labels.translate[0]))
    assert len(verbs.outline_hinted(viewer, labels, inside=inside)) == 1
    assert labels.data.any()


def box_around(at: Any, step: int) -> Any:
    """A rectangle around pixels of a slice."""
    (top, left), (bottom, right) = at.min(0) - 1, at.max(0) + 1
    return np.array([[step, top, left], [step, top, right], [step, bottom, right], [step, bottom, left]], float)


def test_a_second_object_leaves_the_first_and_its_corrections_alone(scene: tuple[Any, Any, Any]) -> None:
    viewer, _, labels = scene
    step, _, at = middle(scene)
    boxes = verbs.new_hints(viewer, labels, "boxes")
    boxes.add_rectangles(box_around(at, step))
    verbs.outline_hinted(viewer, labels, boxes=boxes)
    row, column = (int(v) for v in at.mean(0))
    labels.data[step, row : row + 3, column] = 0  # corrected
    corrected = labels.data[step].copy()
    labels.selected_label = 4
    beside = np.argwhere(there(scene)[step - 1])
    boxes.add_rectangles(box_around(beside, step - 1))
    assert verbs.outline_hinted(viewer, labels, boxes=boxes) == [step - 1]
    assert np.array_equal(labels.data[step], corrected)
    assert set(np.unique(labels.data[step - 1])) == {0, 4}
    with pytest.raises(MedseqError, match="outlined already"):
        verbs.outline_hinted(viewer, labels, boxes=boxes)
    labels.selected_label = 3  # one more hint of the first object: its slice is outlined anew, as object 3
    inside = verbs.new_hints(viewer, labels, "points inside")
    inside.data = [[step, row + 1, column]]
    assert verbs.outline_hinted(viewer, labels, inside=inside, boxes=boxes) == [step]
    assert labels.data[step, row + 1, column] == 3
    assert set(np.unique(labels.data)) == {0, 3, 4}


def test_boxes_of_two_objects_are_outlined_at_once(scene: tuple[Any, Any, Any]) -> None:
    viewer, _, labels = scene
    step, _, at = middle(scene)
    boxes = verbs.new_hints(viewer, labels, "boxes")
    boxes.add_rectangles(box_around(at, step))
    labels.selected_label = 5
    boxes.selected_data = {0}  # napari gives a new shape the features of a selected one
    boxes.add_rectangles(box_around(np.argwhere(there(scene)[step + 1]), step + 1))
    assert verbs.outline_hinted(viewer, labels, boxes=boxes) == [step, step + 1]
    assert set(np.unique(labels.data[step])) == {0, 3}
    assert set(np.unique(labels.data[step + 1])) == {0, 5}
    assert verbs.outline_hinted(viewer, labels, boxes=boxes, label=7) == [step, step + 1]  # a script says which


def test_a_slice_that_leads_to_no_object_is_named(scene: tuple[Any, Any, Any]) -> None:
    viewer, _, labels = scene
    outside = verbs.new_hints(viewer, labels, "points outside")
    inside = verbs.new_hints(viewer, labels, "points inside")
    inside.data, outside.data = [[1, 20, 20]], [[1, 20, 20]]
    with pytest.raises(MedseqError, match="Slice 2, label 3"):
        verbs.outline_hinted(viewer, labels, inside=inside, outside=outside)


def test_hints_are_taken_back_one_by_one_and_an_outline_that_was_taken_back_is_made_again(
    scene: tuple[Any, Any, Any],
) -> None:
    viewer, _, labels = scene
    step, _, at = middle(scene)
    boxes, inside = (verbs.new_hints(viewer, labels, kind) for kind in ("boxes", "points inside"))
    boxes.add_rectangles(box_around(at, step))
    labels.selected_label = 6
    inside.add([step - 1, *at.mean(0)])
    inside.add([step + 1, *at.mean(0)])
    labels.data[step, at[0, 0], at[0, 1]] = 3  # painted there before
    verbs.outline_hinted(viewer, labels, boxes=boxes, inside=inside)
    outlined = labels.data.copy()
    assert set(np.unique(outlined)) == {0, 3, 6}
    verbs.undo(viewer)
    assert verbs.outline_hinted(viewer, labels, boxes=boxes, inside=inside) == [step - 1, step, step + 1]
    assert np.array_equal(labels.data, outlined)
    assert "outlining" in verbs.undo(viewer)
    inside.selected_data = {0}
    inside.remove_selected()
    assert "points inside" in verbs.undo(viewer)
    assert len(inside.data) == 2
    verbs.undo(viewer)
    assert inside.data.tolist() == [[step - 1, *at.mean(0)]]
    verbs.undo(viewer)
    verbs.undo(viewer)
    assert (len(inside.data), len(boxes.data)) == (0, 0)
    for _ in range(3):
        verbs.redo(viewer)
    assert (len(inside.data), boxes.shape_type) == (2, ["rectangle"])
    verbs.outline_hinted(viewer, labels, boxes=boxes, inside=inside)
    assert np.array_equal(labels.data, outlined)  # with the labels that they were set for
