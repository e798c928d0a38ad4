"""What one patient of a cohort may take, and how long the cohort waits for a cluster."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a patient, and the cluster, may take.

    Attributes
    ----------
    time_limit_s, memory_limit_gb : float, optional
        For one patient.
    retries : int
        How often a patient whose process ended is tried again.
    patience_s : float
        How long to wait for a first worker, and for workers or a scheduler that were lost.
    threads : int
        Threads of the native libraries per job.
    """

    time_limit_s: float | None = None
    memory_limit_gb: float | None = None
    retries: int = 1
    patience_s: float = 60.0
    threads: int = 1
