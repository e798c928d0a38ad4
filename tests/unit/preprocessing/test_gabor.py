"""Gabor filters against scikit-image's, and against what a grating must answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import filters

import napari_medseq as ms
from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.preprocessing import Gabor, gabor_kernel, gabor_responses
from napari_medseq.sequence import ImageSequence, affine_from
from tests.unit.preprocessing.scans import scan


def pixels(data: np.ndarray, spacing: tuple[float, float] = (1, 1)) -> ImageSequence:
    return ImageSequence(data, ("y", "x"), affine_from((spacing[1], spacing[0], 1)), name="slice")


@settings(max_examples=40, deadline=None)
@given(st.floats(0.05, 0.45), st.floats(-180, 180), st.floats(0.8, 6), st.floats(0.3, 2), st.floats(-180, 180))
def test_a_kernel_is_that_of_scikit_image(
    frequency: float, angle: float, sigma: float, gamma: float, phase: float
) -> None:
    ours = gabor_kernel(frequency, angle, spacing=(1, 1), sigma=sigma, gamma=gamma, phase=phase, zero_mean=False)
    # it cuts oblique filters up to √2 sooner than its number of standard deviations
    theirs = filters.gabor_kernel(
        frequency, np.deg2rad(angle), sigma_x=sigma, sigma_y=sigma / gamma, offset=np.deg2rad(phase), n_stds=5
    )
    assert np.allclose(ours, _middle(theirs, ours.shape), rtol=1e-9, atol=1e-12)


def _middle(kernel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    first = [(a - b) // 2 for a, b in zip(kernel.shape, shape, strict=True)]
    return kernel[tuple(slice(f, f + n) for f, n in zip(first, shape, strict=True))]


def test_without_sigma_the_bandwidth_is_one_octave_as_in_scikit_image() -> None:
    ours = gabor_kernel(0.15, 30, spacing=(1, 1), gamma=1, zero_mean=False)
    theirs = filters.gabor_kernel(0.15, np.deg2rad(30), bandwidth=1, n_stds=5)
    assert np.allclose(ours, _middle(theirs, ours.shape))


@pytest.mark.parametrize("angle", [0, 30, 90, 135])
def test_responses_are_those_of_scikit_image(angle: float) -> None:
    image = np.random.default_rng(0).normal(50, 10, (40, 36))
    settings_ = Gabor(frequencies=(0.2,), orientations=1, first_angle=angle, gamma=1, sigma_mm=2.5, zero_mean=False)
    (found,) = gabor_responses(pixels(image), settings=settings_)
    whole = filters.gabor_kernel(0.2, np.deg2rad(angle), sigma_x=2.5, sigma_y=2.5, n_stds=5)
    kernel = _middle(whole, gabor_kernel(0.2, angle, spacing=(1, 1), sigma=2.5, gamma=1).shape)
    real, imaginary = (ndimage.convolve(image, k, mode="reflect") for k in (kernel.real, kernel.imag))
    assert np.allclose(found.response.data, real, atol=2e-4)
    assert np.allclose(found.magnitude.data, np.hypot(real, imaginary), atol=2e-4)


@pytest.mark.parametrize("output", ["energy", "strongest", "response"])
def test_a_bank_combines_what_its_filters_answer(output: str) -> None:
    bank = Gabor(frequencies=(0.1, 0.2), orientations=3, phase=40, output=output)
    each = gabor_responses(scan(), settings=bank)
    assert [(r.frequency, r.angle) for r in each] == [(f, a) for f in (0.1, 0.2) for a in (0, 60, 120)]
    magnitudes = np.stack([r.magnitude.data for r in each])
    expected = {
        "energy": np.sqrt((magnitudes**2).sum(axis=0)),
        "strongest": magnitudes.max(axis=0),
        "response": np.mean([r.response.data for r in each], axis=0),
    }[output]
    assert np.allclose(ms.preprocess(scan(), bank).data, expected, atol=1e-3)


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 180), st.sampled_from([(1.0, 1.0), (0.5, 1.0), (0.8, 0.6)]))
def test_a_grating_is_seen_at_its_angle_in_millimetres(angle: float, spacing: tuple[float, float]) -> None:
    """The complex answer to cos(2πf·x') is half the filter's gain there: 1/2 in the middle, whatever the shape of the pixels."""
    frequency, theta = 0.15, np.deg2rad(angle)
    y, x = np.mgrid[0:96, 0:96] * np.array(spacing)[:, None, None]
    grating = np.cos(2 * np.pi * frequency * (x * np.cos(theta) + y * np.sin(theta)))
    bank = Gabor(frequencies=(frequency,), orientations=1, first_angle=angle, gamma=1)
    across = bank.model_copy(update={"first_angle": angle + 90})
    middle = (slice(40, 56), slice(40, 56))
    (along,) = gabor_responses(pixels(grating, spacing), settings=bank)
    (other,) = gabor_responses(pixels(grating, spacing), settings=across)
    assert np.allclose(along.magnitude.data[middle], 0.5, atol=0.03)
    assert other.magnitude.data[middle].max() < 0.06


def test_an_even_image_answers_nothing_and_the_phase_does_not_change_the_energy() -> None:
    even = pixels(np.full((40, 40), 1000.0))
    assert np.abs(ms.preprocess(even, Gabor(output="strongest")).data).max() < 0.01
    assert np.abs(ms.preprocess(even, Gabor(zero_mean=False, output="strongest")).data).max() > 1
    energies = [ms.preprocess(scan(), Gabor(phase=p)).data for p in (0, 90)]
    assert np.allclose(energies[0], energies[1], atol=1e-3)


def test_slices_are_filtered_across_the_axis_that_they_were_acquired_along() -> None:
    image = scan()
    sagittal = image.replace(data=np.moveaxis(image.data, 0, 2), slice_axis="x", affine=affine_from((4, 1, 1.5)))
    bank = Gabor(frequencies=(0.15,), orientations=2)
    assert np.allclose(
        np.moveaxis(ms.preprocess(sagittal, bank).data, 2, 0), ms.preprocess(image, bank).data, atol=1e-4
    )


def test_filters_that_the_pixels_cannot_show_are_refused() -> None:
    with pytest.raises(MedseqError, match="finer than its pixels"):
        ms.preprocess(scan(), Gabor(frequencies=(0.4,)))
    with pytest.raises(MedseqError, match="higher frequencies"):
        ms.preprocess(scan(), Gabor(frequencies=(0.004,)))
    with pytest.raises(SettingsError, match="frequencies"):
        Gabor(frequencies=())


def test_the_edge_is_mirrored() -> None:
    image = np.random.default_rng(1).normal(size=(30, 32))
    kernel = gabor_kernel(0.2, 20, spacing=(1, 1))
    (found,) = gabor_responses(pixels(image), settings=Gabor(frequencies=(0.2,), orientations=1, first_angle=20))
    assert np.allclose(found.response.data, ndimage.convolve(image, kernel.real, mode="reflect"), atol=1e-4)


@pytest.mark.parametrize("angle", [0, 20, 45, 70, 135])
def test_no_filter_is_cut_within_three_standard_deviations_of_its_envelope(angle: float) -> None:
    sigma, gamma, spacing = 4.0, 0.5, (0.8, 1.3)
    kernel = np.abs(gabor_kernel(0.1, angle, spacing=spacing, sigma=sigma, gamma=gamma, zero_mean=False))
    for axis in (0, 1):
        border = kernel.take((0, -1), axis=axis).max()
        assert border <= kernel.max() * np.exp(-0.5 * 3**2) * (1 + 1e-9)
