"""Cohorts: what a patient costs beside a plain loop, throughput with one and two workers, and 10,000 patients with a stub.

``python benchmarks/cohort.py [--patients 8] [--many 10000] [--out cohort.json]`` prints tables and writes JSON. Two kinds of patients:
"sample" is the study that ships (three visits of 22 to 24 slices) with the network that ships for it; "small" (48 × 48 × 16 voxels, two
visits) has a tiny untrained network, so that what is measured is nearly the cohort alone. The loop calls `run` for one patient after
another and writes the same result; it and the cohorts take turns. Time is taken as each patient is finished, by the clock and of
the processors (driver, helpers and all), so that other work on the machine, and what happens once (starting helpers, the tables, the
report), do not count as a patient's. With the stub, a worker writes the two tables of a patient and nothing else: what remains is the
cohort.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import napari_medseq as ms
from napari_medseq import files
from napari_medseq.cohort import cluster
from napari_medseq.cohort.patient import Job, Row, empty_row
from napari_medseq.evaluation import bootstrap

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.balls import write_ball_study
from tests.tiny import write_tiny_bundle

ROOT = Path(__file__).resolve().parents[1]
#: called after each patient
Finished = Callable[[], None]
WAYS = ("loop", "workers=0", "workers=1", "workers=2")


def processor_s() -> float:
    """Seconds of the processors so far, of this process and of those that it started."""
    total, here = 0.0, psutil.Process()
    for process in [here, *here.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


class Stamps:
    """Time of the clock and of the processors at the start and as each patient is finished."""

    def __init__(self) -> None:
        self.at: list[tuple[float, float]] = []
        self()

    def __call__(self) -> None:
        self.at.append((time.perf_counter(), processor_s()))

    def per_patient(self, together: int) -> tuple[float, float]:
        """Seconds (clock, processors) of a patient after the first of each worker, which bear the start."""
        (wall, cpu), (last_wall, last_cpu) = self.at[together], self.at[-1]
        number = len(self.at) - 1 - together
        return (last_wall - wall) / number, (last_cpu - cpu) / number


def loop(patients: Sequence[Path], model: Path | str, out: Path, finished: Finished) -> None:
    """One patient after another."""
    loaded = ms.load_model(model)
    for patient in patients:
        ms.run(patient, loaded, out=out / patient.name, register="none")
        finished()


def cohort(patients: Sequence[Path], model: Path | str, out: Path, finished: Finished, workers: int) -> None:
    """The same by `run_cohort`."""
    before = 0

    def progress(done: int, _total: int, _text: str) -> None:
        nonlocal before
        if done > before:
            before = done
            finished()

    table = ms.run_cohort(patients, model, out, workers=workers, register="none", reports=False, progress=progress)
    if not (table["status"] == "done").all():
        raise SystemExit(f"patients failed: {table['error'].dropna().tolist()[:3]}")


def paired(patients: Sequence[Path], model: Path | str, folder: Path, rounds: int) -> dict[str, list[dict[str, float]]]:
    """What each way took, round by round."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    loop(patients[:1], model, folder / "warm", lambda: None)  # imports
    for number in range(rounds):
        for way in WAYS if number % 2 == 0 else reversed(WAYS):
            out, stamps = folder / f"{way}-{number}", Stamps()
            workers = 0 if way == "loop" else int(way[-1])
            if way == "loop":
                loop(patients, model, out, stamps)
            else:
                cohort(patients, model, out, stamps, workers)
            wall, cpu = stamps.per_patient(max(workers, 1))
            whole = time.perf_counter() - stamps.at[0][0]
            found[way].append({"wall_s": wall, "processor_s": cpu, "once_s": whole - wall * len(patients)})
            shutil.rmtree(out)
    return found


