"""Short-axis cine MR at end-diastole and end-systole: right ventricle, myocardium, left ventricle; ejection fraction; across data sets.

    python benchmarks/cardiac.py within [--minutes 10] [--folds 0 1 2 3 4]   # ACDC, five folds of patients, three classes
    python benchmarks/cardiac.py across [--minutes 10]                      # ACDC's network on Sunnybrook, Sunnybrook's on ACDC
    python benchmarks/cardiac.py shipped                                    # the `left-ventricle` that ships, on ACDC

`ms.train` is told the files and the minutes, nothing else. Each network is judged by `ms.segment` on patients that it never saw. What
is done is kept in ``benchmarks/runs/cardiac`` and not done again. About 10 processor minutes for each network. Both sets are for
judging alone where their licence says so: no weights of ACDC leave this script.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import napari_medseq as ms
from napari_medseq import files
from napari_medseq.evaluation import intervals
from napari_medseq.training import splits

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data"))
RUNS = HERE / "runs" / "cardiac"
SETS = {"acdc": ("cardiac-acdc", "patient*"), "sunnybrook": ("cardiac-sunnybrook", "SC-*")}
PHASES = ("ED", "ES")
CLASSES = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
CAVITY = {"acdc": 3, "sunnybrook": 1}  # the label of the left ventricle's cavity
FOLDS = 5
Mask = NDArray[np.bool_]
#: patient to phase to class to (Dice, voxels found, voxels true)
Found = dict[str, dict[str, dict[str, tuple[float, int, int]]]]


def patients(name: str) -> list[Path]:
    """Folders of a data set's patients."""
    folder, pattern = SETS[name]
    return sorted(p for p in (DATA / folder).glob(pattern) if p.is_dir())


