"""Compressed streams that lie, are cut, or never end: checked before a native decoder sees them, and decoded with limits."""

from __future__ import annotations

import contextlib
import random
import struct
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import UID

import napari_medseq as ms
from napari_medseq.errors import ReadError
from napari_medseq.io.dicom.codecs import RLE
from napari_medseq.io.dicom.helper import HELPER
from napari_medseq.io.dicom.streams import check_rle, checked
from tests.unit.io import dicoms

codecs = pytest.importorskip("imagecodecs")
JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
#: A picture whose rows are sorted, so that cut streams run into the long runs of JPEG-LS.
PICTURE = np.sort(np.random.default_rng(0).integers(0, 4000, (64, 64)), axis=1).astype(np.uint16)
STREAMS: dict[str, bytes] = {
    JPEG_LS: codecs.jpegls_encode(PICTURE),
    JPEG_2000: codecs.jpeg2k_encode(PICTURE, level=0, reversible=True, codecformat="j2k"),
}

JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
#: odd without its end marker, but whole
UNUSUAL: bytes = codecs.jpeg8_encode(PICTURE, lossless=True, bitspersample=16)[:-2]


def _save(path: Path, stream: bytes, syntax: str, pixels: np.ndarray = PICTURE, **more: Any) -> Path:
    ds = dicoms.dataset(pixels, **more)
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return dicoms.save(ds, path)


def _refused(path: Path, *, within: float = 20.0) -> str:
    """The text of the error, which comes in time (a hang is what is tested, so the limit is wide)."""
    start = time.monotonic()
    with pytest.raises(ReadError) as caught:
        ms.read(path)
    assert time.monotonic() - start < within
    return str(caught.value)


@pytest.mark.parametrize("syntax", STREAMS)
def test_undamaged_streams_are_decoded_in_this_process(syntax: str) -> None:
    found = checked(STREAMS[syntax], rows=64, columns=64, samples=1)
    assert found is not None
    assert found.plain


@pytest.mark.parametrize("share", [0.23, 0.66, 0.97])
@pytest.mark.parametrize("syntax", STREAMS)
def test_cut_streams_come_to_an_end(tmp_path: Path, syntax: str, share: float) -> None:
    """CharLS loops for ever on a stream that was cut."""
    stream = STREAMS[syntax][: int(share * len(STREAMS[syntax]))]
    path = _save(tmp_path / "a.dcm", stream, syntax)
    start = time.monotonic()
    with contextlib.suppress(ReadError):  # some decoders give what there is
        assert ms.read(path)[0].data.shape[-2:] == (64, 64)
    assert time.monotonic() - start < 30
    HELPER.stop()


@pytest.mark.parametrize("syntax", STREAMS)
def test_another_size_than_the_header_says_is_refused(tmp_path: Path, syntax: str) -> None:
    """A stream of a few kilobytes may announce a picture of gigabytes."""
    stream = bytearray(STREAMS[syntax])
    if syntax == JPEG_LS:
        at = stream.index(b"\xff\xf7") + 5
        stream[at : at + 4] = struct.pack(">HH", 65000, 65000)
    else:
        stream[8:16] = struct.pack(">II", 1 << 19, 1 << 19)
    text = _refused(_save(tmp_path / "a.dcm", bytes(stream), syntax))
    assert "announces" in text or "tiles" in text


def test_other_samples_or_countless_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match="announces 1 samples a pixel, the DICOM header 3"):
        checked(STREAMS[JPEG_LS], rows=64, columns=64, samples=3)
    stream = bytearray(STREAMS[JPEG_2000])
    stream[8:32] = struct.pack(">6I", 64064, 64064, 64000, 64000, 1, 1)  # the same size, far from where the tiles begin
    with pytest.raises(ValueError, match=r"4,104,196,096 tiles"):
        checked(bytes(stream), rows=64, columns=64, samples=1)


def _with_presets(*values: int) -> bytes:
    """The JPEG-LS stream with coding parameters of its own (T.87, C.2.4.1.1) before its scan."""
    at = STREAMS[JPEG_LS].index(b"\xff\xda")
    return STREAMS[JPEG_LS][:at] + b"\xff\xf8" + struct.pack(">HB5H", 13, 1, *values) + STREAMS[JPEG_LS][at:]


