"""Layers and back: exact round trip, and the click test on a `ViewerModel`."""

from __future__ import annotations

import warnings
from datetime import datetime
from typing import Any, Literal

import dask.array as da
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Points
from scipy.spatial.transform import Rotation

from napari_medseq.errors import MedseqError
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.viewer.layers.conversion import KEY, from_layer, to_layer_data, turn_view

angles = st.one_of(st.just(0.0), st.floats(-180, 180))
sizes = st.floats(0.3, 8)


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Any affine: axis order, signs (mirrored too), tilt, uneven spacing, origin."""
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", draw(st.tuples(angles, angles, angles)), degrees=True).as_matrix()
    signs = np.diag(draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3)))
    affine[:3, :3] = (
        turn[:, list(draw(st.permutations(range(3))))] @ signs @ np.diag(draw(st.tuples(sizes, sizes, sizes)))
    )
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return affine


@st.composite
def sequences(draw: st.DrawFn, kinds: tuple[Literal["image", "labels"], ...] = ("image", "labels")) -> ImageSequence:
    """2D, 3D or 4D, image or labels; every voxel has its own value."""
    axes = draw(st.sampled_from([("y", "x"), ("z", "y", "x"), ("t", "z", "y", "x"), ("t", "y", "x")]))
    shape = tuple(draw(st.integers(1, 4)) if a == "t" else draw(st.integers(2, 6)) for a in axes)
    times = None
    if "t" in axes:
        gaps = draw(st.lists(st.floats(0.2, 90), min_size=shape[0] - 1, max_size=shape[0] - 1))
        times = np.concatenate([[draw(st.sampled_from([0.0, 2.5]))], gaps]).cumsum()
    kind = draw(st.sampled_from(kinds))
    dtype = np.int16 if kind == "labels" else draw(st.sampled_from([np.float32, np.uint8, np.int16]))
    data = (1 + np.arange(np.prod(shape))).reshape(shape).astype(dtype)
    slice_axis = draw(st.sampled_from(("z", "y", "x"))) if "z" in axes else "z"
    return ImageSequence(
        data, axes, draw(affines()), times=times, kind=kind, slice_axis=slice_axis,
        oriented=draw(st.sampled_from([True, True, True, False])),
        label_names={1: "tumour", 3: "oedema"} if kind == "labels" else {},
    )  # fmt: skip


def layer_of(seq: ImageSequence, **kwargs: Any) -> Layer:
    return Layer.create(*to_layer_data(seq, **kwargs))


@given(sequences())
@settings(max_examples=40, deadline=None)
def test_round_trip_is_exact(seq: ImageSequence) -> None:
    back = from_layer(layer_of(seq))
    np.testing.assert_array_equal(back.data, seq.data)
    assert back.data.dtype == seq.data.dtype
    np.testing.assert_allclose(back.affine, seq.affine, atol=1e-4)
    for name in ("axes", "kind", "slice_axis", "oriented", "label_names", "modality", "name", "meta", "warnings"):
        assert getattr(back, name) == getattr(seq, name), name
    if seq.times is not None:
        np.testing.assert_array_equal(back.times, seq.times)


def test_round_trip_keeps_facts_and_what_was_painted() -> None:
    seq = ImageSequence(
        np.zeros((3, 4, 5), bool), ("z", "y", "x"), np.diag([1.0, 2.0, 3.0, 1.0]), kind="labels",
        label_names={1: "tumour"}, modality="MR", name="mask", meta={"stored": {"order": [0, 1, 2]}},
        warnings=("doubt",), acquired=datetime(2020, 1, 2, 3, 4, 5),
    )  # fmt: skip
    layer = layer_of(seq)
    assert layer.features["name"].tolist() == ["background", "tumour"]
    shown = tuple(np.argwhere(np.ones(layer.data.shape))[7])
    layer.data[shown] = 1
    back = from_layer(layer)
    assert (back.acquired, back.meta, back.warnings, back.modality) == (seq.acquired, seq.meta, ("doubt",), "MR")
    assert back.data.dtype == bool
    assert back.data.sum() == 1
    # x and y run to the right and to the front: the layer shows them mirrored
    assert back.data[shown[0], 3 - shown[1], 4 - shown[2]]


def slider_positions(viewer: ViewerModel, axis: int) -> list[float]:
    r = viewer.dims.range[axis]
    return [min(r.start + k * r.step, r.stop) for k in range(viewer.dims.nsteps[axis])]


def check_clicks(seq: ImageSequence, turned: bool) -> None:
    """At every slider position each shown pixel, clicked, is the voxel shown, and every slice is shown."""
    data, kwargs, kind = to_layer_data(seq)
    viewer = ViewerModel()
    layer = (viewer.add_image if kind == "image" else viewer.add_labels)(data, **kwargs)
    n = layer.ndim
    if "z" in seq.axes and turned:
        along = layer.metadata[KEY]["shown_slice_axis"]
        turn_view(layer, along)
        s = n - 3 + "zyx".index(along)
        viewer.dims.order = (*range(n - 3), s, *(a for a in range(n - 3, n) if a != s))
    hidden = list(viewer.dims.not_displayed)
    down, right = viewer.dims.displayed
    seen = set()
    for corner in np.ndindex(*[len(slider_positions(viewer, a)) for a in hidden]):
        for axis, k in zip(hidden, corner, strict=True):
            viewer.dims.set_point(axis, slider_positions(viewer, axis)[k])
        shown = layer._slice.image.raw
        hits = set()
        for v, u in np.ndindex(data.shape[down], data.shape[right]):
            # the canvas draws with the displayed part of the transform only
            world = np.array(viewer.dims.point, dtype=float)
            part = layer._data_to_world.set_slice([down, right])
            world[[down, right]] = part(np.array([v, u], dtype=float))
            voxel = np.round(layer.world_to_data(world)).astype(int)
            assert tuple(voxel[[down, right]]) == (v, u)
            value = layer.get_value(world, view_direction=None, dims_displayed=[down, right], world=True)
            assert value == shown[v, u] == data[tuple(voxel)]
            hits.add(tuple(voxel[hidden]))
        assert len(hits) == 1
        seen |= hits
    assert len(seen) == np.prod([data.shape[a] for a in hidden])


@given(sequences(), st.booleans())
@settings(max_examples=25, deadline=None, phases=(Phase.explicit, Phase.generate))  # shrinking takes minutes
def test_every_click_hits_the_voxel_shown_and_every_slice_is_reached(seq: ImageSequence, turned: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # napari's "Non-orthogonal slicing" among them
        check_clicks(seq, turned)


def test_an_axial_slice_looks_as_a_radiologist_expects() -> None:
    data = np.zeros((4, 5, 6), np.uint8)  # voxel x to the right, y to the front, z up: RAS
    data[3, 0, 0] = 7  # top slice, back, the patient's left is low x
    layer = layer_of(ImageSequence(data, ("z", "y", "x"), np.eye(4)))
    assert np.argwhere(layer.data == 7).tolist() == [[3, 4, 5]]  # back is down, left is on the screen's right
    world = layer.data_to_world((3, 4, 5))
    np.testing.assert_allclose(world, (3, 0, 0), atol=1e-6)  # superior 3, posterior 0, left 0


def test_a_tilted_volume_gets_the_slice_view_and_keeps_its_true_affine() -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("x", 20, degrees=True).as_matrix()
    seq = ImageSequence(np.zeros((20, 20, 20)), ("z", "y", "x"), affine)
    layer = layer_of(seq)
    assert layer.metadata[KEY]["slice_view"]
    np.testing.assert_allclose(layer.metadata[KEY]["affine"], affine)


@pytest.mark.parametrize(
    ("times", "scale", "start"), [([1.0, 3.005, 4.995], 1.9975, 1.0), ([0.0, 1.0, 5.0], 1.0, 0.0), ([4.0], 1.0, 0.0)]
)
def test_uniform_times_are_seconds_and_others_the_frame_index(times: list[float], scale: float, start: float) -> None:
    seq = ImageSequence(np.zeros((len(times), 2, 3, 4)), ("t", "z", "y", "x"), np.eye(4), times=np.array(times))
    layer = layer_of(seq)
    assert layer.scale[0] == pytest.approx(scale, abs=1e-6)
    assert layer.translate[0] == pytest.approx(start, abs=1e-6)
    assert [str(u) for u in layer.units] == ["second", "millimeter", "millimeter", "millimeter"]
    assert layer.axis_labels == ("t", "z", "y", "x")
    np.testing.assert_array_equal(from_layer(layer).times, times)


def test_visits_share_one_slider_and_units_with_frames_and_volumes() -> None:
    volume = ImageSequence(np.zeros((3, 4, 5)), ("z", "y", "x"), affine_from((1, 1, 3)))
    frames = ImageSequence(
        np.zeros((2, 3, 4, 5)), ("t", "z", "y", "x"), affine_from((1, 1, 3)), times=np.array([0.0, 40.0])
    )
    viewer = ViewerModel()
    for visit in range(3):
        data, kwargs, _ = to_layer_data(volume, visit=visit, facts={"study": "sub-01"})
        layer = viewer.add_image(data, **kwargs)
        assert data.shape == (1, 3, 4, 5)
        assert layer.translate[0] == visit
        assert layer.axis_labels[0] == "visit"
        assert from_layer(layer).axes == ("z", "y", "x")
    assert viewer.dims.nsteps[0] == 3
    for seq in (volume, frames):
        data, kwargs, _ = to_layer_data(seq)
        viewer.add_image(data, **kwargs)
    assert [str(u) for u in viewer.layers.units] == ["second", "millimeter", "millimeter", "millimeter"]
    with pytest.raises(MedseqError, match="frames"):
        to_layer_data(frames, visit=0)


def test_colour_lazy_and_window() -> None:
    rgb = ImageSequence(np.zeros((3, 8, 9, 3), np.uint8), ("t", "y", "x", "c"), affine_from((1, 1, 1)), oriented=False)
    layer = layer_of(rgb)
    assert layer.rgb
    assert layer.data.shape == (3, 8, 9, 3)
    assert from_layer(layer).axes == ("t", "y", "x", "c")
    lazy = ImageSequence(da.ones((4, 8, 9), chunks=(1, 8, 9)) * 5, ("z", "y", "x"), np.eye(4))
    layer = layer_of(lazy)
    assert from_layer(layer).is_lazy
    assert layer.contrast_limits[1] > layer.contrast_limits[0]
    window = ImageSequence(
        np.zeros((4, 4)), ("y", "x"), np.eye(4), meta={"contrast_limits": [-160, 240], "colormap": "gray_r"}
    )
    layer = layer_of(window)
    assert layer.contrast_limits == [-160, 240]
    assert layer.colormap.name == "gray_r"


def test_contrast_ignores_outliers_and_nan() -> None:
    data = np.full((10, 100, 100), np.nan)
    data[5:] = np.linspace(0, 100, 50_000).reshape(5, 100, 100)
    data[9, 9, 9] = 1e9
    low, high = layer_of(ImageSequence(data, ("z", "y", "x"), np.eye(4))).contrast_limits
    assert 0 <= low < 2
    assert 98 < high <= 100
    blank = layer_of(ImageSequence(np.full((2, 2), np.nan), ("y", "x"), np.eye(4)))
    assert list(blank.contrast_limits) == [0, 1]


def test_layers_of_others_are_read_as_lps_millimetres() -> None:
    plain = Image(np.zeros((3, 4, 5)), scale=(3, 1, 2), translate=(10, 20, 30), units=["mm"] * 3)
    seq = from_layer(plain)
    np.testing.assert_allclose(seq.affine[:3, 3], (-30, -20, 10))
    assert seq.spacing == {"z": 3, "y": 1, "x": 2}
    assert seq.oriented
    micro = from_layer(Image(np.zeros((4, 5)), scale=(500, 500), units=["um", "um"]))
    assert micro.axes == ("y", "x")
    assert micro.spacing["x"] == pytest.approx(0.5)
    assert not from_layer(Labels(np.zeros((2, 3, 4, 5), int))).oriented
    with pytest.raises(MedseqError, match="Points"):
        from_layer(Points(np.zeros((1, 3)), name="Points"))
    with pytest.raises(MedseqError, match="5 axes"):
        from_layer(Image(np.zeros((2, 2, 2, 2, 2))))


def test_a_layer_whose_voxels_were_replaced_by_another_grid_is_not_given_the_old_affine() -> None:
    layer = layer_of(ImageSequence(np.zeros((3, 4, 5)), ("z", "y", "x"), affine_from((1, 1, 3))))
    layer.data = np.zeros((2, 4, 5))
    assert from_layer(layer).grid == (5, 4, 2)
