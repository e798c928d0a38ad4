"""Archives opened like folders, hostile ones refused; links and pointers to content that is not here are named."""

from __future__ import annotations

import errno
import io
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.errors import ReadError, ReadWarning
from tests.unit.io import dicoms

POSITIONS = [(0, 0, 2.5 * k) for k in range(3)]


def _zip(folder: Path, target: Path, **options: Any) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return target


def _tar(mode: Literal["w", "w:gz", "w:bz2", "w:xz"]) -> Callable[[Path, Path], Path]:
    def write(folder: Path, target: Path) -> Path:
        with tarfile.open(target, mode) as archive:
            archive.add(folder, ".")
        return target

    return write


PACKERS = {
    "a.zip": _zip,
    "download": _zip,
    "a.tar": _tar("w"),
    "a.tar.gz": _tar("w:gz"),
    "a.tgz": _tar("w:gz"),
    "a.tar.xz": _tar("w:xz"),
    "a.tar.bz2": _tar("w:bz2"),
}


@pytest.fixture
def heap(tmp_path: Path) -> Path:
    for k, day in enumerate(("20200101", "20210101")):
        dicoms.series(
            tmp_path / "in" / "DICOM" / f"S{k}",
            POSITIONS,
            seed=k,
            StudyInstanceUID=f"1.{k}",
            SeriesInstanceUID=f"2.{k}",
            StudyDate=day,
        )
    return tmp_path / "in"


@pytest.mark.parametrize("name", PACKERS)
def test_an_archive_reads_as_its_folder_does(tmp_path: Path, heap: Path, name: str) -> None:
    archive = PACKERS[name](heap, tmp_path / name)
    want, got = ms.read(heap), ms.read(archive)
    assert len(got) == 2
    for a, b in zip(want, got, strict=True):
        np.testing.assert_array_equal(a.data, b.data)
        np.testing.assert_array_equal(a.affine, b.affine)
        assert str(b.meta["source"]).startswith(str(archive))
    assert ms.read_study(archive).dates == ms.read_study(heap).dates
    assert len(ms.info(archive)["series"]) == 2
    lazily = ms.read(archive, lazy=True)[0]
    np.testing.assert_array_equal(np.asarray(lazily.data), want[0].data)


def test_paths_inside_an_archive_can_be_read_again(tmp_path: Path, heap: Path) -> None:
    archive = _zip(heap, tmp_path / "a.zip")
    seq = ms.read(archive)[0]
    again = ms.read(seq.meta["source"])
    np.testing.assert_array_equal(seq.data, again[0].data)


def _nifti(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4)), path)
    return path


def test_visits_packed_one_by_one_are_a_study(tmp_path: Path) -> None:
    (tmp_path / "patient").mkdir()
    for day in ("20200101", "20210101"):
        _nifti(tmp_path / day / "T1post.nii.gz")
        _nifti(tmp_path / day / "T1post_seg.nii.gz")
        _zip(tmp_path / day, tmp_path / "patient" / f"{day}.zip")
    study = ms.read_study(tmp_path / "patient")
    assert [(v.name, len(v.images), len(v.labels)) for v in study.visits] == [("20200101", 1, 1), ("20210101", 1, 1)]


def test_a_study_in_one_folder_of_an_archive(tmp_path: Path) -> None:
    for day in ("2020-01-01", "2021-01-01"):
        _nifti(tmp_path / "in" / "patient" / day / "T1.nii.gz")
    study = ms.read_study(_zip(tmp_path / "in", tmp_path / "export.zip"))
    assert [v.name for v in study.visits] == ["2020-01-01", "2021-01-01"]


def test_an_archive_in_an_archive_is_opened_once(tmp_path: Path) -> None:
    _nifti(tmp_path / "0" / "T1.nii.gz")
    for k in range(3):
        (tmp_path / str(k + 1)).mkdir()
        _zip(tmp_path / str(k), tmp_path / str(k + 1) / f"level{k}.zip")
    assert len(ms.read(tmp_path / "1" / "level0.zip")) == 1
    assert len(ms.read(tmp_path / "2" / "level1.zip")) == 1
    with pytest.raises(ReadError, match="an archive in an archive in an archive"):
        ms.read(tmp_path / "3" / "level2.zip")


