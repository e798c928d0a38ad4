"""Workers as jobs of SLURM: dask-jobqueue submits them, as the user's own configuration of it says."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client

from napari_medseq.errors import SettingsError

#: how the cluster is called in `run_cohort`
NAME = "slurm"
#: seconds that jobs may wait in the queue before it is said that there are no workers: a day
QUEUE_S = 86_400.0


@contextmanager
def slurm_client(jobs: int) -> Iterator[Client]:
    """A scheduler in this process, and so many jobs of SLURM as its workers; they are cancelled at the end.

    Cores, memory, queue, account and time of a job come from dask-jobqueue's configuration, ``~/.config/dask/jobqueue.yaml``.

    Raises
    ------
    SettingsError
        If dask-jobqueue or SLURM is not here, or the configuration does not say what a job is to have.
    """
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError:
        raise SettingsError("SLURM needs dask-jobqueue: pip install 'napari-medseq[slurm]'.") from None
    if shutil.which("sbatch") is None:
        raise SettingsError(
            "There is no sbatch here; call this where jobs of SLURM are submitted, such as a login node."
        )
    try:
        cluster = SLURMCluster(scheduler_options={"dashboard_address": ":0"})
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"dask-jobqueue does not know what a job is to have ({' '.join(str(error).split())}); write cores and memory under "
            "jobqueue: slurm: in ~/.config/dask/jobqueue.yaml."
        ) from None
    with cluster, Client(cluster) as client:
        cluster.scale(jobs=jobs)  # type: ignore[no-untyped-call]
        yield client
