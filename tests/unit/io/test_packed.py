"""Packed files that promise more than they can hold, or hold more than they promise."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import napari_medseq as ms
from napari_medseq import memory
from napari_medseq.errors import ReadError, WriteError
from tests.unit.io import dicoms

DEFLATED = "1.2.840.10008.1.2.1.99"


def _deflated(path: Path, pixels: np.ndarray, behind: int = 0, **more: Any) -> Path:
    """A deflated data set, followed by so many zeros in the same stream."""
    ds = dicoms.dataset(pixels, **more)
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    whole = buffer.getvalue()
    start = whole.index(b"\x08\0\x08\0CS")  # the first element behind group 2
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = packer.compress(whole[start:]) + packer.compress(bytes(behind)) + packer.flush()
    meta = whole[:start].replace(b"1.2.840.10008.1.2.1\0", DEFLATED.encode())
    at = meta.index(b"\x02\0\x10\0UI") + 6
    meta = meta[:at] + len(DEFLATED).to_bytes(2, "little") + meta[at + 2 :]
    path.write_bytes(meta + body)
    return path


def test_a_deflated_image_is_read(tmp_path: Path) -> None:
    pixels = dicoms.picture()
    path = _deflated(tmp_path / "a.dcm", pixels)
    np.testing.assert_array_equal(np.squeeze(ms.read(path)[0].data), pixels)
    assert ms.info(path)["series"][0]["shape"][:2] == [5, 6]


def test_what_follows_the_pixels_is_not_unpacked(tmp_path: Path) -> None:
    path = _deflated(tmp_path / "a.dcm", dicoms.picture(), behind=1 << 27)
    assert path.stat().st_size < 1 << 18
    tracemalloc.start()
    try:
        (seq,) = ms.read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(np.squeeze(seq.data), dicoms.picture())
    assert peak < 1 << 27  # what is unpacked to find the pixels, and copies


def test_a_packed_file_that_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of compressed pixels nobody knows the length beforehand."""
    monkeypatch.setattr("napari_medseq.io.dicom.headers.HARMLESS", 1 << 26)
    ds = dicoms.dataset(dicoms.picture())
    ds.compress("1.2.840.10008.1.2.5", encoding_plugin="pydicom")
    whole = dicoms.save(ds, tmp_path / "a.dcm").read_bytes()
    (tmp_path / "b.gz").write_bytes(gzip.compress(whole + bytes(3 << 25)))
    with pytest.raises(ReadError, match="unpacks to more than"):
        ms.read(tmp_path / "b.gz")


@pytest.mark.parametrize("verb", [ms.read, ms.info])
def test_a_promise_that_packed_bytes_cannot_hold_is_refused(tmp_path: Path, verb: Any) -> None:
    path = _deflated(tmp_path / "a.dcm", dicoms.picture(), Rows=60000, Columns=60000, NumberOfFrames=2)
    with pytest.raises(ReadError, match="packed bytes"):
        verb(path)
    whole = dicoms.save(dicoms.dataset(dicoms.picture(), Rows=60000, Columns=60000), tmp_path / "b.dcm").read_bytes()
    (tmp_path / "c.gz").write_bytes(gzip.compress(whole))
    with pytest.raises(ReadError, match="packed bytes"):
        verb(tmp_path / "c.gz")


def test_a_picture_that_its_bytes_cannot_hold_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = (12000).to_bytes(2, "big") * 2
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ReadError, match="cannot hold"):
        ms.read(tmp_path / "a.jpg")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", "list.mhd", "dicom"])
def test_voxels_that_do_not_fit_in_memory_are_refused_before_they_are_read(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system would end the process in the middle, without a word."""
    path = tmp_path / f"scan{ending}"
    image = ms.ImageSequence(
        np.ones((4, 5, 6), np.int16), ("z", "y", "x"), np.diag([1.0, 1.0, 2.0, 1.0]), modality="MR"
    )
    if ending == "dicom":
        dicoms.series(path, [(0, 0, 3.0 * k) for k in range(3)])
    elif ending == "list.mhd":
        for name in "ab":
            (tmp_path / name).write_bytes(bytes(60))
        path.write_text("NDims = 3\nDimSize = 5 6 2\nElementType = MET_SHORT\nElementDataFile = LIST\na\nb\n")
    else:
        ms.write(image, path)
    monkeypatch.setattr(memory, "WORTH_SAYING", 0)
    monkeypatch.setattr(memory, "_system", {"MemAvailable:": 40, "SwapFree:": 30}.get)
    monkeypatch.setattr(memory, "available_bytes", lambda: 40)
    with pytest.raises(ReadError, match=r"do not fit in the memory that is free; .*lazy=True"):
        ms.read(path)
    if ending == ".nii":  # nor are they read to be written
        (unread,) = ms.read(path, lazy=True)
        for copy in ("copy.nii", "copy.nrrd", "copy.mha"):
            with pytest.raises(WriteError, match="frame by frame"):
                ms.write(unread, tmp_path / copy)
    monkeypatch.setattr(memory, "available_bytes", lambda: 1 << 20)
    assert ms.read(path)
