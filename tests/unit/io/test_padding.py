"""Pixels outside the scanned field: known by their value, kept in the image, out of windows and statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.viewer.layers.contrast import percentile_limits
from napari_medseq.volumes.padding import is_padding, without_padding
from tests.unit.io import dicoms


def _padded(folder: Path, padding: int, *, signed: bool = True, **more: Any) -> ms.ImageSequence:
    """A CT whose corners are padding, as scanners with a round field leave them."""
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 100, (16, 16)).astype(np.int16 if signed else np.uint16)
        pixels[:8] = padding
        stored = {"PixelPaddingValue": padding, **more}
        dicoms.save(
            dicoms.dataset(pixels, (0, 0, 2.5 * k), RescaleIntercept=-24, RescaleSlope=1, **stored), folder / f"{k}.dcm"
        )
    return ms.read(folder)[0]


@pytest.mark.parametrize(("padding", "signed"), [(-2000, True), (0xF000, False)])
def test_padding_is_known_in_the_units_of_the_image(tmp_path: Path, padding: int, signed: bool) -> None:
    seq = _padded(tmp_path, padding, signed=signed)
    assert seq.meta["padding_value"] == padding - 24
    found = is_padding(np.asarray(seq.data), seq)
    assert found is not None
    np.testing.assert_array_equal(found, np.asarray(seq.data) == padding - 24)
    assert found.mean() == 0.5


def test_a_range_of_padding(tmp_path: Path) -> None:
    assert _padded(tmp_path, -2000, PixelPaddingRangeLimit=-1990).meta["padding_value"] == [-2024, -2014]


def test_a_series_without_padding_has_no_padding_value(tmp_path: Path) -> None:
    dicoms.series(tmp_path, [(0, 0, 2.5 * k) for k in range(3)])
    seq = ms.read(tmp_path)[0]
    assert "padding_value" not in seq.meta
    assert is_padding(np.asarray(seq.data), seq) is None
    assert without_padding(np.asarray(seq.data), seq).size == seq.data.size


def test_windows_and_scores_leave_padding_out(tmp_path: Path) -> None:
    seq = _padded(tmp_path, -2000)
    body = np.asarray(seq.data)[np.asarray(seq.data) != -2024].astype(float)
    assert percentile_limits(seq)[0] >= body.min()
    scored = ms.preprocess(seq, ["zscore"])
    inside = np.asarray(scored.data)[np.asarray(seq.data) != -2024]
    np.testing.assert_allclose([inside.mean(), inside.std()], [0, 1], atol=1e-4)
    assert "padding_value" not in scored.meta
