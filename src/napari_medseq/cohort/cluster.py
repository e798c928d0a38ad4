"""Jobs on a Dask cluster: a few at a time, with the model sent to each worker once; crashed jobs are tried again on
another worker."""

from __future__ import annotations

import io
import logging
import shutil
import tempfile
import threading
import time
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import dask
from distributed import Client, Future, LocalCluster, Worker, WorkerPlugin, get_worker, wait

from napari_medseq.cohort.helper import Helper
from napari_medseq.cohort.limits import Limits
from napari_medseq.cohort.patient import Job, Row, empty_row
from napari_medseq.errors import DeviceError, MedseqError, SettingsError, warn
from napari_medseq.models import Model
from napari_medseq.progress import Cancelled, check

#: seconds between two checks for cancelling and of the cluster
_POLL_S = 0.5
#: intervals of Dask's monitoring of a cluster in this process: by default it samples the stacks of its threads 100
#: times a second and ticks 50 times, which took 4 % of an idle processor; with these intervals it takes 0.5 %
_QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.worker.memory.monitor-interval": "1s",
}
#: number of jobs submitted per thread of the cluster: one that runs, and one that waits
_AHEAD = 2


class ModelPlugin(WorkerPlugin):
    """Brings a model to every worker, including those that join later, and ends the worker's helpers with the cohort.

    The bundle is sent as one archive; a worker unpacks it once, into a folder of its own.
    """

    def __init__(self, model: Model) -> None:
        self.sha256 = model.fingerprint
        self.name = f"napari-medseq-model-{self.sha256[:16]}"
        self._archive = _packed(Path(model.info.folder))

    def setup(self, worker: Worker) -> None:
        """Unpack the model."""
        place = Path(tempfile.mkdtemp(prefix="napari-medseq-model-"))
        with zipfile.ZipFile(io.BytesIO(self._archive)) as archive:
            archive.extractall(place)
        _BENCHES[worker.id, self.sha256] = _Bench(place)

    def teardown(self, worker: Worker) -> None:
        """End the helpers and remove the model."""
        bench = _BENCHES.pop((worker.id, self.sha256), None)
        if bench is not None:
            bench.close()


class _Bench:
    """The equipment of a worker for its jobs: the model's folder, and a helper per thread."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self._helpers: dict[int, Helper] = {}
        self._lock = threading.Lock()

    def helper(self, limits: Limits) -> Helper:
        with self._lock:
            thread = threading.get_ident()
            if thread not in self._helpers:
                self._helpers[thread] = Helper(threads=limits.threads, memory_limit_gb=limits.memory_limit_gb)
            return self._helpers[thread]

    def close(self) -> None:
        with self._lock:
            for helper in self._helpers.values():
                helper.close()
            self._helpers.clear()
        shutil.rmtree(self.model, ignore_errors=True)


#: by worker and model, because a process may hold several workers
_BENCHES: dict[tuple[str, str], _Bench] = {}


def _packed(folder: Path) -> bytes:
    """A bundle as an uncompressed archive, because weights hardly compress."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def do_job(job: Job, limits: Limits) -> Row:
    """Do the job of one patient on a worker."""
    worker = get_worker()
    bench = _BENCHES[worker.id, job.model_sha256]
    if limits.memory_limit_gb is None and worker.memory_manager.memory_limit:
        limits = replace(limits, memory_limit_gb=worker.memory_manager.memory_limit / 1e9 / worker.state.nthreads)
    row = bench.helper(limits).do(replace(job, model=str(bench.model)), limits.time_limit_s)
    return {**row, "worker": str(worker.name)}


# -- the driver's side -------------------------------------------------------------------------------------------------
@contextmanager
def local_client(workers: int) -> Iterator[Client]:
    """A cluster on this machine: its workers are threads of this process, each with a helper process for its
    patients."""
    with (
        dask.config.set(_QUIET),
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=False, dashboard_address=":0", silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def connected(address: str, timeout_s: float = 20.0) -> Iterator[Client]:
    """A client of the scheduler at an address.

    Raises
    ------
    SettingsError
        If there is no scheduler."""
    try:
        client = Client(address, timeout=f"{timeout_s:g}s")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"There is no Dask scheduler at {address!r} ({error}); start one with `dask scheduler`."
        ) from None
    # of a lost scheduler it prints a traceback; `on_scheduler` says it in a sentence
    log = logging.getLogger("distributed.client")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield client
    finally:
        with suppress(Exception):
            client.close(timeout=5)
        log.setLevel(level)


