"""Checkerboard, curtain, difference, and grey levels matched whatever changed between the images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_medseq.errors import SettingsError
from napari_medseq.volumes.blending import checkerboard, curtain, difference, match_intensities

RNG = np.random.default_rng(3)
TISSUE = RNG.uniform(20, 200, (6, 20, 20))


@given(st.integers(0, 3), st.integers(1, 5), st.integers(1, 5))
def test_a_checkerboard_is_that_of_skimage_style_indices(z: int, y: int, x: int) -> None:
    first, second = np.zeros((4, 9, 11)), np.ones((4, 9, 11))
    found = checkerboard(first, second, (z, y, x))
    k, j, i = np.indices(first.shape)
    assert np.array_equal(found, ((k // z if z else 0) + j // y + i // x) % 2)


@given(st.floats(0, 1))
def test_a_curtain_shows_that_share_of_the_first(share: float) -> None:
    found = curtain(np.zeros((2, 3, 40)), np.ones((2, 3, 40)), 2, share)
    assert (found == 0).mean() == pytest.approx(share, abs=0.5 / 40 + 1e-9)
    assert (np.diff(found, axis=2) >= 0).all()


def test_the_difference_is_after_minus_before_and_nothing_outside() -> None:
    before, after = np.full((2, 2, 2), 3, np.uint8), np.full((2, 2, 2), 1, np.uint8)
    inside = np.ones((2, 2, 2), bool)
    inside[0] = False
    found = difference(before, after, inside)
    assert found.dtype == np.float32
    assert np.array_equal(found[1], np.full((2, 2), -2))
    assert not found[0].any()


@given(st.floats(0.05, 50), st.floats(-500, 500))
def test_scale_and_offset_are_found_exactly(scale: float, offset: float) -> None:
    found = match_intensities(TISSUE, scale * TISSUE + offset, np.ones(TISSUE.shape, bool))
    assert found == pytest.approx((scale, offset), rel=1e-5, abs=1e-5 * max(1, abs(offset)))


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_intensities_are_matched_by_what_did_not_change(share: float) -> None:
    """A part of the tissue takes up contrast; least squares alone would be off by a tenth and more."""
    after = 1.7 * TISSUE - 12 + RNG.normal(0, 2, TISSUE.shape)
    changed = RNG.random(TISSUE.shape) < share
    after[changed] += RNG.uniform(200, 400, changed.sum())
    scale, offset = match_intensities(TISSUE, after, np.ones(TISSUE.shape, bool))
    assert scale == pytest.approx(1.7, rel=0.02)
    assert offset == pytest.approx(-12, abs=4)
    plain = np.polyfit(TISSUE.ravel(), after.ravel(), 1)
    assert abs(plain[1] + 12) > 20


@given(st.floats(0.05, 50), st.floats(-500, 500), st.floats(0, 0.4))
def test_with_air_the_scale_is_found_whatever_changed_and_air_stays_dark(
    scale: float, offset: float, changed: float
) -> None:
    body = np.zeros((6, 20, 20), bool)
    body[:, 4:16, 4:16] = True
    rng = np.random.default_rng(1)
    before = np.where(body, TISSUE, 3.0)
    after = scale * before + offset
    after[body & (rng.random(body.shape) < changed)] += 300 * scale
    found = match_intensities(before, after, body, ~body)
    assert found == pytest.approx((scale, offset), rel=1e-6, abs=1e-6 * max(1, scale, abs(offset)))


def test_a_shading_of_the_scan_leaves_air_dark() -> None:
    """Coils shade MR: a straight line through tissue alone would lift the air."""
    body = np.zeros((6, 20, 20), bool)
    body[:, 4:16, 4:16] = True
    before = np.where(body, TISSUE, 1.0)
    after = before * np.linspace(1.3, 0.7, 20)
    scale, offset = match_intensities(before, after, body, ~body)
    assert scale == pytest.approx(1, abs=0.06)
    assert abs(offset) < 0.5


def test_where_nothing_can_be_told_nothing_is_changed() -> None:
    flat = np.ones((3, 3, 3))
    everywhere = np.ones(flat.shape, bool)
    assert match_intensities(flat, flat * 5, everywhere) == (1.0, 0.0)
    assert match_intensities(TISSUE, TISSUE, np.zeros(TISSUE.shape, bool)) == (1.0, 0.0)
    # turned round: bright is dark in the other; a window is not a negative
    assert match_intensities(TISSUE, -TISSUE, np.ones(TISSUE.shape, bool)) == (1.0, 0.0)


def test_images_of_other_shapes_and_tiles_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SettingsError, match="one grid"):
        difference(np.zeros((2, 2)), np.zeros((2, 3)))
    for tile in ((1,), (0, 0), (-1, 2)):
        with pytest.raises(SettingsError, match="does not fit"):
            checkerboard(np.zeros((2, 2)), np.zeros((2, 2)), tile)
    with pytest.raises(SettingsError, match="between 0 and 1"):
        curtain(np.zeros((2, 2)), np.zeros((2, 2)), 0, 1.5)
