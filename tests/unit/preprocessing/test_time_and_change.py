"""Filters along time against scipy and numpy, baselines, differences of visits, and masks that follow an image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, signal
from skimage.exposure import match_histograms

import napari_medseq as ms
from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.preprocessing import (
    STEPS,
    Baseline,
    Difference,
    MotionCorrection,
    Register,
    Reorient,
    Resample,
    SelectSlices,
    TemporalFilter,
    follow,
    transforms_of,
)
from napari_medseq.preprocessing.pipeline import StepLike
from napari_medseq.registration import Transform
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.volumes.foreground import foreground
from tests.narrowing import some
from tests.unit.preprocessing.scans import mask, scan, series


def even(frames: int = 40, step: float = 0.5) -> ImageSequence:
    data = np.random.default_rng(0).normal(100, 10, (frames, 2, 5, 6))
    return ImageSequence(
        data,
        ("t", "z", "y", "x"),
        affine_from((1, 1, 3)),
        times=step * np.arange(frames, dtype=np.float64),
        name="even",
    )


def test_smoothing_even_frames_is_scipys_gaussian() -> None:
    found = ms.preprocess(even(), TemporalFilter(width_s=1.0)).data
    weights = ndimage.gaussian_filter1d(np.ones(40), 2, mode="constant", truncate=30)
    expected = ndimage.gaussian_filter1d(even().data, 2, axis=0, mode="constant", truncate=30)
    assert np.allclose(found, expected / weights[:, None, None, None], atol=1e-3)


def test_smoothing_uneven_frames_weighs_by_their_times() -> None:
    times = np.array([0.0, 0.1, 4.0, 4.2])
    found = ms.preprocess(series().replace(times=times), TemporalFilter(width_s=0.5)).data
    weight = np.exp(-0.5 * ((times[1] - times) / 0.5) ** 2)
    assert np.allclose(found[1], np.average(series().data, axis=0, weights=weight), atol=1e-2)


def test_the_median_looks_no_further_than_its_width() -> None:
    found = ms.preprocess(even(), TemporalFilter(method="median", width_s=1.0)).data
    expected = ndimage.median_filter(even().data, size=(5, 1, 1, 1))
    assert np.allclose(found[2:-2], expected[2:-2], atol=1e-4)
    assert np.allclose(found[0], np.median(even().data[:3], axis=0), atol=1e-4)


def test_detrending_is_that_of_scipy_and_keeps_the_mean() -> None:
    image = even().replace(data=even().data + 3.0 * np.arange(40)[:, None, None, None])
    found = ms.preprocess(image, TemporalFilter(method="detrend")).data
    expected = signal.detrend(image.data, axis=0) + image.data.mean(axis=0)
    assert np.allclose(found, expected, atol=1e-3)
    square = even().replace(data=np.broadcast_to((some(even().times) ** 2)[:, None, None, None], even().data.shape))
    assert np.allclose(
        ms.preprocess(square, TemporalFilter(method="detrend", order=2)).data, square.data.mean(), atol=1e-2
    )


@pytest.mark.parametrize(("low", "high"), [(None, 0.3), (0.2, None), (0.1, 0.4)])
def test_a_band_is_that_of_scipy(low: float | None, high: float | None) -> None:
    found = ms.preprocess(even(), TemporalFilter(method="band", order=2, low_hz=low, high_hz=high)).data
    kind = "lowpass" if low is None else "highpass" if high is None else "bandpass"
    at = [v for v in (low, high) if v is not None]
    b, a = signal.butter(2, at if len(at) > 1 else at[0], kind, fs=2)
    assert np.allclose(found, signal.filtfilt(b, a, even().data, axis=0), atol=0.02)


def test_time_filters_say_what_they_need() -> None:
    with pytest.raises(MedseqError, match="needs frames"):
        ms.preprocess(scan(), "temporal")
    with pytest.raises(MedseqError, match="not evenly spaced in time"):
        ms.preprocess(series(), TemporalFilter(method="band", low_hz=0.1))
    with pytest.raises(MedseqError, match="beyond what its frames"):
        ms.preprocess(even(), TemporalFilter(method="band", low_hz=1.5))
    with pytest.raises(MedseqError, match="more than"):
        ms.preprocess(even(6), TemporalFilter(method="band", low_hz=0.1))
    with pytest.raises(MedseqError, match="needs more"):
        ms.preprocess(series(), TemporalFilter(method="detrend", order=4))
    with pytest.raises(SettingsError, match="low_hz"):
        TemporalFilter(method="band")
    with pytest.raises(SettingsError, match="must be below"):
        TemporalFilter(method="band", low_hz=2, high_hz=1)


def test_the_baseline_is_the_mean_of_the_first_frames() -> None:
    data = series().data
    found = ms.preprocess(series(), Baseline(frames=2)).data
    assert np.allclose(found, data - data[:2].mean(axis=0), atol=1e-3)
    share = ms.preprocess(series(), Baseline(relative=True, floor=20)).data
    body = data[0] > 20
    assert np.allclose(share[:, body], 100 * (data[:, body] / data[0, body] - 1), rtol=1e-4, atol=1e-2)
    assert (share[:, ~body] == 0).all()
    with pytest.raises(MedseqError, match="leaves none"):
        ms.preprocess(series(), Baseline(frames=4))


def test_baseline_and_curves_agree() -> None:
    """The enhancement that `dynamics` reads from a region's curve is the mean of the subtracted frames in it."""
    from napari_medseq.dynamics import curve_measures, time_intensity

    curves = time_intensity(series(), mask())
    peak = float(curve_measures(curves)["peak"][0] - curve_measures(curves)["baseline"][0])
    rise = ms.preprocess(series(), "baseline").data[:, mask().data == 5].mean(axis=1)
    assert peak == pytest.approx(float(rise.max()), rel=1e-5)


