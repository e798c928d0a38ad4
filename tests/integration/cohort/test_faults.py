"""Disks that are full or read-only, reads that never return, clocks that jump: nothing half-written, and a reason is given."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import napari_medseq as ms
from napari_medseq.cohort.patient import Job
from napari_medseq.errors import WriteError

HERE: dict[str, Any] = {"workers": 0, "register": "none", "reports": False}
pytestmark = pytest.mark.timeout(240)


def contents(path: Path) -> dict[str, bytes]:
    """The files of a result, but for the cohort's own, which say how long it took."""
    return {
        p.relative_to(path).as_posix(): p.read_bytes()
        for p in sorted(path.rglob("*"))
        if p.is_file() and p.name not in ("cohort.csv", "cohort.html")
    }


@contextmanager
def mounted(path: Path, options: str) -> Iterator[Path]:
    """A file system of its own at `path`; skips where that is not allowed."""
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


on_linux = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs root on Linux")


@on_linux
def test_a_disk_that_fills_up_leaves_nothing_half_written_and_is_gone_on_from(
    patients: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    ms.run_cohort(patients, tiny_bundle, tmp_path / "whole", **HERE)
    with mounted(tmp_path / "small", "size=8m") as disk:
        out = disk / "out"
        out.mkdir()
        one = sum(len(b) for name, b in contents(tmp_path / "whole").items() if name.startswith("a/"))
        (disk / "filler").write_bytes(b"0" * (shutil.disk_usage(disk).free - one - 60_000))  # room for one patient
        try:
            table = ms.run_cohort(patients, tiny_bundle, out, **HERE)
            assert (table["status"] == "failed").any()
            assert "could not be written" in "".join(table["error"].dropna())
        except WriteError as error:  # where not even the tables have room
            assert "could not be written" in str(error)  # noqa: PT017
        left = [p.name for p in disk.rglob("*") if p.name.startswith((".partial", "tmp", ".commit", ".lock"))]
        assert left == []
        (disk / "filler").unlink()
        again = ms.run_cohort(patients, tiny_bundle, out, **HERE)
        assert set(again["status"][:2]) <= {"done", "kept"}
        assert contents(out) == contents(tmp_path / "whole")


@on_linux
def test_a_read_only_disk_is_said_before_any_patient(patients: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    told: list[str] = []
    with mounted(tmp_path / "disk", "size=8m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for call in (
            lambda: ms.run_cohort(patients, tiny_bundle, disk / "out", **HERE, progress=lambda *a: told.append(a[2])),
            lambda: ms.run(patients / "a", tiny_bundle, out=disk / "out", progress=lambda *a: told.append(a[2])),
        ):
            with pytest.raises(WriteError, match=r"could not be written: Read-only"):
                call()
    assert told == []


#: waits for ever where a file of the name "stuck" is opened, as a network folder does that has gone
HANGS = """
import sys, time
def hang(event, arguments):
    if event == "open" and "stuck_T1post" in str(arguments[0]):
        time.sleep(3600)
sys.addaudithook(hang)
"""


def test_a_read_that_never_returns_is_ended_and_the_next_patient_is_done(
    patients: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_medseq.cohort.helper import Helper

    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(HANGS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), *filter(None, sys.path)]))
    image = next((patients / "b").rglob("*T1post.nii.gz"))
    image.rename(image.with_name("stuck_T1post.nii.gz"))
    sha = ms.load_model(tiny_bundle).fingerprint
    job = Job(
        "a", str(patients / "a"), str(tmp_path / "a"), str(tiny_bundle), "tiny", sha, {"register": "none"}, report=False
    )
    helper = Helper(threads=1, memory_limit_gb=None)
    try:
        assert helper.do(job, 200)["status"] == "done"
        began = time.monotonic()
        row = helper.do(replace(job, name="b", study=str(patients / "b"), out=str(tmp_path / "b")), 2.0)
        assert (row["status"], "time limit of 2 s" in str(row["error"])) == ("failed", True)
        assert time.monotonic() - began < 100
        assert not (tmp_path / "b" / "run.json").exists()
        assert helper.do(replace(job, out=str(tmp_path / "c")), 200)["status"] == "done"
    finally:
        helper.close()


def test_clocks_that_jump_decide_nothing(
    ball_study: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither dates of files nor the time of day: what is kept goes by content, and locks by who holds them."""
    shutil.copytree(ball_study, tmp_path / "a")
    out = tmp_path / "out"

    def status() -> str:
        return str(ms.run_cohort([tmp_path / "a"], tiny_bundle, out, **HERE)["status"][0])

    clock, jumps = time.time, iter([0.0, 1e7, -1e8, 3e8, -1e9] * 10_000)
    monkeypatch.setattr(time, "time", lambda: clock() + next(jumps))
    assert status() == "done"
    for stamp in (0, 4_102_444_800):  # 1970, 2100
        for path in [*out.rglob("*"), *(tmp_path / "a").rglob("*")]:
            os.utime(path, (stamp, stamp))
        assert status() == "kept"
    image = next((tmp_path / "a").rglob("*20200504*/*T1post.nii.gz"))
    dates = image.stat()
    first = next((tmp_path / "a").rglob("*20200131*/*T1post.nii.gz"))
    shutil.copy(first, image)
    os.utime(image, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    assert status() == "done"
    (out / "a" / ".lock").write_text('{"process": 1, "host": "elsewhere", "since": "2100-01-01 00:00:00"}')
    os.utime(out / "a" / ".lock", (4_102_444_800, 4_102_444_800))
    assert status() == "kept"  # nobody holds it
