"""Short-axis cine MR at end-diastole and end-systole: right ventricle, myocardium, left ventricle; ejection fraction; across data sets.

    python benchmarks/cardiac.py within [--minutes 10] [--folds 0 1 2 3 4]   # ACDC, five folds of patients, three classes
    python benchmarks/cardiac.py rival [--minutes 10] [--folds 0 1 2 3 4]    # beside MONAI's DynUNet (`dynunet`), and *former*: the
                                                                            # same by AdamW alone
                                                                            # (--only METHOD …)
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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
from napari_medseq.training.loops.muon import Kind

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data"))
RUNS = HERE / "runs" / "cardiac"
SETS = {"acdc": ("cardiac-acdc", "patient*"), "sunnybrook": ("cardiac-sunnybrook", "SC-*")}
PHASES = ("ED", "ES")
CLASSES = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
#: the answer's labels are those of the truth
ALIKE = {name: (k, k) for k, name in CLASSES.items()}
#: as nnU-Net plans for slices of 8 mm and pixels of 1.5 mm; slices are pooled but once
RIVAL = dynunet.Rival(
    4, (12, 160, 160), kernels=((1, 3, 3), (1, 3, 3), 3, 3, 3), strides=(1, (1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2)),
    filters=(16, 32, 64, 128, 160), turns=(0.5, 0.0, 0.0),
)  # fmt: skip
#: as `ms.train` learned until 2026-11-28
FORMER = {"optimiser": "adamw"}
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


def read(folder: Path, phase: str) -> tuple[ms.ImageSequence, NDArray[np.generic]]:
    """A patient's image at a phase, and its labels (z, y, x)."""
    image = ms.read(folder / f"{phase}.nii.gz", kind="image")[0]
    return image, ms.read(folder / f"{phase}_labels.nii.gz", kind="labels")[0].volume_zyx()


def overlap(found: Mask, truth: Mask) -> tuple[float, int, int]:
    """Dice, and both sizes; NaN where there is neither."""
    a, b = int(found.sum()), int(truth.sum())
    return (2 * float((found & truth).sum()) / (a + b) if a + b else float("nan")), a, b


def judge(model: ms.Model, folders: Sequence[Path], classes: Mapping[str, tuple[int, int]]) -> Found:
    """What a model finds: `classes` names each class by its label in the answer and in the truth."""
    return judged(lambda image: ms.segment(image, model, force=True).labels.volume_zyx(), folders, classes)


def judged(
    label: Callable[[ms.ImageSequence], NDArray[np.generic]],
    folders: Sequence[Path],
    classes: Mapping[str, tuple[int, int]],
) -> Found:
    """As `judge`, of whatever labels an image."""
    found: Found = {}
    for folder in folders:
        for phase in PHASES:
            image, truth = read(folder, phase)
            labels = label(image)
            found.setdefault(folder.name, {})[phase] = {
                name: overlap(labels == ours, truth == theirs) for name, (ours, theirs) in classes.items()
            }
    return found


def ejection_fraction(of_patient: Mapping[str, Mapping[str, tuple[float, int, int]]], true: bool) -> float:
    """Per cent of the end-diastolic cavity that leaves it; both phases lie on one grid, so voxels suffice."""
    diastole, systole = (of_patient[p]["left ventricle"][2 if true else 1] for p in PHASES)
    return 100 * (1 - systole / diastole) if diastole else float("nan")


