"""File kinds by magic bytes: ours told apart, everything else declined, quickly."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseq.io import detect
from tests.unit.io import dicoms


def _nifti(path: Path) -> Path:
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "noextension.nii", "a.hdr"])
def test_nifti_is_told_by_its_bytes(tmp_path: Path, name: str) -> None:
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4))
    if name.endswith(".hdr"):
        nib.save(nib.Nifti1Pair(np.zeros((3, 4, 5), np.int16), np.eye(4)), tmp_path / name)
    else:
        nib.save(image, tmp_path / name)
    target = tmp_path / name
    if name.startswith("noextension"):
        target = target.rename(tmp_path / "scan")
    assert detect(target) == "nifti"


def test_nifti2(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    assert detect(tmp_path / "a.nii.gz") == "nifti"


def test_dicom_with_and_without_preamble_and_gzipped(tmp_path: Path) -> None:
    path = dicoms.save(dicoms.dataset(dicoms.picture()), tmp_path / "IM0001")
    assert detect(path) == "dicom"
    whole = path.read_bytes()
    bare = tmp_path / "bare"
    bare.write_bytes(whole[132:])
    assert detect(bare) == "dicom"
    zipped = tmp_path / "z.gz"
    zipped.write_bytes(gzip.compress(whole))
    assert detect(zipped) == "dicom"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.nrrd", b"NRRD0005\ntype: uchar\n", "nrrd"),
        ("a.mha", b"ObjectType = Image\nNDims = 3\n", "metaimage"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 20, "picture"),
        ("a.tif", b"II*\0\x08\0\0\0" + b"\0" * 20, "tiff"),
        ("a.mp4", b"\0\0\0\x20ftypisom" + b"\0" * 20, "video"),
    ],
)
def test_other_formats(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert detect(tmp_path / name) == kind


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.nii", b"only text"), ("a.dcm", b""), ("a.dcm", b"x"), ("a.txt", b"hello world, this is a text file\n" * 20),
        ("a.tif", b"II\0\0" + b"\0" * 600), ("a.py", b"import os\n" * 100), ("a.zip", b"PK\x03\x04" + b"\0" * 600),
        ("a.nii.gz", gzip.compress(b"not an image" * 200, mtime=0)), ("a.gz", b"\x1f\x8b garbage"), ("a.npy", b"\x93NUMPY" + b"\0" * 600),
    ],
)  # fmt: skip
def test_what_is_not_ours_is_declined(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert detect(tmp_path / name) is None


def test_missing_file_is_declined_and_a_folder_named(tmp_path: Path) -> None:
    assert detect(tmp_path / "nothing") is None
    assert detect(tmp_path) == "folder"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes_are_answered(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(content)
    assert detect(path) in (None, "nifti", "dicom", "nrrd", "picture", "tiff", "video")


def test_it_takes_under_5_ms(tmp_path: Path) -> None:
    path = _nifti(tmp_path / "a.nii.gz")
    detect(path)
    best = min(_timed(path) for _ in range(10))
    assert best < 0.005


def _timed(path: Path) -> float:
    start = time.perf_counter()
    detect(path)
    return time.perf_counter() - start
