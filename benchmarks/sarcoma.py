"""Soft-tissue sarcoma on CT, PET and MR: one modality against all three, and all three with each missing in turn.

`ms.train` is told the files and the minutes, nothing else: once with three channels (it learns to do without each), and once for each
modality alone, on that modality's own grid. Five folds of patients; each network is judged by `ms.segment` on the two patients that it
never saw, on the grid of the CT.

    python benchmarks/sarcoma.py [--minutes 10] [--folds 0 1 2 3 4] [--only fused CT PET MR] [--out benchmarks/runs/sarcoma]

What is done is not done again. About 40 processor minutes a fold.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

import napari_medseq as ms
from napari_medseq import files
from napari_medseq.evaluation import intervals
from napari_medseq.sequence import ImageSequence
from napari_medseq.training import splits
from napari_medseq.volumes.grid import resample

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data")) / "sarcoma" / "nifti"
FILES = {"CT": "CT", "PET": "PET", "MR": "MR_T1"}
FOLDS = 5
#: what a network is given: the name in the table, the network, the channels
GIVEN = (
    ("all three", "fused", ("CT", "PET", "MR")),
    ("all three, without CT", "fused", ("PET", "MR")),
    ("all three, without PET", "fused", ("CT", "MR")),
    ("all three, without MR", "fused", ("CT", "PET")),
    ("all three, given CT alone", "fused", ("CT",)),
    ("all three, given PET alone", "fused", ("PET",)),
    ("all three, given MR alone", "fused", ("MR",)),
    ("CT alone", "CT", ("CT",)),
    ("PET alone", "PET", ("PET",)),
    ("MR alone", "MR", ("MR",)),
)
Scores = dict[str, dict[str, float]]


def patients() -> list[Path]:
    """Folders of the patients."""
    return sorted(p for p in DATA.iterdir() if p.is_dir())


def table_of_paths(network: str, path: Path) -> Path:
    """The CSV file from which the trainer reads; labels lie on the grid of the first channel."""
    channels = list(FILES) if network == "fused" else [network]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["patient", *channels, "labels"])
        for p in patients():
            images = [p / f"{FILES[c]}_image.nii.gz" for c in channels]
            rows.writerow([p.name, *images, p / f"{FILES[channels[0]]}_mask.nii.gz"])
    return path


def trained(network: str, minutes: float, held_out: Sequence[str], out: Path) -> ms.Model:
    """`ms.train`, with nothing else said."""
    config: dict[str, object] = {
        "data": str(table_of_paths(network, out.parent / f"{network}.csv")), "out": str(out), "minutes": minutes,
        "hold_out": list(held_out), "classes": {1: "tumour"}, "validation": 0, "clock": "process", "threads": 1,
    }  # fmt: skip
    if network != "fused":
        config["modality"] = {"PET": "PT"}.get(network, network)
    result = ms.train(config)
    assert not set(held_out) & set(result.patients)
    return result.model


def images_of(folder: Path) -> dict[str, ImageSequence]:
    return {c: ms.read(folder / f"{f}_image.nii.gz", kind="image")[0] for c, f in FILES.items()}


def dice(model: ms.Model, images: Mapping[str, ImageSequence], given: Sequence[str], truth: ImageSequence) -> float:
    """On the grid of the truth."""
    alone = len(model.info.channels) == 1
    found = ms.segment(images[given[0]] if alone else {c: images[c] for c in given}, model, force=True).labels
    if not found.same_grid(truth, 0.1):
        found = resample(found, truth.affine, truth.grid, interpolation="nearest")
    a, b = found.volume_zyx() > 0, truth.volume_zyx() > 0
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def fold(number: int, minutes: float, only: Sequence[str], out: Path) -> Scores:
    """Row of the table to patient to Dice."""
    judges = splits.folds([p.name for p in patients()], FOLDS)[number]
    scores: Scores = {}
    for network in only:
        path = out / f"fold{number}-{network}-{minutes:g}.json"
        if not path.exists():
            model = trained(network, minutes, judges, out / f"fold{number}-{network}")
            found: Scores = {}
            for folder in (p for p in patients() if p.name in judges):
                images, truth = images_of(folder), ms.read(folder / "CT_mask.nii.gz", kind="labels")[0]
                for name, of, given in GIVEN:
                    if of == network:
                        found.setdefault(name, {})[folder.name] = dice(model, images, given, truth)
            files.write_json(path, {"scores": found, "minutes": minutes})
        scores |= json.loads(path.read_text())["scores"]
    return scores


def report(scores: Scores, minutes: float, done: Sequence[int]) -> str:
    """The table, and fused against each alone, paired."""
    count = max(len(s) for s in scores.values())
    lines = [
        f"{count} unseen patients, folds {', '.join(map(str, done))} of {FOLDS}, {minutes:g} processor minutes a network",
        "",
        "| given | Dice (95 %, by patient) | worst patient |",
        "| --- | --- | --- |",
    ]
    for name, _, _ in GIVEN:
        if name in scores:
            values = list(scores[name].values())
            lines.append(f"| {name} | {intervals.bootstrap(values)} | {min(values):.3f} |")
    for alone in FILES:
        rows = (scores.get("all three"), scores.get(f"{alone} alone"))
        if rows[0] and rows[1] and len(rows[0]) > 1:
            both = sorted(set(rows[0]) & set(rows[1]))
            difference = intervals.paired([rows[0][p] for p in both], [rows[1][p] for p in both])
            lines += ["", f"all three minus {alone} alone, paired by patient: {difference}"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(FOLDS)))
    parser.add_argument("--only", nargs="*", choices=("fused", *FILES), default=["fused", *FILES])
    parser.add_argument("--out", type=Path, default=HERE / "runs" / "sarcoma")
    args = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there; set MEDSEQ_DATA to the folder that holds sarcoma.")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ms.MedseqWarning)
    scores: Scores = {}
    for number in args.folds:
        for name, of_patients in fold(number, args.minutes, args.only, args.out).items():
            scores.setdefault(name, {}).update(of_patients)
        print(report(scores, args.minutes, args.folds[: args.folds.index(number) + 1]), file=sys.stderr, flush=True)
    print(report(scores, args.minutes, args.folds))
    facts = {"minutes": args.minutes, "folds": args.folds, "dice": scores}
    files.write_json(HERE.parent / "docs" / "benchmarks" / "sarcoma.json", facts)


if __name__ == "__main__":
    main()
