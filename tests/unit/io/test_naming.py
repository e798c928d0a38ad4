"""Names: labels by name, dates in names, stems, uniqueness."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from napari_medseq.io import naming
from napari_medseq.sequence import ImageSequence


@pytest.mark.parametrize(
    "name",
    ["a_seg.nii.gz", "a_mask.nii", "x_label.nii", "x_labels.nii", "sub_dseg.nii.gz", "sub-03_tumor.nii.gz", "p_lesion.mha",
     "p_lesions.nrrd", "labels/case1.nii.gz", "A_SEG.nii", "case-mask.nii", "tumour.nii.gz",
     "scan-segmentation.nii.gz", "patient001_frame01_gt.nii.gz", "segmentation-12.nii", "label0007.nii.gz", "Segmentation.seg.nrrd",
     "masks/case1.nii.gz", "s01/segmentations/spleen.nii.gz"],
)  # fmt: skip
def test_label_names(name: str) -> None:
    assert naming.names_labels(name)


@pytest.mark.parametrize(
    "name",
    [
        "T1post.nii.gz",
        "unmasked.nii",
        "segment_me.nii",
        "tumor_bed_T1.nii",
        "mylabels/x.nii",
        "masked.nii",
        "volume-12.nii",
        "gtest.nii",
        "segmentation_of_T1.nii",
        "mask_T1.nii",
    ],
)
def test_image_names(name: str) -> None:
    assert not naming.names_labels(name)


@pytest.mark.parametrize(
    ("name", "day"),
    [("ses-19921229", date(1992, 12, 29)), ("2020-01-31_brain", date(2020, 1, 31)), ("v_2020.02.29", date(2020, 2, 29)),
     ("baseline", None), ("123456789012", None), ("2021-02-30", None), ("20201301", None)],
)  # fmt: skip
def test_dates_in_names(name: str, day: date | None) -> None:
    assert naming.date_in(name) == day


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.b.nii.gz", "a.b"), ("x.seg.nrrd", "x"), ("IM0001", "IM0001"), ("s.dcm", "s"), (".nii", ".nii")],
)
def test_the_stem_of_a_file_name_has_no_suffixes(name: str, stem: str) -> None:
    assert naming.stem(name) == stem


def test_namesakes_are_numbered() -> None:
    one = ImageSequence(np.zeros((2, 2)), ("y", "x"), np.eye(4), name="a")
    assert [s.name for s in naming.unique([one, one, one.replace(name="a_2"), one])] == ["a", "a_2", "a_2_2", "a_3"]


def test_readable_names_hold_no_separators() -> None:
    assert naming.readable("T1 / post: Gd\n*") == "T1_post_Gd"
    assert naming.readable("  ", "image") == "image"
    assert naming.readable("a" * 79 + ".b") == "a" * 79  # Windows drops a dot at the end


@pytest.mark.parametrize("name", ["CON", "nul", "com1", "Aux.axial", "LPT³.a.b"])
def test_readable_names_are_no_devices_of_windows(name: str) -> None:
    device, dot, rest = name.partition(".")
    assert naming.readable(name) == f"{device}_{dot}{rest}"
    assert not naming.is_portable(name)
    assert naming.is_portable(naming.readable(name))


def test_names_that_only_resemble_devices_stay() -> None:
    for name in ("CONTRAST", "com10", "null", "aux_a", "xcon"):
        assert naming.readable(name) == name
        assert naming.is_portable(name)
    assert not naming.is_portable("patient 1.")
