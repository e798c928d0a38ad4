"""Hand-crafted features: images whose texture is known, whatever the axis; nothing is ever missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import napari_medseq as ms
from napari_medseq.errors import GeometryError, MedseqError
from napari_medseq.evaluation.features import FeatureSettings, slice_features
from napari_medseq.geometry import Reorientation
from napari_medseq.preprocessing.gabor import Gabor
from napari_medseq.volumes.turning import turned

BANK = Gabor(frequencies=(0.1, 0.25), orientations=2)  # along rows, down columns


def stack(data: NDArray[np.floating]) -> ms.ImageSequence:
    return ms.ImageSequence(data.astype(np.float32), ("z", "y", "x"), np.diag([1.0, 1.0, 4.0, 1.0]), name="scan")


def test_waves_are_found_at_their_own_frequency_and_angle() -> None:
    y, x = np.mgrid[:64, :64]
    slices = [np.cos(2 * np.pi * f * axis) for axis in (x, y) for f in (0.1, 0.25)]
    table = slice_features(stack(np.array(slices)), settings=FeatureSettings(parts=("gabor",), gabor=BANK))
    means = table[[c for c in table if str(c).endswith("mean")]]
    assert means.idxmax(axis=1).astype(str).tolist() == [
        f"gabor {f:g}/mm {a}° mean" for a in (0, 90) for f in (0.1, 0.25)
    ]


def test_features_do_not_depend_on_the_order_of_axes() -> None:
    rng = np.random.default_rng(0)
    image = stack(np.cumsum(rng.normal(size=(3, 20, 24)), axis=2)).replace(affine=np.diag([-1.0, -1.0, 4.0, 1.0]))
    mask = image.labels_like((np.asarray(image.data) > 1).astype(np.uint8), name="mask", label_names={})
    chosen = FeatureSettings(parts=("intensity", "gabor", "cooccurrence", "patterns", "shape"), gabor=BANK)
    table = slice_features(image, mask, settings=chosen)
    turn = Reorientation((1, 2, 0), (True, True, False))  # slices run the other way
    there = slice_features(turned(image, turn), turned(mask, turn), settings=chosen)
    assert there.index.equals(table.index)
    assert np.array_equal(there.to_numpy()[::-1], table.to_numpy())


def test_a_flat_slice_has_no_contrast_and_a_chequered_one_has_nothing_else() -> None:
    board = np.indices((32, 32)).sum(0) % 2
    table = slice_features(
        stack(np.array([np.zeros((32, 32)), board, np.ones((32, 32))])),
        settings=FeatureSettings(parts=("cooccurrence", "intensity"), range=(0, 1), levels=2, distances=(1,)),
    )
    # diagonal neighbours are alike
    assert list(table["co-occurrence contrast 1px"]) == [
        0,
        pytest.approx(0.5, abs=0.01),
        0,
    ]
    assert list(table["co-occurrence homogeneity 1px"][[0, 2]]) == [1, 1]
    assert table["intensity entropy"][1] == pytest.approx(1.0)
    assert table["histogram 0"][1] == pytest.approx(0.5)


def test_a_disk_is_round_and_its_intensity_is_measured_within() -> None:
    y, x = np.mgrid[:40, :40]
    disk = ((y - 20) ** 2 + (x - 20) ** 2 < 100).astype(np.uint8)
    data = np.where(disk, 7.0, 0.0) + np.zeros((2, 1, 1))
    image = stack(data)
    mask = image.labels_like(np.stack([disk, disk * 0]), name="mask", label_names={1: "disk"})
    table = slice_features(image, mask, settings=FeatureSettings(parts=("shape", "intensity")))
    assert table["shape area"].tolist() == [disk.sum(), 0]
    assert table["shape eccentricity"][0] < 0.1
    assert table["shape solidity"][0] > 0.9
    assert table["shape parts"].tolist() == [1, 0]
    assert table["intensity mean"][0] == 7  # the other slice has no mask: the whole of it is measured
    assert table["intensity mean"][1] == pytest.approx(7 * disk.mean())


@given(seed=st.integers(0, 99), axis=st.sampled_from(["z", "y", "x"]))
@settings(deadline=None, max_examples=10)
def test_slices_are_those_of_the_slice_axis_and_no_feature_is_missing(seed: int, axis: str) -> None:
    random = np.random.default_rng(seed)
    data = random.normal(size=(5, 20, 22)).astype(np.float32)
    data[0, 0, 0] = np.nan
    data[1] = 3.0
    axes = [axis, *(a for a in ("z", "y", "x") if a != axis)]
    order = [axes.index(a) for a in ("z", "y", "x")]
    image = stack(data).replace(data=data.transpose(order), slice_axis=axis, affine=np.eye(4))
    plain = stack(data).replace(affine=np.eye(4))
    s = FeatureSettings(parts=("intensity", "cooccurrence", "patterns"))
    table = slice_features(image, settings=s)
    assert np.isfinite(table.to_numpy()).all()
    np.testing.assert_allclose(table, slice_features(plain, settings=s), rtol=1e-9)


def test_what_cannot_be_measured_is_refused() -> None:
    image = stack(np.ones((2, 8, 8)))
    with pytest.raises(MedseqError, match="give one"):
        slice_features(image, settings=FeatureSettings(parts=("shape",)))
    with pytest.raises(GeometryError):
        slice_features(
            image, stack(np.ones((2, 8, 9))).labels_like(np.ones((2, 8, 9), np.uint8), name="m", label_names={1: "a"})
        )
    with pytest.raises(MedseqError, match="no finite voxel"):
        slice_features(stack(np.full((2, 8, 8), np.nan)))
    with pytest.raises(MedseqError, match="stack of planes"):
        slice_features(
            ms.ImageSequence(np.ones((8, 8)), ("y", "x"), np.eye(4)), settings=FeatureSettings(parts=("intensity",))
        )
    with pytest.raises(MedseqError, match="grey image"):
        slice_features(image.labels_like(np.ones((2, 8, 8), np.uint8), name="m", label_names={1: "a"}))


def test_a_small_object_on_a_black_image_has_a_texture() -> None:
    data = np.zeros((2, 40, 40))
    data[:, 10:12, 10:12] = np.arange(4).reshape(2, 2) + 1  # a quarter of a percent
    image = ms.ImageSequence(data, ("z", "y", "x"), np.eye(4))
    table = slice_features(image, settings=FeatureSettings(parts=("cooccurrence", "intensity")))
    assert (table["co-occurrence contrast 1px"] > 0).all()
    assert (table["histogram 0"] < 1).all()
