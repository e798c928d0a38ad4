"""DICOM: each compressed transfer syntax without the decoders that are not required, and video by name or through PyAV."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import UID

import napari_medseq as ms
from napari_medseq.errors import ReadError
from napari_medseq.io.dicom.codecs import RLE, unpack_rle
from napari_medseq.io.dicom.headers import parse
from tests.unit.io import dicoms

codecs = pytest.importorskip("imagecodecs")
BASE = "1.2.840.10008.1.2.4."


def _rle(path: Path, pixels: np.ndarray) -> Path:
    ds = dicoms.dataset(pixels)
    ds.compress(RLE, encoding_plugin="pydicom", generate_instance_uid=False)
    return dicoms.save(ds, path)


ENCODERS: dict[str, tuple[str, Any, int]] = {
    "jpeg extended 12 bit": (BASE + "51", lambda p: codecs.jpeg8_encode(p, level=99, bitspersample=12), 8),
    "jpeg lossless": (BASE + "57", lambda p: codecs.jpeg8_encode(p, lossless=True, bitspersample=16), 0),
    "jpeg lossless first order": (BASE + "70", lambda p: codecs.jpeg8_encode(p, lossless=True, bitspersample=16), 0),
    "jpeg-ls": (BASE + "80", codecs.jpegls_encode, 0),
    "jpeg-ls near lossless": (BASE + "81", lambda p: codecs.jpegls_encode(p, level=2), 2),
    "jpeg 2000 lossless": (BASE + "90", lambda p: codecs.jpeg2k_encode(p, reversible=True, codecformat="j2k"), 0),
    "jpeg 2000": (BASE + "91", lambda p: codecs.jpeg2k_encode(p, reversible=True, codecformat="j2k"), 0),
    "htj2k lossless": (BASE + "201", lambda p: codecs.htj2k_encode(p, reversible=True), 0),
    "htj2k rpcl": (BASE + "202", lambda p: codecs.htj2k_encode(p, reversible=True), 0),
    "htj2k": (BASE + "203", lambda p: codecs.htj2k_encode(p, reversible=True), 0),
}  # fmt: skip


def _save(path: Path, frames: list[bytes], pixels: np.ndarray, syntax: str, **more: Any) -> Path:
    ds = dicoms.dataset(pixels, **more)
    ds.PixelData = encapsulate(frames)
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return dicoms.save(ds, path)


@pytest.fixture
def no_gdcm(monkeypatch: pytest.MonkeyPatch) -> None:
    """GDCM is not a dependency: it may not be what decodes."""
    for name in ("gdcm", "_gdcm"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("no_gdcm")
@pytest.mark.parametrize("name", ENCODERS)
def test_grey_frames_of_every_syntax(tmp_path: Path, name: str) -> None:
    if "htj2k" in name and not hasattr(codecs, "htj2k_encode"):
        pytest.skip("this imagecodecs writes no HTJ2K to test with")
    syntax, encode, error = ENCODERS[name]
    pixels = np.stack([dicoms.picture((48, 32), seed=k, top=4096) for k in range(3)])
    if error > 2:  # lossy: something smooth
        pixels = np.stack([np.add.outer(np.arange(48) * 20, np.arange(32) * 9).astype(np.uint16) + k for k in range(3)])
    more = {"GridFrameOffsetVector": [0, 2, 4], "BitsStored": 12, "HighBit": 11}
    path = _save(tmp_path / "a", [encode(p) for p in pixels], pixels, syntax, **more)
    for lazy in (False, True):
        (seq,) = ms.read(path, lazy=lazy)
        assert np.abs(np.asarray(seq.data).astype(int) - pixels).max() <= error


@pytest.mark.usefixtures("no_gdcm")
@pytest.mark.parametrize("name", ["jpeg lossless first order", "jpeg-ls"])
def test_signed_samples_of_decoders_that_know_no_sign(tmp_path: Path, name: str) -> None:
    syntax, encode, _ = ENCODERS[name]
    values = np.random.default_rng(0).integers(-2048, 2048, (48, 32)).astype(np.int16)
    stored = (values & 0x0FFF).astype(np.uint16)
    path = _save(tmp_path / "a", [encode(stored)], stored, syntax, BitsStored=12, HighBit=11, PixelRepresentation=1)
    assert np.array_equal(ms.read(path)[0].data[0], values)


@pytest.mark.usefixtures("no_gdcm")
@pytest.mark.parametrize(("syntax", "more"), [(BASE + "70", {"lossless": True}), (BASE + "80", None)])
def test_colours_without_gdcm(tmp_path: Path, syntax: str, more: dict[str, Any] | None) -> None:
    colour = np.random.default_rng(0).integers(0, 255, (48, 32, 3)).astype(np.uint8)
    data = (
        codecs.jpegls_encode(colour)
        if more is None
        else codecs.jpeg8_encode(colour, colorspace="RGB", outcolorspace="RGB", **more)
    )
    facts = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    (seq,) = ms.read(_save(tmp_path / "a", [data], colour[..., 0], syntax, **facts))
    assert np.array_equal(seq.data[0], colour)


def test_overlay_bits_in_rle_are_masked(tmp_path: Path) -> None:
    picture = dicoms.picture((48, 32), top=4096)
    ds = dicoms.dataset(picture | np.uint16(0x9000), BitsStored=12, HighBit=11)
    ds.compress("1.2.840.10008.1.2.5")
    assert np.array_equal(ms.read(dicoms.save(ds, tmp_path / "a"))[0].data[0], picture)


def test_a_frame_in_several_fragments(tmp_path: Path) -> None:
    pixels = np.stack([dicoms.picture((48, 32), seed=k) for k in range(2)])
    coded = [codecs.jpegls_encode(p) for p in pixels]
    ds = dicoms.dataset(pixels, GridFrameOffsetVector=[0, 2])
    ds.PixelData = encapsulate(coded, fragments_per_frame=3)
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = UID(BASE + "80")
    assert np.array_equal(ms.read(dicoms.save(ds, tmp_path / "a"))[0].data, pixels)


@pytest.mark.parametrize("syntax", ["100", "102", "103", "107"])
def test_video_without_a_library_is_named(tmp_path: Path, syntax: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    pixels = np.zeros((2, 16, 16), np.uint8)
    path = _save(tmp_path / "a", [b"\0\0\1\xb3" + b"\0" * 60], pixels, BASE + syntax, Modality="US", FrameTime=40)
    with pytest.raises(ReadError, match=r"(MPEG2|MPEG-4 AVC/H.264|HEVC/H.265).*1\.2\.840\.10008\.1\.2\.4\." + syntax):
        ms.read(path)


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")
def test_video_frames_through_pyav(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    grey = [40, 90, 140, 190]
    with av.open(str(tmp_path / "v.mpg"), "w", format="mpeg") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for value in grey:
            for packet in stream.encode(
                av.VideoFrame.from_ndarray(np.full((32, 32, 3), value, np.uint8), format="rgb24")
            ):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    facts = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_PARTIAL_420", "PlanarConfiguration": 0,
             "ImagePositionPatient": None, "ImageOrientationPatient": None}  # fmt: skip
    pixels = np.zeros((4, 32, 32), np.uint8)
    path = _save(
        tmp_path / "a", [(tmp_path / "v.mpg").read_bytes()], pixels, BASE + "100", Modality="US", FrameTime=40, **facts
    )
    (seq,) = ms.read(path)
    assert (seq.axes, seq.size("t")) == (("t", "y", "x", "c"), 4)
    assert np.abs(seq.data.reshape(4, -1).mean(1) - grey).max() < 6
    assert seq.times == pytest.approx([0, 0.04, 0.08, 0.12])


@pytest.mark.parametrize("bits", [8, 16])
def test_rle_is_unpacked_in_place(tmp_path: Path, bits: int) -> None:
    pixels = np.random.default_rng(bits).integers(0, 1 << (bits - 1), (7, 9)).astype(f"u{bits // 8}")
    pixels[2:5] = 3
    path = _rle(tmp_path / "rle", pixels)
    out = np.empty_like(pixels)
    assert unpack_rle(parse(path), 0, out)
    assert np.array_equal(out, pixels)
    assert np.array_equal(ms.read(path)[0].volume_zyx()[0], pixels)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 160), byte=st.integers(0, 255))
def test_damaged_rle_never_crashes(tmp_path: Path, at: int, byte: int) -> None:
    pixels = dicoms.picture(seed=4)
    path = _rle(tmp_path / "rle", pixels)
    raw = bytearray(path.read_bytes())
    raw[-1 - at] = byte
    path.write_bytes(raw)
    with contextlib.suppress(ms.MedseqError):
        assert ms.read(path)[0].volume_zyx().shape == (1, 6, 5)
