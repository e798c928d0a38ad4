"""Editing tools on a viewer's masks, without a window: one step of undo each, painted and pending, at the visit that is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel

import napari_medseq as ms
from napari_medseq import viewer as view
from napari_medseq.errors import MedseqError
from napari_medseq.masks import tools

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")


def mask_at(viewer: Any, visit: int) -> Any:
    """The expert's mask of a visit, made active, with the slider there."""
    layer = [k for k in viewer.layers if "tumor" in k.name][visit]
    viewer.dims.set_point(0, visit)
    viewer.layers.selection.active = layer
    return layer


def go_to_middle(viewer: Any, layer: Any) -> int:
    """Show the slice on which most of a mask lies; its index in the layer's array."""
    n = int((np.asarray(layer.data)[0] > 0).sum(axis=(1, 2)).argmax())
    view.go_to_slice(viewer, layer, n)
    now = view.edit_job(viewer, tools.FillHoles(), layer).region.slice_index
    if now != n:  # its slices run the other way
        view.go_to_slice(viewer, layer, layer.data.shape[1] - 1 - n)
    return n


def test_an_edit_is_one_step_painted_and_pending(opened: Any) -> None:
    layer = mask_at(opened, 1)
    other = np.array(mask_at(opened, 0).data)
    layer = mask_at(opened, 1)
    before, editing = np.array(layer.data), view.editing_of(opened)
    changed = view.edit(opened, tools.Margin(mm=3))
    differs = before != layer.data
    assert changed == differs.sum() > 0
    assert editing.pending() == {layer: changed}
    assert np.array_equal(editing.marks(layer).painted, differs)
    assert layer in editing.unsaved
    assert len(editing.history.done) == 1
    assert view.autosave(opened) is not None
    view.undo(opened)
    assert np.array_equal(layer.data, before)
    assert editing.pending() == {}
    view.redo(opened)
    assert np.array_equal(before != layer.data, differs)
    assert np.array_equal(next(k for k in opened.layers if "tumor" in k.name).data, other)


def test_millimetres_are_those_of_the_patient(opened: Any) -> None:
    layer = mask_at(opened, 0)  # 2 × 2 × 3 mm
    own = np.argwhere(np.asarray(view.to_sequence(layer).volume_zyx(), int) > 0) * (3, 2, 2)
    view.edit(opened, tools.Margin(mm=4))
    grown = np.argwhere(np.asarray(view.to_sequence(layer).volume_zyx(), int) > 0) * (3, 2, 2)
    distance = np.sqrt(((grown[:, None] - own[None]) ** 2).sum(-1)).min(1)
    assert 3 < distance.max() <= 4


def test_one_slice_only(opened: Any) -> None:
    layer = mask_at(opened, 0)
    n = go_to_middle(opened, layer)
    before = np.array(layer.data)
    assert view.edit(opened, tools.Margin(mm=4), this_slice=True) > 0
    assert np.flatnonzero((before != layer.data).any(axis=(0, 2, 3))).tolist() == [n]


@pytest.mark.parametrize("along", ["y", "x"])
def test_slices_are_those_that_are_stepped_through(opened: Any, along: str) -> None:
    layer = mask_at(opened, 0)
    view.step_through(opened, along)
    axis = [str(a) for a in layer.axis_labels].index(along)
    filled = np.flatnonzero((np.asarray(layer.data) > 0).any(axis=tuple(k for k in range(4) if k != axis)))
    lead = (slice(None),) * axis
    emptied = np.array(layer.data)
    emptied[(*lead, filled[2])] = 0
    view.editing_of(opened).write(layer, emptied)
    view.edit(opened, tools.Interpolate())
    assert (np.asarray(layer.data)[(*lead, filled[2])] > 0).any()


def test_a_mask_of_another_visit_is_refused(opened: Any) -> None:
    layer = mask_at(opened, 0)
    opened.dims.set_point(0, 1)
    with pytest.raises(MedseqError, match="mask of visit 1, and the slider shows visit 2"):
        view.edit(opened, tools.Margin(mm=3), layer)


def test_background_and_images_are_no_masks_to_edit(opened: Any) -> None:
    layer = mask_at(opened, 0)
    with pytest.raises(MedseqError, match="Label 0 is background"):
        view.edit(opened, tools.Margin(mm=3), layer, label=0)
    opened.layers.selection.active = opened.layers[0]
    with pytest.raises(MedseqError, match="No mask is active"):
        view.edit(opened, tools.Margin(mm=3))


def test_what_is_painted_while_a_tool_works_stays(opened: Any) -> None:
    layer = mask_at(opened, 0)
    job = view.edit_job(opened, tools.Margin(mm=6))
    made = job.compute()
    ring = np.argwhere(made != job.given.labels)
    at = (0, *ring[0])
    view.editing_of(opened).paint(layer, np.array([np.ravel_multi_index(at, layer.data.shape)]), np.array([9]), "a dot")
    view.apply_edit(opened, job, made)
    assert layer.data[at] == 9


