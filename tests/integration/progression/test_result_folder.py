"""A result is swapped as one, sealed, locked, and a failing run never leaves an older one looking like its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.errors import ReadError, WriteError
from napari_medseq.progression import folder
from napari_medseq.sequence import ImageSequence, affine_from


def mask(*boxes: tuple[int, ...]) -> ImageSequence:
    data = np.zeros((12, 30, 34), np.uint8)
    for z0, z1, y0, y1, x0, x1 in boxes:
        data[z0:z1, y0:y1, x0:x1] = 1
    return ImageSequence(data, ("z", "y", "x"), affine_from((0.9, 0.9, 3)), kind="labels", name="T1")


A, B = (2, 8, 2, 8, 2, 10), (2, 8, 2, 8, 14, 20)


def result(*masks: ImageSequence) -> ms.Progression:
    return ms.track(
        masks or [mask(A), mask(A, B), mask(A)], dates=[f"2020-0{n + 1}-01" for n in range(len(masks) or 3)]
    )


def tree(path: Path) -> dict[str, bytes]:
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_fewer_visits_leave_no_folder_of_the_older_result(tmp_path: Path) -> None:
    result().save(tmp_path)
    assert (tmp_path / "ses-20200301").is_dir()
    result(mask(A), mask(B)).save(tmp_path)
    assert not (tmp_path / "ses-20200301").exists()
    assert len(ms.Progression.load(tmp_path).dates) == 2


def test_files_of_others_in_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "previous").mkdir()
    (tmp_path / "previous" / "thesis.txt").write_text("mine too")
    result().save(tmp_path)
    (tmp_path / "ses-20200301" / "mine.txt").write_text("here as well")
    result(mask(A)).save(tmp_path)
    assert {"notes.txt", "previous/thesis.txt", "ses-20200301/mine.txt"} <= set(tree(tmp_path))


def test_masks_of_a_study_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "ses-20200101").mkdir()
    experts = tmp_path / "ses-20200101" / "T1_lesions.nii.gz"
    experts.write_bytes(b"of an expert")
    with pytest.raises(WriteError, match="no earlier result"):
        result().save(tmp_path)
    assert tree(tmp_path) == {"ses-20200101/T1_lesions.nii.gz": b"of an expert"}


@pytest.mark.parametrize("part", ["lesions.csv", "summary.csv", "progression.png", "ses-20200201/T1_lesions.nii.gz"])
def test_a_changed_or_missing_part_is_no_result(tmp_path: Path, part: str) -> None:
    result().save(tmp_path)
    whole = (tmp_path / part).read_bytes()
    (tmp_path / part).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match="is not the file that belongs"):
        ms.Progression.load(tmp_path)
    (tmp_path / part).unlink()
    with pytest.raises(ReadError, match="is missing"):
        ms.Progression.load(tmp_path)


#: writes a newer result over copies of an older one, each time in a process that is killed at another change of a file name
KILLED = """
import os, shutil, sys
sys.path[:0] = [sys.argv[2]]
from test_result_folder import A, B, mask, result
root = sys.argv[1]
older, newer = result(mask(A), mask(A, B), mask(B)), result(mask(A, B), mask(A))
older.save(f"{root}/older")
newer.save(f"{root}/newer")
for step in map(int, sys.argv[3:]):
    shutil.copytree(f"{root}/older", f"{root}/{step}")
    child = os.fork()
    if child == 0:
        left = step
        def kill_later(event, arguments):
            global left
            if event in ("os.rename", "os.remove", "os.rmdir"):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), 9)
        sys.addaudithook(kill_later)
        newer.save(f"{root}/{step}")
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes that were forked")
def test_a_kill_at_any_step_leaves_the_older_or_the_newer_result_never_a_mixture(tmp_path: Path) -> None:
    steps = ["0", "4", "7", "8", "9", "11", "13", "15"]
    subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent), *steps], timeout=240, check=True
    )
    whole = {visits: tree(tmp_path / name) for name, visits in (("older", 3), ("newer", 2))}
    killed = 0
    for step in steps:
        out = tmp_path / step
        killed += any(p.name.startswith(".") for p in out.iterdir())
        for _ in range(2):  # what a reader sees, and what the next writer finds
            visits = len(ms.Progression.load(out).dates)
            assert {k: v for k, v in tree(out).items() if not k.startswith(".")} == whole[visits], step
            with folder.claimed(out):
                pass
        assert not [p.name for p in out.iterdir() if p.name.startswith(".")]
    assert killed >= 5