@pytest.mark.parametrize(
    "stream",
    [
        STREAMS[JPEG_LS][:-2], STREAMS[JPEG_2000][:-2], STREAMS[JPEG_LS][:900], STREAMS[JPEG_2000][:900],
        _with_presets(4095, 9, 5, 1, 64), _with_presets(0, 1, 2, 3, 64), _with_presets(4095, 18, 67, 276, 1),
        STREAMS[JPEG_2000].replace(b"\xff\x90\0\x0a\0\0\0", b"\xff\x90\0\x0a\0\0\x7f"),
        STREAMS[JPEG_2000].replace(b"\xff\x5c", b"\xff\x5f"),
    ],
    ids=[
        "no end", "no end of 2000", "cut", "cut 2000", "presets out of order", "no top", "no reset", "tile too long",
        "other progressions",
    ],
)  # fmt: skip
def test_unusual_streams_are_not_decoded_in_this_process(stream: bytes) -> None:
    found = checked(stream, rows=64, columns=64, samples=1)
    assert found is not None
    assert not found.plain


def test_streams_with_usual_presets_are_decoded_in_this_process() -> None:
    found = checked(_with_presets(4095, 18, 67, 276, 64), rows=64, columns=64, samples=1)
    assert found is not None
    assert found.plain


def test_boxes_of_no_length_are_passed_or_refused(tmp_path: Path) -> None:
    inner = STREAMS[JPEG_2000]
    start = b"\0\0\0\x0cjP  \r\n\x87\n"
    whole = _save(tmp_path / "a.dcm", start + b"\0\0\0\0jp2c" + inner, JPEG_2000)
    np.testing.assert_array_equal(np.asarray(ms.read(whole)[0].data).reshape(64, 64), PICTURE)
    endless = _save(tmp_path / "b.dcm", start + b"\0\0\0\0jp2h" + inner, JPEG_2000)
    assert "boxes" in _refused(endless)


@pytest.mark.parametrize("offset", [1 << 20, (1 << 32) - 1, 63, 0])
@pytest.mark.parametrize("second", [True, False])
def test_rle_segments_outside_the_frame_are_refused(tmp_path: Path, offset: int, second: bool) -> None:
    ds = dicoms.dataset(PICTURE)
    ds.compress(RLE, encoding_plugin="pydicom", generate_instance_uid=False)
    data = bytearray(ds.PixelData)
    at = data.index(struct.pack("<I", 2), 8) + (8 if second else 4)
    data[at : at + 4] = struct.pack("<I", offset)
    ds.PixelData = bytes(data)
    assert "compressed picture" in _refused(dicoms.save(ds, tmp_path / "a.dcm"))


@pytest.mark.parametrize("count", [0, 1, 3, 16, 1 << 30])
def test_rle_needs_a_part_for_each_byte(count: int) -> None:
    header = struct.pack("<16I", count, 64, 70, *[0] * 13)
    with pytest.raises(ValueError, match="parts"):
        check_rle(header + bytes(100), 2)


@settings(deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(sorted(STREAMS)))
def test_mutated_headers_are_answered(rng: random.Random, syntax: str) -> None:
    stream = bytearray(STREAMS[syntax])
    for _ in range(rng.randint(1, 6)):
        stream[rng.randrange(160)] = rng.randrange(256)
    stream = stream[: rng.choice((len(stream), rng.randrange(2, len(stream))))]
    try:
        found = checked(bytes(stream), rows=64, columns=64, samples=1)
    except (ValueError, struct.error, IndexError):
        return
    assert found is None or (found.rows, found.columns, found.samples) == (64, 64, 1)


def _helpers() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "napari_medseq.io.dicom.helper" in " ".join(p.cmdline())]


def test_what_is_unusual_is_decoded_elsewhere_with_limits_and_what_never_ends_is_ended(tmp_path: Path) -> None:
    """A helper that is stopped is what a decoder in an endless loop is: it does not answer."""
    unusual = _save(tmp_path / "a.dcm", UNUSUAL, JPEG_LOSSLESS)
    HELPER.stop()
    assert ms.read(unusual)[0].data.shape[-2:] == (64, 64)
    (helper,) = _helpers()
    if sys.platform == "linux":
        assert 0 < helper.rlimit(psutil.RLIMIT_AS)[0] < 1 << 34  # -1: no limit
    helper.suspend()
    assert "did not come to an end" in _refused(unusual)
    assert not helper.is_running()
    assert ms.read(unusual)[0].data.shape[-2:] == (64, 64)
    HELPER.stop()


def test_the_helper_outlives_a_stream_that_kills_it(tmp_path: Path) -> None:
    cut = _save(tmp_path / "a.dcm", STREAMS[JPEG_LS][:1200], JPEG_LS)
    for _ in range(2):
        _refused(cut)
    path = _save(tmp_path / "b.dcm", UNUSUAL, JPEG_LOSSLESS)
    np.testing.assert_array_equal(np.asarray(ms.read(path)[0].data).reshape(64, 64), PICTURE)
    HELPER.stop()
