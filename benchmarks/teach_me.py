"""How good a model is after 1, 3 and 5 labelled slices of one image, on the other slices of that image.

    python benchmarks/teach_me.py                 # every patient, 3 rounds each
    python benchmarks/teach_me.py --quick         # two patients, 40 s of training a round: about 5 minutes
    python benchmarks/teach_me.py --start-from 'runs/brain-tumor/segmentation/{patient}-gru'

A user is simulated with the experts' masks: the slice with most tumour is labelled first; then, twice, the two slices that are
most wrong in the answer (not beside each other) are corrected, whether there is tumour in them or not, and the model goes on
from where it was. Judged is what nobody has labelled: Dice over all other slices of the visit together. Beside it stands what
the same labelled slices give without a network: the intensity threshold that fits them best, and the outlines interpolated
between them (signed distances). Every model starts from nothing, since the models that ship have seen these patients; one that
has not (a fold's, say, with the patient's name in its folder) can be given with ``--start-from``.
Writes ``docs/benchmarks/teach_me.json``; the times mean something on an idle machine only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

import napari_medseq as ms
from image_baselines import threshold, tuned_threshold
from napari_medseq.training import teach

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data")) / "brain-tumor-progression"
OUT = HERE.parent / "docs" / "benchmarks" / "teach_me.json"
ROUNDS = (1, 3, 5)
METHODS = ("taught", "threshold", "interpolated")


def dice(a: np.ndarray, b: np.ndarray) -> float:
    both = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / both if both else float("nan")


def interpolated(truth: np.ndarray, labelled: list[int]) -> np.ndarray:
    """Outlines between labelled slices (Raya & Udupa 1990); nothing beyond the outermost ones."""
    out = np.zeros_like(truth)
    distances = {
        k: ndimage.distance_transform_edt(truth[k]) - ndimage.distance_transform_edt(~truth[k])
        for k in labelled
        if truth[k].any()
    }
    known = sorted(distances)
    for below, above in pairwise(known):
        for k in range(below + 1, above):
            share = (k - below) / (above - below)
            out[k] = (1 - share) * distances[below] + share * distances[above] > 0
    return out


def most_wrong(answer: np.ndarray, truth: np.ndarray, labelled: list[int], n: int = 2) -> list[int]:
    """The slices to correct next: those with the most wrong pixels, not beside each other where that can be."""
    wrong = (answer ^ truth).sum((1, 2)).astype(int)
    order = [int(k) for k in np.argsort(-wrong, kind="stable") if k not in labelled]
    chosen: list[int] = []
    for k in order:
        if len(chosen) < n and all(abs(k - c) > 1 for c in chosen):
            chosen.append(k)
    return chosen + [k for k in order if k not in chosen][: n - len(chosen)]


def one(
    patient: str, visit: ms.Visit, options: dict[str, Any], start: str | None, folder: Path
) -> list[dict[str, Any]]:
    """The rounds of one image."""
    image, expert = visit.images[0], visit.labels[0]
    truth = np.asarray(expert.data) > 0
    labelled = [int(truth.sum((1, 2)).argmax())]
    answer, rows = np.zeros_like(truth), []
    for i, n in enumerate(ROUNDS):
        if n > 1:
            labelled += most_wrong(answer, truth, labelled)
        painted = np.zeros(truth.shape, np.uint8)
        painted[labelled] = truth[labelled]
        labels = image.labels_like(painted, name="painted", label_names={1: "tumour"})
        settings: dict[str, Any] = {
            "out": str(folder / f"{patient}-{n}"),
            "steps": tuple(labelled),
            "device": "cpu",
            **options,
        }
        if start is not None:
            settings["start_from"] = start.format(patient=patient)
        if i:
            settings["start_from"] = str(folder / f"{patient}-{ROUNDS[i - 1]}")
        began = time.perf_counter()
        model = teach(image, labels, settings).model
        seconds = time.perf_counter() - began
        answer = np.asarray(ms.segment(image, model, device="cpu").labels.data) > 0
        rest = np.setdiff1d(np.arange(len(truth)), labelled)
        seen = image.replace(data=np.asarray(image.data)[labelled])
        level, _ = tuned_threshold(seen, seen.labels_like(painted[labelled], name="painted", label_names={1: "tumour"}))
        answers = {
            "taught": answer,
            "threshold": np.asarray(threshold(image, level).data) > 0,
            "interpolated": interpolated(truth, labelled),
        }
        row = {"patient": patient, "slices": n, "labelled": list(labelled), "seconds": seconds}
        row["tumour_slices_left"] = int(truth[rest].any((1, 2)).sum())
        rows.append(row | {name: dice(a[rest], truth[rest]) for name, a in answers.items()})
        print(
            f"{patient} {n} slice(s): " + ", ".join(f"{m} {rows[-1][m]:.3f}" for m in METHODS) + f", {seconds:.0f} s",
            flush=True,
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Mean, standard deviation and range over the patients."""
    head = "| labelled slices | method | Dice on the other slices: mean ± SD (lowest to highest) | patients | s |"
    lines = [head, "|---:|---|---|---:|---:|"]
    for n in ROUNDS:
        here = [r for r in rows if r["slices"] == n]
        for m in METHODS:
            v = [r[m] for r in here if r[m] == r[m]]
            spread = statistics.stdev(v) if len(v) > 1 else 0.0
            s = f"{statistics.mean(r['seconds'] for r in here):.0f}" if m == "taught" else ""
            lines.append(
                f"| {n} | {m} | {statistics.mean(v):.3f} ± {spread:.3f} ({min(v):.3f} to {max(v):.3f}) | {len(v)} | {s} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two patients")
    parser.add_argument("--patients", nargs="*", help="only these")
    parser.add_argument("--minutes", type=float, help="training per round; 1.5, or 0.66 with --quick")
    parser.add_argument("--iterations", type=int, default=600, help="training per round ends here, if earlier")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start-from", metavar="BUNDLE", help="first round's start; {patient} stands for the name")
    parser.add_argument("--out", type=Path, default=OUT)
    a = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there; set MEDSEQ_DATA to the folder that holds brain-tumor-progression.")
    patients = a.patients or sorted(p.name for p in DATA.glob("sub-*"))[: 2 if a.quick else None]
    minutes = a.minutes or (0.66 if a.quick else 1.5)
    options = {"minutes": minutes, "iterations": a.iterations, "seed": a.seed}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for patient in patients:
            rows += one(patient, ms.read_study(DATA / patient).visits[0], options, a.start_from, Path(folder))
    print("\n" + table(rows))
    a.out.parent.mkdir(parents=True, exist_ok=True)
    content = {**options, "start_from": a.start_from, "threads": os.cpu_count(), "rows": rows}
    a.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
