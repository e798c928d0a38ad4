"""A process that does one patient after another for a worker, so that a hang, a crash or a lack of memory ends it and
nothing else.

Jobs and rows are passed as lines of JSON. The process ends when its input ends, so that no helper outlives its worker,
however that ends. It is run as ``python -m napari_medseq.cohort.helper``.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO

from napari_medseq.cohort.patient import Job, Row, do_patient, empty_row

#: bytes allowed in addition to those of a patient: Python, numpy, torch 2.13 for CPUs and a loaded model take 0.4 GB
#: of data (VmData of /proc/self/status), and the arenas of threads need room
_BASE_BYTES = 1_000_000_000
#: waiting threads sleep, because spinning beside other workers took three times the processor time (``benchmarks/cohort.py``)
_WAITING = "PASSIVE"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
#: meaning of the exit status if the system ended the process, by the signal's name, because Windows lacks some
_KILLED = {"SIGKILL": "killed by the system (often: out of memory)", "SIGSEGV": "a segmentation fault"}


class Helper:
    """The worker's side of a helper process, which starts with the first job, and again after it was ended.

    Parameters
    ----------
    threads : int
        Threads of each native library.
    memory_limit_gb : float, optional
        Memory that a patient may take, in addition to that of the programs; not on Windows.
    """

    def __init__(self, *, threads: int, memory_limit_gb: float | None) -> None:
        self._threads, self._memory = threads, memory_limit_gb
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def do(self, job: Job, time_limit_s: float | None) -> Row:
        """The row of one patient, at the latest after the time limit; its status is "crashed" if the process ended."""
        process, answers = self._running()
        try:
            _input(process).write(json.dumps(job.as_dict()) + "\n")
            _input(process).flush()
            line = answers.get(timeout=time_limit_s)
        except queue.Empty:
            self.close()
            text = f"it took longer than the time limit of {time_limit_s:g} s for a patient, and was stopped"
            return empty_row(job, "failed", text, time_limit_s or 0.0)
        except (OSError, EOFError):
            line = None
        if line is not None:
            row: Row = json.loads(line)
            return row
        status = process.wait()
        self.close()
        why = _KILLED.get(signal.Signals(-status).name, f"signal {-status}") if status < 0 else f"exit status {status}"
        return empty_row(job, "crashed", f"the process that did this patient ended: {why}")

    def close(self) -> None:
        """End the process; a job in it is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()
            self._process = None

    def _running(self) -> tuple[subprocess.Popen[str], queue.SimpleQueue[str | None]]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            threads = {name: str(_threads(name, self._threads)) for name in _THREADS}
            limit = [] if self._memory is None else [str(self._memory)]
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, *limit],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if os.environ.get("NAPARI_MEDSEQ_DEBUG") else subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                env={"OMP_WAIT_POLICY": _WAITING, **os.environ, "MPLBACKEND": "Agg", **threads},
                start_new_session=True,  # the worker handles Ctrl+C
            )
            self._answers = queue.SimpleQueue()
            threading.Thread(target=_pass_on, args=(self._process.stdout, self._answers), daemon=True).start()
        return self._process, self._answers


def _threads(name: str, most: int) -> int:
    """The number of threads, or fewer if the user's environment says so."""
    value = os.environ.get(name, "")
    return min(most, int(value)) if value.isdecimal() and int(value) > 0 else most


def _input(process: subprocess.Popen[str]) -> IO[str]:
    if process.stdin is None:
        raise EOFError("the helper has no input")
    return process.stdin


def _pass_on(lines: IO[str], answers: queue.SimpleQueue[str | None]) -> None:
    """Pass lines of the process on as they come, then None."""
    with suppress(ValueError, OSError):  # the pipe was closed while it was read
        for line in lines:
            answers.put(line)
    answers.put(None)


# -- the process itself ------------------------------------------------------------------------------------------------
def main(arguments: list[str]) -> None:
    """Do jobs until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output that a library prints is not an answer
    if arguments:
        _limit_memory(float(arguments[0]))
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()
    while True:
        row = do_patient(Job(**json.loads(jobs.get())))
        answers.write(json.dumps(row) + "\n")
        answers.flush()


def _read_jobs(jobs: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        jobs.put(line)
    os._exit(0)  # the worker is gone, so nobody needs the answer


def _limit_memory(gigabytes: float) -> None:
    """Make allocations beyond the limit fail, which ends the patient and not the machine."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        limit = int(gigabytes * 1e9) + _BASE_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    main(sys.argv[1:])
