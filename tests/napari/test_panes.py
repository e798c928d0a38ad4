"""Panes: one place in all, one brush for all, one undo; with a `ViewerModel` only."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq.errors import MedseqError
from napari_medseq.viewer.layers.conversion import in_layer, own_array
from napari_medseq.viewer.layers.placement import camera_of
from napari_medseq.viewer.layers.positions import place_of, shown_at
from tests.napari.helpers import masks
from tests.narrowing import some

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")


@pytest.fixture
def model(ball_study: Path) -> ViewerModel:
    """A viewer model with the study of balls."""
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    return viewer


def image_sequence(affine: np.ndarray, shape: tuple[int, ...] = (6, 8, 10), **facts: Any) -> ms.ImageSequence:
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    axes = ("t", "z", "y", "x") if len(shape) == 4 else ("z", "y", "x")
    return ms.ImageSequence(data, axes, affine, name="scan", modality="MR", **facts)


OBLIQUE = np.array([[1.9, 0.3, 0.2, -40], [-0.3, 1.9, -0.5, -30], [-0.2, 0.4, 3.9, -20], [0, 0, 0, 1]], float)


def crossing(cross: Any) -> np.ndarray:
    """Where the lines of a crosshair meet, on the canvas."""
    starts = np.asarray(cross.data)[:, 0] * cross.scale
    return np.array([starts[(k + 1) % len(starts), k] for k in range(len(starts))])


# -- places ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("affine", [OBLIQUE, np.diag([-2.0, 2, 3, 1]), OBLIQUE[:, [2, 0, 1, 3]]])
def test_a_place_on_the_canvas_is_that_of_the_voxel(affine: np.ndarray) -> None:
    viewer = ViewerModel()
    seq = image_sequence(affine)
    layer = verbs.add_sequence(viewer, seq)
    for voxel in ((2, 3, 4), (0, 0, 0), (5, 7, 9)):
        shown = layer.data_to_world(in_layer(layer, [voxel])[0])
        expected = nib.affines.apply_affine(affine, voxel[::-1])
        place = place_of(layer, shown)
        assert np.allclose(place, expected, atol=1e-3)
        assert np.allclose([shown_at(layer, place)[n] for n in "zyx"], shown, atol=1e-3)


def test_of_a_layer_of_others_the_transform_is_believed() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((4, 5, 6)), scale=(3, 2, 1), translate=(10, 20, 30))
    assert np.allclose(place_of(layer, (13, 24, 35)), (-35, -24, 13))
    assert list(shown_at(layer, np.array([-35.0, -24, 13])).values()) == [13, 24, 35]


# -- linked ------------------------------------------------------------------------------------------------------------
def test_all_panes_show_the_place_that_one_is_moved_to(model: ViewerModel) -> None:
    panes = verbs.side_by_side(model)
    first, second = (pane.viewer for pane in panes.panes)
    second.dims.set_point(1, 4.5)
    second.scene.camera.center = (0, 6.0, -8.0)
    second.scene.camera.zoom = 5.0
    for viewer in (first, model):
        assert viewer.dims.point[1] == 4.5
        assert viewer.scene.camera.center[-2:] == (6.0, -8.0)
        assert viewer.scene.camera.zoom == 5.0
    model.dims.set_point(1, -7.5)
    assert first.dims.point[1] == second.dims.point[1] == -7.5


def test_a_registration_between_the_visits_is_followed() -> None:
    """The second exam lies turned in the scanner; the registration of the result says how."""
    turn = np.array([[0.0, -1, 0, 12], [1, 0, 0, -5], [0, 0, 1, 4], [0, 0, 0, 1]])
    first = image_sequence(np.diag([2.0, 2, 3, 1])).replace(name="a")
    second = first.replace(affine=turn @ first.affine, name="b")
    lesions = [
        s.labels_like((np.asarray(s.data) > 2).astype(np.uint8), name=f"{s.name}_mask", label_names={1: "lesion"})
        for s in (first, second)
    ]
    study = ms.Study(
        "p", tuple(ms.Visit(None, (i,), (m,), i.name) for i, m in zip((first, second), lesions, strict=True))
    )
    viewer = ViewerModel()
    verbs.add_study(viewer, study)
    followed = ms.track(lesions, transforms=[np.eye(4), np.linalg.inv(turn)], images=[first, second])
    verbs.show_progression(viewer, followed, study)
    panes = verbs.side_by_side(viewer)
    anchors = [pane.anchor for pane in panes.panes]
    shown = some(anchors[0]).data_to_world(in_layer(anchors[0], [(2, 5, 3)])[0])
    panes.panes[0].viewer.dims.set_point(1, shown[1])
    panes.panes[0].viewer.scene.camera.center = (0, *shown[-2:])
    there = panes.panes[1].viewer
    point = (*there.dims.point[:2], *there.scene.camera.center[-2:])
    assert np.allclose(place_of(anchors[1], point), nib.affines.apply_affine(second.affine, (3, 5, 2)), atol=1e-3)


def test_without_a_common_space_the_middles_are_put_together() -> None:
    near, far = np.diag([2.0, 2, 3, 1]), np.diag([2.0, 2, 3, 1])
    far[:3, 3] = 900
    viewer = ViewerModel()
    layers = [verbs.add_sequence(viewer, image_sequence(a), name=n) for a, n in ((near, "a"), (far, "b"))]
    panes = verbs.side_by_side(viewer, exams=[[layer] for layer in layers])
    panes.panes[0].viewer.dims.set_point(0, layers[0].data_to_world((4, 0, 0))[0])
    assert panes.panes[1].viewer.dims.point[0] == pytest.approx(layers[1].data_to_world((4, 0, 0))[0])
    verbs.close_panes(viewer)
    as_they_lie = verbs.side_by_side(viewer, exams=[[layer] for layer in layers], placing="as they lie")
    world = as_they_lie.panes[1].plan.to_common
    assert np.array_equal(world, np.eye(4))


def test_frames_of_two_exams_go_together() -> None:
    """Ten frames and five of a cine: the same share of the cycle."""
    viewer = ViewerModel()
    long = image_sequence(np.diag([2.0, 2, 3, 1]), (9, 4, 8, 10), times=np.arange(9.0))
    short = image_sequence(np.diag([2.0, 2, 3, 1]), (5, 4, 8, 10), times=np.arange(5.0) * 2)
    layers = [verbs.add_sequence(viewer, s, name=n) for s, n in ((long, "rest"), (short, "stress"))]
    panes = verbs.side_by_side(viewer, exams=[[layer] for layer in layers])
    first, second = (pane.viewer for pane in panes.panes)
    assert (first.dims.nsteps[0], second.dims.nsteps[0]) == (9, 5)
    first.dims.set_current_step(0, 8)
    assert second.dims.current_step[0] == 4
    second.dims.set_current_step(0, 2)
    assert first.dims.current_step[0] == 4


def test_turning_the_viewer_turns_the_panes(model: ViewerModel) -> None:
    panes = verbs.side_by_side(model)
    verbs.step_through(model, "x")
    for pane in panes.panes:
        assert pane.viewer.dims.order == model.dims.order
        assert pane.viewer.canvas.overlays["medseq top"].text == "S"


def test_the_mouse_in_one_pane_is_a_crosshair_in_the_others(model: ViewerModel) -> None:
    panes = verbs.side_by_side(model)
    first, second = panes.panes
    first.viewer.mouse_over_canvas = True
    first.viewer.cursor.position = (0.0, -1.5, 9.0, -11.0)
    cross = next(layer for layer in second.viewer.layers if layer.name == "crosshair")
    assert np.allclose(crossing(cross), (-1.5, 9.0, -11.0))
    assert cross.visible
    assert second.viewer.dims.nsteps[1:] == model.dims.nsteps[1:]
    assert not any(layer.name == "crosshair" and layer.visible for layer in first.viewer.layers)


def test_windows_of_mr_change_by_the_same_share_and_of_ct_are_equal(model: ViewerModel) -> None:
    images = [layer for layer in model.layers if "T1post" in layer.name]
    images[0].contrast_limits, images[1].contrast_limits = (0, 100), (0, 200)
    verbs.side_by_side(model)
    images[0].contrast_limits = (10, 60)
    assert list(images[1].contrast_limits) == [20, 120]
    verbs.close_panes(model)
    panes = verbs.side_by_side(model, windows="equal")
    assert list(images[1].contrast_limits) == [10, 60]
    panes.panes[1].twins[images[1]].layer.contrast_limits = (5, 50)
    assert list(images[0].contrast_limits) == [5, 50]


# -- one brush, one undo -----------------------------------------------------------------------------------------------
def paint_in(pane: Any, layer: Any, index: tuple[int, ...], label: int = 1) -> None:
    twin = pane.twins[layer].layer
    twin.brush_size = 1
    with twin.block_history():  # as a stroke with the mouse does
        twin.paint(index, label)


def test_a_stroke_in_a_pane_is_one_in_that_visits_mask_and_one_step_of_undo(model: ViewerModel) -> None:
    panes = verbs.side_by_side(model)
    layers, editing = masks(model), verbs.editing_of(model)
    before = [np.array(layer.data) for layer in layers]
    where = (0, 8, 40, 6)
    paint_in(panes.panes[1], layers[1], where)
    assert layers[1].data[where] == 1
    assert np.array_equal(layers[0].data, before[0])
    assert editing.marks(layers[1]).pending[where]
    assert verbs.painted(model) == {layers[1].name: 1}
    assert editing.is_unsaved
    verbs.undo(model)
    assert np.array_equal(layers[1].data, before[1])
    assert panes.panes[1].twins[layers[1]].layer.data[where] == 0
    verbs.redo(model)
    assert panes.panes[1].twins[layers[1]].layer.data[where] == 1
    assert layers[1].data[where] == 1


def test_a_fill_in_a_pane_can_be_taken_back_and_made_again(model: ViewerModel) -> None:
    """napari tells of a fill before it makes it."""
    panes = verbs.side_by_side(model)
    layer = masks(model)[1]
    ball = np.array(layer.data) == 1
    where = tuple(int(v) for v in np.argwhere(ball)[0])
    twin = panes.panes[1].twins[layer].layer
    twin.n_edit_dimensions, twin.contiguous = 3, False
    twin.fill(where, 4)
    assert (np.asarray(layer.data)[ball] == 4).all()
    verbs.undo(model)
    assert (np.asarray(twin.data)[ball] == 1).all()
    verbs.redo(model)
    assert (np.asarray(layer.data)[ball] == 4).all()


def test_what_a_verb_writes_is_seen_in_the_pane(model: ViewerModel) -> None:
    panes = verbs.side_by_side(model)
    layer = masks(model)[0]
    verbs.editing_of(model).fill(layer, np.full(layer.data.shape, 3))
    twin = panes.panes[0].twins[layer].layer
    assert twin.data is layer.data
    assert (np.asarray(twin.data) == 3).all()
    paint_in(panes.panes[0], layer, (0, 8, 40, 6), 5)
    assert layer.data[0, 8, 40, 6] == 5


def test_the_brush_is_one_in_all_panes(model: ViewerModel) -> None:
    panes = verbs.side_by_side(model)
    first, last = masks(model)
    model.layers.selection.active = first
    first.mode, first.brush_size, first.selected_label = "paint", 7, 3
    twins = [pane.twins[layer].layer for pane, layer in zip(panes.panes, (first, last), strict=True)]
    assert [(str(t.mode), t.brush_size, t.selected_label) for t in twins] == [("paint", 7, 3)] * 2
    assert [pane.viewer.layers.selection.active for pane in panes.panes] == twins
    twins[0].brush_size = 4  # as the key in the pane does
    assert (first.brush_size, twins[1].brush_size) == (4, 4)


def test_pressing_in_a_pane_brings_its_visit_and_its_mask_with_the_brush(model: ViewerModel) -> None:
    panes = verbs.side_by_side(model)
    first, last = masks(model)
    model.layers.selection.active = first
    first.mode, first.brush_size = "paint", 7
    panes.activate(panes.panes[1])
    assert model.dims.point[0] == 1
    assert model.layers.selection.active is last
    assert (str(last.mode), last.brush_size, str(first.mode)) == ("paint", 7, "pan_zoom")
    assert str(panes.panes[0].twins[first].layer.mode) == "paint"
    assert panes.active is panes.panes[1]


def test_the_slider_of_visits_chooses_the_pane_and_moves_none(model: ViewerModel) -> None:
    panes = verbs.side_by_side(model)
    panes.panes[0].viewer.dims.set_point(1, 4.5)
    model.dims.set_point(0, 1)
    assert panes.active is panes.panes[1]
    assert [pane.viewer.dims.point[1] for pane in panes.panes] == [4.5, 4.5]
    assert model.dims.point[1] == 4.5


def test_in_a_pane_without_a_mask_painting_is_refused_with_a_word(model: ViewerModel, notices: list[Any]) -> None:
    first, last = masks(model)
    model.layers.remove(last)
    panes = verbs.side_by_side(model)
    model.layers.selection.active = first
    first.mode = "paint"
    pane = panes.panes[1].viewer
    press = SimpleNamespace(type="mouse_press", position=(1, 0, 0, 0), dims_displayed=[2, 3], modifiers=[])
    next(pane.mouse_drag_callbacks[-1](pane, press), None)
    assert any("has no mask that belongs to" in message for _, message in notices)
    assert panes.panes[1].viewer.layers.selection.active is None


# -- layers come and go ------------------------------------------------------------------------------------------------
def test_layers_that_come_and_go_do_so_in_their_pane(model: ViewerModel) -> None:
    panes = verbs.side_by_side(model)
    image = next(layer for layer in model.layers if "T1post" in layer.name)
    new = verbs.new_labels(model, image)
    assert [new in pane.twins for pane in panes.panes] == [True, False]
    model.layers.remove(new)
    assert not any(new in pane.twins for pane in panes.panes)
    image.visible = False
    assert not panes.panes[0].twins[image].layer.visible


def test_closed_panes_are_linked_no_more(model: ViewerModel) -> None:
    panes = verbs.side_by_side(model)
    viewers = [pane.viewer for pane in panes.panes]
    layer, twin = next(iter(panes.panes[0].twins.items()))
    verbs.close_panes(model)
    assert verbs.panes_of(model) is None
    model.dims.set_point(1, 4.5)
    assert viewers[0].dims.point[1] != 4.5
    layer.opacity = 0.25
    assert twin.layer.opacity != 0.25


@pytest.mark.parametrize("kind", ["visits", "planes"])
def test_one_canvas_is_zoomed_and_centred_as_before_at_the_slice_that_was_come_to(
    model: ViewerModel, kind: str
) -> None:
    camera = camera_of(model)
    camera.zoom, camera.center = 7.5, (0.0, -12.0, 9.0)
    model.dims.set_point(1, -3.0)
    panes = verbs.side_by_side(model) if kind == "visits" else verbs.orthogonal(model)
    panes.fit()  # as the screen does
    panes.panes[0].viewer.dims.set_point(list(panes.panes[0].viewer.dims.axis_labels).index("z"), 6.0)
    assert camera.zoom != 7.5
    verbs.close_panes(model)
    assert camera.zoom == 7.5
    assert camera.center[-2:] == pytest.approx((-12.0, 9.0))
    assert model.dims.point[1] == pytest.approx(6.0)


def test_one_canvas_shows_the_same_place_of_the_visit_that_was_come_to() -> None:
    shifted = np.diag([2.0, 2, 3, 1])
    shifted[:3, 3] = (30, 10, 0)
    images = [image_sequence(affine) for affine in (np.diag([2.0, 2, 3, 1]), shifted)]
    viewer = ViewerModel()
    verbs.add_study(viewer, ms.Study("P", tuple(ms.Visit(None, (i,), (), f"v{k}") for k, i in enumerate(images))))
    camera = camera_of(viewer)
    camera.zoom, camera.center = 5.0, (0.0, -6.0, -8.0)
    panes = verbs.side_by_side(viewer, placing="centres")
    panes.activate(panes.panes[1])
    verbs.close_panes(viewer)
    assert camera.zoom == 5.0
    assert camera.center[-2:] == pytest.approx((-16.0, -38.0))  # world is P and L, of an image moved in R and A


def test_followed_lesions_have_their_colours_in_each_pane(model: ViewerModel) -> None:
    verbs.track_layers(model)
    panes = verbs.side_by_side(model)
    for pane in panes.panes:
        own, twin = next((o, t.layer) for o, t in pane.twins.items() if "lesions" in o.name)
        assert np.array_equal(twin.get_color(1), own.get_color(1))
        assert (np.asarray(twin.data) == 1).any()
    verbs.follow_again(model)  # the same lesions, so the same labels in other colormaps
    result = verbs.result_of(model)
    verbs.correct(model, "exclude", 2)
    for pane in panes.panes:
        own, twin = next((o, t.layer) for o, t in pane.twins.items() if o in result.layers)
        assert twin.colormap is own.colormap
        twin.colormap = result.layers[0].colormap
        assert own.colormap is twin.colormap


@pytest.mark.parametrize(
    ("visits", "word"),
    [((0,), "side by side"), (range(7), "side by side"), ((0, 5), "no open visit 6"), ((0, 0), "twice")],
)
def test_visits_that_cannot_be_shown_are_refused(model: ViewerModel, visits: Any, word: str) -> None:
    with pytest.raises(MedseqError, match=word):
        verbs.side_by_side(model, list(visits))


def test_unregistered_visits_are_not_called_registered(model: ViewerModel) -> None:
    with pytest.raises(MedseqError, match="not registered yet"):
        verbs.side_by_side(model, placing="registered")


# -- three planes ------------------------------------------------------------------------------------------------------
def test_three_planes_cross_at_one_place(model: ViewerModel) -> None:
    panes = verbs.orthogonal(model)
    axial, coronal, sagittal = (pane.viewer for pane in panes.panes)
    sagittal.dims.point = (0, 4.5, 9.0, -11.0)
    assert axial.dims.point == coronal.dims.point == model.dims.point == (0, 4.5, 9.0, -11.0)
    for pane in panes.panes:
        assert np.allclose(crossing(pane.crosshair.layer), (4.5, 9.0, -11.0))
        assert pane.viewer.dims.nsteps == model.dims.nsteps
    assert [pane.viewer.dims.order[1] for pane in panes.panes] == [1, 2, 3]
    model.dims.set_point(0, 1)
    assert [pane.viewer.dims.point[0] for pane in panes.panes] == [1, 1, 1]


def test_three_planes_of_a_tilted_volume_show_the_same_voxel() -> None:
    viewer = ViewerModel()
    seq = image_sequence(OBLIQUE)
    layer = verbs.add_sequence(viewer, seq)
    panes = verbs.orthogonal(viewer)
    viewer.dims.point = layer.data_to_world(in_layer(layer, [(3, 5, 6)])[0])
    expected = np.asarray(seq.data)[3, 5, 6]
    for pane in panes.panes:
        twin = pane.twins[layer].layer
        index = tuple(round(v) for v in twin.world_to_data(pane.viewer.dims.point))
        assert np.asarray(layer.data)[index] == expected


# -- change ------------------------------------------------------------------------------------------------------------
def test_the_map_of_change_is_a_layer_at_the_later_visit(model: ViewerModel) -> None:
    progression = verbs.track_layers(model)
    shown = verbs.show_change(model, 0, 1)
    assert shown.translate[0] == 1
    expected = progression.change_map(0, 1)
    assert np.array_equal(own_array(shown, np.asarray(shown.data)), np.asarray(expected.data))
    assert set(np.unique(shown.data)) > {0, 1}
    again = verbs.show_change(model, 0, 1)
    assert [layer for layer in model.layers if "change since" in layer.name] == [again]
    # it is not a mask: what is followed again is as before
    assert verbs.label_layers(model) == verbs.result_of(model).layers
    assert len(verbs.study_of(model).visits[1].labels) == 1
    # after a correction it shows what was before; undo makes it right again, and a new map takes its place
    name = again.name
    verbs.correct(model, "exclude", 2)
    assert again.name == f"{name} (outdated)"
    verbs.undo(model)
    assert again.name == name
    verbs.redo(model)
    newest = verbs.show_change(model, 0, 1)
    assert [layer for layer in model.layers if "change since" in layer.name] == [newest]
    assert newest.name == name


def test_change_of_what_is_not_followed_is_refused(model: ViewerModel) -> None:
    with pytest.raises(MedseqError, match="No lesions are followed"):
        verbs.show_change(model, 0, 1)
    verbs.track_layers(model)
    layer = verbs.result_of(model).layers[0]
    layer.data[0, 8, 40, 6] = 1
    with pytest.raises(MedseqError, match="not followed yet"):
        verbs.show_change(model, 0, 1)


def test_exams_without_a_study_are_images_with_their_masks() -> None:
    viewer = ViewerModel()
    one, two = (image_sequence(np.diag([2.0, 2, 3, 1]), (3, 4, 8, 10), times=np.arange(3.0)) for _ in range(2))
    mask = one.frame(0).labels_like(np.ones((4, 8, 10), np.uint8), name="mask", label_names={1: "heart"})
    layers = [
        verbs.add_sequence(viewer, s, name=n)
        for s, n in ((one, "rest"), (mask, "rest mask"), (two, "stress"), (mask, "m"))
    ]
    assert verbs.exams_open(viewer) == [layers[:2], layers[2:]]
    assert verbs.visits_open(viewer) == {}
