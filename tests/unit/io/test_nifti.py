"""NIfTI: any orientation round-trips, time, colour, scaling; broken headers are refused or doubted, never believed."""

from __future__ import annotations

import contextlib
import gzip
import struct
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import napari_medseq as ms
from napari_medseq.errors import MedseqError, ReadError, ReadWarning
from napari_medseq.geometry import axis_codes
from napari_medseq.io.formats import nifti_header
from tests import nifti


def _save(path: Path, array: np.ndarray, affine: np.ndarray | None = None, **fields: Any) -> Path:
    image = nib.Nifti1Image(array, np.diag([-2.0, -3, 4, 1]) if affine is None else affine)
    for key, value in fields.items():
        image.header[key] = value
    nib.save(image, path)
    return path


def _poke(path: Path, offset: int, form: str, *values: float) -> Path:
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, offset, *values)
    path.write_bytes(bytes(data))
    return path


@settings(max_examples=40, deadline=None)
@given(
    st.permutations(range(3)),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
    st.integers(0, 10_000),
    st.sampled_from([".nii", ".nii.gz", ".nrrd"]),
)
def test_any_orientation_reads_right_and_writes_back(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], signs: tuple[int, ...], seed: int, ending: str
) -> None:
    rng = np.random.default_rng(seed)
    array = rng.integers(-500, 500, (4, 5, 6)).astype(np.int16)
    affine = np.eye(4)
    turn = Rotation.from_rotvec(rng.uniform(-0.3, 0.3, 3)).as_matrix()
    affine[:3, :3] = turn @ np.eye(3)[:, order] @ np.diag(np.array(signs) * rng.uniform(0.5, 5, 3))
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    folder = tmp_path_factory.mktemp("turn")
    seq = ms.read(_save(folder / "a.nii.gz", array, affine))[0]
    assert axis_codes(seq.affine) == ("L", "P", "S")
    index = np.array([1, 4, 2])
    world = affine[:3, :3] @ index + affine[:3, 3]
    house = np.rint(np.linalg.solve(seq.affine, [*world, 1])[:3]).astype(int)
    assert seq.data[house[2], house[1], house[0]] == array[tuple(index)]
    back = ms.read(ms.write(seq, folder / f"b{ending}"))[0]
    assert np.abs(back.affine - seq.affine).max() < 1e-4
    assert np.array_equal(back.data, seq.data)
    if ending != ".nrrd":
        image = nifti.load(folder / f"b{ending}")
        assert np.abs(image.affine - affine).max() < 1e-4
        assert np.array_equal(np.asarray(image.dataobj), array)
        assert image.get_data_dtype() == np.int16


@pytest.mark.parametrize(("unit", "scale"), [("sec", 1.0), ("msec", 1e-3), ("usec", 1e-6)])
def test_frames_get_seconds(tmp_path: Path, unit: str, scale: float) -> None:
    image = nib.Nifti1Image(np.arange(48, dtype=np.int16).reshape(2, 3, 4, 2), np.eye(4))
    image.header.set_xyzt_units("mm", unit)
    image.header["pixdim"][4] = 2.5
    nib.save(image, tmp_path / "a.nii")
    seq = ms.read(tmp_path / "a.nii")[0]
    assert seq.axes == ("t", "z", "y", "x")
    assert seq.times == pytest.approx([0, 2.5 * scale])


def test_frames_without_a_step_are_counted_and_said(tmp_path: Path) -> None:
    path = _poke(_save(tmp_path / "a.nii", np.zeros((2, 2, 2, 3), np.uint8)), 76 + 16, "<f", 0.0)
    with pytest.warns(ReadWarning, match="time between frames"):
        seq = ms.read(path)[0]
    assert seq.times is not None
    assert seq.times.tolist() == [0, 1, 2]


def test_uneven_times_and_label_names_come_back(tmp_path: Path) -> None:
    seq = ms.ImageSequence(
        np.zeros((3, 2, 2, 2), np.uint8), ("t", "z", "y", "x"), np.eye(4), times=np.array([0.0, 1.0, 5.0]), kind="labels",
        label_names={1: "core", 7: "rim"}, name="m",
    )  # fmt: skip
    for ending in (".nii.gz", ".nrrd"):
        back = ms.read(ms.write(seq, tmp_path / f"m_seg{ending}"))[0]
        assert back.kind == "labels"
        assert back.times is not None
        assert back.times.tolist() == [0, 1, 5]
    assert ms.read(tmp_path / "m_seg.nii.gz")[0].label_names == {1: "core", 7: "rim"}


def test_metres_and_microns_become_mm(tmp_path: Path) -> None:
    for unit, factor in (("meter", 1000.0), ("micron", 1e-3)):
        image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.diag([2.0, 2, 2, 1]))
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / "a.nii")
        assert ms.read(tmp_path / "a.nii")[0].spacing["x"] == pytest.approx(2 * factor)


