"""Limits of one patient of a cohort, and of the time that the cohort waits for a cluster."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a patient, and of waiting for the cluster.

    Attributes
    ----------
    time_limit_s, memory_limit_gb : float, optional
        Limits for one patient.
    retries : int
        Number of times that a patient whose process ended is tried again.
    patience_s : float
        Seconds to wait for a first worker, and for workers or a scheduler that were lost.
    threads : int
        Threads of the native libraries per job.
    """

    time_limit_s: float | None = None
    memory_limit_gb: float | None = None
    retries: int = 1
    patience_s: float = 60.0
    threads: int = 1