def show(kind: str, measured: dict[str, Any]) -> None:
    """Print one kind of patients as a table."""
    found: dict[str, list[dict[str, float]]] = measured["ways"]

    def middle(values: np.ndarray, form: str) -> str:
        return f"{np.median(values):{form}} ({values.min():{form}} to {values.max():{form}})"

    def of(way: str, name: str) -> np.ndarray:
        return np.array([one[name] for one in found[way]])

    def against(way: str, name: str) -> str:
        """How much more than the loop in the same round, in percent of the loop, with the interval of 95 %."""
        loops = of("loop", name)
        more = bootstrap(100 * (of(way, name) - loops) / loops.mean())
        return "" if way == "loop" else f"{more.value:+.1f} ({more.low:+.1f} to {more.high:+.1f}) %"

    print(
        f"\n{measured['patients']} {kind} patients, {len(found['loop'])} rounds in turn, load {measured['load']:.1f}: "
        "median (lowest to highest); against the loop: mean of the rounds (95 % interval)\n"
    )
    print(
        "| way | processor s a patient | against the loop | clock s a patient | against the loop | patients a minute | s once |"
    )
    print("|---|---|---|---|---|---|---|")
    for way in WAYS:
        cells = [
            way,
            middle(of(way, "processor_s"), ".3f"),
            against(way, "processor_s"),
            middle(of(way, "wall_s"), ".3f"),
            against(way, "wall_s"),
            middle(60 / of(way, "wall_s"), ".1f"),
            middle(of(way, "once_s"), ".1f"),
        ]
        print("| " + " | ".join(cells) + " |")


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
    """Time and memory with so many patients whose work is a stub; driver, scheduler and workers are one process."""
    root = folder / "many"
    for k in range(number):
        (root / f"sub-{k:05d}").mkdir(parents=True)
    cluster.do_job = stub
    marks: list[tuple[int, float, float]] = []
    began = time.perf_counter()
    before = 0

    def progress(done: int, total: int, _text: str) -> None:
        nonlocal before
        if done > before and done % max(1, total // 10) == 0:
            marks.append((done, time.perf_counter() - began, peak_mb()))
        before = done

    table = ms.run_cohort(root, model, folder / "many-out", workers=2, reports=False, progress=progress)
    seconds = time.perf_counter() - began
    return {
        "patients": len(table),
        "seconds": round(seconds, 1),
        "ms_per_patient": round(1000 * seconds / number, 2),
        "seconds_after": {done: round(s, 1) for done, s, _ in marks},
        "peak_mb_after": {done: round(mb) for done, _, mb in marks},
        "peak_mb_with_tables_and_report": round(peak_mb()),
    }


def show_many(found: dict[str, object]) -> None:
    """Print what so many patients took."""
    seconds, memory = found["seconds_after"], found["peak_mb_after"]
    assert isinstance(seconds, dict)
    assert isinstance(memory, dict)
    each = found["ms_per_patient"]
    print(
        f"\n{found['patients']} patients with a stub: {found['seconds']} s, {each} ms a patient, tables and report included\n"
    )
    rows = {
        "patients done": [*seconds, "tables and report"],
        "s": [*seconds.values(), found["seconds"]],
        "most memory so far, MB": [*memory.values(), found["peak_mb_with_tables_and_report"]],
    }
    for number, (head, cells) in enumerate(rows.items()):
        print("| " + " | ".join(map(str, [head, *cells])) + " |")
        if number == 0:
            print("|---|" + "---:|" * len(cells))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="*", choices=("sample", "small"), default=("sample", "small"))
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--table", action="store_true", help="print what was measured before, and measure nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "cohort.json")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    found: dict[str, Any] = json.loads(args.out.read_text(encoding="utf-8")) if args.out.is_file() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not args.table:
            measure(args, folder, found)
    for kind in ("sample", "small"):
        if kind in found:
            show(kind, found[kind])
    if "stub" in found:
        show_many(found["stub"])


def measure(args: argparse.Namespace, folder: Path, found: dict[str, Any]) -> None:
    """Measure what is asked for; the rest of what was found before stays."""
    tiny = write_tiny_bundle(folder / "tiny")
    for kind in args.kinds:
        root = folder / kind
        if kind == "sample":
            source = ROOT / "sample_data" / "study" / "sub-sample"
            patients = [shutil.copytree(source, root / f"p{k:03d}") for k in range(args.patients)]
            ways = paired(patients, "brain-tumor", folder / "out", args.rounds)
        else:
            patients = [write_ball_study(root / f"p{k:03d}") for k in range(args.patients)]
            ways = paired(patients, tiny, folder / "out", args.rounds)
        found[kind] = {"patients": args.patients, "load": os.getloadavg()[2], "ways": ways}
        files.write_json(args.out, found)
    if args.many:
        found["stub"] = many(args.many, tiny, folder)
        files.write_json(args.out, found)


if __name__ == "__main__":
    main()
