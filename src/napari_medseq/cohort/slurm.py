"""Workers as jobs of SLURM, submitted by dask-jobqueue with the user's own configuration."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from distributed import Client
from distributed.deploy.spec import ProcessInterface

from napari_medseq.errors import SettingsError, warn

if TYPE_CHECKING:
    from dask_jobqueue.slurm import SLURMJob

#: name of the cluster in `run_cohort`
NAME = "slurm"
#: seconds that jobs may wait in the queue before a lack of workers is reported: a day
QUEUE_S = 86_400.0
#: seconds within which sbatch must answer; it retries for some minutes if SLURM's controller is silent
_ANSWER_S = 600.0


class Answers:
    """The answers of sbatch to the submitted jobs, as they come."""

    def __init__(self) -> None:
        self._refused: list[str] = []
        self._taken = 0
        self._one_more = threading.Condition()

    def taken(self) -> None:
        """Count a job that was submitted."""
        with self._one_more:
            self._taken += 1
            self._one_more.notify_all()

    def refused(self, words: str) -> None:
        """Record a job that was refused, in sbatch's words."""
        with self._one_more:
            self._refused.append(words)
            self._one_more.notify_all()

    def check(self, jobs: int, patience_s: float) -> None:
        """Wait until every job is answered, and report those that were refused.

        Raises
        ------
        SettingsError
            If every job was refused, or none is answered in time.

        Warns
        -----
        MedseqWarning
            If some were refused.
        """
        with self._one_more:
            answered = self._one_more.wait_for(lambda: self._taken + len(self._refused) >= jobs, patience_s)
        words = "; ".join(dict.fromkeys(self._refused))
        if not self._taken:
            why = f"SLURM refused every job: {words}" if answered else f"sbatch did not answer in {patience_s:g} s"
            raise SettingsError(f"{why}. Change jobqueue: slurm: in ~/.config/dask/jobqueue.yaml, and call again.")
        if words:
            text = f"SLURM refused {len(self._refused)} of {jobs} jobs, the others do the patients: {words}."
            warn(text)


@contextmanager
def slurm_client(jobs: int) -> Iterator[Client]:
    """A scheduler in this process with jobs of SLURM as its workers, which are cancelled at the end.

    Cores, memory, queue, account and time of a job come from dask-jobqueue's configuration, ``~/.config/dask/jobqueue.yaml``.

    Raises
    ------
    SettingsError
        If dask-jobqueue or SLURM is missing, the configuration does not state the resources of a job, or sbatch
        refuses every job.
    """
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError:
        raise SettingsError("SLURM needs dask-jobqueue: pip install 'napari-medseq[slurm]'.") from None
    if shutil.which("sbatch") is None:
        raise SettingsError(
            "There is no sbatch here; call this where jobs of SLURM are submitted, such as a login node."
        )
    answers = Answers()
    try:
        # dask-jobqueue's annotation asks for a job, although it takes a class of jobs
        cluster = SLURMCluster(job_cls=_job_class(answers), scheduler_options={"dashboard_address": ":0"})  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"dask-jobqueue does not know the resources of a job ({' '.join(str(error).split())}); write cores and memory under "
            "jobqueue: slurm: in ~/.config/dask/jobqueue.yaml."
        ) from None
    with cluster, Client(cluster) as client:
        cluster.scale(jobs=jobs)  # type: ignore[no-untyped-call]
        answers.check(jobs, _ANSWER_S)
        yield client


def _job_class(answers: Answers) -> type[SLURMJob]:
    """The class of SLURM jobs that report their answers, because dask-jobqueue hides a refusal and waits for
    workers."""
    from dask_jobqueue.slurm import SLURMJob

    class Job(SLURMJob):
        async def start(self) -> None:
            try:
                await super().start()  # type: ignore[no-untyped-call]
            except (RuntimeError, ValueError, OSError) as error:  # its status, its answer, the command itself
                answers.refused(_words_of(str(error)))
                await ProcessInterface.start(self)  # it counts as submitted, and is not submitted again
            else:
                answers.taken()

    return Job


def _words_of(error: str) -> str:
    """The output of sbatch from dask-jobqueue's error message; the whole message if it has no such part."""
    words = error.partition("stderr:")[2].split() or error.split()
    return " ".join(words).removeprefix("sbatch: ").rstrip(".")
