"""Files are replaced whole or not at all."""

from __future__ import annotations

import json
import os
import stat
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq import files, preprocessing
from napari_medseq.errors import ModelError, WriteError
from napari_medseq.registration import Transform
from napari_medseq.training.teaching import TeachSettings
from tests.unit.progression.masks import A, B, mask


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


def test_a_tilde_is_the_users_folder_in_whatever_is_read_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(here)
    labels, later = mask(A), mask(B)
    followed = ms.track([labels, later], dates=["2020-01-31", "2020-05-04"])
    transform = Transform("rigid", np.eye(4))
    for ending in (".nii", ".nii.gz", ".nrrd", ".mha", ".seg.nrrd"):
        for day in ("20200131", "20200504"):
            assert ms.write(labels, f"~/study/ses-{day}/m{ending}") == home / f"study/ses-{day}/m{ending}"
        (again,) = ms.read(f"~/study/ses-{day}/m{ending}")
        assert np.array_equal(again.data, labels.data)
    assert len(ms.read_study("~/study").visits) == 2
    assert ms.info("~/study/ses-20200131/m.nii")["series"]
    followed.save("~/result")
    assert len(ms.Progression.load("~/result").lesions) == len(followed.lesions)
    followed.plot("~/plots/p.png")
    followed.report("~/plots/p.html")
    transform.save("~/t.json")
    assert np.array_equal(Transform.load("~/t.json").linear, np.eye(4))
    ms.evaluate(labels, later).save("~/e.csv")
    preprocessing.save(["zscore"], "~/steps.yaml")
    assert preprocessing.load("~/steps.yaml")[0].kind == "zscore"
    assert TeachSettings(out="~/model").out == str(home / "model")
    with pytest.raises(ModelError, match="model"):
        ms.load_model("~/model")
    made = sorted(p.name for p in home.glob("[!.]*"))  # but for what other packages keep there
    assert made == ["e.csv", "plots", "result", "steps.yaml", "study", "t.json"]
    assert os.listdir(here) == []


def test_a_name_may_be_as_long_as_the_system_allows_wherever_its_dots_are(tmp_path: Path) -> None:
    target = tmp_path / f"a.{'1' * 240}.nrrd"
    files.write_text(target, "text")
    assert os.listdir(tmp_path) == [target.name]


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # nibabel does not close a file that it cannot write
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.skipif(os.name != "posix", reason="needs a limit of the system on the size of files")
@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".seg.nrrd"])
def test_a_full_disk_leaves_the_old_file_and_says_so(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # which the limit would cut short

    voxels = np.random.default_rng(0).integers(0, 2, (8, 40, 40)).astype(np.uint8)
    labels = mask(A, shape=(8, 40, 40)).replace(data=voxels)
    target = ms.write(labels, tmp_path / f"a{ending}")
    target.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, before[1]))
    try:
        with pytest.raises(WriteError, match=r"could not be written: .*(too large|incomplete).* with space left"):
            ms.write(labels, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == [target.name]
    assert target.read_text() == "old"


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
