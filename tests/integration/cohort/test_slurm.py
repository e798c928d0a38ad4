"""Workers as jobs of SLURM, with a stand-in for its two commands that runs a job's script on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import napari_medseq as ms
from napari_medseq import cli
from napari_medseq.errors import SettingsError

pytest.importorskip("dask_jobqueue")
from napari_medseq.cohort import slurm

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


@pytest.mark.usefixtures("job")
def test_patients_are_done_by_jobs_which_end_with_the_cohort(
    patients: Path, tiny_bundle: Path, tmp_path: Path, commands: Path
) -> None:
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


#: what sbatch says where there is no such partition
REFUSAL = """#!/bin/sh
echo "sbatch: error: invalid partition specified: nowhere" >&2
echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
exit 1
"""
#: takes one job and no more, as where a user may have one job
ONE_JOB = REFUSAL.replace("echo", 'mkdir "$0.taken" 2>/dev/null && exec sh "$0.sbatch" "$1"\necho', 1)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[None]:
    """The user's configuration of a job."""
    import dask
    import dask_jobqueue  # noqa: F401  (its defaults come first)

    wanted = {"cores": 1, "memory": "4GB", "log-directory": str(tmp_path), "local-directory": str(tmp_path)}
    with dask.config.set({f"jobqueue.slurm.{k}": v for k, v in wanted.items()}):
        yield


@pytest.mark.usefixtures("job")
def test_jobs_that_sbatch_refuses_end_the_cohort_at_once_in_its_words(
    patients: Path, tiny_bundle: Path, tmp_path: Path, commands: Path
) -> None:
    (commands / "sbatch").write_text(REFUSAL)
    with pytest.raises(SettingsError, match=r"refused every job: error: invalid partition specified: nowhere") as said:
        ms.run_cohort(patients, tiny_bundle, tmp_path / "out", cluster="slurm", workers=2, register="none")
    assert "Invalid partition name specified. Change jobqueue" in str(said.value)
    assert not (commands / "scancel.jobs").exists()  # there is nothing to cancel


@pytest.mark.usefixtures("job")
def test_an_answer_that_names_no_job_is_a_refusal(commands: Path) -> None:
    (commands / "sbatch").write_text("#!/bin/sh\necho 'come back tomorrow'\n")
    with pytest.raises(SettingsError, match="come back tomorrow"), slurm.slurm_client(1):
        pass


@pytest.mark.usefixtures("job")
def test_where_some_jobs_are_refused_the_others_go_on(commands: Path) -> None:
    (commands / "sbatch").rename(commands / "sbatch.sbatch")
    (commands / "sbatch").write_text(ONE_JOB)
    (commands / "sbatch").chmod(0o755)
    with (
        pytest.warns(ms.MedseqWarning, match=r"refused 1 of 2 jobs, the others do the patients: error: invalid"),
        slurm.slurm_client(2),
    ):
        pass
    assert len((commands / "sbatch.sbatch.jobs").read_text().split()) == 1


def test_sbatch_that_is_silent_is_not_waited_for_for_ever() -> None:
    with pytest.raises(SettingsError, match=r"did not answer in 0\.01 s"):
        slurm.Answers().check(1, 0.01)


def test_a_scheduler_has_its_own_workers(tmp_path: Path) -> None:
    call = ["cohort", str(tmp_path), "-m", "x", "-o", str(tmp_path), "--cluster", "tcp://a:1", "--workers", "2"]
    with pytest.raises(SystemExit) as ended:
        cli.main(call)
    assert ended.value.code == 2
