"""From image to steps and back: axes by name, crop, resampling, robust units."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseq.errors import MedseqError
from napari_medseq.inference.inputs import intensity
from napari_medseq.inference.inputs.frame import frame, step_axes, take
from napari_medseq.inference.inputs.intensity import measure
from napari_medseq.sequence import ImageSequence, affine_from
from tests.unit.training.small import blob


def test_intensity_is_robust_to_scale_and_offset() -> None:
    seq = blob()
    a, b = measure(seq.data), measure(seq.data * 7 + 100)
    assert np.allclose(a.normalise(seq.data), b.normalise(seq.data * 7 + 100), atol=1e-3)
    assert abs(np.median(a.normalise(seq.data)[seq.data > a.threshold])) < 0.1


def test_one_standard_deviation_is_one_unit() -> None:
    data = np.zeros((10, 90, 90), np.float32)
    data[:, 20:70, 20:70] = np.random.default_rng(0).normal(1000, 50, (10, 50, 50))
    assert measure(data).scale == pytest.approx(50, rel=0.1)


def test_statistics_of_a_long_sequence_need_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    slices = [rng.gamma(2.0, 100.0, (60, 60)) for _ in range(200)]
    whole = measure(iter(slices))
    monkeypatch.setattr(intensity, "_MOST", 4000)  # of 80,000
    some = measure(iter(slices))
    assert some.centre == pytest.approx(whole.centre, rel=0.05)
    assert some.scale == pytest.approx(whole.scale, rel=0.1)
    assert some.threshold == pytest.approx(whole.threshold, rel=0.05)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_do_not_spread(value: float) -> None:
    data = blob().data.copy()
    clean = measure(data)
    data[3, 5, 5] = value
    dirty = measure(data)
    assert dirty.centre == pytest.approx(clean.centre, rel=0.01)
    assert np.isfinite(dirty.normalise(data)).all()


@pytest.mark.parametrize(
    ("data", "what"), [(np.full((3, 8, 8), 5.0), "same value 5"), (np.full((3, 8, 8), np.nan), "no finite")]
)
def test_constant_and_empty_images_are_refused(data: np.ndarray, what: str) -> None:
    with pytest.raises(MedseqError, match=what):
        measure(data)


@pytest.mark.parametrize(
    ("axes", "slice_axis", "along", "expected"),
    [
        (("z", "y", "x"), "z", "slices", ("z", "y", "x")),
        (("z", "y", "x"), "x", "slices", ("x", "z", "y")),
        (("z", "y", "x"), "y", "slices", ("y", "z", "x")),
        (("z", "y", "x"), "y", "z", ("z", "y", "x")),
        (("t", "y", "x"), "z", "t", ("t", "y", "x")),
        (("t", "z", "y", "x"), "z", "t", ("t", "y", "x")),
        (("t", "z", "y", "x"), "y", "t", ("t", "z", "x")),
        (("y", "x"), "z", "slices", ("", "y", "x")),
    ],
)
def test_step_axes_by_name(axes: tuple[str, ...], slice_axis: str, along: str, expected: tuple[str, str, str]) -> None:
    seq = ImageSequence(np.zeros((4,) * len(axes)), axes, affine_from((1, 1, 1)), slice_axis=slice_axis)
    assert step_axes(seq, along) == expected


@pytest.mark.parametrize(
    ("axes", "along"), [(("t", "z", "y", "x"), "slices"), (("z", "y", "x"), "t"), (("z", "y", "x"), "visit")]
)
def test_axes_that_do_not_fit_are_refused(axes: tuple[str, ...], along: str) -> None:
    seq = ImageSequence(np.zeros((4,) * len(axes)), axes, affine_from((1, 1, 1)))
    with pytest.raises(MedseqError, match=r"axes|one visit"):
        step_axes(seq, along)


def test_take_follows_the_axis() -> None:
    data = np.arange(24).reshape(2, 3, 4)
    seq = ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 1)), slice_axis="x")
    assert np.array_equal(take(seq, step_axes(seq, "slices"), 2), data[:, :, 2])


@settings(max_examples=25, deadline=None)
@given(
    st.integers(6, 40),
    st.integers(6, 40),
    st.sampled_from([None, 0.5, 0.9, 1.3]),
    st.sampled_from([4, 16]),
    st.integers(0, 99),
)
def test_labels_come_back_to_their_own_voxels(
    rows: int, columns: int, pixel: float | None, stride: int, seed: int
) -> None:
    seq = blob(seed, (3, rows, columns))
    f = frame([seq], along="slices", pixel_mm=pixel, stride=stride)
    assert f.padded[0] % stride == 0
    assert f.padded[1] % stride == 0
    x = f.read([seq], 1)
    assert tuple(x.shape[-2:]) == f.padded
    back = f.uncrop(torch.ones(f.padded, dtype=torch.uint8), labels=True)
    r0, r1, c0, c1 = f.crop
    expected = np.zeros((rows, columns))
    expected[r0:r1, c0:c1] = 1
    assert np.array_equal(back, expected)


def test_crop_keeps_the_head_and_leaves_air() -> None:
    data = np.zeros((4, 100, 120), np.float32)
    data[:, 30:70, 50:90] = np.random.default_rng(0).normal(100, 10, (4, 40, 40))
    f = frame([ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 5)))], along="slices", pixel_mm=None, stride=4)
    assert f.crop == (26, 74, 46, 94)


def test_edges_go_on_to_the_least_size_and_what_is_said_comes_back() -> None:
    data = np.random.default_rng(0).normal(100, 10, (3, 20, 26)).astype(np.float32)
    image = ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 5)))
    small = frame([image], along="slices", pixel_mm=None, stride=8)
    large = frame([image], along="slices", pixel_mm=None, stride=8, least=(37, 10))
    assert (small.inner, large.inner) == ((20, 26), (20, 26))
    assert (small.padded, large.padded) == ((24, 32), (40, 32))  # 37 and 26, as multiples of 8
    x = large.read([image], 1)[0].numpy()
    assert np.array_equal(x[:20, :26], small.read([image], 1)[0, :20, :26].numpy())
    assert np.array_equal(x, np.pad(x[:20, :26], ((0, 20), (0, 6)), "edge"))
    assert large.uncrop(torch.ones(large.padded), labels=True).all()


def test_channels_must_share_a_grid() -> None:
    with pytest.raises(MedseqError, match="another grid"):
        frame([blob(0), blob(1, affine=affine_from((1, 1, 5)))], along="slices", pixel_mm=None, stride=4)


def test_a_region_is_part_of_the_whole_framing() -> None:
    seq = blob(shape=(7, 40, 36))
    whole = frame([seq], along="slices", pixel_mm=1.8, stride=4)
    part = frame([seq], along="slices", pixel_mm=1.8, stride=4, region={"z": (2, 5), "y": (12, 30), "x": (8, 100)})
    assert (part.steps, part.outside, part.whole) == (3, (2, 2), (7, 40, 36))
    assert part.intensity == whole.intensity
    assert part.crop == (12, 30, 8, 36)
    assert part.inner == (9, 14)
    same = frame([seq], along="slices", pixel_mm=None, stride=4, region={"z": (2, 5), "y": (12, 28), "x": (8, 24)})
    large = frame([seq], along="slices", pixel_mm=None, stride=4)
    assert torch.equal(same.read([seq], 1), large.read([seq], 3)[:, 12:28, 8:24])


def test_a_region_beyond_the_image_is_refused() -> None:
    for span in ((500, 600), (-9, -3)):
        with pytest.raises(MedseqError, match="holds no voxel of an axis of 36"):
            frame([blob()], along="slices", pixel_mm=None, stride=4, region={"x": span})


def test_values_as_near_as_numbers_can_be_have_a_foreground() -> None:
    near = np.array([[1 + 2.0**-23, 1 + 2.0**-22]] * 4, np.float32)  # their mean is rounded to the larger one
    found = measure([np.repeat(np.repeat(near, 3, 0), 3, 1)])
    assert found.centre == np.float32(1 + 2.0**-22)
    assert found.scale > 0