def test_scaling(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.nii", np.arange(8, dtype=np.int16).reshape(2, 2, 2))
    for slope, inter, expected in ((0.5, -10, 0.5 * 7 - 10), (0, 5, 7), (float("nan"), 0, 7)):
        _poke(path, 112, "<ff", slope, inter)
        seq = ms.read(path)[0]
        assert float(seq.data.max()) == pytest.approx(expected)
        assert seq.data.dtype == (np.float32 if slope == 0.5 else np.int16)


@pytest.mark.parametrize("dtype", [">i2", ">f4", "<u2", "<f8", "i1"])
def test_byte_orders_and_types(tmp_path: Path, dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    header = nib.Nifti1Header(endianness=np.dtype(dtype).byteorder.replace("|", "<").replace("=", "<"))
    header.set_data_dtype(dtype)
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1, 1, 1]), header), tmp_path / "a.nii")
    seq = ms.read(tmp_path / "a.nii")[0]
    assert np.array_equal(seq.data, array.T)
    assert seq.data.dtype.isnative


def test_rgb_complex_and_vectors(tmp_path: Path) -> None:
    rgb = np.zeros((3, 4, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["G"] = 9
    seq = ms.read(_save(tmp_path / "rgb.nii", rgb))[0]
    assert seq.axes == ("z", "y", "x", "c")
    assert seq.data[..., 1].min() == 9
    pair = ms.read(_save(tmp_path / "c.nii", np.full((2, 2, 2), 3 + 4j, np.complex64)))
    assert [s.name for s in pair] == ["c", "c_phase"]
    assert float(pair[0].data.max()) == pytest.approx(5)
    assert float(pair[1].data.max()) == pytest.approx(np.arctan2(4, 3))
    with pytest.warns(ReadWarning, match="components"):
        vector = ms.read(_save(tmp_path / "v.nii", np.zeros((2, 2, 2, 1, 3), np.float32)))[0]
    assert vector.sizes == {"t": 3, "z": 2, "y": 2, "x": 2}
    parts = ms.read(_save(tmp_path / "v5.nii", np.zeros((2, 2, 2, 4, 3), np.float32)))
    assert [s.name for s in parts] == ["v5_0", "v5_1", "v5_2"]


@pytest.mark.parametrize("lazy", [False, True])
def test_complex_voxels_are_scaled_in_both_parts(tmp_path: Path, lazy: bool) -> None:
    image = nib.Nifti1Image(np.full((2, 3, 4), 1 + 2j, np.complex64), np.eye(4))
    nib.save(image, tmp_path / "c.nii")
    raw = bytearray((tmp_path / "c.nii").read_bytes())
    raw[112:120] = np.array([2, 10], "<f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "c.nii").write_bytes(raw)
    size, phase = ms.read(tmp_path / "c.nii", lazy=lazy)
    assert size.compute().data == pytest.approx(abs(12 + 14j))
    assert phase.compute().data == pytest.approx(np.angle(12 + 14j))


def test_two_dimensions(tmp_path: Path) -> None:
    seq = ms.read(_save(tmp_path / "a.nii", np.arange(12, dtype=np.int16).reshape(3, 4)))[0]
    assert seq.axes == ("y", "x")
    assert np.array_equal(seq.data, np.arange(12).reshape(3, 4).T)
    assert np.array_equal(
        np.asarray(nifti.load(ms.write(seq, tmp_path / "b.nii")).dataobj).squeeze(), np.arange(12).reshape(3, 4)
    )


def test_labels_by_name_intent_and_wish(tmp_path: Path) -> None:
    whole = np.ones((2, 2, 2), np.float32)
    assert ms.read(_save(tmp_path / "a_seg.nii", whole))[0].kind == "labels"
    assert ms.read(_save(tmp_path / "a_seg.nii", whole))[0].data.dtype == np.uint8
    assert ms.read(_save(tmp_path / "b.nii", whole, intent_code=1002))[0].kind == "labels"
    assert ms.read(_save(tmp_path / "c.nii", whole))[0].kind == "image"
    assert ms.read(tmp_path / "c.nii", kind="labels")[0].kind == "labels"
    assert ms.read(tmp_path / "a_seg.nii", kind="image")[0].kind == "image"
    with pytest.warns(ReadWarning, match="not whole numbers"):
        assert ms.read(_save(tmp_path / "d_seg.nii", whole * 0.5))[0].kind == "image"
    with pytest.raises(ReadError, match="whole numbers"):
        ms.read(tmp_path / "d_seg.nii", kind="labels")


def test_lazy_gives_the_same_voxels(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 99, (3, 4, 5, 2)).astype(">i2")
    for name in ("a.nii", "a.nii.gz"):
        eager, lazy = ms.read(_save(tmp_path / name, array))[0], ms.read(tmp_path / name, lazy=True)[0]
        assert lazy.is_lazy
        assert lazy.data.dtype == eager.data.dtype
        assert np.array_equal(lazy.compute().data, eager.data)
    rgb = np.zeros((3, 4, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["B"] = np.arange(24).reshape(3, 4, 2)
    assert np.array_equal(
        ms.read(_save(tmp_path / "r.nii", rgb), lazy=True)[0].compute().data, ms.read(tmp_path / "r.nii")[0].data
    )


def test_pair_of_files(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.Nifti1Pair(array, np.diag([-1.0, -1, 1, 1])), tmp_path / "a.hdr")
    for name in ("a.hdr", "a.img"):
        assert np.array_equal(ms.read(tmp_path / name)[0].data, array.T)
    assert len(ms.read(tmp_path)) == 1
    (tmp_path / "a.hdr").unlink()
    with pytest.raises(ReadError, match="hdr"):
        ms.read(tmp_path / "a.img")


@pytest.mark.parametrize(
    ("offset", "form", "values"),
    [(280, "<12f", [float("nan")] * 12), (280, "<12f", [0.0] * 12), (280, "<12f", [1.0, 0, 0, 0] * 3)],
)
def test_a_useless_sform_is_doubted(tmp_path: Path, offset: int, form: str, values: list[float]) -> None:
    path = _poke(_save(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8)), offset, form, *values)
    with pytest.warns(ReadWarning, match="sform"):
        seq = ms.read(path)[0]
    assert any("sform" in w for w in seq.warnings)


def test_zero_and_negative_spacing_are_doubted(tmp_path: Path) -> None:
    for value, said in ((0.0, "zero or undefined"), (-2.0, "negative"), (float("nan"), "zero or undefined")):
        path = _poke(_save(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8)), 80, "<f", value)
        _poke(path, 252, "<hh", 0, 0)
        with pytest.warns(ReadWarning, match=said):
            seq = ms.read(path)[0]
        assert not seq.oriented
        assert np.isfinite(seq.affine).all()


def test_cut_and_lying_files_are_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.nii", np.zeros((20, 20, 20), np.int16))
    whole = path.read_bytes()
    for content, said in ((whole[:-100], "cut short"), (whole[:300], "no image|too few|first bytes")):
        path.write_bytes(content)
        with pytest.raises(ReadError, match=said):
            ms.read(path)
    noise = np.random.default_rng(0).integers(-99, 99, (20, 20, 20)).astype(np.int16)
    zipped = gzip.compress(_save(tmp_path / "noise.nii", noise).read_bytes())
    (tmp_path / "b.nii.gz").write_bytes(zipped[: len(zipped) // 2])
    with pytest.raises(ReadError, match=r"ends early|damaged"):
        ms.read(tmp_path / "b.nii.gz")
    path.write_bytes(whole)
    _poke(path, 40, "<8h", 3, 30000, 30000, 30000, 1, 1, 1, 1)
    with pytest.raises(ReadError, match="promises"):
        ms.read(path)
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ReadError, match="promises"):
        ms.read(tmp_path / "c.nii.gz")
    _poke(path, 40, "<8h", 3, -5, 2, 2, 1, 1, 1, 1)
    with pytest.raises(ReadError):
        ms.read(path)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=12))
def test_mutated_headers_never_crash(tmp_path_factory: pytest.TempPathFactory, pokes: list[tuple[int, int]]) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    data = bytearray(_save(folder / "a.nii", np.arange(60, dtype=np.int16).reshape(3, 4, 5)).read_bytes())
    for at, byte in pokes:
        data[at] = byte
    (folder / "a.nii").write_bytes(bytes(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(MedseqError):
            for seq in ms.read(folder / "a.nii"):
                assert np.isfinite(seq.affine).all()


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 100_000), st.booleans(), st.sampled_from("<>"), st.sampled_from([(0, 1), (1, 0), (1, 1), (2, 4)]))
def test_headers_say_what_nibabel_says(seed: int, second: bool, order: str, codes: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    header = nib.Nifti2Header(endianness=order) if second else nib.Nifti1Header(endianness=order)
    header.set_data_dtype(rng.choice(["u1", "i2", "i4", "f4", "f8", "u2", "c8", "i8"]))
    header.set_data_shape(rng.integers(1, 30, rng.integers(2, 6)))
    turn = np.eye(4)
    turn[:3, :3] = Rotation.random(random_state=seed).as_matrix() @ np.diag(
        rng.uniform(0.3, 5, 3) * [1, 1, rng.choice([-1, 1])]
    )
    turn[:3, 3] = rng.uniform(-99, 99, 3)
    header.set_qform(turn, code=codes[0])
    header.set_sform(turn + np.diag([*rng.uniform(0, 0.2, 3), 0]), code=codes[1])
    header["pixdim"][4:6], header["scl_slope"], header["scl_inter"] = 2.5, 0.5, -3
    header["intent_code"], header["vox_offset"] = 1002, 1024
    header.set_xyzt_units("mm", "msec")
    found = nifti_header.parse(header.binaryblock + b"\0" * 8, "x")
    assert (found.shape, found.dtype) == (header.get_data_shape(), header.get_data_dtype())
    assert np.abs(found.sform() - header.get_sform()).max() < 1e-9
    assert np.abs(found.qform(np.array(header["pixdim"][1:4], float)) - header.get_qform()).max() < 1e-4
    assert (found.qform_code, found.sform_code, found.slope, found.inter) == (*codes, 0.5, -3)
    assert (found.intent, found.offset, found.units, found.pixdim[4]) == (1002, 1024, int(header["xyzt_units"]), 2.5)
