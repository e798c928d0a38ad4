"""Which files of a folder are one image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.errors import OperationCancelled, ReadError
from napari_medseq.inference.folders import cases_in, segment_folder, volumes_ml
from tests.unit.io import dicoms


def image(value: float) -> ms.ImageSequence:
    return ms.ImageSequence(
        np.random.default_rng(0).normal(value, 9, (6, 24, 24)).astype(np.float32),
        ("z", "y", "x"),
        np.diag([1.0, 1.0, 3.0, 1.0]),
    )


def test_channels_and_folders_are_cases_and_masks_are_none(tmp_path: Path) -> None:
    for name in ("p1_0000", "p1_0001", "p2_0000", "alone", "alone_mask"):
        ms.write(image(1), tmp_path / f"{name}.nii.gz")
    (tmp_path / "notes.txt").write_text("not an image")
    dicoms.series(tmp_path / "scan_0001", [(0, 0, 3.0 * k) for k in range(3)])
    found = {c.name: sorted(c.files) for c in cases_in(tmp_path)}
    assert found == {"alone": [0], "p1": [0, 1], "p2": [0], "scan_0001": [0]}


def test_folders_of_labels_are_left_out(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz", "b_labels/1.nii.gz"):
        ms.write(image(1), tmp_path / name)
    assert [c.name for c in cases_in(tmp_path)] == ["a", "b"]


def test_a_series_of_dicom_is_one_case(tmp_path: Path) -> None:
    dicoms.series(tmp_path / "scan", [(0, 0, 3.0 * k) for k in range(3)])
    (case,) = cases_in(tmp_path / "scan")
    assert (case.name, case.files) == ("scan", {0: tmp_path / "scan"})


def test_a_folder_without_images_is_said(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="holds no image"):
        cases_in(tmp_path)


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_numbers_of_channels_are_those_of_the_model(tmp_path: Path) -> None:
    """The shipped sarcoma network takes CT, PET and MR, in this order, and may miss some."""
    for number, value in enumerate((40, 3)):
        ms.write(image(value), tmp_path / "in" / f"p_000{number}.nii.gz")
    (done,) = segment_folder(tmp_path / "in", "sarcoma", tmp_path / "out", force=True)
    assert (done.status, done.error) == ("done", "")
    channels = {c: ms.read(tmp_path / "in" / f"p_000{k}.nii.gz")[0] for k, c in enumerate(("CT", "PET"))}
    expected = ms.segment(channels, "sarcoma", force=True).labels
    np.testing.assert_array_equal(ms.read(done.labels, kind="labels")[0].volume_zyx(), expected.volume_zyx())
    assert done.volumes_ml == volumes_ml(expected)


def test_images_that_differ_in_their_ending_alone_are_two_cases(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a.nrrd"):
        ms.write(image(1), tmp_path / name)
    assert {c.name: [p.name for p in c.files.values()] for c in cases_in(tmp_path)} == {
        "a": ["a.nii.gz"],
        "a.nrrd": ["a.nrrd"],
    }


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_a_case_that_was_cancelled_has_not_failed(tmp_path: Path) -> None:
    ms.write(image(40), tmp_path / "in" / "p.nii.gz")
    answers = iter([False])  # it begins, and is stopped within its only case
    with pytest.raises(OperationCancelled):
        segment_folder(
            tmp_path / "in", "brain-tumor", tmp_path / "out", force=True, cancelled=lambda: next(answers, True)
        )
    assert not (tmp_path / "out").exists()
