"""Tissue by HU against SimpleITK's thresholds; the brain mask against the brain that a synthetic head was painted with."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

import napari_medseq as ms
from napari_medseq.errors import MedseqError, MedseqWarning, SettingsError
from napari_medseq.preprocessing import TISSUES, BrainMask, Tissue
from napari_medseq.sequence import ImageSequence, affine_from
from tests.unit.preprocessing.scans import scan


def ct(**more: object) -> ImageSequence:
    data = np.random.default_rng(0).integers(-1100, 1500, (4, 20, 24)).astype(np.int16)
    return ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 3)), modality="CT", name="ct").replace(**more)


def test_ranges_are_those_of_simpleitk() -> None:
    found = ms.preprocess(ct(), "tissue")
    image = sitk.GetImageFromArray(ct().data)
    assert found.kind == "labels"
    assert list(found.label_names.values()) == list(Tissue().tissues)
    for value, name in found.label_names.items():
        low, high = TISSUES[name]
        expected = sitk.GetArrayFromImage(sitk.BinaryThreshold(image, low, high - 1))
        assert np.array_equal(found.data == value, expected == 1), name


def test_own_ranges_come_after_the_named_and_padding_is_nothing() -> None:
    step = Tissue(tissues=("fat",), ranges={"contrast": (180, 600)})
    found = ms.preprocess(ct(meta={"padding_value": 300}), step)
    assert found.label_names == {1: "fat", 2: "contrast"}
    assert (found.data[(ct().data >= 180) & (ct().data < 600) & (ct().data != 300)] == 2).all()
    assert (found.data[ct().data == 300] == 0).all()
    nothing = ms.preprocess(ct().replace(data=np.full((4, 20, 24), np.nan)), step)
    assert not nothing.data.any()
    wider = Tissue(tissues=("fat", "bone"), ranges={"fat": (-200, -20)})
    assert wider.limits == {"fat": (-200, -20), "bone": TISSUES["bone"]}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tissues": ("fat",), "ranges": {"other": (-100, 0)}}, "overlap"),
        ({"tissues": ("cheese",)}, "unknown"),
        ({"tissues": ()}, "at least one"),
        ({"ranges": {"nothing": (2000, 2000)}}, "must be ascending"),
    ],
)
def test_ranges_that_contradict_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Tissue(**settings)


def test_hounsfield_units_are_for_ct() -> None:
    with pytest.raises(MedseqError, match="is MR"):
        ms.preprocess(scan(modality="MR"), "tissue")


def head(seed: int) -> tuple[ImageSequence, np.ndarray]:
    """A synthetic head in MR, and the share of each voxel that was painted as brain."""
    from napari_medseq.synthetic.anatomy import Head
    from napari_medseq.synthetic.fields import Grid

    rng = np.random.default_rng(seed)
    grid = Grid((26, 110, 96), (5.0, 2.0, 2.0))
    signal, brain = Head(rng).paint(grid)
    data = grid.thicken(signal) * 300
    noisy = np.hypot(data + rng.normal(0, 6, data.shape), rng.normal(0, 6, data.shape))
    image = ImageSequence(noisy, ("z", "y", "x"), affine_from((2, 2, 5)), modality="MR", name="head")
    return image, grid.thicken(brain)


@pytest.mark.parametrize("seed", [0, 3])
def test_the_brain_of_a_synthetic_head_is_found(seed: int) -> None:
    image, share = head(seed)
    truth = share > 0.5
    found = ms.preprocess(image, "brain")
    assert found.label_names == {1: "brain"}
    both = np.count_nonzero(truth & (found.data > 0))
    assert 2 * both / (np.count_nonzero(truth) + np.count_nonzero(found.data)) > 0.93
    assert both / np.count_nonzero(truth) > 0.97
    image_only = ms.preprocess(image, BrainMask(output="image"))
    assert np.array_equal(image_only.data[found.data > 0], image.data[found.data > 0].astype(np.float32))
    assert (image_only.data[found.data == 0] == image.data.min().astype(np.float32)).all()


def test_the_brain_in_ct_lies_inside_the_skull() -> None:
    z, y, x = np.mgrid[-8:9, -45:46, -40:41] * np.array([5, 2, 2])[:, None, None, None]
    radius = np.sqrt((x / 0.9) ** 2 + y**2 + (z * 0.9) ** 2)
    data = np.full(radius.shape, -1000.0)
    data[radius < 84] = 40  # scalp: as bright as the brain
    data[radius < 79] = 900
    data[radius < 72] = 35
    brain = radius < 72
    image = ImageSequence(
        data + np.random.default_rng(0).normal(0, 4, data.shape), ("z", "y", "x"), affine_from((2, 2, 5)), modality="CT"
    )
    found = ms.preprocess(image, "brain").data > 0
    assert 2 * np.count_nonzero(found & brain) / (np.count_nonzero(found) + np.count_nonzero(brain)) > 0.97


def test_a_brain_of_no_usual_size_is_doubted_and_colour_refused() -> None:
    with pytest.warns(MedseqWarning, match="not a usual size of a brain"):
        ms.preprocess(scan(modality="MR"), "brain")
    with pytest.raises(MedseqError, match="MR and CT only"):
        ms.preprocess(scan(modality="PT"), "brain")
