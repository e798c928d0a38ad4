"""Nodules of the lung against the four raters who drew them: as good as a fifth?

`ms.train` is told the files and the minutes, nothing else; five folds of patients, each network judged by `ms.segment` on patients that
it never saw. Files say how many raters marked each voxel, not which, and that suffices for the means over the raters of a nodule:
with c raters at a voxel, the sum of c over a mask is the overlap of the mask with all raters together, and the sum of c(c - 1)/2
that of all pairs of raters. So for each nodule, pooled over its raters,

    network and consensus (two raters or more)   2 |N and C| / (|N| + |C|)
    a rater and the consensus, which he made too 2 sum(c in C) / (sum(c) + m |C|)
    network and a rater                          2 sum(c in N) / (sum(c) + m |N|)
    a rater and another                          sum(c (c - 1)) / ((m - 1) sum(c))

where m raters marked it at all.

    python benchmarks/nodules.py [--minutes 10] [--folds 0 1 2 3 4] [--out benchmarks/runs/nodules]
    python benchmarks/nodules.py --shipped      # the patients that judged the network of `ship.py`, as its card has them

A fold that is done is not trained again. About 10 processor minutes a fold.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import napari_medseq as ms
from napari_medseq import files
from napari_medseq.evaluation import intervals
from napari_medseq.training import splits

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data")) / "lung-nodules"
FOLDS = 5
CONSENSUS = 2  # raters
Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Agreement:
    """Of one nodule, each a Dice pooled over its raters."""

    consensus: float
    rater_and_consensus: float
    network_and_rater: float
    rater_and_rater: float


def agreement(network: Mask, counts: Counts) -> Agreement:
    """How well a mask, and the raters themselves, agree; `counts` says how many raters marked each voxel."""
    raters, marked = int(counts.max()), int(counts.sum())
    consensus = counts >= CONSENSUS
    return Agreement(
        2 * float((network & consensus).sum()) / float(network.sum() + consensus.sum()),
        2 * float(counts[consensus].sum()) / (marked + raters * float(consensus.sum())),
        2 * float(counts[network].sum()) / (marked + raters * float(network.sum())),
        float((counts * (counts - 1)).sum()) / ((raters - 1) * marked),
    )


def nodules() -> list[Path]:
    """Folders of the nodules."""
    return sorted(DATA.glob("*/nodule-*"))


def table_of_paths(path: Path) -> Path:
    """The CSV file from which the trainer reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["patient", "case", "CT", "labels"])
        for n in nodules():
            rows.writerow([n.parent.name, f"{n.parent.name} {n.name}", n / "CT.nii.gz", n / "CT_mask.nii.gz"])
    return path


def judge(model: ms.Model, folders: Sequence[Path]) -> dict[str, list[float]]:
    """Nodule to its agreements, by `ms.segment`."""
    found = {}
    for n in folders:
        image = ms.read(n / "CT.nii.gz", kind="image")[0].replace(modality="CT")
        counts = ms.read(n / "CT_raters.nii.gz", kind="image")[0].volume_zyx().astype(np.int64)
        a = agreement(ms.segment(image, model).labels.volume_zyx() > 0, counts)
        found[f"{n.parent.name} {n.name}"] = [
            a.consensus, a.rater_and_consensus, a.network_and_rater, a.rater_and_rater,
        ]  # fmt: skip
    return found


def fold(number: int, minutes: float, out: Path) -> dict[str, list[float]]:
    """Train on four fifths of the patients, judge on the rest; kept once done."""
    path = out / f"fold{number}-{minutes:g}.json"
    if not path.exists():
        judges = splits.folds([n.parent.name for n in nodules()], FOLDS)[number]
        result = ms.train(
            {"data": str(table_of_paths(out / "nodules.csv")), "out": str(out / f"fold{number}"), "minutes": minutes,
             "hold_out": judges, "classes": {1: "nodule"}, "modality": "CT", "validation": 0, "clock": "process", "threads": 1}
        )  # fmt: skip
        assert not set(judges) & set(result.patients)
        scores = judge(result.model, [n for n in nodules() if n.parent.name in judges])
        files.write_json(path, {"scores": scores, "seen": result.seen, "minutes": minutes, "patients": judges})
    found: dict[str, list[float]] = json.loads(path.read_text())["scores"]
    return found


NAMES = ("network and consensus", "a rater and the consensus", "network and a rater", "a rater and another rater")


def shipped() -> str:
    """What `ship.py` found; intervals over patients."""
    found = json.loads((HERE.parent / "docs" / "benchmarks" / "shipped-lung-nodule.json").read_text())
    values = np.array([[of[p][0] for p in found["patients"]] for of in found["dice"].values()]).T
    lines = [
        f"{len(values)} patients that the network did not see", "",
        "| Dice, mean by patient | mean (95 %) | median patient | worst patient |", "| --- " * 4 + "|",
    ]  # fmt: skip
    for k, name in enumerate(NAMES):
        lines.append(
            f"| {name} | {intervals.bootstrap(values[:, k])} | {np.median(values[:, k]):.3f} | {values[:, k].min():.3f} |"
        )
    return "\n".join([*lines, "", *against_raters(values)])


def against_raters(values: NDArray[np.float64]) -> list[str]:
    """Whether the network agrees with the raters as well as they with each other; and with their consensus as well as they do."""
    fifth = intervals.paired(values[:, 2], values[:, 3])
    one = intervals.paired(values[:, 0], values[:, 1])
    return [
        f"network and a rater minus a rater and another, paired by patient: {fifth}", "",
        f"network and consensus minus a rater and the consensus that he made too: {one}",
    ]  # fmt: skip


def report(found: Mapping[str, Sequence[float]], minutes: float, done: Sequence[int]) -> str:
    """The table; intervals over patients."""
    by_patient: dict[str, list[Sequence[float]]] = {}
    for nodule, row in found.items():
        by_patient.setdefault(nodule.split()[0], []).append(row)
    values = np.array([np.mean(rows, axis=0) for rows in by_patient.values()])
    each = np.array(list(found.values()))
    lines = [
        f"{len(found)} nodules of {len(by_patient)} unseen patients, folds {', '.join(map(str, done))} of {FOLDS}, "
        f"{minutes:g} processor minutes each",
        "",
        "| Dice, mean by patient | mean (95 %) | median nodule | worst nodule |",
        "| --- | --- | --- | --- |",
    ]
    for k, name in enumerate(NAMES):
        middle, worst = float(np.median(each[:, k])), float(each[:, k].min())
        lines.append(f"| {name} | {intervals.bootstrap(values[:, k])} | {middle:.3f} | {worst:.3f} |")
    return "\n".join([*lines, "", *against_raters(values)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(FOLDS)))
    parser.add_argument("--out", type=Path, default=HERE / "runs" / "nodules")
    parser.add_argument("--shipped", action="store_true", help="what ship.py found, no training")
    args = parser.parse_args()
    if args.shipped:
        print(shipped())
        return
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there; set MEDSEQ_DATA to the folder that holds lung-nodules.")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ms.MedseqWarning)
    found: dict[str, list[float]] = {}
    for number in args.folds:
        found |= fold(number, args.minutes, args.out)
        print(report(found, args.minutes, args.folds[: args.folds.index(number) + 1]), file=sys.stderr, flush=True)
    print(report(found, args.minutes, args.folds))
    facts = {"minutes": args.minutes, "folds": args.folds, "agreement": found}
    files.write_json(HERE.parent / "docs" / "benchmarks" / "nodules.json", facts)


if __name__ == "__main__":
    main()
