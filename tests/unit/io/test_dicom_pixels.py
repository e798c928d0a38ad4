"""DICOM: what the stored samples mean: bits, signs, rescaling, colours, transfer syntaxes, and files cut short."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)  # fmt: skip

import napari_medseq as ms
from napari_medseq.errors import MedseqError, ReadError, ReadWarning
from tests.unit.io import dicoms


def _one(path: Path) -> ms.ImageSequence:
    (seq,) = ms.read(path)
    return seq


def test_overlay_in_high_bits_is_masked(tmp_path: Path) -> None:
    picture = dicoms.picture(top=4096)
    ds = dicoms.dataset(picture | np.uint16(0x9000), BitsStored=12, HighBit=11)
    assert np.array_equal(_one(dicoms.save(ds, tmp_path / "a")).data[0], picture)


def test_signed_twelve_bits_are_extended(tmp_path: Path) -> None:
    values = np.arange(-15, 15, dtype=np.int16).reshape(6, 5)
    stored = (values & 0x0FFF).astype(np.uint16)
    ds = dicoms.dataset(stored, BitsStored=12, HighBit=11, PixelRepresentation=1)
    assert np.array_equal(_one(dicoms.save(ds, tmp_path / "a")).data[0], values)


def test_high_bit_above_stored_bits(tmp_path: Path) -> None:
    picture = dicoms.picture(top=256)
    ds = dicoms.dataset(picture << 4, BitsStored=8, HighBit=11)
    assert np.array_equal(_one(dicoms.save(ds, tmp_path / "a")).data[0], picture)


@pytest.mark.parametrize(
    ("slope", "inter", "dtype"),
    [
        (1, -1024, np.int16),
        (1, 0, np.uint16),
        (0.5, 0, np.float32),
        (2, 1, np.float32),
        (None, None, np.uint16),
        (0, 0, np.uint16),
    ],
)
@pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")
def test_rescale_and_type(tmp_path: Path, slope: float | None, inter: float | None, dtype: Any) -> None:
    picture = dicoms.picture()
    seq = _one(dicoms.save(dicoms.dataset(picture, RescaleSlope=slope, RescaleIntercept=inter), tmp_path / "a"))
    assert seq.data.dtype == dtype
    assert np.allclose(seq.data[0], picture.astype(float) * (slope or 1) + (inter or 0))


def test_twelve_bit_ct_stays_sixteen_bit(tmp_path: Path) -> None:
    seq = _one(
        dicoms.save(
            dicoms.dataset(dicoms.picture(), BitsStored=12, HighBit=11, RescaleSlope=1, RescaleIntercept=-1024),
            tmp_path / "a",
        )
    )
    assert seq.data.dtype == np.int16
    assert int(seq.data.min()) < 0


def test_slope_may_change_from_slice_to_slice(tmp_path: Path) -> None:
    pixels = dicoms.series(
        tmp_path, [(0, 0, 2.5 * k) for k in range(4)], each=lambda k: {"RescaleSlope": 0.5 + k, "RescaleIntercept": 0}
    )
    expected = np.stack([p * (0.5 + k) for k, p in enumerate(pixels)])
    assert np.allclose(_one(tmp_path).data, expected)


def test_monochrome1_keeps_values_and_inverts_colours(tmp_path: Path) -> None:
    picture = dicoms.picture()
    seq = _one(dicoms.save(dicoms.dataset(picture, PhotometricInterpretation="MONOCHROME1"), tmp_path / "a"))
    assert np.array_equal(seq.data[0], picture)
    assert seq.meta["colormap"] == "gray_r"


def test_window_becomes_contrast_limits(tmp_path: Path) -> None:
    seq = _one(
        dicoms.save(dicoms.dataset(dicoms.picture(), WindowCenter=[40, 600], WindowWidth=[400, 2000]), tmp_path / "a")
    )
    assert seq.meta["contrast_limits"] == [-160, 240]


@pytest.mark.parametrize("planar", [0, 1])
def test_rgb(tmp_path: Path, planar: int) -> None:
    colour = np.random.default_rng(0).integers(0, 255, (6, 4, 3)).astype(np.uint8)
    ds = dicoms.dataset(colour[..., 0], SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=planar)
    ds.PixelData = (colour if planar == 0 else np.moveaxis(colour, -1, 0)).tobytes()
    seq = _one(dicoms.save(ds, tmp_path / "a"))
    assert seq.axes == ("z", "y", "x", "c")
    assert np.array_equal(seq.data[0], colour)


def test_palette(tmp_path: Path) -> None:
    index = np.arange(24, dtype=np.uint8).reshape(6, 4)
    ds = dicoms.dataset(index, PhotometricInterpretation="PALETTE COLOR")
    for k, name in enumerate(("Red", "Green", "Blue")):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(ds, f"{name}PaletteColorLookupTableData", bytes((v * (k + 1)) % 256 for v in range(256)))
    seq = _one(dicoms.save(ds, tmp_path / "a"))
    assert np.array_equal(seq.data[0], np.stack([index, index * 2, index * 3], -1))


def test_float_pixels(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    ds = dicoms.dataset(dicoms.picture(), BitsAllocated=32, BitsStored=None, HighBit=None, PixelRepresentation=None)
    del ds.PixelData
    ds.FloatPixelData = values.tobytes()
    assert np.array_equal(_one(dicoms.save(ds, tmp_path / "a")).data[0], values)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_syntaxes(tmp_path: Path, syntax: Any) -> None:
    picture = dicoms.picture()
    ds = dicoms.dataset(picture, WindowCenter=1, WindowWidth=2)
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = picture.byteswap().tobytes()
    little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    dicoms.pydicom.dcmwrite(tmp_path / "a", ds, implicit_vr=implicit, little_endian=little)
    assert np.array_equal(_one(tmp_path / "a").data[0], picture)


@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_big_endian_bytes_are_swapped_in_words_alone(tmp_path: Path, vr: str) -> None:
    picture = (dicoms.picture() % 256).astype(np.uint8)
    ds = dicoms.dataset(picture)
    ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    stored = picture.tobytes()
    ds.PixelData = stored if vr == "OB" else np.frombuffer(stored, "<u2").byteswap().tobytes()
    ds["PixelData"].VR = vr
    dicoms.pydicom.dcmwrite(tmp_path / "a", ds, implicit_vr=False, little_endian=False)
    assert np.array_equal(dicoms.pydicom.dcmread(tmp_path / "a").pixel_array, picture)
    assert np.array_equal(_one(tmp_path / "a").data[0], picture)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_syntaxes(tmp_path: Path, syntax: Any) -> None:
    pixels = np.stack([dicoms.picture((64, 48), seed=k) for k in range(3)])
    ds = dicoms.dataset(pixels, GridFrameOffsetVector=[0, 3, 6])
    ds.compress(syntax)
    seq = _one(dicoms.save(ds, tmp_path / "a"))
    assert np.array_equal(seq.data, pixels)
    assert np.array_equal(ms.read(tmp_path / "a", lazy=True)[0].compute().data, pixels)


def test_unknown_codec_is_named(tmp_path: Path) -> None:
    ds = dicoms.dataset(dicoms.picture((64, 48)))
    ds.compress(RLELossless)
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.102")
    with pytest.raises(ReadError, match=r"MPEG-4|1\.2\.840\.10008\.1\.2\.4\.102"):
        ms.read(dicoms.save(ds, tmp_path / "a"))


def test_gzipped_and_bare_files(tmp_path: Path) -> None:
    picture = dicoms.picture()
    whole = dicoms.save(dicoms.dataset(picture), tmp_path / "a").read_bytes()
    (tmp_path / "b.gz").write_bytes(gzip.compress(whole))
    (tmp_path / "bare").write_bytes(whole[132:])
    for name in ("b.gz", "bare"):
        assert np.array_equal(_one(tmp_path / name).data[0], picture)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(whole)[:-30])
    with pytest.raises(ReadError, match="gzip"):
        ms.read(tmp_path / "cut.gz")


def test_a_slice_cut_short_is_filled_and_named(tmp_path: Path) -> None:
    dicoms.series(tmp_path, [(0, 0, 2.5 * k) for k in range(4)])
    path = sorted(tmp_path.iterdir())[1]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.warns(ReadWarning, match="20 bytes short"):
        seq = _one(tmp_path)
    assert seq.size("z") == 4
    assert any(path.name in w for w in seq.warnings)


def test_a_promise_of_a_huge_array_is_refused(tmp_path: Path) -> None:
    ds = dicoms.dataset(dicoms.picture(), Rows=60000, Columns=60000)
    with pytest.raises(ReadError, match="promises"):
        ms.read(dicoms.save(ds, tmp_path / "a"))
    ds = dicoms.dataset(dicoms.picture((64, 48)))
    ds.compress(RLELossless)
    ds.Rows = ds.Columns = 65000
    with pytest.raises(ReadError, match="promises"):
        ms.read(dicoms.save(ds, tmp_path / "b"))


def test_one_bad_series_does_not_stop_the_others(tmp_path: Path) -> None:
    dicoms.series(tmp_path / "good", [(0, 0, 2.5 * k) for k in range(3)])
    ds = dicoms.dataset(dicoms.picture(), SeriesInstanceUID="9.9", Rows=60000, Columns=60000)
    dicoms.save(ds, tmp_path / "bad" / "x")
    with pytest.warns(ReadWarning, match="promises"):
        seq = _one(tmp_path)
    assert seq.size("z") == 3


def test_lazy_equals_eager(tmp_path: Path) -> None:
    dicoms.series(
        tmp_path, [(0, 0, 2.5 * k) for k in range(4)], each=lambda k: {"RescaleSlope": 0.5 + k, "RescaleIntercept": -1}
    )
    lazy = ms.read(tmp_path, lazy=True)[0]
    assert lazy.is_lazy
    assert np.array_equal(lazy.compute().data, _one(tmp_path).data)
    assert np.array_equal(np.asarray(lazy.data[2, 1:3, ::2]), _one(tmp_path).data[2, 1:3, ::2])


def test_no_identifier_reaches_the_sequence_or_its_listing(tmp_path: Path) -> None:
    dicoms.series(tmp_path, [(0, 0, 2.5 * k) for k in range(3)])
    seq = _one(tmp_path)
    said = repr((seq.meta, seq.name, seq.warnings, ms.info(tmp_path)))
    for secret in ("Doe", "Jane", "4711", "19500101"):
        assert secret not in said
    assert "4711" in repr(ms.info(tmp_path, identifiers=True))


def test_cancel_and_progress(tmp_path: Path) -> None:
    dicoms.series(tmp_path, [(0, 0, 2.5 * k) for k in range(4)])
    seen: list[tuple[int, int]] = []
    ms.read(tmp_path, progress=lambda done, total, _: seen.append((done, total)))
    assert seen[-1] == (4, 4)
    with pytest.raises(MedseqError, match="Cancelled"):
        ms.read(tmp_path, cancelled=lambda: len(seen) > 0)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), min_size=1, max_size=10), st.integers(0, 200))
def test_mutated_files_never_crash(
    tmp_path_factory: pytest.TempPathFactory, pokes: list[tuple[int, int]], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    path = dicoms.save(dicoms.dataset(dicoms.picture(), InstanceNumber=1, WindowCenter=1, WindowWidth=2), folder / "a")
    data = bytearray(path.read_bytes())
    for at, byte in pokes:
        data[at % len(data)] = byte
    path.write_bytes(bytes(data[: len(data) - cut]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = ms.read(path)
        except MedseqError:
            return
    for seq in found:
        assert np.isfinite(seq.affine).all()


@pytest.mark.parametrize(
    ("bits", "inter", "syntax"),
    [(8, 0, None), (16, 0, None), (16, -1024, None), (32, 0, None), (8, 0, RLELossless), (16, 0, RLELossless)],
)
@pytest.mark.parametrize("first", ["u", "i"])
def test_slices_of_one_series_may_be_signed_and_unsigned(
    tmp_path: Path, bits: int, inter: int, syntax: UID | None, first: str
) -> None:
    expected = []
    for k, kind in enumerate(first + "ui"):
        limits = np.iinfo(f"{kind}{bits // 8}")
        values = np.random.default_rng(k).integers(limits.min, limits.max, (6, 5), endpoint=True, dtype=limits.dtype)
        ds = dicoms.dataset(values, position=(0.0, 0, 2.5 * k), RescaleIntercept=inter, RescaleSlope=1)
        if syntax is not None:
            ds.compress(syntax, generate_instance_uid=False)
        dicoms.save(ds, tmp_path / f"{k}.dcm")
        expected.append(values.astype(np.int64) + inter)
    for lazy in (False, True):
        (seq,) = ms.read(tmp_path, lazy=lazy)
        assert np.array_equal(np.asarray(seq.data), np.stack(expected))


def test_a_dark_picture_with_a_palette_of_sixteen_bits_stays_dark(tmp_path: Path) -> None:
    shades = np.arange(0, 65536, 256, dtype=np.uint16) + 255
    palette: dict[str, Any] = {f"{c}PaletteColorLookupTableDescriptor": [256, 0, 16] for c in ("Red", "Green", "Blue")}
    palette |= {f"{c}PaletteColorLookupTableData": shades.tobytes() for c in ("Red", "Green", "Blue")}
    for name, index in (("dark", 0), ("light", 200)):
        pixels = np.full((6, 5), index, np.uint8)
        dicoms.save(dicoms.dataset(pixels, PhotometricInterpretation="PALETTE COLOR", **palette), tmp_path / name)
        assert (_one(tmp_path / name).data == index).all()
