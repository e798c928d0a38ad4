"""Time and peak memory of the main job on the sample study, as whole processes on two cores.

    python benchmarks/main_job.py [--runs 5]

Each run is a fresh ``napari-medseq run`` with imports, reading, segmentation, tracking and writing included. Prints a table and
writes ``docs/benchmarks/main_job.json``. The limits (60 s, 3 GB) are the project's own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {"seconds": 60.0, "peak_gb": 3.0}


def once(study: Path) -> dict[str, float]:
    """Wall seconds and peak resident gigabytes of one whole process."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            sys.executable,
            "-m",
            "napari_medseq",
            "run",
            str(study),
            "--model",
            "brain-tumor",
            "-o",
            out + "/result",
        ]
        began = time.perf_counter()
        # a child of its own measures one run only: ru_maxrss of all children is the largest so far
        pid = os.posix_spawn(
            sys.executable, command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        )
        _, status, usage = os.wait4(pid, 0)
        seconds = time.perf_counter() - began
        if status:
            raise SystemExit(f"the command failed with status {os.waitstatus_to_exitcode(status)}")
    return {"seconds": seconds, "peak_gb": usage.ru_maxrss * 1024 / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--study", type=Path, default=ROOT / "sample_data" / "study")
    a = parser.parse_args()
    rows = [once(a.study) for _ in range(a.runs)]
    print(f"{a.runs} runs on {os.cpu_count()} cores")
    print("| figure | min | median | max | limit |\n|---|---|---|---|---|")
    for key, limit in LIMITS.items():
        values = [r[key] for r in rows]
        print(f"| {key} | {min(values):.2f} | {statistics.median(values):.2f} | {max(values):.2f} | {limit:g} |")
    path = ROOT / "docs" / "benchmarks" / "main_job.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cores": os.cpu_count(), "runs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