def test_islands_are_pointed_at_in_the_world(opened: Any) -> None:
    layer = mask_at(opened, 0)
    from scipy.ndimage import center_of_mass, label

    pieces, count = label(layer.data[0])
    assert count == 2
    middle = (0, *(float(round(v)) for v in center_of_mass(pieces == 2)))
    view.edit(opened, tools.Island(action="remove"), at=layer.data_to_world(middle))
    assert np.array_equal(layer.data[0] > 0, pieces == 1)
    view.undo(opened)
    view.edit(opened, tools.Split())
    assert sorted(np.unique(layer.data).tolist()) == [0, 1, 2]


def test_split_takes_numbers_that_no_visit_uses(opened: Any) -> None:
    later = mask_at(opened, 1)
    view.editing_of(opened).paint(later, np.array([0]), np.array([300]), "another lesion")
    layer = mask_at(opened, 0)
    view.edit(opened, tools.Split())
    assert sorted(np.unique(layer.data).tolist()) == [0, 1, 301]
    view.undo(opened)
    assert sorted(np.unique(layer.data).tolist()) == [0, 1]


def test_seeds_grow_in_the_image_of_the_visit(opened: Any) -> None:
    layer = mask_at(opened, 1)
    truth = np.asarray(layer.data) > 0
    middle = np.argwhere(truth)[len(np.argwhere(truth)) // 2]
    seeds = np.zeros_like(layer.data)
    seeds[tuple(middle)] = 1
    view.editing_of(opened).write(layer, seeds)
    view.edit(opened, tools.Grow(low=400, high=600, reach_mm=40))
    found = np.asarray(layer.data) > 0
    assert found.sum() > 30
    assert np.array_equal(found & truth, found)


def test_labels_of_two_masks_are_combined_and_of_one_merged(opened: Any) -> None:
    layer = mask_at(opened, 0)
    image = next(k for k in opened.layers if "T1post" in k.name)
    other = view.new_labels(opened, image)
    before = np.array(layer.data)
    half = np.zeros_like(other.data)
    half[:, :, :, : half.shape[3] // 2] = 5
    view.editing_of(opened).write(other, half)
    view.combine_labels(opened, "subtract", other, layer=layer)
    assert np.array_equal(layer.data > 0, (before > 0) & (half == 0))
    view.undo(opened)
    with pytest.raises(MedseqError, match="never overlap"):
        view.combine_labels(opened, "intersect", layer, layer=layer)
    view.edit(opened, tools.Split(), layer)
    assert np.unique(layer.data).tolist() == [0, 1, 6]  # 5 is used in the other mask
    view.combine_labels(opened, "add", layer, 6, layer=layer, label=1)
    assert np.array_equal(layer.data, before)


def test_masks_on_other_grids_are_not_combined(opened: Any) -> None:
    seq = view.to_sequence(mask_at(opened, 0))
    other = view.add_sequence(opened, ms.preprocess(seq, [{"kind": "resample", "spacing": (3, 3, 3)}]), visit=0)
    with pytest.raises(MedseqError, match="resample"):
        view.combine_labels(opened, "add", other, layer=mask_at(opened, 0))


def test_a_slice_is_copied_to_the_next_and_that_is_shown(opened: Any) -> None:
    layer = mask_at(opened, 0)
    n = go_to_middle(opened, layer)
    before = np.array(layer.data)
    view.copy_to_slice(opened, 1)
    assert np.array_equal(layer.data[0, n + 1] > 0, (before[0, n] > 0) | (before[0, n + 1] > 0))
    assert view.edit_job(opened, tools.FillHoles(), layer).region.slice_index == n + 1


def test_a_label_is_copied_to_the_next_visit_at_its_place(opened: Any) -> None:
    layer, target = mask_at(opened, 0), [k for k in opened.layers if "tumor" in k.name][1]
    view.editing_of(opened).write(target, np.zeros_like(target.data))
    mask_at(opened, 0)
    made, count = view.copy_to_visit(opened)
    assert made == target
    assert round(opened.dims.point[0]) == 1
    one, other = (view.to_sequence(k) for k in (layer, target))
    assert count == (other.data > 0).sum()
    centres = [
        np.r_[np.argwhere(np.asarray(s.volume_zyx(), int) > 0).mean(0)[::-1], 1] @ s.affine.T for s in (one, other)
    ]
    assert np.linalg.norm(centres[0] - centres[1]) < 1
    assert view.editing_of(opened).pending() == {target: count}


def test_a_visit_without_a_mask_gets_one(ball_study: Path) -> None:
    viewer = ViewerModel()
    view.open_path(viewer, ball_study)
    viewer.layers.remove(next(k for k in viewer.layers if "tumor" in k.name and "0504" in k.name))
    layer = next(k for k in viewer.layers if "tumor" in k.name)
    viewer.dims.set_point(0, 0)
    viewer.layers.selection.active = layer
    made, count = view.copy_to_visit(viewer)
    assert made != layer
    assert count > 0
    assert made.data.shape[0] == 1


@settings(max_examples=25, deadline=None)
@given(low=st.integers(0, 500), width=st.integers(0, 300), seed=st.integers(0, 99))
def test_a_limited_brush_changes_only_voxels_of_the_range(low: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    viewer = ViewerModel()
    image = viewer.add_image(rng.integers(0, 700, (4, 20, 20)).astype(np.int16))
    layer = viewer.add_labels(rng.integers(0, 3, (4, 20, 20)).astype(np.uint8))
    view.limit_brush(viewer, low, low + width)
    before = np.array(layer.data)
    layer.brush_size = 9
    viewer.dims.set_point(0, 2)
    with layer.block_history():
        layer.paint((2, 10, 10), 7)
    changed = before != layer.data
    inside = (image.data >= low) & (image.data <= low + width)
    assert not (changed & ~inside).any()
    assert np.array_equal(changed[2, 10, 10], inside[2, 10, 10])
    assert view.editing_of(viewer).pending() == ({layer: changed.sum()} if changed.any() else {})


def test_padding_is_never_within_the_range() -> None:
    data = np.full((4, 20, 20), 50, np.int16)
    data[:, :10] = -2000
    seq = ms.ImageSequence(data, ("z", "y", "x"), np.eye(4), modality="CT", name="ct", meta={"padding_value": -2000})
    viewer = ViewerModel()
    image = view.add_sequence(viewer, seq)
    layer = view.new_labels(viewer, image)
    layer.data[1] = 1
    assert view.painted_range(viewer, layer) == (50, 50)
    view.limit_brush(viewer, -3000, 3000)
    layer.brush_size = 9
    viewer.dims.set_point(0, layer.data_to_world((2, 0, 0))[0])
    with layer.block_history():
        layer.paint((2, 10, 10), 1)
    painted = layer.data[2] > 0
    assert painted.any()
    assert (image.data[2][painted] == 50).all()


def test_the_limit_goes_and_an_empty_one_is_refused(opened: Any) -> None:
    view.limit_brush(opened, 3, 4)
    assert view.editing_of(opened).limit is not None
    view.limit_brush(opened)
    assert view.editing_of(opened).limit is None
    with pytest.raises(MedseqError, match="empty"):
        view.limit_brush(opened, 4, 3)


def test_pictures_and_frames_are_edited_too() -> None:
    viewer = ViewerModel()
    flat = viewer.add_labels(np.zeros((9, 9), np.uint8))
    flat.data[4, 4] = 1
    view.edit(viewer, tools.Margin(mm=1))
    assert flat.data.sum() == 5
    frames = np.zeros((3, 4, 9, 9), np.uint8)
    frames[:, 2, 4, 4] = 1
    seq = ms.ImageSequence(frames, ("t", "z", "y", "x"), np.eye(4), times=np.arange(3.0), kind="labels")
    layer = view.add_sequence(viewer := ViewerModel(), seq)
    viewer.dims.set_point(0, 1.0)
    viewer.layers.selection.active = layer
    view.edit(viewer, tools.Margin(mm=1))
    assert [int(f.sum()) for f in np.asarray(layer.data)] == [1, 7, 1]


TOOLS = (
    tools.Margin(mm=1), tools.Margin(mm=-1), tools.Smooth(mm=1), tools.Hollow(mm=1), tools.FillHoles(), tools.KeepLargest(),
    tools.Split(), tools.Interpolate(), tools.Grow(low=0.3, high=0.7, reach_mm=2),
)  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(TOOLS), st.integers(1, 3), st.booleans()), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_whatever_is_edited_in_whatever_order_undo_brings_all_back(
    steps: list[tuple[tools.Tool, int, bool]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    viewer = ViewerModel()
    viewer.add_image(rng.random((5, 12, 12)))
    layer = viewer.add_labels((rng.random((5, 12, 12)) < 0.3) * rng.integers(1, 4, (5, 12, 12)).astype(np.uint8))
    viewer.dims.set_point(0, 2)
    before, editing, done = np.array(layer.data), view.editing_of(viewer), 0
    for tool, label, one in steps:
        now = np.array(layer.data)
        try:
            done += view.edit(viewer, tool, label=label, this_slice=one and not tool.needs_slices) > 0
        except MedseqError:
            assert np.array_equal(layer.data, now)
        assert np.array_equal(editing.marks(layer).pending | (layer.data == before), np.ones(before.shape, bool))
    after = np.array(layer.data)
    assert len(editing.history.done) == done
    for _ in range(done):
        view.undo(viewer)
    assert np.array_equal(layer.data, before)
    assert not editing.marks(layer).painted.any()
    for _ in range(done):
        view.redo(viewer)
    assert np.array_equal(layer.data, after)
