"""Denoising against scipy and scikit-image, and against what the equations say of a disc, a step and plain noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.restoration import denoise_nl_means

import napari_medseq as ms
from napari_medseq.errors import OperationCancelled
from napari_medseq.preprocessing import AnisotropicDiffusion, CurvatureFlow, Median, NonLocalMeans, Step
from napari_medseq.preprocessing.denoising import noise_sigma
from napari_medseq.sequence import ImageSequence, affine_from
from tests.unit.preprocessing.scans import flat, scan, series


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 1.5, 4), (2, 1, 1)])
@pytest.mark.parametrize("radius", [1, 2])
def test_the_median_is_that_of_scipy_over_equal_distances(spacing: tuple[float, float, float], radius: int) -> None:
    image = scan().replace(affine=affine_from(spacing))
    size = [1 + 2 * round(radius * min(spacing) / s) for s in spacing[::-1]]
    expected = ndimage.median_filter(image.data, size=size, mode="nearest")
    assert np.array_equal(ms.preprocess(image, Median(radius=radius)).data, expected)


def test_the_median_of_whole_numbers_keeps_their_type() -> None:
    image = scan().replace(data=scan().data.astype(np.int16))
    found = ms.preprocess(image, "median")
    assert found.data.dtype == np.int16
    # whole numbers may keep their padding: no new value comes
    assert set(np.unique(found.data)) <= set(np.unique(image.data))


def test_non_local_means_is_that_of_scikit_image_slice_by_slice() -> None:
    step = NonLocalMeans(sigma=8, patch=3, distance=4)
    expected = [
        denoise_nl_means(s, patch_size=3, patch_distance=4, h=0.8 * 8, sigma=8, fast_mode=True) for s in scan().data
    ]
    assert np.allclose(ms.preprocess(scan(), step).data, expected, atol=1e-3)


def test_non_local_means_takes_noise_out_and_keeps_an_edge() -> None:
    clean = np.zeros((48, 48)) + 100 * (np.arange(48) >= 24)
    noisy = clean + np.random.default_rng(0).normal(0, 10, clean.shape)
    image = ImageSequence(noisy, ("y", "x"), affine_from((1, 1, 1)))
    found = ms.preprocess(image, "nlm").data
    assert np.sqrt(np.mean((found - clean) ** 2)) < 0.4 * np.sqrt(np.mean((noisy - clean) ** 2))
    assert found[:, 24].mean() - found[:, 23].mean() > 80
    even = image.replace(data=np.full((20, 20), 3.0))
    assert np.array_equal(ms.preprocess(even, "nlm").data, even.data)


@pytest.mark.parametrize("sigma", [1.0, 25.0])
def test_the_noise_is_estimated_through_edges_slopes_and_padding(sigma: float) -> None:
    y, x = np.mgrid[0:128, 0:128]
    image = 20.0 * x + 5 * y + 500 * (x > 60) + np.random.default_rng(0).normal(0, sigma, x.shape)
    image[:, :20] = 0
    assert noise_sigma(image) == pytest.approx(sigma, rel=0.08)


@pytest.mark.parametrize("size", [1.0, 0.4])
def test_curvature_flow_shrinks_a_disc_as_the_equation_says(size: float) -> None:
    """R(t) = √(R₀² − 2 t), in voxels, whatever their size in millimetres."""
    y, x = np.mgrid[-32:33, -32:33]
    distance = np.hypot(y, x)
    image = ImageSequence((20 - distance).astype(np.float32), ("y", "x"), affine_from((size, size, 1)))
    found = ms.preprocess(image, CurvatureFlow(iterations=200, time_step=0.0625)).data
    row = found[32, 32:]
    edge = float(np.interp(0, -row, np.arange(row.size)))
    assert edge == pytest.approx(np.sqrt(20**2 - 2 * 200 * 0.0625), abs=0.1)


@pytest.mark.parametrize("equation", ["gradient", "curvature"])
def test_diffusion_keeps_a_strong_edge_and_evens_out_the_rest(equation: str) -> None:
    clean = np.zeros((12, 32, 32)) + 200 * (np.arange(32) >= 16)
    noisy = clean + np.random.default_rng(0).normal(0, 5, clean.shape)
    image = ImageSequence(noisy, ("z", "y", "x"), affine_from((1, 1, 1)))
    found = ms.preprocess(image, AnisotropicDiffusion(iterations=8, conductance=1.5, equation=equation)).data
    assert found[..., :14].std() < 0.6 * noisy[..., :14].std()
    assert (found[..., 16] - found[..., 15]).mean() > 180


def test_diffusion_that_every_edge_lets_through_is_the_heat_equation() -> None:
    """Of a small bump, after time t, the variance has grown by 2 t along each axis."""
    z, y, x = np.mgrid[-12:13, -12:13, -12:13]
    bump = np.exp(-0.5 * (z**2 + y**2 + x**2) / 4.0)
    image = ImageSequence(bump, ("z", "y", "x"), affine_from((1, 1, 1)))
    found = ms.preprocess(image, AnisotropicDiffusion(iterations=16, conductance=1000)).data
    expected = ndimage.gaussian_filter(bump, np.sqrt(2 * 16 * 0.0625), truncate=6)
    assert np.abs(found - expected).max() < 0.02


@pytest.mark.parametrize("step", [CurvatureFlow(iterations=2), AnisotropicDiffusion(iterations=2)])
def test_a_slice_is_denoised_in_its_plane(step: CurvatureFlow | AnisotropicDiffusion) -> None:
    found = ms.preprocess(flat(scan()), step)
    assert found.axes == ("y", "x")
    assert found.data.std() < flat(scan()).data.std()


@pytest.mark.parametrize("step", [Median(radius=2), CurvatureFlow(), AnisotropicDiffusion(), NonLocalMeans()])
def test_it_shows_how_far_it_is_and_stops_when_asked(step: Step) -> None:
    seen: list[float] = []
    ms.preprocess(series(2), step, progress=lambda done, total, _: seen.append(done / total))
    assert seen == sorted(seen)
    assert len({round(s, 3) for s in seen}) > 3
    assert seen[-1] == 1
    calls: list[int] = []

    def stop() -> bool:
        calls.append(1)
        return len(calls) > 3

    with pytest.raises(OperationCancelled):
        ms.preprocess(series(3), step, cancelled=stop)
    assert len(calls) < 12
