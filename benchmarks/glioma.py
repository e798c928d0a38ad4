"""Gliomas on FLAIR: our trainer, the same with a recurrence, and MONAI's U-Nets, on the same folds for the same processor time.

    python benchmarks/glioma.py [--minutes 10] [--folds 0 1 2 3 4] [--only NETWORK ...] [--out benchmarks/runs/glioma]

Five folds of 44 patients; one thread. *our trainer*: `ms.train` is told the files and the minutes, nothing else. *former*: the same by
AdamW alone. *recurrent*: *former* with a gated recurrence along the slices, in both directions, at all levels but the
finest. *MONAI 3D* and *MONAI 2D*: DynUNet after nnU-Net's rules (`dynunet`), and the same with kernels of one slice. What is done is not
done again. About 55 processor minutes a fold. For judging alone: no weights leave this.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

import dynunet
import napari_medseq as ms
from napari_medseq import files
from napari_medseq.evaluation import intervals
from napari_medseq.training import splits
from napari_medseq.training.automatic.plan import Plan

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data")) / "glioma-flair"
FOLDS = 5
#: as `ms.train` learned until 2026-11-28
FORMER = {"optimiser": "adamw"}
FLAT = (1, 3, 3)
HALVED = (1, 2, 2)
#: as nnU-Net plans for slices of 5 mm and pixels of 1 mm; slices are pooled but once
IN_3D = dynunet.Rival(
    2, (12, 160, 160), kernels=(FLAT, FLAT, 3, 3, 3), strides=(1, HALVED, HALVED, (2, 2, 2), HALVED),
    filters=(16, 32, 64, 128, 160), turns=(0.5, 0.0, 0.0),
)  # fmt: skip
IN_2D = dataclasses.replace(IN_3D, kernels=(FLAT,) * 5, strides=(1, *[HALVED] * 4))
Label = Callable[[ms.ImageSequence], NDArray[np.generic]]


def patients() -> list[Path]:
    """Folders of the patients."""
    return sorted(p for p in DATA.glob("TCGA_*") if p.is_dir())


def read(folder: Path) -> tuple[ms.ImageSequence, NDArray[np.bool_]]:
    """An exam, and where its tumour is (z, y, x)."""
    image = ms.read(folder / "FLAIR.nii.gz", kind="image")[0]
    return image, ms.read(folder / "tumor.nii.gz", kind="labels")[0].volume_zyx() > 0


def table_of_paths(path: Path) -> Path:
    """The CSV file from which the trainer reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["patient", "image", "labels"])
        rows.writerows([p.name, p / "FLAIR.nii.gz", p / "tumor.nii.gz"] for p in patients())
    return path


def by_trainer(
    minutes: float,
    held_out: Sequence[str],
    out: Path,
    plan: Path | None = None,
    settings: Mapping[str, object] = MappingProxyType({}),
) -> Label:
    """`ms.train`, on a plan or its own with some settings; a network that is there is not trained again."""
    if out.exists():
        there = ms.load_model(out)
        return lambda image: ms.segment(image, there, force=True).labels.volume_zyx()
    result = ms.train(
        {"data": str(table_of_paths(out.parent / "files.csv")), "out": str(out), "minutes": minutes, "modality": "MR",
         "hold_out": list(held_out), "classes": {1: "tumour"}, "validation": 0, "clock": "process", "threads": 1,
         "plan": None if plan is None else str(plan), "settings": dict(settings)}
    )  # fmt: skip
    assert not set(held_out) & set(result.patients)
    print(f"{out.name}: {result.seen} windows seen", flush=True)
    return lambda image: ms.segment(image, result.model, force=True).labels.volume_zyx()


def by_monai(rival: dynunet.Rival, minutes: float, held_out: Sequence[str]) -> Label:
    """DynUNet."""
    learned = [read(p) for p in patients() if p.name not in held_out]
    network, seen = dynunet.train(rival, [(dynunet.standardised(i), m.astype(np.uint8)) for i, m in learned], minutes)
    print(f"DynUNet: {seen} windows seen", flush=True)
    return lambda image: dynunet.labels(rival, network, image)


def with_recurrence(plan: Path, out: Path) -> Path:
    """A plan with a recurrence at all levels but the finest."""
    made = Plan.read(plan)
    made.model_copy(update={"mix_levels": tuple(range(1, len(made.widths)))}).save(out)
    return out


def network(name: str, number: int, minutes: float, held_out: Sequence[str], out: Path) -> Label:
    """One of `NETWORKS`, trained without some patients."""
    if name == "our trainer":
        return by_trainer(minutes, held_out, out / f"fold{number}-ours")
    former = out / f"fold{number}-former"
    if name == "former":
        return by_trainer(minutes, held_out, former, settings=FORMER)
    if name == "recurrent":
        plan = with_recurrence(
            former.with_name(f"{former.name}.run") / "plan.yaml", out / f"fold{number}-recurrent.yaml"
        )
        return by_trainer(minutes, held_out, out / f"fold{number}-recurrent", plan)
    return by_monai(IN_3D if name == "MONAI 3D" else IN_2D, minutes, held_out)


NETWORKS = ("our trainer", "former", "recurrent", "MONAI 3D", "MONAI 2D")


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())


def fold(name: str, number: int, minutes: float, out: Path) -> dict[str, float]:
    """Patient to Dice, of those that a network did not see."""
    path = out / f"fold{number}-{name.replace(' ', '-')}-{minutes:g}.json"
    if not path.exists():
        judges = splits.folds([p.name for p in patients()], FOLDS)[number]
        label = network(name, number, minutes, judges, out)
        found = {}
        for folder in (p for p in patients() if p.name in judges):
            image, truth = read(folder)
            found[folder.name] = dice(label(image) > 0, truth)
        files.write_json(path, {"dice": found, "minutes": minutes})
    kept: dict[str, float] = json.loads(path.read_text())["dice"]
    return kept


def report(scores: dict[str, dict[str, float]], minutes: float, done: Sequence[int]) -> str:
    """The table, and the first network against each other one, paired by patient."""
    first = next(iter(scores))
    names = sorted(scores[first])
    which = "all five folds" if len(done) == FOLDS else f"folds {', '.join(map(str, done))} of {FOLDS}"
    lines = [
        f"{len(names)} unseen patients, {which}, {minutes:g} processor minutes a network, one thread",
        "",
        "| network | Dice (95 %, by patient) | median patient | worst patient |",
        "| --- | --- | --- | --- |",
    ]
    values = {name: np.array([of[p] for p in names]) for name, of in scores.items()}
    for name, v in values.items():
        lines.append(f"| {name} | {intervals.bootstrap(v)} | {np.median(v):.3f} | {v.min():.3f} |")
    for name, v in values.items():
        if name != first:
            lines += ["", f"{first} minus {name}, paired by patient: {intervals.paired(values[first], v)}"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(FOLDS)))
    parser.add_argument("--only", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--out", type=Path, default=HERE / "runs" / "glioma")
    args = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there; set MEDSEQ_DATA to the folder that holds glioma-flair.")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ms.MedseqWarning)
    scores: dict[str, dict[str, float]] = {name: {} for name in args.only}
    for number in args.folds:
        for name in args.only:
            scores[name].update(fold(name, number, args.minutes, args.out))
    print(report(scores, args.minutes, args.folds))
    facts = {"minutes": args.minutes, "folds": args.folds, "dice": scores}
    files.write_json(HERE.parent / "docs" / "benchmarks" / "glioma.json", facts)


if __name__ == "__main__":
    main()
