"""Workers that hang, crash or vanish, a scheduler that is lost, and none at all: the others' results are the same."""

from __future__ import annotations

import logging.handlers
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import napari_medseq as ms
from napari_medseq.cohort.limits import Limits
from napari_medseq.cohort.patient import Job
from napari_medseq.errors import MedseqWarning, SettingsError
from tests.narrowing import some
from tests.nifti import write_sparse

pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(240),
]
SAME = ["study", "status", "visits", "lesions", "first_ml", "last_ml", "dropped", "response"]


def job(study: Path, model: Path, out: Path) -> Job:
    sha = ms.load_model(model).fingerprint
    return Job("a", str(study), str(out), str(model), "tiny", sha, {"register": "none"}, report=False)


def until(condition: Any, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def alone(
    three_patients: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pd.DataFrame, Path]:
    """What this process alone makes of the patients: the table, and where the results are. Do not write into it."""
    out = tmp_path_factory.mktemp("alone") / "out"
    return ms.run_cohort(three_patients, tiny_bundle, out, workers=0, register="none", reports=False), out


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_workers_of_this_machine_give_the_same_table_and_the_same_files(
    three_patients: Path, tiny_bundle: Path, tmp_path: Path, alone: tuple[pd.DataFrame, Path], workers: int
) -> None:
    told: list[str] = []
    one, results = alone
    two = ms.run_cohort(
        three_patients, tiny_bundle, tmp_path / "two", workers=workers, register="none", reports=False,
        progress=lambda *a: told.append(a[2]),
    )  # fmt: skip
    pd.testing.assert_frame_equal(one[SAME], two[SAME])
    for path in (results / "a").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "two" / "a" / path.relative_to(results / "a")).read_bytes()
    assert told[0].startswith("dashboard: http")


