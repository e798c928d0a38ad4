"""What ``dataset.json`` says of labels beyond names, and masks of which it is not plain what they show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.training.automatic.decoded import Decoded
from napari_medseq.training.automatic.prepared import ClassIndices, measured
from napari_medseq.training.layouts import Layout, find_layout
from napari_medseq.training.loops.slab_windows import UNSEEN
from tests.unit.training.layouts.test_layouts import touch
from tests.unit.training.small import blob


def declared(folder: Path, labels: object) -> Layout:
    """A data set of nnU-Net whose ``dataset.json`` says this of the labels."""
    touch(folder, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    (folder / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1"}, "labels": labels}))
    return find_layout(folder)


@pytest.mark.parametrize(
    ("labels", "classes", "doubt"),
    [
        (
            {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3},
            {1: "whole, label 1", 2: "core, label 2", 3: "enhancing"},
            "has regions of several labels (whole, core)",
        ),
        ({"background": "0", "a": "1", "b": [2]}, {1: "a", 2: "b"}, None),
        ({"0": "background", "1": "nerve", "2": "nerve"}, {1: "nerve, label 1", 2: "nerve, label 2"}, "(nerve)"),
        (["background", "a"], {}, "not understood"),
    ],
)
def test_names_of_labels(tmp_path: Path, labels: object, classes: dict[int, str], doubt: str | None) -> None:
    found = declared(tmp_path, labels)
    assert found.classes == classes
    assert (doubt or "") in "".join(found.doubts)
    assert bool(found.doubts) == bool(doubt)


def test_what_nnunet_ignores_is_not_annotated_instead_of_a_class(tmp_path: Path) -> None:
    found = declared(tmp_path, {"background": 0, "tumour": 1, "ignore": 2})
    assert (found.classes, found.ignored) == ({1: "tumour"}, (2,))
    image = blob(0, (3, 12, 10), name="image")
    values = np.zeros((3, 12, 10), np.uint8)
    values[1, 2:6], values[2] = 1, 2
    ms.write(image, tmp_path / "imagesTr" / "a_0000.nii.gz")
    ms.write(image.labels_like(values, name="a", label_names={}), tmp_path / "labelsTr" / "a.nii.gz")
    decoded = Decoded(found.entries, {}, channels=found.channels, ignored=found.ignored)
    facts, classes = measured(decoded, found.classes, None, None)
    assert classes == {1: "tumour"}
    assert facts.classes[1].median_mm3 == pytest.approx(40 * np.prod(list(image.spacing.values())))
    _, labels = decoded.read(found.entries[0])
    index = ClassIndices(classes, True).of("a", np.asarray(labels.data).astype(np.int64))
    assert np.array_equal(index, np.where(values == 2, UNSEEN, values))


def test_masks_of_one_name_in_several_derivatives_are_asked_about(tmp_path: Path) -> None:
    for s in ("sub-01", "sub-02"):
        touch(tmp_path, f"{s}/anat/{s}_T1w.nii.gz", f"derivatives/prep/{s}/anat/{s}_desc-brain_mask.nii.gz")
        touch(tmp_path, *(f"derivatives/{d}/{s}/anat/{s}_desc-tumor_dseg.nii.gz" for d in ("auto", "manual")))
    with pytest.raises(SettingsError, match=r'called sub-01_desc-tumor_dseg.nii.gz of one image.*labels="\*/auto/\*"'):
        find_layout(tmp_path)
    (manual, *_) = found = find_layout(tmp_path, labels="*/manual/*").entries
    assert [e.patient for e in found] == ["sub-01", "sub-02"]
    assert manual.labels[0].relative_to(tmp_path).parts[1] == "manual"
    both = find_layout(tmp_path, labels="derivatives/[mp]*/*")
    assert both.classes == {1: "desc-brain", 2: "desc-tumor"}


@pytest.mark.parametrize("place", ["", "labels/"])
def test_a_folder_of_masks_for_each_structure_says_how_to_lay_them_out(tmp_path: Path, place: str) -> None:
    touch(tmp_path, *(f"{d}/p{k}.nii.gz" for k in (1, 2) for d in ("images", f"{place}liver", f"{place}spleen")))
    with pytest.raises(SettingsError, match=r"Where liver, spleen are structures.*patient1/masks/liver.nii.gz"):
        find_layout(tmp_path)


def test_of_empty_masks_alone_the_error_names_one(tmp_path: Path) -> None:
    image = blob(0, (3, 12, 10), name="image")
    ms.write(image, tmp_path / "images" / "a.nii.gz")
    nothing = np.zeros((3, 12, 10), np.uint8)
    ms.write(image.labels_like(nothing, name="a", label_names={}), tmp_path / "labels" / "a.nii.gz")
    with pytest.raises(MedseqError, match=r"1 case was read, and no label .* such as .*a\.nii\.gz"):
        measured(Decoded(find_layout(tmp_path).entries, {}), {}, None, None)
