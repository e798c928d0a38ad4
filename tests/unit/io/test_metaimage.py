"""MetaImage without SimpleITK's reader: what it reads is what SimpleITK reads, and headers that lie are refused."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import napari_medseq as ms
from napari_medseq.errors import MedseqError, ReadError

HEADER = {
    "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False", "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "1 2 3", "ElementSpacing": "0.5 0.75 2", "DimSize": "5 4 3",
    "ElementType": "MET_SHORT",
}  # fmt: skip
VOXELS = np.random.default_rng(0).integers(-1000, 1000, (3, 4, 5)).astype("<i2")


def _write(path: Path, data: bytes = VOXELS.tobytes(), where: str = "LOCAL", **changes: str | None) -> Path:
    fields = {k: v for k, v in {**HEADER, **changes}.items() if v is not None}
    text = "".join(f"{k} = {v}\n" for k, v in fields.items()) + f"ElementDataFile = {where}\n"
    path.write_bytes(text.encode() + data)
    return path


def _same_as_simpleitk(path: Path, lazy: bool = False) -> None:
    image = sitk.ReadImage(str(path))
    (seq,) = ms.read(path, lazy=lazy)
    ours = ms.ImageSequence(np.asarray(seq.data), seq.axes, seq.affine)
    theirs = sitk.GetArrayFromImage(image)
    for index in ((0, 0, 0), (1, 3, 1), (4, 2, 2)):
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        ijk = np.rint(np.linalg.solve(ours.affine, [*(lps * (-1, -1, 1)), 1])[:3]).astype(int)
        assert ours.data[ijk[2], ijk[1], ijk[0]] == theirs[index[::-1]]


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    "case",
    [
        {}, {"CompressedData": "True"}, {"BinaryData": "False"}, {"BinaryDataByteOrderMSB": "True"},
        {"TransformMatrix": "0 1 0 -1 0 0 0 0 1"},
        {"Modality": "MET_MOD_CT", "SomethingElse": "x"}, {"Offset": None, "Position": "4 5 6"}, {"ElementType": "MET_LONG"},
    ],
    ids=lambda c: " ".join(c) or "plain",
)  # fmt: skip
def test_whatever_a_header_says_voxels_are_where_simpleitk_puts_them(
    tmp_path: Path, case: dict[str, Any], lazy: bool
) -> None:
    voxels = VOXELS.astype("<i4") if case.get("ElementType") == "MET_LONG" else VOXELS
    data = voxels.astype(">i2").tobytes() if "BinaryDataByteOrderMSB" in case else voxels.tobytes()
    if "CompressedData" in case:
        data = zlib.compress(data)
        case = {**case, "CompressedDataSize": str(len(data))}
    if case.get("BinaryData") == "False":
        data = " ".join(map(str, voxels.ravel())).encode() + b"\n"
    _same_as_simpleitk(_write(tmp_path / "a.mha", data, **case), lazy)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("where", ["LIST", "LIST 2", "part%d.raw 0 2 1", "part%01d.raw 0 2 1"])
def test_slices_in_files_of_their_own(tmp_path: Path, where: str, lazy: bool) -> None:
    for k, plane in enumerate(VOXELS):
        (tmp_path / f"part{k}.raw").write_bytes(plane.tobytes())
    names = "".join(f"part{k}.raw\n" for k in range(3)).encode() if where.startswith("LIST") else b""
    path = _write(tmp_path / "a.mhd", names, where)
    _same_as_simpleitk(path, lazy)


@pytest.mark.parametrize(
    "where", ["/etc/passwd", "../outside.raw", "LIST", "../out%03d.raw 1 3 1", "deep/../../outside.raw"]
)
def test_no_data_file_lies_outside_the_folder(tmp_path: Path, where: str) -> None:
    for name in ("outside.raw", "out001.raw", "out002.raw", "out003.raw"):
        (tmp_path / name).write_bytes(VOXELS.tobytes())
    (tmp_path / "in" / "deep").mkdir(parents=True)
    names = b"../outside.raw\n" * 3 if where == "LIST" else b""
    with pytest.raises(ReadError, match="outside the header's folder"):
        ms.read(_write(tmp_path / "in" / "a.mhd", names, where))


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        *((f"{pattern} 1 3 1", "not understood") for pattern in (
            "%n", "%s%s%s", "x%5000d.raw", "x%*d.raw", "x%d%d.raw", "x%s.raw", "x%x.raw", "x%+d.raw", "x%c.raw", "x%%.raw",
            "x%99999999d.raw")),
        ("x%d.raw 1 3 1 1", "not understood"),
        ("x%d.raw 1 99999999 1", "names 99,999,999 files"),
        ("x%d.raw 3 1 1", "names 0 files"),
        ("x%d.raw a b c", "a number in the MetaImage header is none"),
    ],
)  # fmt: skip
def test_patterns_that_are_none_are_refused_before_a_name_is_made_of_them(
    tmp_path: Path, where: str, reason: str
) -> None:
    for name in ("x1.raw", "x2.raw", "x3.raw", "x+1.raw", "x+2.raw", "x+3.raw", "x\1.raw", "x\2.raw", "x\3.raw"):
        (tmp_path / name).write_bytes(VOXELS[0].tobytes())
    path = _write(tmp_path / "a.mhd", b"", where)
    for verb in (ms.read, ms.info):
        with pytest.raises(ReadError, match=reason):
            verb(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"NDims": "5", "DimSize": "5 4 3 1 1"}, {"NDims": "1", "DimSize": "60"},
        {"NDims": "65535"}, {"NDims": "-1"}, {"NDims": "0"}, {"NDims": "1e9"}, {"DimSize": "5 4"}, {"DimSize": "-5 4 3"},
        {"DimSize": "99999 99999 99999"},
        {"ElementType": "MET_NONE"}, {"ElementNumberOfChannels": "-3"}, {"ElementNumberOfChannels": "70000"},
        {"DimSize": None}, {"NDims": None},
    ],
    ids=str,
)  # fmt: skip
def test_headers_that_cannot_be_true_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    reason = "dimensions; 2 to 4|is none" if changes.get("NDims") else None
    for verb in (ms.read, lambda p: ms.read(p, lazy=True)):
        with pytest.raises(ReadError, match=reason):
            verb(_write(tmp_path / "a.mha", **changes))


@pytest.mark.parametrize("damage", ["cut", "poked", "empty"])
def test_packed_voxels_that_are_damaged_are_refused(tmp_path: Path, damage: str) -> None:
    """SimpleITK's reader gives memory that nothing was written to."""
    data = bytearray(zlib.compress(VOXELS.tobytes()))
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "poked":
        data[10:20] = b"\xff" * 10
    else:
        data = bytearray(zlib.compress(b""))
    with pytest.raises(ReadError, match=r"damaged|ends early|cannot hold"):
        ms.read(_write(tmp_path / "a.mha", bytes(data), CompressedData="True"))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pokes=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=6))
def test_mutated_headers_are_answered(tmp_path: Path, pokes: list[tuple[int, int]]) -> None:
    block = bytearray(_write(tmp_path / "a.mha").read_bytes())
    for at, byte in pokes:
        block[at % len(block)] = byte
    (tmp_path / "b.mha").write_bytes(bytes(block))
    for verb in (ms.read, ms.info):
        try:
            verb(tmp_path / "b.mha")
        except MedseqError:
            continue