def test_a_helper_that_is_killed_is_a_crash_and_the_next_patient_is_done(
    ball_study: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    import psutil

    from napari_medseq.cohort.helper import Helper

    helper, rows = Helper(threads=1, memory_limit_gb=None), []
    try:
        doing = threading.Thread(
            target=lambda: rows.append(helper.do(job(ball_study, tiny_bundle, tmp_path / "a"), 120))
        )
        doing.start()
        until(lambda: (tmp_path / "a" / ".lock").exists())  # in the middle of it
        (child,) = [p for p in psutil.Process().children() if "napari_medseq.cohort.helper" in " ".join(p.cmdline())]
        child.kill()
        doing.join()
        assert rows[0]["status"] == "crashed"
        assert "killed by the system" in some(rows[0]["error"])
        assert helper.do(job(ball_study, tiny_bundle, tmp_path / "a"), 120)["status"] == "done"
    finally:
        helper.close()


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory on Linux")
def test_more_memory_than_allowed_fails_the_patient(tiny_bundle: Path, tmp_path: Path) -> None:
    from napari_medseq.cohort.helper import Helper

    (tmp_path / "study" / "ses-01").mkdir(parents=True)
    # 0.5 GB, whose slice is 1 GB as float32
    write_sparse(tmp_path / "study" / "ses-01" / "x_T1post.nii", (16384, 16384, 1, 1))
    helper = Helper(threads=1, memory_limit_gb=0.1)
    try:
        row = helper.do(job(tmp_path / "study", tiny_bundle, tmp_path / "a"), 120)
        assert row["status"] in ("failed", "crashed")
        assert "memory" in str(row["error"])
    finally:
        helper.close()
        shutil.rmtree(tmp_path / "study")


def test_no_scheduler_and_no_workers_are_said(patients: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    import distributed

    with pytest.raises(SettingsError, match="no Dask scheduler"):
        ms.run_cohort(patients, tiny_bundle, tmp_path / "o", cluster=f"tcp://127.0.0.1:{free_port()}", patience_s=2.0)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as local,
        distributed.Client(local) as client,
        pytest.raises(SettingsError, match="has no workers; start some with `dask worker"),
    ):
        ms.run_cohort(patients, tiny_bundle, tmp_path / "o", cluster=client, patience_s=1.0)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Cluster:
    """A scheduler and a worker as processes of their own, which can be killed."""

    def __init__(self, port: int) -> None:
        self.address = f"tcp://127.0.0.1:{port}"
        self.scheduler = self._start("scheduler", "--port", str(port), "--host", "127.0.0.1", "--no-dashboard")
        self.worker = self.start_worker()

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self._start(
            "worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "60"
        )

    @staticmethod
    def _start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        for process in (self.worker, self.scheduler):
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture
def started() -> Iterator[list[Cluster]]:
    """Clusters that a test started; all end with it."""
    clusters: list[Cluster] = []
    yield clusters
    for cluster in clusters:
        cluster.kill()


def test_a_worker_and_then_the_scheduler_are_killed_in_the_middle_and_come_back(
    three_patients: Path,
    tiny_bundle: Path,
    tmp_path: Path,
    started: list[Cluster],
    alone: tuple[pd.DataFrame, Path],
) -> None:
    port = free_port()
    started.append(Cluster(port))
    tables: list[pd.DataFrame] = []
    options: dict[str, Any] = {"register": "none", "reports": False, "patience_s": 90.0}
    out = tmp_path / "out"

    logged = logging.handlers.BufferingHandler(1000)
    logging.getLogger("distributed.client").addHandler(logged)

    def call() -> None:
        with pytest.warns(MedseqWarning, match="is lost and is waited for, .* start it again, and its workers"):
            tables.append(ms.run_cohort(three_patients, tiny_bundle, out, cluster=started[0].address, **options))

    doing = threading.Thread(target=call)
    doing.start()
    until(lambda: (out / "a" / ".lock").exists() or (out / "b" / ".lock").exists())
    started[0].worker.kill()  # mid-patient
    started[0].worker.wait()
    started[0].worker = started[0].start_worker()
    until(lambda: (out / "a" / "run.json").exists() or (out / "b" / "run.json").exists())
    started[0].kill()
    started.append(Cluster(port))
    doing.join(timeout=200)
    logging.getLogger("distributed.client").removeHandler(logged)
    assert logged.buffer == []  # no traceback of Dask's between what is said
    assert tables, "it did not come to an end"
    columns = [c for c in SAME if c != "status"]  # what was finished before the scheduler died may be kept
    pd.testing.assert_frame_equal(tables[0][columns], alone[0][columns])
    assert set(tables[0]["status"][:2]) <= {"done", "kept"}
    assert os.path.exists(out / "cohort.csv")


class LostFuture:
    """A finished job whose row cannot be fetched any more."""

    status = "finished"

    def exception(self) -> None:
        raise OSError("the line is dead")


class DyingClient:
    """A client whose scheduler dies while a job is sent, or while its row is fetched."""

    status = "running"

    def __init__(self, at: str) -> None:
        self.at = at

    def register_plugin(self, plugin: object, name: str) -> None:
        """There is no worker to bring the model to."""

    def nthreads(self) -> dict[str, int]:
        return {"worker": 1}

    def submit(self, *_args: object, **_options: Any) -> LostFuture:
        if self.at == "submit":
            raise OSError("the line is dead")
        return LostFuture()


@pytest.mark.parametrize("at", ["submit", "fetch"])
def test_no_job_is_lost_between_the_queue_and_its_row(
    at: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_medseq.cohort import cluster

    monkeypatch.setattr(cluster, "wait", lambda *_args, **_options: None)
    jobs = [replace(job(tmp_path, tiny_bundle, tmp_path / name), name=name) for name in "abc"]
    one = cluster.Round(DyingClient(at), ms.load_model(tiny_bundle), jobs, Limits())
    with pytest.raises(OSError, match="dead"):
        list(one.rows())
    assert {left.name for left in one.left} == {"a", "b", "c"}


def test_the_helper_starts_where_there_is_no_sigkill(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_medseq.cohort import helper

    monkeypatch.delattr("signal.SIGKILL")  # as on Windows
    assert "Helper" in runpy.run_path(helper.__file__)
