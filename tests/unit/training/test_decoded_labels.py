"""Labels as files have them: a mask for each structure, masks that JPEG has blurred, masks of 0 and 255."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from napari_medseq.errors import MedseqError
from napari_medseq.training.checking import check_data
from napari_medseq.training.layouts import find_layout
from napari_medseq.training.prepared import Decoded, measured

pytestmark = pytest.mark.filterwarnings("ignore:A picture says nothing of millimetres")


def write(path: Path, values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], affine: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values.T, np.diag([affine, affine, affine, 1.0])), path)


def disc(radius: int, middle: float = 15.5) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    y, x = np.indices((32, 32))
    return ((y - middle) ** 2 + (x - middle) ** 2 < radius**2).astype(np.uint8)


def test_masks_of_structures_are_one_mask_and_the_first_stays_where_two_overlap(tmp_path: Path) -> None:
    image = np.zeros((2, 32, 32), np.uint8)
    for case in ("s0", "s1"):
        write(tmp_path / case / "ct.nii.gz", image)
        write(tmp_path / case / "segmentations" / "liver.nii.gz", np.stack([disc(8), disc(8)]))
        write(tmp_path / case / "segmentations" / "spleen.nii.gz", np.stack([disc(12), disc(4)]))
    layout = find_layout(tmp_path)
    truth = np.asarray(Decoded(layout.entries, {}).read(layout.entries[0])[1].data)
    liver, spleen = disc(8) > 0, disc(12) > 0
    np.testing.assert_array_equal(truth[0], np.where(liver, 1, np.where(spleen, 2, 0)))
    np.testing.assert_array_equal(truth[1], liver)


def test_a_structure_on_another_grid_is_named(tmp_path: Path) -> None:
    write(tmp_path / "s0" / "ct.nii.gz", np.zeros((2, 32, 32), np.uint8))
    write(tmp_path / "s0" / "masks" / "liver.nii.gz", np.ones((2, 32, 32), np.uint8))
    write(tmp_path / "s0" / "masks" / "spleen.nii.gz", np.ones((2, 32, 32), np.uint8), affine=2.0)
    entry = find_layout(tmp_path).entries[0]
    with pytest.raises(MedseqError, match=r"s0: spleen.nii.gz lies on another grid than liver.nii.gz"):
        Decoded([entry], {}).read(entry)


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
