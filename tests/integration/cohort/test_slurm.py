"""Workers as jobs of SLURM, with a stand-in for its two commands that runs a job's script on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import napari_medseq as ms
from napari_medseq import cli
from napari_medseq.errors import SettingsError

pytest.importorskip("dask_jobqueue")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(240),
]

SBATCH = """#!/bin/sh
cp "$1" "$0.script"   # dask-jobqueue removes its own
setsid sh "$0.script" > "$0.log" 2>&1 &
echo "$!" >> "$0.jobs"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job in "$@"; do kill -- "-$job"; echo "$job" >> "$0.jobs"; done
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the stand-ins, first on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_patients_are_done_by_jobs_which_end_with_the_cohort(
    patients: Path, tiny_bundle: Path, tmp_path: Path, commands: Path
) -> None:
    import dask
    import dask_jobqueue  # noqa: F401  (its defaults come first)

    job = {"cores": 1, "memory": "4GB", "log-directory": str(tmp_path), "local-directory": str(tmp_path)}
    with dask.config.set({f"jobqueue.slurm.{k}": v for k, v in job.items()}):
        table = ms.run_cohort(
            patients, tiny_bundle, tmp_path / "out", cluster="slurm", workers=1, register="none", reports=False
        )
    assert table["status"].tolist() == ["done", "done", "failed"]
    assert table["worker"].notna()[:2].all()
    script = (commands / "sbatch.script").read_text()
    assert "#SBATCH --mem=4G" in script
    assert "#SBATCH --cpus-per-task=1" in script
    submitted = (commands / "sbatch.jobs").read_text().split()
    assert len(submitted) == 1
    assert (commands / "scancel.jobs").read_text().split() == submitted  # no job is left


def test_what_is_lacking_is_said(patients: Path, tiny_bundle: Path, tmp_path: Path, commands: Path) -> None:
    with pytest.raises(SettingsError, match="how many jobs"):
        ms.run_cohort(patients, tiny_bundle, tmp_path / "out", cluster="slurm")
    with pytest.raises(SettingsError, match=r"cores and memory under"):
        ms.run_cohort(patients, tiny_bundle, tmp_path / "out", cluster="slurm", workers=1)
    (commands / "sbatch").unlink()
    with pytest.raises(SettingsError, match="no sbatch"):
        ms.run_cohort(patients, tiny_bundle, tmp_path / "out", cluster="slurm", workers=1)


def test_a_scheduler_has_its_own_workers(tmp_path: Path) -> None:
    call = ["cohort", str(tmp_path), "-m", "x", "-o", str(tmp_path), "--cluster", "tcp://a:1", "--workers", "2"]
    with pytest.raises(SystemExit) as ended:
        cli.main(call)
    assert ended.value.code == 2