HOLDS = """
import sys, time
from pathlib import Path
from napari_medseq.progression.folder import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_writers_of_one_folder_the_second_is_told_who_the_first_is(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WriteError, match=rf"being written to by process {holder.pid} on "):
            result().save(tmp_path)
        threading.Timer(0.3, holder.kill).start()
        with folder.claimed(tmp_path, wait_s=30):  # a lock whose process is gone is not a lock
            assert holder.wait() != 0
        result().save(tmp_path)
    finally:
        holder.kill()
        holder.communicate()
    assert not (tmp_path / ".lock").exists()


def test_a_result_set_aside_comes_back_or_waits(tmp_path: Path) -> None:
    result().save(tmp_path)
    (tmp_path / "report.html").write_text("of the first")
    before = tree(tmp_path)
    with folder.claimed(tmp_path) as claim:
        claim.set_aside()
        assert not (tmp_path / "lesions.csv").exists()
        assert not (tmp_path / "report.html").exists()
        claim.put_back()
    assert tree(tmp_path) == before
    with folder.claimed(tmp_path) as claim:
        claim.set_aside()
        claim.failed(ReadError("the disk is gone"))
    with pytest.raises(ReadError, match=r"The last run failed: the disk is gone.*previous"):
        ms.Progression.load(tmp_path)
    assert len(ms.Progression.load(tmp_path / "previous").dates) == 3
    result(mask(A)).save(tmp_path)
    assert not (tmp_path / "previous").exists()
    assert not (tmp_path / "failed.json").exists()


def test_setting_aside_that_was_killed_is_finished(tmp_path: Path) -> None:
    result().save(tmp_path)
    (tmp_path / "previous").mkdir()
    shutil.move(tmp_path / "run.json", tmp_path / "previous" / "run.json")  # as far as a kill let it come
    with folder.claimed(tmp_path):
        pass
    assert len(ms.Progression.load(tmp_path / "previous").dates) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["previous"]


def test_an_output_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(WriteError, match="it is a file"):
        result().save(tmp_path / "out")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs root on Linux")
@pytest.mark.parametrize("options", ["size=64k", "ro"])
def test_a_full_or_a_read_only_disk_keeps_the_older_result(tmp_path: Path, options: str) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        result(mask(A)).save(tmp_path)
        before = tree(tmp_path)
        if options == "ro":
            subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        else:
            free = shutil.disk_usage(tmp_path).free
            (tmp_path / "filler").write_bytes(b"0" * (free - 20_000))
        with pytest.raises(WriteError, match="could not be written"):
            result().save(tmp_path)
        (tmp_path / "filler").unlink(missing_ok=True) if options != "ro" else None
        assert {k: v for k, v in tree(tmp_path).items() if k != ".lock"} == before
        assert len(ms.Progression.load(tmp_path).dates) == 1
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_record_that_names_files_outside_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text("precious")
    out = tmp_path / "out"
    result().save(out)
    facts = json.loads((out / "run.json").read_text())
    facts["files"] |= {"../outside.csv": "0", "/etc/hostname": "0"}
    (out / "run.json").write_text(json.dumps(facts))
    with pytest.raises(ReadError, match="outside the folder"):
        ms.Progression.load(out)
    result(mask(A)).save(out)  # the new result replaces the old one's parts: never those
    assert outside.read_text() == "precious"
