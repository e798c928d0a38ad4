"""Labels saved as NRRD or MetaImage, under any file name, come back as labels with their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import napari_medseq as ms
from napari_medseq.io import info
from napari_medseq.io.label_names import FIELD, as_text, from_text
from napari_medseq.sequence import ImageSequence, affine_from

NAMES = {1: "tumour", 2: 'Ödem "rechts" \\ links', 7: "=:\n{}"}


@pytest.fixture(params=[".nrrd", ".mha"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A name that says nothing of labels."""
    return tmp_path / f"scan{request.param}"


def labels(names: dict[int, str]) -> ImageSequence:
    data = np.random.default_rng(1).choice([0, 1, 2, 7], size=(4, 5, 6)).astype(np.uint8)
    return ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 2)), kind="labels", label_names=names, name="scan")


@pytest.mark.parametrize("names", [NAMES, {}])
def test_labels_come_back_with_their_names(path: Path, names: dict[int, str]) -> None:
    seq = labels(names)
    ms.write(seq, path)
    (found,) = ms.read(path)
    assert found.kind == "labels"
    assert found.label_names == seq.label_names
    assert np.array_equal(found.data, seq.data)
    assert info(path)["series"][0]["kind"] == "labels"
    assert ms.read(path, kind="image")[0].kind == "image"
    # another program passes over the field
    assert np.array_equal(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))), [0, 1, 2, 7])


def test_an_image_stays_an_image(path: Path) -> None:
    ms.write(labels({}).replace(kind="image"), path)
    assert ms.read(path)[0].kind == "image"


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": "b"}', "[" * 100_000, None])
def test_a_text_that_holds_no_names_gives_none(text: str | None) -> None:
    assert from_text(text) is None


def test_the_field_is_one_line_of_ascii() -> None:
    assert as_text(NAMES).isascii()
    assert "\n" not in as_text(NAMES)
    assert from_text(as_text(NAMES)) == NAMES
    assert FIELD.isalpha()
