"""Selection of slices against numpy and scikit-image, reorientation against nibabel, regions by their places."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import shannon_entropy

import napari_medseq as ms
from napari_medseq import geometry
from napari_medseq.errors import MedseqError, MedseqWarning, SettingsError
from napari_medseq.preprocessing import RegionOfInterest, Reorient, Resample, SelectSlices, slice_entropy
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.volumes.part import part_of
from tests.unit.preprocessing.scans import flat, mask, scan, series


def deep(slices: int = 13) -> ImageSequence:
    """A stack of noise of which some slices hold more grey levels than others."""
    rng = np.random.default_rng(0)
    data = np.stack([rng.integers(0, 2 + 17 * ((5 * k) % slices), (16, 18)) for k in range(slices)]).astype(np.float32)
    return ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 2), (0, 0, 10)), name="deep")


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 5))
def test_every_nth_slice_lies_where_it_lay(step: int, start: int) -> None:
    found = ms.preprocess(deep(), SelectSlices(step=step, start=start))
    assert np.array_equal(found.data, deep().data[start::step])
    for k in range(found.size("z")):
        assert (
            np.allclose(found.affine @ [0, 0, k, 1], deep().affine @ [0, 0, start + k * step, 1])
            or found.size("z") == 1
        )


def test_evenly_spaced_slices_take_the_first_and_the_last() -> None:
    found = ms.preprocess(deep(), SelectSlices(choose="even", count=5))
    assert np.array_equal(found.data, deep().data[[0, 3, 6, 9, 12]])
    assert found.spacing["z"] == 6
    with pytest.warns(MedseqWarning, match="not evenly spaced"):
        uneven = ms.preprocess(deep(), SelectSlices(choose="even", count=6))
    index = np.round(np.linspace(0, 12, 6)).astype(int)
    assert np.array_equal(uneven.data, deep().data[index])
    assert uneven.meta["slice_positions_mm"] == [2.0 * k for k in index]
    assert ms.preprocess(deep(), SelectSlices(choose="even", count=50)).size("z") == 13
    assert np.array_equal(ms.preprocess(deep(), SelectSlices(choose="even", count=1)).data, deep().data[6:7])


def test_the_most_informative_slices_are_those_of_the_largest_entropy() -> None:
    low, high = np.percentile(deep().data, (0.5, 99.5))
    levels = np.clip((deep().data - low) / (high - low) * 256, 0, 255).astype(np.uint8)
    expected = np.array([shannon_entropy(plane) for plane in levels])
    assert np.allclose(slice_entropy(deep(), "z"), expected)
    with pytest.warns(MedseqWarning, match="not evenly"):
        found = ms.preprocess(deep(), SelectSlices(choose="informative", count=4))
    assert np.array_equal(found.data, deep().data[np.sort(np.argsort(expected)[-4:])])


def test_frames_are_chosen_with_their_times() -> None:
    found = ms.preprocess(series(5), SelectSlices(axis="frames", step=2))
    assert np.array_equal(found.data, series(5).data[::2])
    assert found.times is not None
    times = series(5).times
    assert times is not None
    assert np.array_equal(found.times, times[::2])
    few = ms.preprocess(series(6), SelectSlices(axis="frames", choose="even", count=4))
    assert np.array_equal(few.data, series(6).data[[0, 2, 3, 5]])
    assert slice_entropy(series(), "t").shape == (4,)
    with pytest.raises(MedseqError, match="no frames"):
        ms.preprocess(scan(), SelectSlices(axis="frames"))
    with pytest.raises(MedseqError, match="none is left"):
        ms.preprocess(scan(), SelectSlices(start=6))


@settings(max_examples=40, deadline=None)
@given(st.permutations("RAS"), st.tuples(*[st.booleans()] * 3), st.floats(-20, 20))
def test_turning_is_that_of_nibabel(order: list[str], flips: tuple[bool, bool, bool], tilt: float) -> None:
    opposite = {"R": "L", "A": "P", "S": "I"}
    codes = "".join(opposite[c] if f else c for c, f in zip(order, flips, strict=True))
    angle = np.deg2rad(tilt)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    image = scan().replace(affine=turn @ scan().affine)
    found = ms.preprocess(image, Reorient(codes=codes))
    theirs = nib.Nifti1Image(image.data.transpose(2, 1, 0), image.affine)
    change = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(codes))
    )
    theirs = theirs.as_reoriented(change)
    assert np.array_equal(found.data, theirs.get_fdata().transpose(2, 1, 0).astype(np.float32))
    assert np.allclose(found.affine, theirs.affine)
    assert found.spacing[found.slice_axis] == pytest.approx(4)
    back = ms.preprocess(found, Reorient(codes="LPS"))
    assert np.array_equal(back.data, image.data)


def test_turning_keeps_frames_and_laziness_and_refuses_what_has_no_orientation() -> None:
    import dask.array as da

    lazy = series().replace(data=da.from_array(series().data))
    found = ms.preprocess(lazy, Reorient(codes="PSR"))
    assert found.is_lazy
    assert found.axes == ("t", "z", "y", "x")
    assert np.array_equal(found.frame(1).compute().data, ms.preprocess(series().frame(1), Reorient(codes="PSR")).data)
    with pytest.raises(MedseqError, match="cannot be turned"):
        ms.preprocess(scan(oriented=False), "reorient")
    with pytest.raises(MedseqError, match="edge on"):
        ms.preprocess(flat(scan()), Reorient(codes="PSR"))
    assert ms.preprocess(flat(scan()), Reorient(codes="RAS")).data[0, 0] == flat(scan()).data[-1, -1]
    for bad in ("LP", "LLS", "XYZ"):
        with pytest.raises(SettingsError, match=r"orientation|twice"):
            Reorient(codes=bad)


# -- regions ----------------------------------------------------------------------------------------------------------


def test_a_region_lies_around_the_labels_on_any_grid() -> None:
    found = ms.preprocess(scan(), RegionOfInterest(margin_mm=0), reference=mask())
    assert np.array_equal(found.data, scan().data[2:4, 8:12, 8:14])
    wider = ms.preprocess(scan(), RegionOfInterest(margin_mm=3), reference=mask())
    assert np.array_equal(wider.data, scan().data[1:5, 6:14, 5:17])
    finer = ms.preprocess(scan(), {"kind": "resample", "spacing": (2, 0.75, 0.5)})
    fine = ms.preprocess(finer, RegionOfInterest(margin_mm=0), reference=mask())
    assert fine.data.shape == (4, 8, 12)
    centre = [(geometry.apply_points(s.affine, [(np.array(s.grid) - 1) / 2])[0]) for s in (fine, found)]
    assert np.allclose(centre[0], centre[1])


def test_a_region_in_millimetres_is_the_same_place_in_every_scan() -> None:
    place = geometry.apply_points(scan().affine, [[8, 8, 2], [13, 11, 3]])
    box = [tuple(sorted(float(v) for v in place[:, k])) for k in range(3)]
    step = RegionOfInterest(box_mm=box, margin_mm=0)
    assert np.array_equal(ms.preprocess(scan(), step).data, scan().data[2:4, 8:12, 8:14])
    turned = ms.preprocess(scan(), Reorient(codes="RAS"))
    again = ms.preprocess(ms.preprocess(turned, step), Reorient(codes="LPS"))
    assert np.array_equal(again.data, scan().data[2:4, 8:12, 8:14])
    assert ms.preprocess(series(), step).data.shape == (4, 2, 4, 6)
    assert ms.preprocess(mask(), step).data.min() == 5


def test_a_region_that_is_not_there_is_said() -> None:
    with pytest.raises(SettingsError, match="box_mm"):
        ms.preprocess(scan(), "region")
    with pytest.raises(SettingsError, match="must be ascending"):
        RegionOfInterest(box_mm=((1, 0), (0, 1), (0, 1)))
    with pytest.raises(MedseqError, match="outside of the image"):
        ms.preprocess(scan(), RegionOfInterest(box_mm=((900, 950), (0, 1), (0, 1))))
    with pytest.raises(MedseqError, match="no label"):
        ms.preprocess(scan(), "region", reference=mask().replace(data=mask().data * 0))


def test_the_box_around_labels_is_the_same_whatever_the_grid_rounds_to() -> None:
    rng = np.random.default_rng(5)
    voxels = np.zeros((9, 10, 11), np.uint8)
    voxels[2:5, 3:7, 4:6] = 1
    for _ in range(40):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.4, 3, 3)
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = turn, rng.normal(0, 100, 3)
        labels = ImageSequence(voxels, ("z", "y", "x"), affine, kind="labels")
        image = labels.replace(data=voxels.astype(np.float32), kind="image")
        cut = ms.preprocess(image, RegionOfInterest(margin_mm=0), reference=labels)
        assert cut.data.shape == (3, 4, 2)


def test_true_positions_of_slices_stay_those_of_the_slices_that_are_left() -> None:
    places = [0.0, 2.0, 4.1, 6.0, 9.0]
    seq = ImageSequence(
        np.zeros((5, 4, 4)), ("z", "y", "x"), affine_from((1, 1, 2)), meta={"slice_positions_mm": places}
    )
    assert part_of(seq, {"z": slice(1, 5, 2)}).meta["slice_positions_mm"] == [0.0, 4.0]
    assert part_of(seq, {"x": slice(1, 3)}).meta["slice_positions_mm"] == places
    assert seq.meta["slice_positions_mm"] == [0.0, 2.0, 4.1, 6.0, 9.0]
    assert "slice_positions_mm" not in ms.preprocess(seq, {"kind": "resample", "spacing": 1.0}).meta


def test_a_value_outside_that_the_voxels_cannot_hold_is_refused() -> None:
    seq = ImageSequence(np.full((5, 4, 4), 7, np.uint8), ("z", "y", "x"), affine_from((1, 1, 2)))
    far = seq.replace(affine=affine_from((1, 1, 2), (-2, 0, 0)))
    with pytest.raises(SettingsError, match="from 0 to 255"):
        ms.preprocess(seq, Resample(interpolation="nearest", fill=-1000), reference=far)  # it was stored as 24
    assert 9 in ms.preprocess(seq, Resample(interpolation="nearest", fill=9), reference=far).data


@pytest.mark.parametrize("how", ["linear", "bspline"])
def test_unknown_voxels_do_not_spread_when_an_image_is_resampled(how: Any) -> None:
    whole = np.random.default_rng(0).normal(100, 10, (12, 24, 24)).astype(np.float32)
    holed = whole.copy()
    holed[:, :, :6] = np.nan
    grid = Resample(spacing=(4, 2, 2), interpolation=how)  # three times coarser along z, twice in the plane

    def resampled(data: np.ndarray) -> np.ndarray:
        image = ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 4 / 3)))
        return np.asarray(ms.preprocess(image, grid).data)

    found, without = resampled(holed), resampled(np.where(np.isnan(holed), np.nanmin(holed), holed))
    assert np.array_equal(np.isnan(found), np.broadcast_to(np.arange(12) < 3, found.shape))
    assert np.allclose(found[:, :, 3:], without[:, :, 3:], atol=1e-3)
