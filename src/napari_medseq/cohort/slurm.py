"""Workers as jobs of SLURM: dask-jobqueue submits them, as the user's own configuration of it says."""

from __future__ import annotations

import shutil
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from distributed import Client
from distributed.deploy.spec import ProcessInterface

from napari_medseq.errors import MedseqWarning, SettingsError

if TYPE_CHECKING:
    from dask_jobqueue.slurm import SLURMJob

#: how the cluster is called in `run_cohort`
NAME = "slurm"
#: seconds that jobs may wait in the queue before it is said that there are no workers: a day
QUEUE_S = 86_400.0
#: seconds in which sbatch must have answered; it tries for some minutes where SLURM's controller is silent
_ANSWER_S = 600.0


class Answers:
    """What sbatch said to each job, as it comes."""

    def __init__(self) -> None:
        self._refused: list[str] = []
        self._taken = 0
        self._one_more = threading.Condition()

    def taken(self) -> None:
        """A job was submitted."""
        with self._one_more:
            self._taken += 1
            self._one_more.notify_all()

    def refused(self, words: str) -> None:
        """A job was refused, in sbatch's words."""
        with self._one_more:
            self._refused.append(words)
            self._one_more.notify_all()

    def check(self, jobs: int, patience_s: float) -> None:
        """Wait until every job is answered, then say which were refused.

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
            warnings.warn(text, MedseqWarning, stacklevel=3)


@contextmanager
def slurm_client(jobs: int) -> Iterator[Client]:
    """A scheduler in this process, and so many jobs of SLURM as its workers; they are cancelled at the end.

    Cores, memory, queue, account and time of a job come from dask-jobqueue's configuration, ``~/.config/dask/jobqueue.yaml``.

    Raises
    ------
    SettingsError
        If dask-jobqueue or SLURM is not here, the configuration does not say what a job is to have, or sbatch refuses every job.
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
        # dask-jobqueue's annotation asks for a job where it takes a class of them
        cluster = SLURMCluster(job_cls=_job_class(answers), scheduler_options={"dashboard_address": ":0"})  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"dask-jobqueue does not know what a job is to have ({' '.join(str(error).split())}); write cores and memory under "
            "jobqueue: slurm: in ~/.config/dask/jobqueue.yaml."
        ) from None
    with cluster, Client(cluster) as client:
        cluster.scale(jobs=jobs)  # type: ignore[no-untyped-call]
        answers.check(jobs, _ANSWER_S)
        yield client


def _job_class(answers: Answers) -> type[SLURMJob]:
    """Jobs of SLURM that pass on how they were answered: dask-jobqueue keeps a refusal to itself, and waits for workers."""
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
    """What sbatch wrote, out of dask-jobqueue's account of the call; all of it where there is no such part."""
    words = error.partition("stderr:")[2].split() or error.split()
    return " ".join(words).removeprefix("sbatch: ").rstrip(".")