@pytest.mark.parametrize("name", ["../out.nii", "/tmp/medseq-out.nii", "a/../../out.nii", "..\\out.nii", "C:\\out.nii"])
@pytest.mark.parametrize("packer", ["zip", "tar"])
def test_no_name_leaves_the_archive(tmp_path: Path, name: str, packer: str) -> None:
    data = _nifti(tmp_path / "in" / "T1.nii").read_bytes()
    target = tmp_path / "deep" / "er" / f"a.{packer}"
    target.parent.mkdir(parents=True)
    if packer == "zip":
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr(name, data)
            archive.writestr("T1.nii", data)
    else:
        with tarfile.open(target, "w") as tar:
            for member in (name, "T1.nii"):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    with pytest.warns(ReadWarning, match=r"1 file has a name that leaves"):
        assert len(ms.read(target)) == 1
    assert not Path("/tmp/medseq-out.nii").exists()
    assert sorted(p.name for p in tmp_path.rglob("*.nii")) == ["T1.nii"]


def test_links_in_an_archive_are_not_made(tmp_path: Path) -> None:
    data = _nifti(tmp_path / "in" / "T1.nii").read_bytes()
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (("link.nii", tarfile.SYMTYPE), ("hard.nii", tarfile.LNKTYPE), ("pipe", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(tmp_path / "in" / "T1.nii")
            tar.addfile(info)
        info = tarfile.TarInfo("link.nii/T1.nii")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    with pytest.warns(ReadWarning, match=r"3 links or devices"):
        assert [s.name for s in ms.read(tmp_path / "a.tar")] == ["T1"]


def test_bombs_are_refused_by_what_they_declare(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.nii", bytes(4711))
    honest = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(honest.replace(struct.pack("<I", 4711), struct.pack("<I", 1 << 31)))
    with pytest.raises(ReadError, match="no medical image packs so well"):
        ms.read(tmp_path / "a.zip")
    raw = bytearray(512)
    raw[:5], raw[124:136], raw[156:157], raw[257:265] = b"a.nii", b"77777777777\0", b"0", b"ustar\x0000"
    raw[100:108], raw[148:156] = b"0000644\0", b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    (tmp_path / "lie.tar").write_bytes(bytes(raw) + bytes(1024))
    with pytest.raises(ReadError, match="no medical image packs so well"):
        ms.read(tmp_path / "lie.tar")


def test_a_member_that_unpacks_to_more_than_it_declares_is_named(tmp_path: Path) -> None:
    data = bytes(3 << 20)
    _nifti(tmp_path / "in" / "T1.nii")
    target = _zip(tmp_path / "in", tmp_path / "a.zip")
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("lie.nii", data)
    raw = target.read_bytes()
    target.write_bytes(raw.replace(struct.pack("<I", len(data)), struct.pack("<I", 1000)))
    with pytest.warns(ReadWarning, match=r"lie\.nii: cannot be unpacked"):
        assert [s.name for s in ms.read(target)] == ["T1"]


def test_an_archive_that_was_exchanged_is_unpacked_again_whatever_its_dates_say(tmp_path: Path) -> None:
    path = _nifti(tmp_path / "in" / "T1.nii")
    target = tmp_path / "a.zip"
    for value in (0, 7):
        raw = bytearray(path.read_bytes())
        raw[-1] = value
        path.write_bytes(raw)
        with zipfile.ZipFile(target, "w") as archive:  # stored, so that both are of one size
            archive.writestr(zipfile.ZipInfo("T1.nii"), bytes(raw))
        os.utime(target, (0, 0))
        assert ms.read(target)[0].data.tobytes() == ms.read(path)[0].data.tobytes()


def test_encrypted_and_damaged_archives_are_named(tmp_path: Path) -> None:
    _nifti(tmp_path / "in" / "T1.nii")
    target = _zip(tmp_path / "in", tmp_path / "a.zip")
    raw = bytearray(target.read_bytes())
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(magic) + at] |= 1
    (tmp_path / "secret.zip").write_bytes(raw)
    with pytest.raises(ReadError, match="encrypted"):
        ms.read(tmp_path / "secret.zip")
    (tmp_path / "cut.zip").write_bytes(target.read_bytes()[:-40])
    with pytest.raises(ReadError, match="damaged or cut short"):
        ms.read(tmp_path / "cut.zip")
    packed = _tar("w:gz")(tmp_path / "in", tmp_path / "a.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ReadError, match="damaged or cut short"):
        ms.read(tmp_path / "cut.tar.gz")
    (tmp_path / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(100))
    with pytest.raises(ReadError, match="7-Zip archive; unpack"):
        ms.read(tmp_path / "a.7z")


def test_temporary_folders_go_when_the_process_ends(tmp_path: Path) -> None:
    _nifti(tmp_path / "in" / "T1.nii")
    target = _zip(tmp_path / "in", tmp_path / "a.zip")
    (tmp_path / "temporary").mkdir()
    code = f"import napari_medseq as ms; ms.read({str(target)!r}, lazy=True)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "TMPDIR": str(tmp_path / "temporary")})
    assert list((tmp_path / "temporary").iterdir()) == []


ANNEX = "../.git/annex/objects/ab/cd/MD5E-s4711--abc.nii.gz/MD5E-s4711--abc.nii.gz"


@pytest.mark.parametrize("name", ["T1.nii.gz", "IM0001", "a.dcm"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "git-annex"),
        (b"/annex/objects/MD5E-s4711--abc.nii.gz\n", "datalad get"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12345\n", "git lfs pull"),
    ],
)
def test_pointers_are_named_with_how_to_fetch(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    path = tmp_path / "sub-1" / name
    path.parent.mkdir()
    if content is None:
        path.symlink_to(ANNEX)
    else:
        path.write_bytes(content)
    for verb in (ms.read, ms.info, ms.read_study):
        with pytest.raises(ReadError, match=words):
            verb(path.parent)
    with pytest.raises(ReadError, match=words):
        ms.read(path)


def test_many_pointers_share_a_line_and_do_not_hide_the_rest(tmp_path: Path) -> None:
    _nifti(tmp_path / "T1.nii.gz")
    for k in range(5):
        (tmp_path / f"T2_{k}.nii.gz").symlink_to(ANNEX)
    (tmp_path / "gone.nii.gz").symlink_to("nowhere.nii.gz")
    with pytest.warns(ReadWarning) as caught:
        assert len(ms.read(tmp_path)) == 1
    lines = [str(w.message) for w in caught]
    assert sum("5 files (T2_0.nii.gz, …) are a link of git-annex" in line for line in lines) == 1
    assert sum("a link to nowhere.nii.gz, which does not exist" in line for line in lines) == 1


def test_linked_folders_are_entered_once(tmp_path: Path) -> None:
    _nifti(tmp_path / "data" / "T1.nii.gz")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "visit").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "study")
    assert len(ms.read(tmp_path / "study")) == 1


def test_a_folder_that_cannot_be_listed_is_named() -> None:
    """In a process of an ordinary user, for whom a closed folder is closed.

    Not in pytest's own temporary folder: each pytest that starts on the machine closes that to other users.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        _nifti(folder / "study" / "2020-01-01" / "T1.nii.gz")
        _nifti(folder / "study" / "2021-01-01" / "closed" / "T1.nii.gz")
        (folder / "study" / "2021-01-01" / "closed").chmod(0)
        code = f"""
import os, warnings
import napari_medseq as ms, nibabel
ms.read_study({str(folder / "study" / "2020-01-01")!r})  # loads what is loaded late
if os.getuid() == 0:
    os.setuid(65534)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    study = ms.read_study({str(folder / "study")!r})
print(len(study.visits), [str(w.message) for w in caught])
"""
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
        (folder / "study" / "2021-01-01" / "closed").chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert "cannot be listed" in done.stdout
    assert "2021-01-01" in done.stdout


def test_a_full_disk_is_not_a_damaged_archive(tmp_path: Path, heap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = _zip(heap, tmp_path / "full.zip")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("napari_medseq.io.archives._Writer._write", full)
    with pytest.raises(ReadError, match=r"No space left on device.*TMPDIR"):
        ms.read(archive)
