"""Siemens mosaics built by code, with and without their private header; damaged label files that must not stop the others."""

from __future__ import annotations

import contextlib
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_medseq as ms
from napari_medseq.errors import MedseqError, ReadWarning
from napari_medseq.io.dicom.mosaic import csa
from tests.unit.io import dicoms


def _csa(**elements: list[str]) -> bytes:
    """A version-2 CSA header (layout as nibabel's documentation describes it)."""
    out = b"SV10" + b"\4\3\2\1" + struct.pack("<II", len(elements), 77)
    for name, values in elements.items():
        out += struct.pack("<64si4siii", name.encode(), 1, b"FD", 0, len(values), 77)
        for value in values:
            text = value.encode() + b"\0"
            out += struct.pack("<4i", len(text), len(text), 77, len(text)) + text + b"\0" * (-len(text) % 4)
    return out


def _mosaic(folder: Path, header: bytes | None, sign: float = 1.0) -> np.ndarray:
    slices = np.stack([dicoms.picture((4, 4), seed=k) + 1 for k in range(7)])
    whole = np.zeros((12, 12), np.uint16)
    for k, tile in enumerate(slices):
        whole[k // 3 * 4 : k // 3 * 4 + 4, k % 3 * 4 : k % 3 * 4 + 4] = tile
    # the standard's position is that of the big picture's corner: four voxels before the first tile's on each side
    corner = [10 - 4 * 0.75, 20 - 4 * 0.5, 30]
    ds = dicoms.dataset(
        whole, corner, Modality="MR", ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"], AcquisitionMatrix=[4, 0, 0, 4]
    )
    ds.SpacingBetweenSlices = 3.0
    if header is not None:
        ds.add_new((0x0029, 0x0010), "LO", "SIEMENS CSA HEADER")
        ds.add_new((0x0029, 0x1010), "OB", header)
    dicoms.save(ds, folder / "m")
    return slices if sign > 0 else slices[::-1]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_tiles_become_slices_along_the_csa_normal(tmp_path: Path, sign: float) -> None:
    slices = _mosaic(tmp_path, _csa(NumberOfImagesInMosaic=["7"], SliceNormalVector=["0", "0", str(sign)]), sign)
    (seq,) = ms.read(tmp_path)
    assert np.array_equal(seq.data, slices)
    assert dicoms.value_at(seq, (10, 20, 30)) == slices[0 if sign > 0 else -1][0, 0]
    assert dicoms.value_at(seq, (10 + 0.75, 20 + 2 * 0.5, 30 + 3 * 2 * sign)) == slices[2 if sign > 0 else -3][2, 1]


def test_tiles_are_counted_without_the_private_header(tmp_path: Path) -> None:
    slices = _mosaic(tmp_path, None)
    with pytest.warns(ReadWarning, match="counted from the picture"):
        (seq,) = ms.read(tmp_path)
    assert np.array_equal(seq.data, slices)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=8), st.integers(0, 300))
def test_damaged_csa_headers_are_answered(pokes: list[tuple[int, int]], cut: int) -> None:
    block = bytearray(_csa(NumberOfImagesInMosaic=["7"], SliceNormalVector=["0", "0", "1"]))
    for at, byte in pokes:
        block[at % len(block)] = byte
    assert isinstance(csa(bytes(block[: len(block) - cut])), dict)


def test_a_damaged_segmentation_beside_a_scan_is_named(tmp_path: Path) -> None:
    dicoms.series(tmp_path, [(0, 0, 2.5 * k) for k in range(3)])
    seg = dicoms.dataset(
        dicoms.picture(),
        None,
        None,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4",
        Modality="SEG",
        SeriesInstanceUID="6.6",
    )
    dicoms.save(seg, tmp_path / "seg")
    with pytest.warns(ReadWarning, match="no position in the patient"):
        (seq,) = ms.read(tmp_path)
    assert seq.kind == "image"