class Round:
    """The jobs on one connection to a scheduler; those that are not finished when it is lost stay in `left`.

    Parameters
    ----------
    client : Client
    jobs : iterable of Job
        The jobs, which are submitted as places become free, so that the scheduler never holds more than a few.
    """

    def __init__(self, client: Client, model: Model, jobs: Iterable[Job], limits: Limits, device: str = "auto") -> None:
        self._client, self._limits = client, limits
        self._plugin = ModelPlugin(model)
        self._jobs: deque[Job] = deque(jobs)
        self._tries: dict[str, int] = {}
        self._running: dict[Future[Row], Job] = {}
        self._gpu = device.startswith("cuda")

    @property
    def _address(self) -> str:
        return str(self._client.scheduler_info(n_workers=0).get("address", "the cluster"))

    @property
    def left(self) -> list[Job]:
        """Jobs that have no row yet."""
        return [*self._running.values(), *self._jobs]

    def rows(self, cancelled: Cancelled | None = None) -> Iterator[Row]:
        """The rows, in the order in which the workers finish them.

        Raises
        ------
        DeviceError
            If the scheduler is lost.
        SettingsError
            If there are no workers for longer than the limit.
        """
        self._client.register_plugin(self._plugin, name=self._plugin.name)
        empty_since: float | None = None
        try:
            while self._running or self._jobs:
                check(cancelled)
                threads = self._threads()
                if threads:
                    empty_since = None
                    self._submit(_AHEAD * threads)
                else:
                    empty_since = time.monotonic() if empty_since is None else empty_since
                    if time.monotonic() - empty_since > self._limits.patience_s:
                        raise SettingsError(
                            f"The Dask scheduler at {self._address} has no workers; start some with `dask worker {self._address}`, "
                            "on each machine, and call again."
                        )
                yield from self._finished()
        finally:
            self._stop()

    def _threads(self) -> int:
        """Threads of all workers; 0 without a worker.

        Raises
        ------
        DeviceError
            If the scheduler does not answer.
        """
        if self._client.status != "running":
            raise DeviceError("the scheduler is lost")
        try:
            return sum(self._client.nthreads().values())
        except (OSError, TimeoutError, CancelledError) as error:
            raise DeviceError(str(error)) from None

    def _submit(self, most: int) -> None:
        while self._jobs and len(self._running) < most:
            job = self._jobs[0]  # removed only after it is sent, because the scheduler may be lost in between
            future = self._client.submit(do_job, job, self._limits, pure=False, resources=self._resources())
            self._running[future] = self._jobs.popleft()
            self._tries[job.name] = self._tries.get(job.name, 0) + 1

    def _resources(self) -> dict[str, int] | None:
        """One job per GPU, if workers declare that they have one (`dask worker --resources GPU=1`)."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values() if self._gpu else ()
        return {"GPU": 1} if any("GPU" in w.get("resources", {}) for w in workers) else None

    def _finished(self) -> Iterator[Row]:
        if not self._running:
            time.sleep(_POLL_S)
            return
        with suppress(TimeoutError, CancelledError):
            wait(list(self._running), timeout=_POLL_S, return_when="FIRST_COMPLETED")
        for future in [f for f in self._running if f.status != "pending"]:
            if future.status in ("lost", "cancelled"):
                raise DeviceError("the scheduler forgot its jobs")
            row = self._row(future, self._running[future])  # if fetching the row fails, the job is still left
            del self._running[future]
            if row is not None:
                yield row

    def _row(self, future: Future[Row], job: Job) -> Row | None:
        """The row of a finished job; None if it is tried again."""
        try:
            error = future.exception()
            if isinstance(error, CancelledError):
                raise error
            row: Row = empty_row(job, "crashed", f"on the worker: {error!r}") if error is not None else future.result()
        except CancelledError as lost:  # the connection broke before or while the row was fetched
            raise DeviceError(f"the scheduler is lost ({lost})") from None
        if row["status"] != "crashed":
            return row
        if self._tries[job.name] <= self._limits.retries:
            self._jobs.append(job)  # at the end of the queue, so that most likely another worker takes it
            return None
        return {**row, "status": "failed", "error": f"{row['error']} ({self._tries[job.name]} tries)"}

    def _stop(self) -> None:
        with suppress(Exception):  # a lost job cannot be stopped
            self._client.cancel(list(self._running), force=True)
            self._client.unregister_worker_plugin(self._plugin.name)


def on_scheduler(
    address: str, model: Model, jobs: list[Job], limits: Limits, device: str, cancelled: Cancelled | None = None
) -> Iterator[Row]:
    """Rows from the workers of a scheduler; if it is lost, it is looked for again, and unfinished jobs are sent again.

    Raises
    ------
    SettingsError
        If there is no scheduler at first, or no worker for longer than the limit.
    MedseqError
        If the scheduler stays lost.
    """
    remaining, finished, lost_since = jobs, 0, None
    while remaining:
        try:
            with connected(address, min(20.0, limits.patience_s)) as client:
                current = Round(client, model, remaining, limits, device)
                try:
                    for row in current.rows(cancelled):
                        finished, lost_since = finished + 1, None
                        yield row
                finally:
                    remaining = current.left
        except (DeviceError, OSError):
            if lost_since is None:
                lost_since = time.monotonic()
                warn(
                    f"The Dask scheduler at {address} is lost and is waited for, for {limits.patience_s:.0f} s: start it again, and its "
                    "workers, which end with it."
                )
        except SettingsError:
            if lost_since is None:
                raise
        if remaining and lost_since is not None and time.monotonic() - lost_since > limits.patience_s:
            raise MedseqError(
                f"The Dask scheduler at {address} was lost after {finished} of {len(jobs)} patients. Their results and the table are "
                "there; start it again, and its workers, which end with it; then call again to do the others."
            )
        if remaining and lost_since is not None:
            check(cancelled)
            time.sleep(_POLL_S)


def on_client(
    client: Client, model: Model, jobs: list[Job], limits: Limits, device: str, cancelled: Cancelled | None = None
) -> Iterator[Row]:
    """Rows from the workers of a client that the caller closes.

    Raises
    ------
    MedseqError
        If its scheduler is lost.
    """
    finished = 0
    try:
        for row in Round(client, model, jobs, limits, device).rows(cancelled):
            finished += 1
            yield row
    except (DeviceError, OSError):
        raise MedseqError(
            f"The Dask scheduler was lost after {finished} of {len(jobs)} patients. Their results and the table are there; connect "
            "again, and call again to do the others."
        ) from None