# -- differences ------------------------------------------------------------------------------------------------------


def test_the_difference_of_visits_shows_what_changed_whatever_the_scale() -> None:
    earlier = scan().replace(data=2.5 * scan().data + 40, name="earlier")
    later = scan().data.copy()
    later[2:4, 8:10, 8:10] += 60
    found = ms.preprocess(scan().replace(data=later), "difference", reference=earlier)
    assert np.allclose(found.data[2:4, 8:10, 8:10], 60, atol=3)
    assert np.abs(found.data[4:]).max() < 3
    assert found.meta["difference_from"] == "earlier"
    plain = ms.preprocess(scan().replace(data=later), Difference(match="none"), reference=earlier)
    assert np.allclose(plain.data, later - earlier.data, atol=1e-3)
    assert STEPS["difference"].usual("CT") == Difference(match="none")


def test_matching_by_rank_is_that_of_scikit_image() -> None:
    rng = np.random.default_rng(0)
    body = np.hypot(*np.mgrid[-20:20, -20:20]) < 15
    one, other = body * rng.normal(200, 20, (4, 40, 40)), body * (100 + rng.gamma(3, 20, (4, 40, 40)))
    images = [ImageSequence(d, ("z", "y", "x"), affine_from((1, 1, 1))) for d in (one, other)]
    found = ms.preprocess(images[0], Difference(match="histogram"), reference=images[1]).data
    inside = foreground(one) & foreground(other)
    expected = one[inside] - match_histograms(other[inside], one[inside])
    # ours goes by thousandths of the ranks, so that single voxels at the ends differ
    assert np.percentile(np.abs(found[inside] - expected), 99.5) < 1.0


def test_matching_by_rank_leaves_the_air_around_the_body_dark() -> None:
    rng = np.random.default_rng(1)
    body = np.hypot(*np.mgrid[-20:20, -20:20]) < 15
    one = np.where(body, rng.normal(200, 10, (4, 40, 40)), 0.0)
    images = [ImageSequence(d, ("z", "y", "x"), affine_from((1, 1, 1))) for d in (one, 2.0 * one + 10)]
    found = ms.preprocess(images[0], Difference(match="histogram"), reference=images[1]).data
    assert np.abs(found).max() < 1  # one is the other on another scale: nothing changed, in the air neither


def test_another_grid_is_met_by_place_and_what_is_not_covered_is_nothing() -> None:
    ramp = scan().replace(data=np.add.outer(np.arange(6.0), np.add.outer(np.arange(20.0), np.arange(24.0))))
    fine = ms.preprocess(ramp, Resample(spacing=(2, 0.75, 0.5), antialias=False))
    found = ms.preprocess(ramp, Difference(match="none"), reference=fine).data
    assert np.abs(found[1:-1, 1:-1, 1:-1]).max() < 0.02  # of 47: float32 of ITK
    part = scan().replace(data=scan().data[:, :, :10])
    half = ms.preprocess(scan(), Difference(match="none"), reference=part).data
    assert np.abs(half[:, :, :10]).max() < 1e-3
    assert (half[:, :, 10:] == 0).all()
    assert ms.preprocess(series(), Difference(match="none"), reference=scan()).axes == ("t", "z", "y", "x")


