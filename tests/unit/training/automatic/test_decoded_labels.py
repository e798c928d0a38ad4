"""Labels as files have them: a mask for each structure, masks that JPEG has blurred, masks of 0 and 255."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import napari_medseq as ms
from napari_medseq.errors import MedseqError, MedseqWarning, SettingsError
from napari_medseq.training.automatic.decoded import Decoded, lies_on
from napari_medseq.training.automatic.prepared import measured
from napari_medseq.training.checking import check_data
from napari_medseq.training.layouts import Entry, find_layout
from tests.unit.io import dicoms

pytestmark = pytest.mark.filterwarnings("ignore:A picture does not state its size in millimetres")


def write(path: Path, values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], affine: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values.T, np.diag([affine, affine, affine, 1.0])), path)


def disc(radius: int, middle: float = 15.5) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    y, x = np.indices((32, 32))
    return ((y - middle) ** 2 + (x - middle) ** 2 < radius**2).astype(np.uint8)


def test_masks_of_structures_are_one_mask_in_which_the_smaller_is_seen_where_two_overlap(tmp_path: Path) -> None:
    image = np.zeros((2, 32, 32), np.uint8)
    for case in ("s0", "s1"):
        write(tmp_path / case / "ct.nii.gz", image)
        write(tmp_path / case / "segmentations" / "all.nii.gz", np.stack([disc(8), disc(8)]))
        write(tmp_path / case / "segmentations" / "core.nii.gz", np.stack([disc(4), disc(4)]))
        write(tmp_path / case / "segmentations" / "wide.nii.gz", np.stack([disc(12), disc(12)]))
    layout = find_layout(tmp_path)
    with pytest.warns(MedseqWarning, match=r"s0: masks overlap.*25% of all, 4\d% of wide"):
        truth = np.asarray(Decoded(layout.entries, {}).read(layout.entries[0])[1].data)
    expected = np.where(disc(4), 2, np.where(disc(8), 1, np.where(disc(12), 3, 0)))
    np.testing.assert_array_equal(truth, np.stack([expected, expected]))


def test_a_structure_on_another_grid_is_named(tmp_path: Path) -> None:
    write(tmp_path / "s0" / "ct.nii.gz", np.zeros((2, 32, 32), np.uint8))
    write(tmp_path / "s0" / "masks" / "liver.nii.gz", np.ones((2, 32, 32), np.uint8))
    write(tmp_path / "s0" / "masks" / "spleen.nii.gz", np.ones((2, 32, 32), np.uint8), affine=2.0)
    entry = find_layout(tmp_path).entries[0]
    with pytest.raises(MedseqError, match=r"s0: spleen lies on another grid than liver"):
        Decoded([entry], {}).read(entry)


def test_grids_of_micrometres_are_compared_in_voxels() -> None:
    image = ms.ImageSequence(np.zeros((2, 8, 8)), ("z", "y", "x"), np.diag([0.02, 0.02, 0.02, 1]), name="micro-CT")
    moved = image.affine.copy()
    moved[0, 3] += 0.05  # less than 0.1 mm, but two voxels and a half
    assert lies_on(image, image)
    assert not lies_on(image.replace(affine=moved), image)


def test_a_mask_in_jpeg_is_black_and_white_again_and_that_is_said(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(disc(10) * 255).save(tmp_path / folder / "a.jpg", quality=75)
    written = np.asarray(Image.open(tmp_path / "masks" / "a.jpg"))
    assert len(np.unique(written)) > 2, "JPEG is to have changed the values"
    checked = check_data(tmp_path)
    assert checked.rows[0]["labels"] == "1"
    assert any("JPEG" in d for d in checked.doubts)
    entry = checked.layout.entries[0]
    np.testing.assert_array_equal(np.asarray(Decoded([entry], {}).read(entry)[1].data).squeeze(), disc(10))


@pytest.mark.parametrize("levels", [(0, 1, 2), (0, 90, 180)])
def test_classes_in_jpeg_are_refused(tmp_path: Path, levels: tuple[int, ...]) -> None:
    values = np.array(levels, np.uint8)[disc(12) + disc(6)]
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(values).save(tmp_path / folder / "a.jpg")
    assert any("save them as PNG" in d for d in check_data(tmp_path).doubts)


def test_masks_of_0_and_255_are_one_class(tmp_path: Path) -> None:
    for case in ("a", "b"):
        write(
            tmp_path / "images" / f"{case}.nii.gz",
            np.random.default_rng(0).integers(0, 99, (2, 32, 32)).astype(np.uint8),
        )
        write(tmp_path / "labels" / f"{case}.nii.gz", np.stack([disc(8), disc(9)]) * 255)
    layout = find_layout(tmp_path)
    assert not [d for d in check_data(tmp_path).doubts if "255" in d]
    facts, classes = measured(Decoded(layout.entries, {}), {}, None, None)
    assert classes == {255: "foreground"}
    assert facts.classes[255].cases == 2


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
@pytest.mark.parametrize("form", ["rtstruct", "seg"])
def test_structures_of_dicom_are_told_apart_by_name(tmp_path: Path, form: Literal["rtstruct", "seg"]) -> None:
    for k, (patient, names) in enumerate((("A", {1: "GTV", 2: "lung"}), ("B", {1: "lung", 2: "GTV"}))):
        dicoms.series(
            tmp_path / patient / "CT", [(0, 0, 3.0 * z) for z in range(4)], seed=k, PatientID=patient, Modality="CT"
        )
        image = ms.read(tmp_path / patient / "CT")[0]
        values = np.zeros(image.data.shape, np.uint8)
        values[1:3, :, 0], values[1:3, :, -1] = 1, 2
        labels = image.labels_like(values, name="rois", label_names=names)
        ms.write(labels, tmp_path / patient / "RS" / "rs.dcm", format=form, reference=tmp_path / patient / "CT")
    layout = find_layout(tmp_path)
    assert layout.classes == {1: "GTV", 2: "lung"}
    assert [e.patient for e in layout.entries] == ["A", "B"]
    (_, a), (images, b) = (Decoded(layout.entries, {}).read(e) for e in layout.entries)
    assert images["image"].modality == "CT"
    inside = np.asarray(a.data) > 0
    np.testing.assert_array_equal(inside, np.asarray(b.data) > 0)
    np.testing.assert_array_equal(np.asarray(a.data)[inside], 3 - np.asarray(b.data)[inside])  # 1 where the other has 2
    assert check_data(tmp_path).doubts == []


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_labels_of_dicom_without_their_image_are_a_doubt(tmp_path: Path) -> None:
    dicoms.series(tmp_path / "CT", [(0, 0, 3.0 * k) for k in range(4)])
    image = ms.read(tmp_path / "CT")[0]
    labels = image.labels_like(np.ones(image.data.shape, np.uint8), name="all", label_names={1: "body"})
    ms.write(labels, tmp_path / "A" / "seg.dcm", format="seg", reference=tmp_path / "CT")
    dicoms.series(tmp_path / "A", [(50, 0, 3.0 * k) for k in range(4)], SeriesInstanceUID="1.2.3")
    assert any("has the grid of its labels" in d for d in check_data(tmp_path / "A").doubts)


def clinic(folder: Path, *, study: str, names: dict[int, str]) -> None:
    """A series of CT in a folder, and the segmentation of two structures."""
    own: dict[str, Any] = {
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.4",
        "FrameOfReferenceUID": f"{study}.9",
    }
    dicoms.series(folder / "CT", [(0, 0, 3.0 * z) for z in range(4)], **own)
    image = ms.read(folder / "CT")[0]
    values = np.zeros(image.data.shape, np.uint8)
    values[1:3, :, 0], values[1:3, :, -1] = 1, 2
    labels = image.labels_like(values, name="rois", label_names=names)
    ms.write(labels, folder / "SEG" / "seg.dcm", format="seg", reference=folder / "CT")


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_structures_whose_names_differ_in_case_and_marks_are_one(tmp_path: Path) -> None:
    clinic(tmp_path / "A", study="1.2.1", names={1: "GTV 1", 2: "Lung_L"})
    clinic(tmp_path / "B", study="1.2.2", names={1: "gtv-1", 2: "Lung_L"})
    layout = find_layout(tmp_path)
    assert layout.classes == {1: "GTV 1", 2: "Lung_L"}
    assert layout.doubts == ("GTV 1, gtv-1 are taken for one structure",)
    for entry in layout.entries:
        assert set(np.unique(Decoded([], {}).read(entry)[1].data)) == {0, 1, 2}


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_dicom_of_several_studies_in_one_folder_is_refused(tmp_path: Path) -> None:
    heap = tmp_path / "heap"
    heap.mkdir()
    for number in (1, 2):
        clinic(tmp_path / "sorted" / str(number), study=f"1.2.{number}", names={1: "GTV", 2: "lung"})
    for number, file in enumerate(sorted((tmp_path / "sorted").rglob("*.dcm"))):
        shutil.copy(file, heap / f"{number}.dcm")
    with pytest.raises(SettingsError, match="labels of 2 studies"):
        find_layout(heap)
    assert len(find_layout(tmp_path / "sorted").entries) == 2


def test_of_a_video_the_labelled_frames_are_taken(tmp_path: Path) -> None:
    import tifffile

    frames = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 32, 32), np.uint8)
    tifffile.imwrite(tmp_path / "clip.tif", frames, imagej=True, metadata={"axes": "TYX", "finterval": 0.5})
    for k in (1, 3):
        Image.fromarray(disc(6)).save(tmp_path / f"{k}.png")
    labels = (tmp_path / "1.png", tmp_path / "3.png")
    images, truth = Decoded([], {}).read(Entry("p", "clip", {"image": (tmp_path / "clip.tif",)}, labels, at=(1, 3)))
    assert np.asarray(images["image"].data)[:, 0, 0].tolist() == [1, 3]
    np.testing.assert_array_equal(truth.data, np.stack([disc(6), disc(6)]))
    with pytest.raises(MedseqError, match=r"no frame for 3\.png; the video has the frames 0 to 4"):
        Decoded([], {}).read(Entry("p", "late", {"image": (tmp_path / "clip.tif",)}, labels, at=(1, 5)))
