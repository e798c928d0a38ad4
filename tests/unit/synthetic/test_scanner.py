"""What a scanner does to a signal."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from napari_medseq.synthetic.scanner import Scanner

quiet = partial(Scanner, bias=0.0, noise=0.0, blur=0.0, ghost=0.0)


def acquire(scanner: Scanner, signal: np.ndarray) -> np.ndarray:
    return scanner.acquire(signal, np.random.default_rng(0)).astype(float)


def test_gain_and_gamma() -> None:
    signal = np.full((4, 16, 16), 2.0, np.float32)
    plain = acquire(quiet(gain=100), signal).mean()
    assert plain == pytest.approx(200, rel=0.03)
    assert acquire(quiet(gain=100, gamma=0.5), signal).mean() == pytest.approx(plain / np.sqrt(2), rel=0.02)


def test_air_has_rician_noise() -> None:
    """In air the magnitude of complex noise is Rayleigh: its mean is sqrt(pi / 2) times the deviation of one channel."""
    noise = acquire(quiet(gain=10000, noise=0.02), np.zeros((4, 64, 64), np.float32))
    one_channel = np.sqrt((noise**2).mean() / 2)
    assert noise.mean() / one_channel == pytest.approx(np.sqrt(np.pi / 2), rel=0.02)
    assert one_channel == pytest.approx(0.02 * 10000, rel=0.15)


def test_shading_is_smooth_and_positive() -> None:
    image = acquire(quiet(gain=10000, bias=0.2), np.ones((4, 64, 64), np.float32))
    assert image.min() > 1000
    assert image.std() > 200
    assert np.abs(np.diff(image, axis=2)).max() < 0.03 * image.mean()


def test_padding_and_masked_air_are_zero() -> None:
    image = acquire(Scanner(empty=2, masked=True), np.ones((6, 64, 64), np.float32))
    assert not image[-2:].any()
    assert not image[:, :4].any()
    assert image[:4, 8:-8, 8:-8].all()


def test_stored_values_never_wrap() -> None:
    image = Scanner(gain=30000).acquire(np.full((2, 8, 8), 50, np.float32), np.random.default_rng(0))
    assert image.dtype == np.int16
    assert image.min() == 32767


def test_random_scanners_differ() -> None:
    rng = np.random.default_rng(0)
    assert len({Scanner.random(rng).gain for _ in range(5)}) == 5