def test_a_difference_needs_a_like_image_at_the_same_place() -> None:
    with pytest.raises(SettingsError, match="reference="):
        ms.preprocess(scan(), "difference")
    with pytest.raises(SettingsError, match="holds labels"):
        ms.preprocess(scan(), "difference", reference=mask())
    with pytest.raises(SettingsError, match="frames or colours"):
        ms.preprocess(scan(), "difference", reference=series())
    with pytest.raises(MedseqError, match="do not overlap"):
        ms.preprocess(scan(), "difference", reference=scan().replace(affine=affine_from((1, 1, 1), (900, 0, 0))))


# -- masks follow -----------------------------------------------------------------------------------------------------


def test_a_mask_follows_cuts_turns_and_choices() -> None:
    chain: list[StepLike] = [{"kind": "crop", "margin_mm": 2}, Reorient(codes="RAS"), SelectSlices(step=2), "zscore"]
    result = ms.preprocess(scan(), chain)
    labels = mask().replace(data=np.random.default_rng(0).integers(0, 4, mask().data.shape).astype(np.uint8))
    found = follow(labels, result)
    assert found.same_grid(result)
    voxels = np.stack(np.meshgrid(*[np.arange(n) for n in result.grid], indexing="ij"), -1).reshape(-1, 3)
    source = np.linalg.inv(labels.affine) @ result.affine @ np.c_[voxels, np.ones(len(voxels))].T
    x, y, z = np.round(source[:3]).astype(int)
    assert np.array_equal(found.data[voxels[:, 2], voxels[:, 1], voxels[:, 0]], labels.data[z, y, x])
    assert transforms_of(result) == []


@pytest.mark.parametrize("resample", [True, False])
def test_a_mask_follows_a_registration(resample: bool) -> None:
    from tests.unit.registration.phantom import motion, phantom, seen_through

    fixed = phantom()
    truth = fixed.labels_like(
        (fixed.data > np.percentile(fixed.data, 80)).astype(np.uint8), name="m", label_names={1: "b"}
    )
    move = motion((0, 0, 0), (6, -5, 4))
    moving, labels = seen_through(fixed, move), seen_through(truth.replace(kind="image"), move, noise=0, contrast=1)
    labels = truth.like((labels.data > 0.5).astype(np.uint8), affine=labels.affine)
    result = ms.preprocess(moving, Register(transform="translation", resample=resample), reference=fixed)
    (found,) = transforms_of(result)
    assert isinstance(found[0], Transform)
    assert np.allclose(found[0].linear[:3, 3], (6, -5, 4), atol=0.6)
    there = follow(labels, result)
    assert there.same_grid(result)
    if resample:
        both = (
            2
            * np.count_nonzero(there.data & truth.data)
            / (np.count_nonzero(there.data) + np.count_nonzero(truth.data))
        )
        assert both > 0.85
    else:
        assert np.array_equal(there.data, labels.data)


def test_masks_of_frames_follow_a_motion_correction() -> None:
    from tests.unit.registration.phantom import motion, phantom, seen_through

    fixed = phantom()
    moved = [fixed, seen_through(fixed, motion((0, 0, 0), (5, 0, 0)))]
    cine = fixed.replace(data=np.stack([m.data for m in moved]), axes=("t", "z", "y", "x"), times=np.array([0.0, 1.0]))
    result = ms.preprocess(cine, MotionCorrection(transform="translation", frame=0))
    (row,) = transforms_of(result)
    assert row[0] is None
    assert row[1] is not None
    assert np.allclose(row[1].linear[:3, 3], (5, 0, 0), atol=0.6)
    bright = (cine.data > np.percentile(fixed.data, 80)).astype(np.uint8)
    labels = cine.labels_like(bright, name="m", label_names={1: "b"})
    there = follow(labels, result)
    before, after = (np.count_nonzero(d[0] & d[1]) / np.count_nonzero(d[0] | d[1]) for d in (bright, there.data))
    assert after > before + 0.1
    with pytest.raises(SettingsError, match="a mask for each frame"):
        follow(labels.frame(0), result)


def test_a_broken_record_is_said() -> None:
    with pytest.raises(MedseqError, match="cannot be read"):
        transforms_of(scan().replace(meta={"transforms": 3}))
    with pytest.raises(MedseqError, match="a transform of scan"):
        transforms_of(scan().replace(meta={"transforms": [[{"kind": "rigid"}]]}))
