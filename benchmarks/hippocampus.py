"""Hippocampus, anterior and posterior, on patients that no network saw: our trainer's own plan beside MONAI's DynUNet.

Both learn from the same patients for the same processor time, on one thread (`dynunet` says how the rival learns). Patients are parted
once, by name: every fifth of a shuffled list judges.

    python benchmarks/hippocampus.py [--minutes 18.5] [--only ours|rival] [--out benchmarks/runs/hippocampus]

A network that is done is not trained again. Prints the table and writes ``results.json``. About 40 processor minutes.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import dynunet
import napari_medseq as ms
from napari_medseq import files
from napari_medseq.evaluation import intervals
from napari_medseq.training import splits

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data")) / "hippocampus"
CLASSES = {1: "anterior", 2: "posterior"}
# 1.4 million parameters, whole volumes
RIVAL = dynunet.Rival(
    3, (40, 56, 40), kernels=(3, 3, 3, 3), strides=(1, 2, 2, 2), filters=(16, 32, 64, 128), whole=True
)


def patients() -> tuple[list[str], list[str]]:
    """Names to learn from, and names that judge."""
    names = sorted(p.name.removesuffix(".nii.gz") for p in (DATA / "images").glob("*.nii.gz"))
    judges = splits.folds(names, 5)[0]
    return [n for n in names if n not in judges], judges


def dice(found: NDArray[np.integer], truth: NDArray[np.integer]) -> list[float]:
    """Of each class."""
    return [
        2 * float(((found == k) & (truth == k)).sum()) / float((found == k).sum() + (truth == k).sum()) for k in CLASSES
    ]


def read(name: str) -> tuple[ms.ImageSequence, ms.ImageSequence]:
    """A patient's image and labels."""
    image = ms.read(DATA / "images" / f"{name}.nii.gz", kind="image")[0]
    return image, ms.read(DATA / "labels" / f"{name}.nii.gz", kind="labels")[0]


# -- the rival -------------------------------------------------------------------------------------------------------
def rival(learn: list[str], judge: list[str], minutes: float) -> tuple[dict[str, list[float]], int]:
    """Dice of the judges, and volumes seen."""
    cases = [(dynunet.standardised(i), t.volume_zyx().astype(np.uint8)) for i, t in map(read, learn)]
    network, seen = dynunet.train(RIVAL, cases, minutes)
    scores = {}
    for name in judge:
        image, truth = read(name)
        scores[name] = dice(dynunet.labels(RIVAL, network, image), truth.volume_zyx())
    return scores, seen


# -- ours ------------------------------------------------------------------------------------------------------------
def ours(judge: list[str], minutes: float, out: Path) -> tuple[dict[str, list[float]], int]:
    """As `rival`: what `ms.train` makes of the folder, on its own plan; the judges' patients are held out."""
    result = ms.train(
        {"data": str(DATA), "out": str(out / "bundle"), "minutes": minutes, "hold_out": judge, "classes": CLASSES,
         "clock": "process", "threads": 1, "validation": 0, "patient": "{name}"}
    )  # fmt: skip
    assert not set(judge) & set(result.patients)
    scores = {}
    for name in judge:
        image, truth = read(name)
        scores[name] = dice(ms.segment(image, result.model).labels.volume_zyx(), truth.volume_zyx())
    return scores, result.seen


# -- the table -------------------------------------------------------------------------------------------------------
def table(found: dict[str, dict[str, list[float]]], seen: dict[str, int], minutes: float) -> str:
    lines = [
        "| network | "
        + " | ".join([*CLASSES.values(), "mean (95 %, by patient)", "worst patient", "volumes seen"])
        + " |"
    ]
    lines.append("|" + " --- |" * 6)
    for name, scores in found.items():
        values = np.array(list(scores.values()))
        mean = intervals.bootstrap(values.mean(1))
        each = " | ".join(f"{v:.3f}" for v in values.mean(0))
        lines.append(f"| {name} | {each} | {mean} | {values.mean(1).min():.3f} | {seen[name]} |")
    if len(found) == 2:
        first, second = ([float(np.mean(found[n][p])) for p in sorted(found[n])] for n in found)
        lines += ["", f"{' minus '.join(found)}, paired by patient: {intervals.paired(first, second)}"]
    return "\n".join(
        [
            f"{minutes:g} processor minutes each, one thread, {len(next(iter(found.values())))} unseen patients",
            "",
            *lines,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=18.5)
    parser.add_argument("--only", choices=("ours", "rival"))
    parser.add_argument("--out", type=Path, default=HERE / "runs" / "hippocampus")
    args = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there; set MEDSEQ_DATA to the folder that holds hippocampus.")
    torch.set_num_threads(1)
    learn, judge = patients()
    found: dict[str, dict[str, list[float]]] = {}
    seen: dict[str, int] = {}
    for name in ("ours", "rival"):
        path = args.out / f"{name}-{args.minutes:g}.json"
        if not path.exists() and args.only in (None, name):
            args.out.mkdir(parents=True, exist_ok=True)
            scores, n = ours(judge, args.minutes, args.out) if name == "ours" else rival(learn, judge, args.minutes)
            files.write_json(path, {"scores": scores, "seen": n, "minutes": args.minutes})
        if path.exists():
            kept = json.loads(path.read_text())
            label = "our trainer" if name == "ours" else "MONAI DynUNet"
            found[label], seen[label] = kept["scores"], kept["seen"]
    print(table(found, seen, args.minutes))
    if len(found) == 2:
        facts = {"minutes": args.minutes, "dice": found, "volumes_seen": seen, "classes": list(CLASSES.values())}
        files.write_json(HERE.parent / "docs" / "benchmarks" / "hippocampus.json", facts)


if __name__ == "__main__":
    main()
