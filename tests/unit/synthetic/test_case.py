"""Single random scans."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest

from napari_medseq import geometry
from napari_medseq.errors import SettingsError
from napari_medseq.synthetic import make_case

small = partial(make_case, shape_zyx=(24, 96, 96), spacing_zyx=(6.5, 2.3, 2.3))


def test_the_same_seed_is_the_same_scan() -> None:
    first, again, other = small(5), small(5), small(6)
    np.testing.assert_array_equal(first[0].data, again[0].data)
    np.testing.assert_array_equal(first[1].data, again[1].data)
    assert (first[0].data != other[0].data).mean() > 0.3


def test_it_is_a_house_oriented_mr_volume() -> None:
    image, labels = small(1)
    assert image.axes == ("z", "y", "x")
    assert image.data.shape == (24, 96, 96)
    assert image.data.dtype == np.int16
    assert image.modality == "MR"
    assert image.name.endswith("T1post")
    assert geometry.axis_codes(image.affine) == geometry.HOUSE_CODES
    assert image.spacing == pytest.approx({"z": 6.5, "y": 2.3, "x": 2.3})
    assert labels.kind == "labels"
    assert labels.same_grid(image)
    assert set(np.unique(labels.data)) <= {0, 1}
    assert list(labels.label_names) == [1]


def test_no_lesions_when_none_are_wanted() -> None:
    assert not small(3, lesions=0)[1].data.any()


def test_most_cases_hold_tumour_of_a_plausible_size() -> None:
    volumes = []
    for seed in range(7):
        _, labels = small(seed)
        volumes.append(float(labels.data.sum()) * geometry.voxel_volume_mm3(labels.affine) / 1000)
    assert sum(v > 0.3 for v in volumes) >= 4
    assert max(volumes) < 150


def test_contrast_is_that_of_a_head() -> None:
    """Air dark, fat brighter than brain, tumour brighter than brain but not than fat."""
    image, labels = make_case(2, lesions=3, shape_zyx=(24, 128, 128), spacing_zyx=(6.5, 1.72, 1.72))
    data = np.asarray(image.data, dtype=float)
    head = data > 0.15 * np.percentile(data, 99)
    assert 0.2 < head.mean() < 0.5
    brain = np.median(data[head])
    assert np.median(data[:, :6]) < 0.1 * brain
    assert np.percentile(data[head], 97) > 1.4 * brain
    assert brain < np.median(data[labels.data > 0]) < np.percentile(data[head], 97)


def test_other_grids() -> None:
    thin, _ = make_case(4, shape_zyx=(8, 64, 64), spacing_zyx=(1.5, 3.4, 3.4))
    assert thin.data.shape == (8, 64, 64)
    assert thin.data.max() > 100


@pytest.mark.parametrize(
    "wrong",
    [{"shape_zyx": (1, 64, 64)}, {"spacing_zyx": (0.0, 1.0, 1.0)}, {"lesions": -1}],
    ids=["shape", "spacing", "lesions"],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="make_case cannot"):
        small(0, **wrong)


def test_importing_is_light() -> None:
    heavy = ["torch", "SimpleITK", "pandas", "napari", "monai", "matplotlib", "nibabel", "pydicom"]
    code = f"import sys, napari_medseq.synthetic; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