def table_of_paths(name: str, path: Path) -> Path:
    """The CSV file from which the trainer reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["patient", "case", "image", "labels"])
        for p in patients(name):
            for phase in PHASES:
                rows.writerow([p.name, f"{p.name} {phase}", p / f"{phase}.nii.gz", p / f"{phase}_labels.nii.gz"])
    return path


def overlap(found: Mask, truth: Mask) -> tuple[float, int, int]:
    """Dice, and both sizes; NaN where there is neither."""
    a, b = int(found.sum()), int(truth.sum())
    return (2 * float((found & truth).sum()) / (a + b) if a + b else float("nan")), a, b


def judge(model: ms.Model, folders: Sequence[Path], classes: Mapping[str, tuple[int, int]]) -> Found:
    """What a model finds: `classes` names each class by its label in the answer and in the truth."""
    found: Found = {}
    for folder in folders:
        for phase in PHASES:
            image = ms.read(folder / f"{phase}.nii.gz", kind="image")[0]
            truth = ms.read(folder / f"{phase}_labels.nii.gz", kind="labels")[0].volume_zyx()
            labels = ms.segment(image, model, force=True).labels.volume_zyx()
            found.setdefault(folder.name, {})[phase] = {
                name: overlap(labels == ours, truth == theirs) for name, (ours, theirs) in classes.items()
            }
    return found


def ejection_fraction(of_patient: Mapping[str, Mapping[str, tuple[float, int, int]]], true: bool) -> float:
    """Per cent of the end-diastolic cavity that leaves it; both phases lie on one grid, so voxels suffice."""
    diastole, systole = (of_patient[p]["left ventricle"][2 if true else 1] for p in PHASES)
    return 100 * (1 - systole / diastole) if diastole else float("nan")


def trained(name: str, minutes: float, held_out: Sequence[str], out: Path) -> ms.Model:
    """`ms.train` on a data set, with nothing else said."""
    classes = CLASSES if name == "acdc" else {1: "left ventricle"}
    result = ms.train(
        {"data": str(table_of_paths(name, out.parent / f"{name}.csv")), "out": str(out), "minutes": minutes, "modality": "MR",
         "hold_out": list(held_out), "classes": classes, "validation": 0, "clock": "process", "threads": 1}
    )  # fmt: skip
    assert not set(held_out) & set(result.patients)
    return result.model


def report(found: Found, classes: Sequence[str], title: str) -> str:
    """Dice by class and phase, and the error of the ejection fraction, with intervals over patients."""
    lines = [f"{title}: {len(found)} patients", "", "| | ED | ES | both |", "| --- | --- | --- | --- |"]
    for name in classes:
        values = np.array([[found[p][phase][name][0] for phase in PHASES] for p in found])
        each = [
            intervals.bootstrap(v[np.isfinite(v)]) for v in (values[:, 0], values[:, 1], np.nanmean(values, axis=1))
        ]
        lines.append(f"| Dice, {name} | " + " | ".join(map(str, each)) + " |")
    pairs = np.array([[ejection_fraction(found[p], k) for k in (False, True)] for p in found])
    pairs = pairs[np.isfinite(pairs).all(1)]
    error = intervals.bootstrap(np.abs(pairs[:, 0] - pairs[:, 1]))
    limits = intervals.bland_altman(pairs[:, 0], pairs[:, 1])
    return "\n".join(
        [
            *lines,
            "",
            f"ejection fraction: mean absolute error {error} points, "
            f"bias {limits.bias:+.1f}, limits of agreement {limits.lower:+.1f} to {limits.upper:+.1f}",
        ]
    )


def kept(path: Path) -> Found | None:
    return json.loads(path.read_text())["found"] if path.exists() else None


def within(minutes: float, numbers: Sequence[int]) -> None:
    """ACDC, fold by fold."""
    names = [p.name for p in patients("acdc")]
    found: Found = {}
    for number in numbers:
        path = RUNS / f"acdc-fold{number}-{minutes:g}.json"
        one = kept(path)
        if one is None:
            judges = splits.folds(names, FOLDS)[number]
            model = trained("acdc", minutes, judges, RUNS / f"acdc-fold{number}")
            folders = [p for p in patients("acdc") if p.name in judges]
            one = judge(model, folders, {name: (k, k) for k, name in CLASSES.items()})
            files.write_json(path, {"found": one, "minutes": minutes})
        found |= one
        print(
            report(found, list(CLASSES.values()), f"ACDC, folds {numbers[: numbers.index(number) + 1]} of {FOLDS}"),
            flush=True,
        )
    publish("cardiac-within", found, minutes)


def across(minutes: float) -> None:
    """Trained on all of one set, judged on all of the other."""
    for learn, other in (("sunnybrook", "acdc"), ("acdc", "sunnybrook")):
        path = RUNS / f"{learn}-on-{other}-{minutes:g}.json"
        one = kept(path)
        if one is None:
            model = trained(learn, minutes, (), RUNS / f"{learn}-all")
            one = judge(model, patients(other), {"left ventricle": (CAVITY[learn], CAVITY[other])})
            files.write_json(path, {"found": one, "minutes": minutes})
        print(report(one, ["left ventricle"], f"{learn} on {other}, {minutes:g} processor minutes"), flush=True)
        publish(f"cardiac-{learn}-on-{other}", one, minutes)


def shipped() -> None:
    """The bundle that ships, on the other data set."""
    found = judge(ms.load_model("left-ventricle"), patients("acdc"), {"left ventricle": (1, CAVITY["acdc"])})
    print(report(found, ["left ventricle"], "the left-ventricle that ships, on ACDC (another hospital and scanner)"))
    publish("cardiac-shipped", found, None)


def publish(name: str, found: Found, minutes: float | None) -> None:
    files.write_json(HERE.parent / "docs" / "benchmarks" / f"{name}.json", {"found": found, "minutes": minutes})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("within", "across", "shipped"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(FOLDS)))
    args = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there; set MEDSEQ_DATA.")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ms.MedseqWarning)
    if args.part == "within":
        within(args.minutes, args.folds)
    elif args.part == "across":
        across(args.minutes)
    else:
        shipped()


if __name__ == "__main__":
    main()
