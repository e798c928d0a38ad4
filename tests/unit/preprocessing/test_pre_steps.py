"""Each step against an oracle or a formula; 2D, 3D and t; labels, NaN, infinities and constant images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_medseq as ms
from napari_medseq import geometry
from napari_medseq.errors import MedseqError, MedseqWarning, OperationCancelled, SettingsError
from napari_medseq.preprocessing import N4, PRESETS, Crop, Percentile, Register, Resample, Window, ZScore
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.volumes.foreground import foreground
from tests.unit.preprocessing.scans import drifting

AFFINE = affine_from((1, 1.5, 4), (20, -30, 40))
SHAPE = (6, 20, 24)


def scan(seed: int = 0, **more: Any) -> ImageSequence:
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    body = (x**2 + y**2 < 0.6) & (abs(z) < 2)
    data = body * (100 + rng.normal(0, 10, SHAPE)) + rng.normal(0, 1, SHAPE)
    return ImageSequence(np.abs(data).astype(np.float32), ("z", "y", "x"), AFFINE, name="scan", **more)


def labels() -> ImageSequence:
    data = np.zeros(SHAPE, np.uint8)
    data[2:4, 8:12, 8:14] = 5
    return scan().labels_like(data, name="mask", label_names={5: "lesion"})


def series() -> ImageSequence:
    data = np.stack([scan().data, 2 * scan(1).data])
    return ImageSequence(data, ("t", "z", "y", "x"), AFFINE, times=np.array([0, 3.5]), name="series")


# -- z-score ----------------------------------------------------------------------------------------------------------


def test_zscore_has_mean_0_and_deviation_1_inside() -> None:
    image = scan()
    inside = foreground(image.data)
    scores = ms.preprocess(image, "zscore").data
    assert scores.dtype == np.float32
    assert scores[inside].mean() == pytest.approx(0, abs=1e-5)
    assert scores[inside].std() == pytest.approx(1, abs=1e-5)
    whole = ZScore(inside="all").apply(image).data
    assert np.allclose(whole, (image.data - image.data.mean()) / image.data.std(), atol=1e-5)
    assert abs(ZScore(clip=1.5).apply(image).data).max() == pytest.approx(1.5)


def test_zscore_of_frames_is_one_for_all_unless_asked() -> None:
    image = series()
    together = ZScore(inside="all").apply(image).data
    assert np.allclose(together, (image.data - image.data.mean()) / image.data.std(), atol=1e-4)
    each = ZScore(inside="all", per_frame=True).apply(image).data
    assert np.allclose(each.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    assert np.allclose(each.std(axis=(1, 2, 3)), 1, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 1000), st.floats(-5000, 5000))
def test_zscore_forgets_scale_and_offset(scale: float, offset: float) -> None:
    image = scan()
    other = image.replace(data=image.data.astype(np.float64) * scale + offset)
    assert np.allclose(ZScore(inside="all").apply(image).data, ZScore(inside="all").apply(other).data, atol=2e-3)


# -- windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_preset_maps_its_edges_to_0_and_1(preset: str) -> None:
    level, width = PRESETS[preset]
    values = np.array([[level - width, level - width / 2, level, level + width / 2, level + 2 * width]])
    image = ImageSequence(values, ("y", "x"), AFFINE, modality="CT")
    assert np.allclose(ms.preprocess(image, f"window:{preset}").data, [[0, 0, 0.5, 1, 1]], atol=1e-6)
    kept = Window(preset=preset, rescale=False).apply(image)
    assert kept.data.min() == level - width / 2
    assert kept.meta["contrast_limits"] == [level - width / 2, level + width / 2]


def test_hounsfield_presets_are_for_ct() -> None:
    with pytest.raises(MedseqError, match="is MR; the window 'brain'"):
        ms.preprocess(scan(modality="MR"), "window:brain")
    assert Window(level=50, width=100).apply(scan(modality="MR")).data.max() == 1
    assert ms.preprocess(scan(), "window:brain").data.max() == 1  # unknown modality: taken as asked


def test_percentiles_agree_with_numpy() -> None:
    image = series()
    low, high = np.percentile(image.data, (2, 98))
    found = Percentile(lower=2, upper=98, to=(-1, 3)).apply(image)
    assert np.allclose(found.data, np.clip((image.data - low) / (high - low), 0, 1) * 4 - 1, atol=1e-5)
    clipped = Percentile(lower=2, upper=98, to=None).apply(image).data
    assert np.allclose(clipped, np.clip(image.data, low, high), atol=1e-4)


# -- N4 ---------------------------------------------------------------------------------------------------------------


def test_n4_takes_away_a_known_drift_and_keeps_the_brightness() -> None:
    image, drift, inside = drifting()
    found = N4(shrink=2).apply(image).data

    def unevenness(data: np.ndarray) -> float:
        ratio = data[inside] / (image.data / drift)[inside]
        return float(ratio.std() / ratio.mean())

    assert unevenness(found) < 0.35 * unevenness(image.data)
    assert found[inside].mean() == pytest.approx(image.data[inside].mean(), rel=0.03)
    assert np.array_equal(found, N4(shrink=2).apply(image).data)  # repeats bit for bit


def test_n4_works_on_a_slice_and_on_frames() -> None:
    flat = scan().like(scan().data[2], axes=("y", "x"))
    quick = N4(shrink=1, iterations=(3,))
    assert quick.apply(flat).axes == ("y", "x")
    seen: list[float] = []
    frames = quick.apply(series(), progress=lambda done, total, _: seen.append(done / total))
    assert frames.axes == ("t", "z", "y", "x")
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert seen[-1] == 1
    assert np.allclose(frames.data[0], quick.apply(series().frame(0)).data)


def test_n4_stops_when_asked() -> None:
    calls: list[int] = []

    def stop() -> bool:
        calls.append(1)
        return len(calls) > 2

    with pytest.raises(OperationCancelled):
        N4(shrink=1, iterations=(50, 50)).apply(scan(), cancelled=stop)
    assert len(calls) < 6


def test_n4_refuses_an_image_below_zero() -> None:
    with pytest.raises(MedseqError, match="logarithms"):
        N4().apply(scan().replace(data=scan().data - 500))


# -- resampling -------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.floats(0.5, 6)] * 3))
def test_a_new_spacing_keeps_the_box_in_place(spacing: tuple[float, float, float]) -> None:
    image = scan()
    found = Resample(spacing=spacing, antialias=False).apply(image)
    assert [found.spacing[a] for a in "zyx"] == pytest.approx(spacing)

    def box(seq: ImageSequence) -> np.ndarray:
        size = np.array(seq.grid)
        return geometry.apply_points(seq.affine, np.array([-0.5 * np.ones(3), size - 0.5]))

    assert np.abs(box(found) - box(image)).max() <= max(spacing) / 4 + 1e-6
    assert np.allclose(box(found).mean(axis=0), box(image).mean(axis=0))


def test_a_new_spacing_keeps_a_ramp_where_it_is() -> None:
    z, y, x = np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij")
    image = scan().replace(data=(x * 1.0 + y * 1.5 + z * 4.0).astype(np.float32))
    found = Resample(spacing=(2, 1, 0.5), antialias=False).apply(image)
    zz, yy, xx = np.meshgrid(*[np.arange(n) for n in found.data.shape], indexing="ij")
    voxels = np.stack([xx, yy, zz], -1).reshape(-1, 3)
    back = geometry.apply_points(np.linalg.inv(image.affine) @ found.affine, voxels).reshape(*found.data.shape, 3)
    inner = ((back >= 0) & (back <= np.array(image.grid) - 1)).all(axis=-1)
    assert np.allclose(found.data[inner], (back * (1, 1.5, 4)).sum(-1)[inner], atol=1e-3)


def test_coarser_voxels_average_instead_of_picking() -> None:
    noise = np.random.default_rng(0).normal(size=(8, 40, 40))
    image = ImageSequence(noise, ("z", "y", "x"), affine_from((1, 1, 1)))
    smooth, raw = (Resample(spacing=4, antialias=a).apply(image).data for a in (True, False))
    assert smooth.std() < 0.5 * raw.std()


def test_zero_keeps_an_axis_and_a_slice_stays_a_slice() -> None:
    assert Resample(spacing=(0, 3, 3)).apply(scan()).spacing["z"] == 4
    flat = scan().like(scan().data[2], axes=("y", "x"))
    assert Resample(spacing=3).apply(flat).axes == ("y", "x")


def test_resampling_onto_a_reference_and_back() -> None:
    image, finer = scan(), Resample(spacing=(1, 1, 1)).apply(scan())
    onto = ms.preprocess(labels(), "resample", reference=finer)
    assert onto.same_grid(finer)
    assert onto.kind == "labels"
    assert set(np.unique(onto.data)) == {0, 5}
    assert onto.meta["steps_reference"] == "scan"
    back = ms.preprocess(onto, "resample", reference=image)
    assert np.array_equal(back.data, labels().data)
    smooth = Resample(spacing=1, interpolation="label").apply(labels())
    assert set(np.unique(smooth.data)) == {0, 5}
    assert Resample(spacing=1, interpolation="bspline").apply(labels()).data.dtype == np.uint8


def test_resampling_asks_for_what_it_needs() -> None:
    with pytest.raises(SettingsError, match=r"spacing=.*reference="):
        ms.preprocess(scan(), "resample")
    with pytest.raises(SettingsError, match="too large"):
        Resample(spacing=0.002).apply(scan())


# -- crop and register ------------------------------------------------------------------------------------------------


def test_crop_keeps_voxels_and_their_places() -> None:
    image = scan()
    found = Crop(margin_mm=2).apply(image)
    assert found.data.size < image.data.size
    offset = np.round(
        geometry.apply_points(np.asarray(np.linalg.inv(image.affine), np.float64), found.affine[:3, 3][None])[0]
    ).astype(int)
    x, y, z = offset
    nz, ny, nx = found.data.shape
    assert np.array_equal(found.data, image.data[z : z + nz, y : y + ny, x : x + nx])
    mask = Crop(margin_mm=0).apply(labels())
    assert mask.data.shape == (2, 4, 6)
    assert (mask.data == 5).all()
    assert Crop().apply(labels(), reference=image).same_grid(Crop().apply(image))
    empty = labels().like(np.zeros(SHAPE, np.uint8))
    assert Crop().apply(empty) is empty
    assert Crop().apply(series()).axes == ("t", "z", "y", "x")


def test_registration_as_a_step_asks_for_a_reference() -> None:
    with pytest.raises(SettingsError, match="reference="):
        ms.preprocess(scan(), "register")


def test_registration_as_a_step_moves_and_remembers() -> None:
    from tests.unit.registration.phantom import motion, phantom, seen_through

    fixed = phantom()
    moving = seen_through(fixed, motion((0, 0, 0), (6, -5, 4)))
    step = Register(transform="translation")
    found = ms.preprocess(moving, step, reference=fixed)
    assert found.same_grid(fixed)
    facts = found.meta["registration"]
    assert np.allclose(np.array(facts["matrix"])[:3, 3], (6, -5, 4), atol=0.6)
    assert facts["fixed"] == "fixed"
    assert facts["quality"]["trustworthy"]
    series = moving.replace(data=np.stack([moving.data] * 2), axes=("t", "z", "y", "x"), times=np.array([0.0, 1.0]))
    lossless = ms.preprocess(series, Register(transform="translation", resample=False), reference=fixed)
    assert np.array_equal(lossless.data, series.data)
    assert np.allclose(lossless.affine[:3, 3] - fixed.affine[:3, 3], (-6, 5, -4), atol=0.6)


# -- odd input, for every intensity step ------------------------------------------------------------------------------

INTENSITY = ["n4", "zscore", "percentile", {"kind": "window", "level": 50, "width": 100}]


@pytest.mark.parametrize("step", INTENSITY)
def test_labels_are_refused(step: object) -> None:
    with pytest.raises(SettingsError, match="holds labels"):
        ms.preprocess(labels(), [step])  # type: ignore[list-item]


@pytest.mark.parametrize("step", INTENSITY)
def test_nan_and_infinities_are_filled_and_said(step: object) -> None:
    data = scan().data.copy()
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    with pytest.warns(MedseqWarning, match="3 voxels were NaN or infinite"):
        found = ms.preprocess(scan().replace(data=data), [step])  # type: ignore[list-item]
    assert np.isfinite(found.data).all()
    assert any("NaN" in w for w in found.warnings)


@pytest.mark.parametrize("step", INTENSITY)
def test_nothing_finite_is_an_error(step: object) -> None:
    with pytest.raises(MedseqError, match="no finite voxel"):
        ms.preprocess(scan().replace(data=np.full(SHAPE, np.nan)), [step])  # type: ignore[list-item]


@pytest.mark.parametrize(("step", "value"), [("n4", 7.0), ("zscore", 0.0), ("percentile", 0.0)])
def test_a_constant_image_has_a_defined_result(step: str, value: float) -> None:
    with pytest.warns(MedseqWarning, match="constant|equal"):
        found = ms.preprocess(scan().replace(data=np.full(SHAPE, 7)), step)
    assert (found.data == value).all()