def test_a_dicomdir_is_followed_inside_its_folder_only(tmp_path: Path) -> None:
    dicoms.series(tmp_path / "secret", [(0, 0, 0.0)])
    dicoms.series(tmp_path / "disc" / "in", [(0, 0, 2.5 * k) for k in range(2)], seed=1)
    names = [["IN", p.name] for p in (tmp_path / "disc" / "in").iterdir()] + [["..", "secret", "000_0.dcm"]]
    ds = dicoms.dataset(dicoms.picture(), SOPClassUID="1.2.840.10008.1.3.10")
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        delattr(ds, keyword)
    ds.DirectoryRecordSequence = [dicoms.item(DirectoryRecordType="IMAGE", ReferencedFileID=parts) for parts in names]
    dicoms.save(ds, tmp_path / "disc" / "DICOMDIR")
    with pytest.warns(ReadWarning, match="outside its folder"):
        (seq,) = ms.read(tmp_path / "disc" / "DICOMDIR")
    assert seq.size("z") == 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(8, 400), st.integers(0, 255)), min_size=1, max_size=8))
def test_mutated_nrrds_never_crash(tmp_path_factory: pytest.TempPathFactory, pokes: list[tuple[int, int]]) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "a.seg.nrrd"
    seq = ms.ImageSequence(
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 3, ("z", "y", "x"), np.eye(4), kind="labels", name="a"
    )
    data = bytearray(ms.write(seq, path).read_bytes())
    for at, byte in pokes:
        data[at % len(data)] = byte
    path.write_bytes(bytes(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(MedseqError):
            for found in ms.read(path):
                assert np.isfinite(found.affine).all()


def _tiled(down: int, across: int, size: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    slices = np.stack([dicoms.picture(size, seed=k) + 1 for k in range(count)])
    whole = np.zeros((down * size[0], across * size[1]), np.uint16)
    for k, tile in enumerate(slices):
        r, c = k // across * size[0], k % across * size[1]
        whole[r : r + size[0], c : c + size[1]] = tile
    return whole, slices


def _grid(folder: Path, whole: np.ndarray, count: int, item_size: tuple[int, int] | None = None, **more: Any) -> None:
    """A grid of United Imaging: its private sequence lists each slice's position."""
    ds = dicoms.dataset(
        whole, (0, 0, 0), Modality="MR", Manufacturer="UIH", ImageType=["ORIGINAL", "PRIMARY", "M", "VFRAME"], **more
    )
    items = [dicoms.item(ImagePositionPatient=[0.0, 0, 3.0 * k]) for k in range(count)]
    if item_size is not None:
        for one in items:
            one.Rows, one.Columns = item_size
    ds.add_new((0x0065, 0x0010), "LO", "Image Private Header")
    ds.add_new((0x0065, 0x1051), "SQ", items)
    dicoms.save(ds, folder / "m")


@pytest.mark.parametrize("hint", ["none", "matrix", "item"])
@pytest.mark.parametrize(
    ("down", "across", "size", "count"),
    [
        (4, 5, (8, 8), 20),
        (5, 4, (8, 8), 20),
        (4, 5, (8, 8), 17),
        (3, 4, (8, 6), 12),
        (5, 5, (8, 6), 20),
        (2, 7, (6, 8), 14),
        (4, 4, (8, 8), 13),
    ],
)
def test_tiles_need_not_stand_in_a_square(
    tmp_path: Path, down: int, across: int, size: tuple[int, int], count: int, hint: str
) -> None:
    whole, slices = _tiled(down, across, size, count)
    more: dict[str, Any] = {"AcquisitionMatrix": [size[0], 0, 0, size[1]]} if hint == "matrix" else {}
    _grid(tmp_path, whole, count, size if hint == "item" else None, **more)
    (seq,) = ms.read(tmp_path)
    assert np.array_equal(seq.data, slices)


@pytest.mark.parametrize(("down", "across", "size", "count"), [(3, 5, (8, 6), 15), (3, 5, (8, 8), 13)])
def test_counted_tiles_need_not_stand_in_a_square(
    tmp_path: Path, down: int, across: int, size: tuple[int, int], count: int
) -> None:
    whole, slices = _tiled(down, across, size, count)
    kind = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    ds = dicoms.dataset(whole, (0, 0, 0), Modality="MR", ImageType=kind, AcquisitionMatrix=[size[0], 0, 0, size[1]])
    dicoms.save(ds, tmp_path / "m")
    with pytest.warns(ReadWarning, match="counted from the picture"):
        (seq,) = ms.read(tmp_path)
    assert np.array_equal(seq.data, slices)
