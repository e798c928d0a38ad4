"""Labels as people have them: channels in a fourth axis, values below zero or huge, colours, and places that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import napari_medseq as ms
from napari_medseq.errors import MedseqError, MedseqWarning
from napari_medseq.training.automatic.decoded import Decoded
from napari_medseq.training.automatic.fingerprint import label_counts
from napari_medseq.training.automatic.prepared import ClassIndices, measured
from napari_medseq.training.checking import check_data
from napari_medseq.training.layouts import find_layout
from napari_medseq.training.loops.slab_windows import UNSEEN
from tests.unit.training.small import blob

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
SHAPE = (3, 12, 10)


def image(**facts: object) -> ms.ImageSequence:
    return blob(0, SHAPE, name="image").replace(**facts)


def written(folder: Path, labels: ms.ImageSequence, case: str = "a") -> Path:
    ms.write(image(), folder / "images" / f"{case}.nii.gz")
    ms.write(labels, folder / "labels" / f"{case}.nii.gz")
    return folder


def lesion(dtype: type = np.uint8) -> NDArray[np.generic]:
    values: NDArray[np.generic] = np.zeros(SHAPE, dtype)
    values[1:, 4:8, 3:6] = 1
    return values


def test_channels_along_the_fourth_axis(tmp_path: Path) -> None:
    """As the Medical Segmentation Decathlon has brain tumours and prostates: they are not frames."""
    one = image()
    both = np.stack([one.data, one.data + 100])
    times = np.arange(2, dtype=np.float64)
    ms.write(one.replace(data=both, axes=("t", "z", "y", "x"), times=times), tmp_path / "imagesTr" / "p_1.nii.gz")
    ms.write(one.labels_like(lesion(), name="p_1", label_names={}), tmp_path / "labelsTr" / "p_1.nii.gz")
    facts = {"modality": {"0": "T2", "1": "ADC"}, "labels": {"0": "background", "1": "PZ"}}
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    checked = check_data(tmp_path)
    assert (checked.rows[0]["channels"], checked.doubts) == ("T2, ADC", [])
    layout = find_layout(tmp_path)
    images, _ = Decoded(layout.entries, layout.modalities, channels=layout.channels).read(layout.entries[0])
    np.testing.assert_allclose(np.asarray(images["ADC"].data), np.asarray(images["T2"].data) + 100, atol=0.1)
    assert images["ADC"].modality == "MR"


def test_values_below_zero_were_not_looked_at_unless_nothing_is_zero() -> None:
    indices = ClassIndices({1: "lesion"}, fixed=False)
    values = np.array([[-1, 0, 1, 5]])
    assert indices.of("a", values).tolist() == [[UNSEEN, 0, 1, 2]]
    assert indices.of("b", np.array([[-1, 1]])).tolist() == [[0, 1]]


@pytest.mark.parametrize("value", [7, 2_000_000_011])
def test_labels_are_counted_whatever_their_values(value: int) -> None:
    """A table of counts up to the largest value would not fit into memory."""
    assert label_counts(np.array([0, value, -1, value], np.int64)) == {value: 2}


@pytest.mark.parametrize(("below", "doubt"), [(-1, "mean to ignore"), (-2, "no label is 0")])
def test_values_below_zero_are_said(tmp_path: Path, below: int, doubt: str) -> None:
    values = lesion(np.int16)
    values[0] = below
    if below == -2:
        values[values == 0] = below
    checked = check_data(written(tmp_path, image().labels_like(values, name="a", label_names={})))
    assert checked.rows[0]["labels"] == "1"
    assert any(doubt in d for d in checked.doubts)


def test_colours_of_a_mask_are_classes_of_their_own(tmp_path: Path) -> None:
    coloured = np.zeros((12, 10, 3), np.uint8)
    coloured[2:5, 2:5], coloured[6:9, 6:9] = (220, 20, 60), (0, 128, 0)
    for case in ("a", "b"):
        for folder, pixels in (("images", coloured[..., 0]), ("labels", coloured)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{case}.png")
    layout = find_layout(tmp_path)
    _, classes = measured(Decoded(layout.entries, {}), {}, None, None)
    assert classes == {0x008000: "#008000", 0xDC143C: "#dc143c"}


def test_indices_of_a_coloured_palette_are_the_labels(tmp_path: Path) -> None:
    picture = Image.fromarray(lesion()[1] * 2).convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "mask.png")
    (labels,) = ms.read(tmp_path / "mask.png", kind="labels")
    np.testing.assert_array_equal(np.asarray(labels.data).squeeze(), lesion()[1] * 2)
    picture.putpalette([0, 0, 0, 9, 9, 9, 255, 255, 255])  # shades of grey are values
    picture.save(tmp_path / "mask.png")
    (labels,) = ms.read(tmp_path / "mask.png", kind="labels")
    np.testing.assert_array_equal(np.asarray(labels.data).squeeze(), lesion()[1].astype(int) * 255)


def test_labels_a_voxel_away_say_how_far_and_what_to_do(tmp_path: Path) -> None:
    labels = image().labels_like(lesion(), name="a", label_names={})
    moved = labels.affine.copy()
    moved[:3, 3] += moved[:3, 0]
    (doubt, *_) = check_data(written(tmp_path, labels.replace(affine=moved))).doubts
    assert "mm apart" in doubt
    assert "save the labels with the image's header" in doubt


def test_labels_of_a_picture_stack_lie_where_its_image_does(tmp_path: Path) -> None:
    """ImageJ loses the size of pixels when a mask is made; the voxels are the same ones."""
    import tifffile

    for folder, values, resolution in (("images", lesion(np.uint16) * 900, (100.0, 100.0)), ("labels", lesion(), None)):
        (tmp_path / folder).mkdir()
        facts = {"axes": "ZYX", **({"unit": "um", "spacing": 0.01} if resolution else {})}
        tifffile.imwrite(tmp_path / folder / "a.tif", values, imagej=True, resolution=resolution, metadata=facts)
    assert [r["labels"] for r in check_data(tmp_path).rows] == ["1"]


def test_one_value_of_two_names_is_doubted(tmp_path: Path) -> None:
    for case, name in (("a", "liver"), ("b", "spleen")):
        labels = image().labels_like(lesion(), name=case, label_names={1: name})
        ms.write(image(), tmp_path / "images" / f"{case}.nii.gz")
        ms.write(labels, tmp_path / "labels" / f"{case}.seg.nrrd")
    assert any("is called liver, spleen in different files" in d for d in check_data(tmp_path).doubts)


def decoded_of(folder: Path) -> Decoded:
    layout = find_layout(folder)
    return Decoded(layout.entries, layout.modalities, channels=layout.channels)


def test_an_image_of_one_value_does_not_show_what_is_labelled(tmp_path: Path) -> None:
    written(tmp_path, image().labels_like(lesion(), name="a", label_names={}))
    ms.write(image(data=np.full(SHAPE, 7, np.float32)), tmp_path / "images" / "a.nii.gz")
    with pytest.raises(
        MedseqError, match=r"No case could be read\. a is left out: every voxel of the image has one value"
    ):
        measured(decoded_of(tmp_path), {}, None, None)
    ms.write(image().labels_like(lesion(), name="b", label_names={}), tmp_path / "labels" / "b.nii.gz")
    ms.write(image(), tmp_path / "images" / "b.nii.gz")
    ms.write(image().labels_like(0 * lesion(), name="a", label_names={}), tmp_path / "labels" / "a.nii.gz")
    assert measured(decoded_of(tmp_path), {}, None, None)[0].measured == 2  # an empty slice is no fault


def test_frames_without_labels_of_their_own_are_refused(tmp_path: Path) -> None:
    written(tmp_path, image().labels_like(lesion(), name="a", label_names={}))
    cine = image(data=np.stack([image().data] * 3), axes=("t", "z", "y", "x"), times=np.arange(3.0))
    ms.write(cine, tmp_path / "images" / "a.nii.gz")
    with pytest.raises(MedseqError, match=r"the image has 3 frames, but the labels have 1"):
        measured(decoded_of(tmp_path), {}, None, None)


@pytest.mark.filterwarnings("default::napari_medseq.errors.MedseqWarning")
def test_what_is_left_out_is_named_once(tmp_path: Path) -> None:
    other = blob(0, (3, 9, 10), name="labels")
    written(tmp_path, other.labels_like(np.ones((3, 9, 10), np.uint8), name="labels", label_names={}))
    with pytest.raises(MedseqError, match=r"No case could be read\. a is left out: the labels do not lie on the grid"):
        measured(Decoded(find_layout(tmp_path).entries, {}), {}, None, None)


def test_masks_of_two_whites_are_doubted(tmp_path: Path) -> None:
    for case, white in (("a", 1), ("b", 255)):
        written(tmp_path, image().labels_like(white * lesion(), name=case, label_names={}), case)
    with pytest.warns(MedseqWarning, match="If both mean the same"):
        assert len(measured(decoded_of(tmp_path), {}, None, None)[1]) == 2
