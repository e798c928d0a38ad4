"""Writers: what goes out comes back; nothing half-written stays; what a format cannot hold is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

import napari_medseq as ms
from napari_medseq.errors import WriteError
from napari_medseq.io.placing import restored
from napari_medseq.sequence import affine_from


def _seq(**changes: Any) -> ms.ImageSequence:
    data = np.random.default_rng(0).integers(0, 9, (3, 4, 5)).astype(np.int16)
    return ms.ImageSequence(data, ("z", "y", "x"), affine_from((0.7, 0.8, 3), (10, -20, 30)), name="a").replace(
        **changes
    )


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, bool, ">i2", ">f4"])
def test_every_type_comes_back(tmp_path: Path, ending: str, dtype: Any) -> None:
    seq = _seq(
        data=(np.arange(60).reshape(3, 4, 5) % 2).astype(dtype)
        if dtype is bool
        else np.arange(60).reshape(3, 4, 5).astype(dtype)
    )
    back = ms.read(ms.write(seq, tmp_path / f"a{ending}"))[0]
    assert np.array_equal(back.data, seq.data)
    assert back.data.dtype == (np.uint8 if dtype is bool else np.dtype(dtype).newbyteorder("="))
    assert np.abs(back.affine - seq.affine).max() < 1e-4


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
def test_simpleitk_sees_the_same_place(tmp_path: Path, ending: str) -> None:
    seq = _seq()
    image = sitk.ReadImage(str(ms.write(seq, tmp_path / f"a{ending}")))
    for index in ((0, 0, 0), (4, 3, 2), (1, 2, 1)):
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        ras = seq.affine @ [*index, 1]
        assert lps * (-1, -1, 1) == pytest.approx(ras[:3], abs=1e-4)
        assert image.GetPixel(index) == seq.data[index[::-1]]


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".seq.nrrd", ".mha"])
def test_frames_and_their_times(tmp_path: Path, ending: str) -> None:
    seq = ms.ImageSequence(
        np.arange(48, dtype=np.int16).reshape(2, 2, 3, 4),
        ("t", "z", "y", "x"),
        affine_from((1, 1, 2)),
        times=np.array([0, 2.5]),
    )
    back = ms.read(ms.write(seq, tmp_path / f"a{ending}"))[0]
    assert back.axes == seq.axes
    assert np.array_equal(back.data, seq.data)
    assert back.times == pytest.approx([0, 2.5])


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_colour(tmp_path: Path, ending: str) -> None:
    seq = _seq(data=np.random.default_rng(0).integers(0, 255, (3, 4, 5, 3)).astype(np.uint8), axes=("z", "y", "x", "c"))
    assert np.array_equal(ms.read(ms.write(seq, tmp_path / f"a{ending}"))[0].data, seq.data)


def test_an_unoriented_image_stays_one(tmp_path: Path) -> None:
    seq = _seq(oriented=False)
    for ending in (".nii.gz", ".nrrd"):
        with pytest.warns(ms.MedseqWarning, match="orientation unknown"):
            back = ms.read(ms.write(seq, tmp_path / f"a{ending}"))[0]
        assert not back.oriented
        assert np.array_equal(back.data, seq.data)
        assert back.spacing == pytest.approx(seq.spacing)


def test_segmentations_for_slicer(tmp_path: Path) -> None:
    labels = _seq(
        data=np.array(_seq().data % 3, np.uint8), kind="labels", label_names={1: "core", 2: "rim", 5: "empty"}
    )
    labels = labels.replace(meta={"colors": {1: [1.0, 0.0, 0.5]}})
    back = ms.read(ms.write(labels, tmp_path / "a.seg.nrrd"))[0]
    assert (back.kind, back.label_names) == ("labels", {1: "core", 2: "rim", 5: "empty"})
    assert np.array_equal(back.data, labels.data)
    assert back.meta["colors"][1] == [1.0, 0.0, 0.5]
    image = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
    assert image.GetMetaData("Segment0_Name") == "core"
    at = np.nonzero(labels.data == 1)
    assert image.GetMetaData("Segment0_Extent") == " ".join(f"{a.min()} {a.max()}" for a in at[::-1])


def test_layers_of_a_segmentation_are_sequences(tmp_path: Path) -> None:
    block = np.zeros((2, 2, 3, 2), np.uint8)  # z y x layer: the fastest axis is the list
    block[..., 0], block[0, :, :, 1] = 1, 1
    header = (
        "NRRD0004\ntype: uint8\ndimension: 4\nspace: left-posterior-superior\nsizes: 2 3 2 2\n"
        "space directions: none (1,0,0) (0,1,0) (0,0,2)\nkinds: list domain domain domain\nencoding: raw\nspace origin: (0,0,0)\n"
        "Segment0_ID:=S_1\nSegment0_Name:=all\nSegment0_LabelValue:=1\nSegment0_Layer:=0\n"
        "Segment1_ID:=S_2\nSegment1_Name:=low\nSegment1_LabelValue:=1\nSegment1_Layer:=1\n\n"
    )
    (tmp_path / "s.seg.nrrd").write_bytes(header.encode() + block.tobytes())
    found = ms.read(tmp_path / "s.seg.nrrd")
    assert [(s.name, s.label_names, int(s.data.sum())) for s in found] == [
        ("s_layer1", {1: "all"}, 12),
        ("s_layer2", {1: "low"}, 6),
    ]


def test_refusals_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="ending"):
        ms.write(_seq(), tmp_path / "a.tif")
    for name in ("a.seg.nrrd", "a.dcm"):
        with pytest.raises(WriteError, match="holds labels"):
            ms.write(_seq(), tmp_path / name)
    with pytest.raises(WriteError, match="reference"):
        ms.write(_seq(kind="labels"), tmp_path / "a.dcm")
    with pytest.raises(WriteError, match="below zero"):
        ms.write(_seq(kind="labels", data=-_seq().data), tmp_path / "a.seg.nrrd")
    with pytest.raises(WriteError, match="cannot be stored"):
        ms.write(_seq(data=np.zeros((3, 4, 5), np.longdouble)), tmp_path / "a.nrrd")
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="could not be written"):
        ms.write(_seq(), tmp_path / "file" / "a.nii.gz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    old = ms.write(_seq(), tmp_path / "a.nrrd").read_bytes()
    with pytest.raises(WriteError):
        ms.write(_seq(data=np.zeros((3, 4, 5), np.longdouble)), tmp_path / "a.nrrd")
    assert [p.name for p in tmp_path.iterdir()] == ["a.nrrd"]
    assert (tmp_path / "a.nrrd").read_bytes() == old


def test_lazy_sequences_are_written(tmp_path: Path) -> None:
    ms.write(_seq(), tmp_path / "a.nii.gz")
    lazy = ms.read(tmp_path / "a.nii.gz", lazy=True)[0]
    assert np.array_equal(ms.read(ms.write(lazy, tmp_path / "b.nrrd"))[0].data, _seq().data)


NRRDS = [
    ("type: short\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n", "cut short|promises"),
    ("type: short\ndimension: 3\nsizes: 90000 90000 90000\nencoding: gzip\n", "promises"),
    ("type: block\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n", "type"),
    ("type: short\ndimension: 2\nsizes: 2 2 2\nencoding: raw\n", "do not make an image"),
    ("type: short\ndimension: 3\nsizes: 2 2 2\nencoding: zrl\n", "encoding"),
    ("type: short\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: ../../etc/passwd\n", "outside"),
    ("type: short\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: gone.raw\n", "missing"),
    ("type: short\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: LIST\n", "many files"),
]


@pytest.mark.parametrize(("fields", "said"), NRRDS)
def test_nrrds_that_lie_are_refused(tmp_path: Path, fields: str, said: str) -> None:
    (tmp_path / "a.nrrd").write_bytes(f"NRRD0004\n{fields}\n".encode() + b"\0" * 4)
    with pytest.raises(ms.MedseqError, match=said):
        ms.read(tmp_path / "a.nrrd")


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("detached", [False, True])
def test_nrrd_encodings(tmp_path: Path, encoding: str, detached: bool) -> None:
    import bz2
    import gzip

    values = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    plain, written = values.tobytes(), " ".join(map(str, values.ravel())).encode()
    data = {"raw": plain, "gzip": gzip.compress(plain), "bzip2": bz2.compress(plain), "ascii": written}[encoding]
    header = f"NRRD0004\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 4 3 2\nendian: big\nencoding: {encoding}\n"
    header += "space directions: (-1,0,0) (0,-2,0) (0,0,3)\nspace origin: (5,6,7)\n" + (
        "data file: b.raw\n" if detached else ""
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + b"\n" + (b"" if detached else data))
    (tmp_path / "b.raw").write_bytes(data)
    for lazy in (False, True):
        seq = ms.read(tmp_path / "a.nrrd", lazy=lazy)[0].compute()
        assert np.array_equal(seq.data, values)
        assert seq.affine[:3, 3].tolist() == [5, 6, 7]


@pytest.mark.parametrize("world", ["right-anterior-superior-time", "RAST"])
def test_nrrds_of_a_world_with_time_know_the_patient(tmp_path: Path, world: str) -> None:
    values = np.arange(48, dtype="<i2").reshape(2, 2, 3, 4)
    header = f"NRRD0005\ntype: short\ndimension: 4\nspace: {world}\nsizes: 4 3 2 2\nendian: little\nencoding: raw\n"
    header += "space directions: (2,0,0,0) (0,3,0,0) (0,0,4,0) (0,0,0,2.5)\nspace origin: (5,6,7,0)\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + values.tobytes())
    (seq,) = ms.read(tmp_path / "a.nrrd")
    assert seq.oriented
    assert seq.times is not None
    assert seq.times.tolist() == [0, 2.5]
    array, _, affine = restored(seq)
    assert np.array_equal(array, values)
    assert affine.tolist() == [[2, 0, 0, 5], [0, 3, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]]


def test_nrrd_voxels_at_the_end_of_another_file(tmp_path: Path) -> None:
    values = np.arange(24, dtype="<i2").reshape(2, 3, 4)
    (tmp_path / "a.raw").write_bytes(b"a header of another format" + values.tobytes())
    header = "NRRD0004\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 4 3 2\nendian: little\nencoding: raw\n"
    header += "byte skip: -1\nspace directions: (-1,0,0) (0,-2,0) (0,0,3)\nspace origin: (5,6,7)\ndata file: a.raw\n"
    (tmp_path / "a.nhdr").write_text(header)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nhdr"))), values)
    for lazy in (False, True):
        assert np.array_equal(ms.read(tmp_path / "a.nhdr", lazy=lazy)[0].compute().data, values)


def test_metaimage_data_outside_its_folder_is_not_followed(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 2, 2), np.uint8)), str(tmp_path / "a.mhd"))
    text = (tmp_path / "a.mhd").read_text()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mhd").write_text(text.replace("a.raw", "../a.raw"))
    with pytest.raises(ms.MedseqError, match="outside"):
        ms.read(tmp_path / "in" / "a.mhd")
    assert ms.read(tmp_path / "a.mhd")[0].sizes == {"z": 2, "y": 2, "x": 2}


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize(("ending", "packed"), [(".mha", False), (".mhd", False), (".mha", True)])
def test_metaimages_of_simpleitk(tmp_path: Path, shape: tuple[int, ...], ending: str, packed: bool) -> None:
    from scipy.spatial.transform import Rotation

    n = len(shape)
    values = np.random.default_rng(0).integers(-9, 9, shape).astype(np.int16)
    image = sitk.GetImageFromArray(values, isVector=False)
    turn = np.eye(n)
    if n > 2:
        turn[:3, :3] = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix()
    image.SetDirection(turn.ravel().tolist())
    image.SetSpacing([0.5, 0.7, 3.0, 2.0][:n])
    image.SetOrigin([10.0, -20, 30, 0][:n])
    sitk.WriteImage(image, str(tmp_path / f"a{ending}"), packed)
    for lazy in (False, True):
        seq = ms.read(tmp_path / f"a{ending}", lazy=lazy)[0]
        assert seq.is_lazy == lazy
        for index in (tuple(int(s) - 1 for s in image.GetSize()), (1,) * n):
            lps = np.array(image.TransformIndexToPhysicalPoint(index)[:3])
            ras = np.array([-lps[0], -lps[1], *(lps[2:] if n > 2 else [0]), 1.0])
            at = np.rint(np.linalg.solve(seq.affine, ras)[:3]).astype(int)
            assert seq.affine @ [*at, 1] == pytest.approx(ras, abs=1e-4)
            voxels = np.asarray(seq.data)
            voxels = voxels if n < 4 else voxels[index[3]]
            assert voxels[tuple(at[::-1])[-voxels.ndim :]] == image.GetPixel(index)


def test_a_metaimage_cut_short_is_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16)), str(tmp_path / "a.mha"), False)
    data = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "a.mha").write_bytes(data[:-10])
    for lazy in (False, True):
        with pytest.raises(ms.MedseqError, match=r"cut short|promises"):
            ms.read(tmp_path / "a.mha", lazy=lazy)


@pytest.mark.parametrize("separator", ["\r", "\n", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\0"])
def test_a_label_name_cannot_say_more_than_its_name(tmp_path: Path, separator: str) -> None:
    """A name with a line separator would move the mask by a header line of its own."""
    name = f"lesion{separator}space origin: (100,100,100){separator}{separator}x"
    labels = _seq(kind="labels", data=(_seq().data > 0).astype(np.uint8), label_names={1: name})
    path = ms.write(labels, tmp_path / "a.seg.nrrd")
    back = ms.read(path)[0]
    np.testing.assert_allclose(back.affine, labels.affine, atol=1e-4)
    np.testing.assert_array_equal(back.data, labels.data)
    assert back.label_names[1].split()[0].startswith("lesion")
    assert len(path.read_bytes().split(b"\n\n")[0].splitlines()) == len(
        ms.write(labels.replace(label_names={1: "lesion"}), tmp_path / "b.seg.nrrd")
        .read_bytes()
        .split(b"\n\n")[0]
        .splitlines()
    )


@pytest.mark.parametrize("name", ["a\\nb", "a\\b", "a\nb", "ends with \\"])
def test_backslashes_and_line_feeds_of_names_come_back(tmp_path: Path, name: str) -> None:
    labels = _seq(kind="labels", data=(_seq().data > 0).astype(np.uint8), label_names={1: name})
    assert ms.read(ms.write(labels, tmp_path / "a.seg.nrrd"))[0].label_names == {1: name}


@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_huge_labels_survive_nifti(tmp_path: Path, kind: type[np.generic]) -> None:
    values = np.array([0, 1, 2**40], kind).reshape(1, 1, 3)
    mask = ms.ImageSequence(values, ("z", "y", "x"), np.diag([-1.0, -1, 1, 1]), kind="labels")
    path = ms.write(mask, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(nib.Nifti1Image.from_filename(path).dataobj).ravel(), values.ravel())
    np.testing.assert_array_equal(ms.read(path)[0].data, values)


def test_colours_of_sixteen_bits_are_kept_or_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65535, (2, 3, 4, 3)).astype(np.uint16)
    seq = ms.ImageSequence(values, ("z", "y", "x", "c"), np.diag([-1.0, -1, 1, 1]))
    with pytest.raises(WriteError, match="colours of 8 bits"):
        ms.write(seq, tmp_path / "a.nii.gz")
    for ending in (".nrrd", ".mha"):
        (again,) = ms.read(ms.write(seq, tmp_path / f"a{ending}"))
        assert again.axes == seq.axes
        np.testing.assert_array_equal(again.data, values)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")
def test_what_has_no_patient_around_it_comes_back_without_one(tmp_path: Path, ending: str) -> None:
    (again,) = ms.read(ms.write(_seq(oriented=False), tmp_path / f"a{ending}"))
    assert not again.oriented
    np.testing.assert_array_equal(again.data, _seq().data)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".seq.nrrd", ".mha"])
@pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")
def test_a_mask_of_a_video_lies_on_it_again_when_it_is_read(tmp_path: Path, ending: str) -> None:
    video = ms.ImageSequence(
        np.zeros((3, 6, 5, 3), np.uint8),
        ("t", "y", "x", "c"),
        affine_from((1, 1, 1)),
        times=np.array([0.0, 2, 3]),
        oriented=False,
    )
    painted = np.zeros((3, 6, 5), np.uint16)
    painted[1, 2:4, 1:3] = 4
    mask = video.labels_like(painted, name="video_mask", label_names={4: "cord"})
    (again,) = ms.read(ms.write(mask, tmp_path / f"video_mask{ending}"))
    assert again.axes == ("t", "y", "x")
    assert again.same_grid(video)
    np.testing.assert_array_equal(again.data, painted)


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")
def test_a_place_that_no_longer_fits_the_voxels_is_not_used(tmp_path: Path) -> None:
    path = ms.write(_seq(oriented=False), tmp_path / "a.nii")
    (again,) = ms.read(path)
    assert np.abs(again.affine - _seq().affine).max() < 1e-6
    content = bytearray(path.read_bytes())
    content[80:92] = np.full(3, 2, "<f4").tobytes()  # the sizes of voxels, as a program sets them that resamples
    (tmp_path / "b.nii").write_bytes(content)
    (other,) = ms.read(tmp_path / "b.nii")
    assert list(other.spacing.values()) == [2, 2, 2]
