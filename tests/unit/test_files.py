"""Files are replaced whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from datetime import date
from pathlib import Path

import pytest

from napari_medseq import files
from napari_medseq.errors import WriteError


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "scan.nii.gz"
    files.write_text(target, "old")
    with files.replacing(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["scan.nii.gz"]


@pytest.mark.parametrize("failure", [ValueError("broken"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, failure: BaseException) -> None:
    target = files.write_bytes(tmp_path / "a.bin", b"old")
    with pytest.raises(type(failure)), files.replacing(target) as temporary:  # noqa: PT012
        temporary.write_bytes(b"ha")
        raise failure
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_two_may_write_the_same_file_at_the_same_time(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with files.replacing(target) as one, files.replacing(target) as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert target.read_text() == "one"  # the outer block ends last
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_cannot_be_written_is_a_write_error_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for target in (tmp_path / "file" / "a.txt", tmp_path / ("n" * 300)):
        with pytest.raises(WriteError, match=r"could not be written: .+\. Choose a folder"):
            files.write_text(target, "text")
    with pytest.raises(WriteError, match="file is a file, not a folder"):
        files.check_place(tmp_path / "file" / "new" / "a.txt")
    files.check_place(tmp_path / "new" / "newer" / "a.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match="folder could not be written"):
        files.write_text(tmp_path / "folder", "text")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_are_those_of_any_new_file_or_of_the_file_that_is_replaced(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        new = files.write_text(tmp_path / "new", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE(new.stat().st_mode) == 0o640
    new.chmod(0o600)
    files.write_text(new, "again")
    assert stat.S_IMODE(new.stat().st_mode) == 0o600


def test_content_is_written_as_it_is(tmp_path: Path) -> None:
    assert files.write_text(tmp_path / "a.txt", "µ\r\n").read_bytes() == "µ\r\n".encode()
    written = files.write_json(tmp_path / "a.json", {"day": date(2020, 1, 31), "path": Path("x"), "name": "Größe"})
    assert json.loads(written.read_text(encoding="utf-8")) == {"day": "2020-01-31", "path": "x", "name": "Größe"}
    with files.replacing(tmp_path / "kept", durable=True) as temporary:
        temporary.write_bytes(b"on the disk")
    assert (tmp_path / "kept").read_bytes() == b"on the disk"
