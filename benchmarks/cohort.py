"""Cohorts: what a patient costs beside a plain loop, throughput with one and two workers, and 10,000 patients with a stub.

``python benchmarks/cohort.py [--patients 8] [--many 10000] [--out cohort.json]`` prints a table and writes JSON. The patients are small
(48 × 48 × 16 voxels, two visits) and the network is untrained, so that what is measured is the cohort and not the model. The loop and the
cohort take turns on the same patients, each into a new folder. With the stub, a worker writes the two tables of a patient and nothing
else: time, memory of driver, scheduler and workers (one process), tables and report remain.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

import napari_medseq as ms
from napari_medseq.cohort import cluster
from napari_medseq.cohort.patient import Job, Row, empty_row

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.balls import write_ball_study
from tests.tiny import write_tiny_bundle


def loop(patients: list[Path], model: Path, out: Path) -> float:
    """Seconds of a plain loop over `ms.run`."""
    began = time.perf_counter()
    loaded = ms.load_model(model)
    for patient in patients:
        ms.run(patient, loaded, out=out / patient.name, register="none")
    return time.perf_counter() - began


def cohort(patients: list[Path], model: Path, out: Path, workers: int) -> float:
    """Seconds of a cohort, its tables and report included."""
    began = time.perf_counter()
    table = ms.run_cohort(patients, model, out, workers=workers, register="none", reports=False)
    if not (table["status"] == "done").all():
        raise SystemExit(f"patients failed: {table['error'].dropna().tolist()[:3]}")
    return time.perf_counter() - began


def paired(patients: list[Path], model: Path, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds per patient of each way, round by round."""
    ways: dict[str, list[float]] = {"loop": [], "workers=0": [], "workers=1": [], "workers=2": []}
    loop(patients[:1], model, folder / "warm")  # imports
    for n in range(rounds):
        ways["loop"].append(loop(patients, model, folder / f"loop-{n}"))
        for workers in (0, 1, 2):
            ways[f"workers={workers}"].append(cohort(patients, model, folder / f"w{workers}-{n}", workers))
    return {way: [s / len(patients) for s in seconds] for way, seconds in ways.items()}


_LESIONS = "visit,date,lesion,label,volume_ml,event,parents,certainty,measured,cut_off\n" + "".join(
    f"{v},202{v}-01-01,{k},lesion,{1.0 + v / 10},{'stable' if v else 'baseline'},{k if v else ''},1.0,True,False\n"
    for v in range(3)
    for k in range(1, 4)
)
_VISITS = "visit,date,days,lesions,volume_ml\n" + "".join(
    f"{v},202{v}-01-01,{365 * v},3,{3 + v / 3}\n" for v in range(3)
)


def stub(job: Job, _limits: cluster.Limits) -> Row:
    """A patient without reading, network and tracking."""
    out = Path(job.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "lesions.csv").write_text(_LESIONS)
    (out / "summary.csv").write_text(_VISITS)
    row = empty_row(job, "done")
    row.update(visits=3, dropped=0, lesions=3, first_ml=3.0, last_ml=3.67, days=730.0, response="stable", warnings=0)
    return row


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def many(number: int, model: Path, folder: Path) -> dict[str, object]:
    """Time and memory with so many patients whose work is a stub."""
    root = folder / "many"
    for k in range(number):
        (root / f"sub-{k:05d}").mkdir(parents=True)
    cluster.do_job = stub
    marks: list[tuple[int, float, float]] = []
    began = time.perf_counter()

    def progress(done: int, total: int, _text: str) -> None:
        if done and done % max(1, total // 10) == 0:
            marks.append((done, time.perf_counter() - began, peak_mb()))

    table = ms.run_cohort(root, model, folder / "many-out", workers=2, reports=False, progress=progress)
    seconds = time.perf_counter() - began
    return {
        "patients": len(table),
        "seconds": seconds,
        "ms_per_patient": 1000 * seconds / number,
        "peak_mb_after": {done: round(mb) for done, _, mb in marks},
        "seconds_after": {done: round(s, 1) for done, s, _ in marks},
        "peak_mb_with_tables_and_report": round(peak_mb()),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("cohort.json"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_tiny_bundle(folder / "tiny")
        patients = [write_ball_study(folder / "patients" / f"p{k:03d}") for k in range(args.patients)]
        found: dict[str, object] = {}
        if args.rounds:
            ways = paired(patients, model, folder, args.rounds)
            base = np.array(ways["loop"])
            print(
                f"{'way':<10} {'s per patient':>14}   against the loop, median (lowest to highest of {args.rounds} rounds)"
            )
            for way, seconds in ways.items():
                ratio = 100 * (np.array(seconds) / base - 1)
                print(
                    f"{way:<10} {np.median(seconds):>14.3f}   {np.median(ratio):+.1f} % ({ratio.min():+.1f} to {ratio.max():+.1f})"
                )
            found["seconds_per_patient"] = ways
        if args.many:
            found["stub"] = many(args.many, model, folder)
            print(json.dumps(found["stub"], indent=1))
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