def trained(
    name: str, minutes: float, held_out: Sequence[str], out: Path, settings: Mapping[str, object] = MappingProxyType({})
) -> ms.Model:
    """`ms.train` on a data set, with nothing else said but, at times, settings of the plan."""
    classes = CLASSES if name == "acdc" else {1: "left ventricle"}
    result = ms.train(
        {"data": str(table_of_paths(name, out.parent / f"{name}.csv")), "out": str(out), "minutes": minutes, "modality": "MR",
         "hold_out": list(held_out), "classes": classes, "validation": 0, "clock": "process", "threads": 1, "settings": dict(settings)}
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


def folds(name: str, minutes: float, numbers: Sequence[int], judge_one: Callable[[int, list[str]], Found]) -> Found:
    """What was found of ACDC fold by fold, from `judge_one` of a fold's number and judges where it is not kept yet."""
    names = [p.name for p in patients("acdc")]
    found: Found = {}
    for number in numbers:
        path = RUNS / f"{name}-fold{number}-{minutes:g}.json"
        one = kept(path)
        if one is None:
            one = judge_one(number, splits.folds(names, FOLDS)[number])
            files.write_json(path, {"found": one, "minutes": minutes})
        found |= one
    return found


def ours(
    minutes: float, numbers: Sequence[int], name: str = "acdc", settings: Mapping[str, object] = MappingProxyType({})
) -> Found:
    """By `ms.train`, with nothing else said but, at times, settings of the plan."""

    def judge_one(number: int, judges: list[str]) -> Found:
        model = trained("acdc", minutes, judges, RUNS / f"{name}-fold{number}", settings)
        return judge(model, _named(judges), ALIKE)

    return folds(name, minutes, numbers, judge_one)


def theirs(minutes: float, numbers: Sequence[int], name: str = "dynunet", optimiser: Kind = "adamw") -> Found:
    """By MONAI's DynUNet."""
    rival = replace(RIVAL, optimiser=optimiser)

    def judge_one(_: int, judges: list[str]) -> Found:
        learned = [read(p, phase) for p in patients("acdc") if p.name not in judges for phase in PHASES]
        cases = [(dynunet.standardised(image), truth.astype(np.uint8)) for image, truth in learned]
        network, seen = dynunet.train(rival, cases, minutes)
        print(f"DynUNet: {seen} windows seen", flush=True)
        return judged(lambda image: dynunet.labels(rival, network, image), _named(judges), ALIKE)

    return folds(name, minutes, numbers, judge_one)


def within(minutes: float, numbers: Sequence[int]) -> None:
    found = ours(minutes, numbers)
    print(report(found, list(CLASSES.values()), f"ACDC, {_of_folds(numbers)}, {minutes:g} processor minutes"))
    publish("cardiac-within", found, minutes)


METHODS: dict[str, Callable[[float, Sequence[int]], Found]] = {
    "our trainer": ours,
    "former": lambda minutes, numbers: ours(minutes, numbers, "former", FORMER),
    "MONAI DynUNet": theirs,
    "MONAI DynUNet by Muon": lambda minutes, numbers: theirs(minutes, numbers, "dynunet-muon", "muon"),
}


def beside_rival(minutes: float, numbers: Sequence[int], names: Sequence[str]) -> None:
    """The first against each other one, paired by patient."""
    found = {name: METHODS[name](minutes, numbers) for name in names}
    mean = {name: _mean_dice(one) for name, one in found.items()}
    lines = [
        f"ACDC, {_of_folds(numbers)}: {len(mean[names[0]])} unseen patients, {minutes:g} processor minutes each, one thread",
        "",
        f"| network | {' | '.join(CLASSES.values())} | mean (95 %, by patient) | worst patient |",
        "|" + " --- |" * (len(CLASSES) + 3),
    ]
    for name, one in found.items():
        each = [np.nanmean([of[p][c][0] for of in one.values() for p in PHASES]) for c in CLASSES.values()]
        cells = " | ".join(f"{v:.3f}" for v in each)
        lines.append(f"| {name} | {cells} | {intervals.bootstrap(mean[name])} | {mean[name].min():.3f} |")
    for name in list(mean)[1:]:
        difference = intervals.paired(mean[names[0]], mean[name])
        lines += ["", f"{names[0]} minus {name}, paired by patient: {difference}"]
    print("\n".join(lines))
    path = HERE.parent / "docs" / "benchmarks" / f"cardiac-rival-{minutes:g}.json"
    files.write_json(path, {"found": found, "minutes": minutes})


def _mean_dice(found: Found) -> NDArray[np.float64]:
    """Of each patient, over classes and phases."""
    return np.array([np.nanmean([of[p][c][0] for p in PHASES for c in CLASSES.values()]) for of in found.values()])


def _named(names: Sequence[str]) -> list[Path]:
    return [p for p in patients("acdc") if p.name in names]


def _of_folds(numbers: Sequence[int]) -> str:
    return f"folds {', '.join(map(str, numbers))} of {FOLDS}" if len(numbers) < FOLDS else f"all {FOLDS} folds"


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
    parser.add_argument("part", choices=("within", "rival", "across", "shipped"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(FOLDS)))
    parser.add_argument("--only", nargs="*", choices=list(METHODS), default=list(METHODS), help="of rival")
    args = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there; set MEDSEQ_DATA.")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ms.MedseqWarning)
    if args.part == "within":
        within(args.minutes, args.folds)
    elif args.part == "rival":
        beside_rival(args.minutes, args.folds, args.only)
    elif args.part == "across":
        across(args.minutes)
    else:
        shipped()


if __name__ == "__main__":
    main()
