"""Working volumes: any orientation comes back to where it was; units are those of the formula; channels meet on one grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import napari_medseq as ms
from napari_medseq.errors import MedseqError
from napari_medseq.geometry import to_codes
from napari_medseq.inference.inputs.working import FARTHEST, Scheme, Working, WorkingGrid, grey_channels, working_volume
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.turning import turned

SIGNS = st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)
ORDER = st.permutations([0, 1, 2])


def image(
    shape: tuple[int, int, int], spacing: float | tuple[float, float, float] = 1.0, seed: int = 0
) -> ImageSequence:
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return ImageSequence(values, ("z", "y", "x"), np.diag([*np.broadcast_to(spacing, 3), 1.0]))


@given(signs=SIGNS, order=ORDER, axis=st.sampled_from(["x", "y", "z"]))
@settings(deadline=None, max_examples=30)
def test_what_is_drawn_on_the_working_volume_lies_at_the_same_place_in_the_image(
    signs: tuple[float, ...], order: list[int], axis: str
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = (np.diag([*signs]) * (1.0, 2.0, 3.0))[:, order]
    values = np.arange(4 * 5 * 6, dtype=np.int64).reshape(4, 5, 6)
    seq = ImageSequence(values, ("z", "y", "x"), affine)
    grid = WorkingGrid.of(seq, Working(axis=axis))
    there = grid.read_labels(seq)
    assert np.array_equal(grid.back(there, labels=True), values)
    # the last voxel of every working axis lies farthest to the right, front and top
    corner = np.unravel_index(int(there[-1, -1, -1]), values.shape)[::-1]
    place = affine[:3, :3] @ np.array(corner)
    everywhere = [affine[:3, :3] @ np.array([x, y, z]) for x in (0, 5) for y in (0, 4) for z in (0, 3)]
    assert np.allclose(place, np.max(everywhere, axis=0))


def test_resampled_labels_keep_their_volume_and_place() -> None:
    truth = np.zeros((12, 20, 20), np.uint8)
    truth[3:9, 4:14, 4:16] = 2
    seq = ImageSequence(truth, ("z", "y", "x"), np.diag([1.0, 1.0, 2.0, 1.0]))
    grid = WorkingGrid.of(seq, Working(axis="z", spacing_mm=(1.0, 2.0, 2.0)))
    assert grid.size == (10, 10, 24)
    back = grid.back(grid.read_labels(seq), labels=True)
    assert ((back == 2) & (truth == 2)).sum() * 2 / ((back == 2).sum() + (truth == 2).sum()) > 0.95


def test_robust_units_are_those_of_the_foreground() -> None:
    values = np.random.default_rng(0).gamma(2.0, 50.0, size=(8, 9, 10)).astype(np.float32)
    above = values[values > values.mean()]
    low, middle, high = np.percentile(above, (25, 50, 75))
    expected = np.clip((values - middle) / ((high - low) / 1.349), -6, 12)
    np.testing.assert_allclose(Scheme().of(values), expected, rtol=1e-4, atol=1e-5)


def test_fixed_units_and_values_that_are_no_numbers() -> None:
    values = np.array([[-1000.0, 40.0, np.nan, np.inf]], np.float32)
    found = Scheme(kind="fixed", centre=40.0, scale=100.0, low=-2.0, high=2.0).of(values)
    np.testing.assert_allclose(found, [[-2.0, 0.0, -2.0, 2.0]])
    assert np.isfinite(Scheme().of(np.full((2, 2), 7.0, np.float32))).all()
    with pytest.raises(MedseqError, match="finite"):
        Scheme().of(np.full((2, 2), np.nan))


def test_channels_of_other_grids_are_brought_to_the_first_and_missing_ones_are_zero() -> None:
    first, second = image((6, 8, 8)), image((3, 4, 4), 2.0, seed=1)
    working = Working(schemes=(Scheme(), Scheme(), Scheme(kind="fixed")))
    volume, grid = working_volume({"a": first, "c": second}, ["a", "b", "c"], working)
    assert volume.shape == (3, 6, 8, 8)
    assert not volume[1].any()
    assert volume[2].any()
    assert grid.image is first


def test_only_the_middle_is_looked_at_where_a_focus_is_set() -> None:
    whole = image((5, 20, 30), (1.0, 1.0, 2.0))  # spacing of x, y, z
    working = Working(axis="z", focus=(None, 8, 10))
    grid = WorkingGrid.of(whole, working)
    there = grid.read(whole, Scheme())
    assert there.shape == (5, 8, 10)
    inner = np.asarray(whole.data)[:, 6:14, 10:20]
    np.testing.assert_allclose(there, Scheme().of(inner), atol=1e-4)  # units are those of the middle
    marked = (inner > 0).astype(np.uint8)
    back = grid.back(marked, labels=True)
    assert back.shape == whole.data.shape
    assert np.array_equal(back[:, 6:14, 10:20], marked)
    assert back.sum() == marked.sum()  # nothing outside
    small = image((5, 6, 30))
    assert WorkingGrid.of(small, working).size == (10, 6, 5)  # an image that is smaller is taken as it is


def test_the_channel_of_positions_is_the_distance_from_the_middle() -> None:
    volume, _ = working_volume({"image": image((5, 9, 11))}, ["image"], Working(position=(2.0, 4.0, 1.0)))
    assert volume.shape == (2, 5, 9, 11)
    assert volume[1, 2, 4, 5] == 0
    np.testing.assert_allclose([volume[1, 4, 4, 5], volume[1, 2, 8, 5], volume[1, 2, 4, 6]], 1.0)
    assert volume[1, 3, 4, 6] == pytest.approx((0.25 + 1) ** 0.5)
    assert volume[1].max() == FARTHEST


def test_frames_keep_their_order_and_colours_are_channels() -> None:
    data = np.random.default_rng(0).integers(0, 255, (5, 4, 6, 3)).astype(np.uint8)
    video = ImageSequence(data, ("t", "y", "x", "c"), np.eye(4), times=np.arange(5.0))
    channels = grey_channels(video)
    assert list(channels) == ["red", "green", "blue"]
    grid = WorkingGrid.of(channels["red"], Working(axis="t"))
    there = grid.read_labels(channels["red"])
    assert there.shape == (5, 4, 6)
    assert np.array_equal(grid.back(there, labels=True), data[..., 0])
    with pytest.raises(MedseqError, match="choose a frame"):
        WorkingGrid.of(channels["red"], Working(axis="z"))


@given(signs=SIGNS, order=ORDER)
@settings(deadline=None, max_examples=20)
def test_frames_stay_planes_whichever_way_their_plane_lies(signs: tuple[float, ...], order: list[int]) -> None:
    affine = np.eye(4)
    affine[:3, :3] = (np.diag([*signs]) * (1.0, 2.0, 3.0))[:, order]
    values = np.arange(2 * 5 * 6, dtype=np.int64).reshape(2, 5, 6)
    seq = ImageSequence(values, ("t", "y", "x"), affine, times=np.arange(2.0))
    volume, grid = working_volume({"image": seq}, ["image"], Working(axis="t"))
    assert volume.shape[1] == 2
    assert sorted(volume.shape[2:]) == [5, 6]
    there = grid.read_labels(seq)
    assert np.array_equal(grid.back(there, labels=True), values)
    # rows and columns run to the right, front and top, as in volumes
    row, column = (affine[:3, :3] @ at for at in _steps_of(there[0], values[0]))
    assert (row + column > 0).sum() == 2
    assert int(np.abs(column).argmax()) < int(np.abs(row).argmax())


def _steps_of(plane: NDArray[np.int64], own: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """From row to row and from column to column of a working plane, in voxels (x, y, z) of its image."""
    places = [np.argwhere(own == value)[0] for value in (plane[0, 0], plane[1, 0], plane[0, 1])]
    return [np.array([*(there - places[0])[::-1], 0]) for there in places[1:]]


def test_a_picture_is_one_step() -> None:
    flat = ImageSequence(np.random.default_rng(0).normal(size=(5, 7)), ("y", "x"), np.eye(4))
    volume, grid = working_volume({"image": flat}, ["image"], Working())
    assert volume.shape == (1, 1, 5, 7)
    assert grid.back(volume[0], labels=False).shape == (5, 7)
    assert ms.ImageSequence is ImageSequence


def stack(codes: tuple[str, str, str]) -> ImageSequence:
    """Slices of 8 mm in house orientation whose columns, rows and slices run towards these directions of the body."""
    world = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine = np.eye(4)
    affine[:3, :3] = 0
    for k, (code, step) in enumerate(zip(codes, (1.4, 1.5, 8.0), strict=True)):
        axis, sign = world[code]
        affine[axis, k] = sign * step
    seq = ImageSequence(np.arange(3 * 5 * 4).reshape(3, 5, 4), ("z", "y", "x"), affine)
    return turned(seq, to_codes(affine))


@pytest.mark.parametrize("codes", [("L", "P", "S"), ("P", "I", "L"), ("L", "I", "A")])
def test_own_slices_are_planes_in_whichever_direction_they_lie(codes: tuple[str, str, str]) -> None:
    seq = stack(codes)
    grid = WorkingGrid.of(seq, Working(own_slices=True))
    # as they would be seen without orientation: the slices in their order, rows and columns as RAS+ of an axial image has them
    expected = np.arange(3 * 5 * 4).reshape(3, 5, 4)[:, ::-1, ::-1]
    assert grid.size == (4, 5, 3)
    assert np.array_equal(grid.read_labels(seq), expected)
    assert np.array_equal(grid.back(expected, labels=True), seq.data)
    assert np.allclose(np.linalg.norm(grid.affine[:3, :3], axis=0), (1.4, 1.5, 8.0))


def test_padding_is_left_out_of_a_working_volume_and_comes_back_empty() -> None:
    seq = image((4, 9, 8))
    working = Working(trimmed=True, focus=(None, 6, 4), spacing_mm=(None, 1.0, 1.0), schemes=(Scheme(),))
    expected, grid = working_volume({"image": seq}, ["image"], working)
    affine = seq.affine.copy()
    affine[:3, 3] -= (2, 0, 1)
    for value in (0.0, -1024.0, np.nan):
        data = np.pad(np.asarray(seq.data), ((1, 0), (0, 7), (2, 3)), constant_values=value)
        found, wider = working_volume({"image": seq.replace(data=data, affine=affine)}, ["image"], working)
        assert np.array_equal(found, expected)
        ones = np.ones(expected.shape[1:], np.int64)
        back = wider.back(ones, labels=True)
        assert back.shape == data.shape
        assert np.array_equal(back[1:, :9, 2:10], grid.back(ones, labels=True))
        assert back.sum() == grid.back(ones, labels=True).sum()
    untrimmed, _ = working_volume(
        {"image": seq.replace(data=data, affine=affine)}, ["image"], Working(focus=(None, 6, 4))
    )
    assert not np.array_equal(untrimmed, expected)


def test_slices_much_thinner_than_those_learned_from_are_averaged_and_labels_come_back() -> None:
    values = np.random.default_rng(0).normal(0, 1, (24, 10, 12)).astype(np.float32)
    image = ImageSequence(values, ("z", "y", "x"), np.diag([1.0, 1.0, 2.0, 1.0]))
    working = Working(spacing_mm=(None, 1.0, 1.0), step_mm=8.0)
    volume, grid = working_volume({"image": image}, ["image"], working)
    assert (volume.shape, grid.averaged) == ((1, 6, 10, 12), True)
    assert volume.std() < 0.7 * working_volume({"image": image}, ["image"], Working())[0].std()
    steps = np.zeros(volume.shape[1:], np.uint8)
    steps[2] = 1
    assert set(np.flatnonzero(grid.back(steps, labels=True).any((1, 2))).tolist()) == {8, 9, 10, 11}
    for same in (image.replace(oriented=False), image.replace(affine=np.diag([1.0, 1.0, 5.5, 1.0]))):
        assert not WorkingGrid.of(same, working).averaged
        assert WorkingGrid.of(same, working).size[2] == 24
