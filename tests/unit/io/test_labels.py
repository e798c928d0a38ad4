"""What is labels: nearly whole numbers, NaN as background, a channel per class; and what stays an image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_medseq as ms
from napari_medseq.errors import ReadError, ReadWarning
from napari_medseq.io.label_values import as_labels

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")


def _mask(shape: tuple[int, ...] = (6, 7, 8), classes: int = 3) -> np.ndarray:
    """Boxes of classes in a background of 0."""
    out = np.zeros(shape, np.uint8)
    for k in range(1, classes):
        out[2 * k - 1 : 2 * k + 1, 2:5, 2:6] = k
    return out


def _nifti(path: Path, data: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(data, np.diag([-1.0, -1, 1, 1])), path)
    return path


def _itk(path: Path, data: np.ndarray) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(data.T), isVector=False), str(path))
    return path


WRITERS: dict[str, Callable[[Path, np.ndarray], Path]] = {".nii.gz": _nifti, ".nrrd": _itk, ".mha": _itk}


def _values(seq: ms.ImageSequence) -> np.ndarray:
    """Voxels in the order of `_nifti`'s and `_itk`'s arrays: house orientation is theirs."""
    return np.asarray(seq.data).transpose()


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("off", [-2e-5, 3e-5, 9e-4])
def test_nearly_whole_values_are_labels_and_said(tmp_path: Path, ending: str, off: float) -> None:
    mask = _mask()
    path = WRITERS[ending](tmp_path / f"a_seg{ending}", (mask * (1 + off / 2)).astype(np.float32))
    with pytest.warns(ReadWarning, match="they were rounded"):
        seq = ms.read(path)[0]
    assert seq.kind == "labels"
    np.testing.assert_array_equal(_values(seq), mask)


def test_a_scaled_header_is_rounded(tmp_path: Path) -> None:
    image = nib.Nifti1Image((_mask() * 127).astype(np.uint8), np.eye(4))
    image.header.set_slope_inter(1 / 127.0005, 0)
    nib.save(image, tmp_path / "a_mask.nii.gz")
    seq = ms.read(tmp_path / "a_mask.nii.gz")[0]
    assert (seq.kind, set(np.unique(seq.data))) == ("labels", {0, 1, 2})


@pytest.mark.parametrize("ending", WRITERS)
def test_undefined_values_are_background_and_said(tmp_path: Path, ending: str) -> None:
    mask = _mask()
    data = np.where(mask == 0, np.nan, mask).astype(np.float32)
    with pytest.warns(ReadWarning, match="NaN"):
        seq = ms.read(WRITERS[ending](tmp_path / f"a_seg{ending}", data))[0]
    np.testing.assert_array_equal(_values(seq), mask)


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize(
    "data", [np.linspace(0, 1, 336).reshape(6, 7, 8), _mask() * 0.95, np.where(_mask() > 0, np.inf, 0)]
)
def test_what_is_not_whole_stays_an_image_or_is_refused(tmp_path: Path, ending: str, data: np.ndarray) -> None:
    path = WRITERS[ending](tmp_path / f"a_seg{ending}", data.astype(np.float32))
    assert ms.read(path)[0].kind == "image"
    with pytest.raises(ReadError, match="not whole numbers"):
        ms.read(path, kind="labels")


def test_values_below_zero_are_kept_and_said(tmp_path: Path) -> None:
    data = _mask().astype(np.int16)
    data[0] = -1
    with pytest.warns(ReadWarning, match="below zero"):
        seq = ms.read(_nifti(tmp_path / "a_seg.nii.gz", data))[0]
    np.testing.assert_array_equal(_values(seq), data)


def test_an_image_under_a_masks_name_is_doubted(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(-1024, 3000, (20, 20, 20)).astype(np.int16)
    with pytest.warns(ReadWarning, match="look like an image's"):
        ms.read(_nifti(tmp_path / "a_seg.nii.gz", data))


def _hot(mask: np.ndarray, *, background: bool, classes: int = 3) -> np.ndarray:
    return np.stack([mask == k for k in range(0 if background else 1, classes)], axis=-1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("ending", WRITERS)
def test_a_channel_per_class_is_one_label_image(tmp_path: Path, ending: str, background: bool, dtype: Any) -> None:
    mask = _mask()
    path = WRITERS[ending](tmp_path / f"a_seg{ending}", _hot(mask, background=background).astype(dtype))
    with pytest.warns(ReadWarning, match="classes, not frames"):
        seq = ms.read(path)[0]
    assert (seq.kind, seq.axes) == ("labels", ("z", "y", "x"))
    np.testing.assert_array_equal(_values(seq), mask)


def test_classes_as_components_of_a_vector(tmp_path: Path) -> None:
    hot = _hot(_mask(), background=True).astype(np.uint8)
    seq = ms.read(_nifti(tmp_path / "a_seg.nii.gz", hot[..., np.newaxis, :]))[0]
    np.testing.assert_array_equal(_values(seq), _mask())
    vectors = np.ascontiguousarray(hot[..., 1:].transpose(2, 1, 0, 3)).astype(np.int16)
    image = sitk.GetImageFromArray(vectors, isVector=True)
    sitk.WriteImage(image, str(tmp_path / "b_seg.nrrd"))
    np.testing.assert_array_equal(_values(ms.read(tmp_path / "b_seg.nrrd")[0]), _mask())


def test_a_background_that_is_smaller_than_a_class(tmp_path: Path) -> None:
    mask = np.ones((6, 7, 8), np.uint8)
    mask[[0, -1]] = mask[:, [0, -1]] = mask[:, :, [0, -1]] = 0
    seq = ms.read(_nifti(tmp_path / "a_seg.nii.gz", _hot(mask, background=True, classes=2).astype(np.uint8)))[0]
    np.testing.assert_array_equal(_values(seq), mask)


def test_overlaps_of_classes_are_said(tmp_path: Path) -> None:
    hot = _hot(_mask(), background=False).astype(np.uint8)
    hot[2, 2, 2] = 1
    with pytest.warns(ReadWarning, match="1 voxels are of several classes"):
        seq = ms.read(_nifti(tmp_path / "a_seg.nii.gz", hot))[0]
    assert _values(seq)[2, 2, 2] == 2


def test_a_mask_in_time_stays_in_time(tmp_path: Path) -> None:
    """A moving ball: frames share most of their voxels; and ours say that they are frames."""
    z, y, x = np.indices((12, 12, 12))
    ball = np.stack([(z - 6) ** 2 + (y - 6) ** 2 + (x - 5 - t / 4) ** 2 < 16 for t in range(6)], axis=-1)
    seq = ms.read(_nifti(tmp_path / "a_seg.nii.gz", ball.astype(np.uint8)))[0]
    assert seq.axes == ("t", "z", "y", "x")
    apart = np.zeros((2, 3, 4, 5), np.uint8)
    apart[0, 0], apart[1, 2] = 1, 1
    own = ms.ImageSequence(apart, ("t", "z", "y", "x"), np.diag([-1.0, -1, 1, 1]), kind="labels", name="own_seg")
    for ending in WRITERS:
        back = ms.read(ms.write(own, tmp_path / f"own_seg{ending}"))[0]
        np.testing.assert_array_equal(back.data, apart)


def test_probabilities_per_class_stay_an_image(tmp_path: Path) -> None:
    soft = np.random.default_rng(0).dirichlet(np.ones(3), (4, 5, 6)).astype(np.float32)
    seq = ms.read(_nifti(tmp_path / "a_seg.nii.gz", soft))[0]
    assert (seq.kind, seq.axes) == ("image", ("t", "z", "y", "x"))


@settings(deadline=None)
@given(st.lists(st.integers(0, 30000), min_size=1, max_size=20), st.floats(-9e-4, 9e-4))
def test_rounding_gives_the_whole_numbers_back(numbers: list[int], off: float) -> None:
    values, whole = as_labels(np.array(numbers, np.float64) + off)
    assert whole
    np.testing.assert_array_equal(values, numbers)
