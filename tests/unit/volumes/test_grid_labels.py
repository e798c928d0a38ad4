"""Labels on another grid, against ITK's own interpolation of labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_medseq import geometry
from napari_medseq.geometry import Affine, Volume
from napari_medseq.volumes import grid as grid_module
from napari_medseq.volumes.grid import resample_volume, to_itk


def _itk(
    labels: NDArray[np.generic], affine: Affine, target: Affine, grid: tuple[int, int, int]
) -> NDArray[np.generic]:
    reference = to_itk(np.zeros(grid[::-1], np.uint8), target)
    moved = sitk.Resample(to_itk(labels, affine), reference, sitk.Transform(), sitk.sitkLabelLinear)
    found: NDArray[np.generic] = sitk.GetArrayFromImage(moved)
    return found


def _organs(values: list[int], dtype: type) -> NDArray[np.generic]:
    """Blobs that touch each other and the borders."""
    rng = np.random.default_rng(4)
    fields = ndimage.gaussian_filter(rng.normal(size=(len(values) + 1, 14, 17, 19)), (0, 2, 2, 2))
    labels: NDArray[np.generic] = np.array([0, *values], dtype)[fields.argmax(0)]
    return labels


def _turned(angle: float) -> Affine:
    affine = np.diag([0.9, 1.3, 2.1, 1.0])
    affine[:3, :3] = Rotation.from_euler("xyz", [angle, -angle, 2 * angle]).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = [3.0, -5.0, 2.0]
    return affine


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([1], np.uint8), ([1, 2, 3, 4, 9], np.uint8), ([-1, 2, 1000, 2035], np.int16), ([5, 90_000], np.int32)],
)
@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_labels_become_those_that_itk_finds(values: list[int], dtype: type, angle: float) -> None:
    labels = _organs(values, dtype)
    affine, target, grid = np.diag([1.1, 1.0, 2.0, 1.0]), _turned(angle), (23, 15, 12)
    found, wanted = (
        resample_volume(labels, affine, target, grid, interpolation="label"),
        _itk(labels, affine, target, grid),
    )
    assert found.dtype == labels.dtype
    assert set(np.unique(found).tolist()) <= {0, *values}
    assert np.mean(found != wanted) < 1e-3  # ties, decided by rounding


def test_of_equal_shares_the_background_has_it() -> None:
    labels = np.array([[[0, 0, 3, 3, 7, 7, 0]]], np.uint8)
    between = np.eye(4)
    between[0, 3] = 0.5
    found = resample_volume(labels, np.eye(4), between, (6, 1, 1), interpolation="label")
    assert found.tolist() == [[[0, 0, 3, 3, 7, 0]]]


def test_outside_lies_what_was_asked_for() -> None:
    far = np.eye(4)
    far[0, 3] = 2.0
    found = resample_volume(np.ones((1, 1, 4), np.int16), np.eye(4), far, (4, 1, 1), interpolation="label", fill=-1)
    assert found.tolist() == [[[1, 1, -1, -1]]]


def test_a_moved_label_lies_where_the_transform_brings_it() -> None:
    labels = np.zeros((3, 5, 9), np.uint8)
    labels[1, 2, 6] = 4
    moved = sitk.TranslationTransform(3, [4.0, 0.0, 0.0])  # LPS: x of the array runs to the right
    found = resample_volume(
        labels, geometry.RAS_LPS, geometry.RAS_LPS, (9, 5, 3), transform=moved, interpolation="label"
    )
    assert np.argwhere(found == 4).tolist() == [[1, 2, 2]]


def test_each_label_is_looked_at_only_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = np.kron(np.arange(1, 201).reshape(2, 10, 10), np.ones((4, 8, 8), np.int64)).astype(np.uint8)
    voxels, real = [], grid_module.resample_volume

    def counted(volume: Volume, affine: Affine, to: Affine, grid: tuple[int, int, int], **options: Any) -> Volume:
        voxels.append(math.prod(grid))
        return real(volume, affine, to, grid, **options)

    monkeypatch.setattr(grid_module, "resample_volume", counted)
    real(cells, np.eye(4), np.diag([0.7, 0.7, 1.0, 1.0]), (114, 114, 8), interpolation="label")
    assert len(voxels) == 200
    assert sum(voxels) < 4 * 114 * 114 * 8
