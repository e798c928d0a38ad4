"""Classes of exams that can be told from the images: what `ms.train` plans for a table, beside what one would use otherwise.

    python benchmarks/exam_classes.py [--minutes 1] [--tasks tumour …] [--methods …]   # what is done is kept in runs/exam-classes

Tasks, made from the outlines and folders of real patients; no outline is shown to any method:

- tumour: five slices of FLAIR with a glioma in each, or five of the same patient without any, those whose brain is most alike in size
- nodule: crops of chest CT around a nodule that is larger or smaller than the median
- phase: short-axis cine MR at end-diastole or end-systole
- heart: the same, cropped to 130 mm around the middle of the image, where the heart is
- scanner: end-diastole of ACDC or of Sunnybrook

A third of the patients, the same for all methods, judges; nobody else is learned from. Every network has the same processor minutes on
one thread, preparing the images included: `ours` is `ms.train` with nothing else said; `small 3D CNN` four convolutions with batch norm, on
volumes of 96 × 96 pixels with the usual augmentation (mirroring, turns, zoom, contrast, noise), AdamW and a cosine.
`random forest`: intensities, co-occurrence and local patterns of each slice (mean, spread, least and most over the slices).
The sets may not all be shipped from (`glioma-flair` and `cardiac-acdc` judge only): no weights leave this.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from monai import transforms
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import napari_medseq as ms
from napari_medseq import files
from napari_medseq.evaluation import FeatureSettings, Interval, class_scores, patient_folds, slice_features
from napari_medseq.evaluation.classical import classical_pipeline

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data"))
RUNS = HERE / "runs" / "exam-classes"
SLICES, PIXELS = 5, 50  # slices of an exam of the task "tumour", and pixels of tumour in each
HEART_MM = 130.0  # of the task "heart"
BRAIN = 20  # grey level above which FLAIR of 8 bit shows tissue
SIDE, BATCH, RATE = 96, 4, 1e-3  # of the rivals
PARTS = FeatureSettings(parts=("intensity", "cooccurrence", "patterns"))


@dataclass(frozen=True)
class Exam:
    """One row of a task's table."""

    patient: str
    case: str
    path: Path
    answer: str


def tumour() -> list[Exam]:
    """Runs of slices with and without tumour, cut out of the exams."""
    out = []
    for folder in sorted(p for p in (DATA / "glioma-flair").glob("TCGA_*") if p.is_dir()):
        image = ms.read(folder / "FLAIR.nii.gz", kind="image")[0]
        grey = image.volume_zyx()
        pixels = (ms.read(folder / "tumor.nii.gz", kind="labels")[0].volume_zyx() > 0).sum((1, 2))
        brain = (grey > BRAIN).sum((1, 2))
        runs = range(len(pixels) - SLICES + 1)
        ill = [k for k in runs if (pixels[k : k + SLICES] >= PIXELS).all()]
        well = [k for k in runs if (pixels[k : k + SLICES] == 0).all()]
        if not ill or not well:
            continue
        first = ill[len(ill) // 2]
        size = brain[first : first + SLICES].sum()
        second = min(well, key=lambda k: abs(int(brain[k : k + SLICES].sum()) - int(size)))
        for start, answer in ((first, "tumour"), (second, "free")):
            path = RUNS / "tumour-slices" / f"{folder.name}-{answer}.nii.gz"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                ms.write(image.replace(data=grey[start : start + SLICES], axes=("z", "y", "x")), path)
            out.append(Exam(folder.name, f"{folder.name} {answer}", path, answer))
    return out


def nodule() -> list[Exam]:
    """Crops of nodules, by their consensus volume."""
    folders = sorted((DATA / "lung-nodules").glob("*/nodule-*"))
    sizes = [int((ms.read(f / "CT_mask.nii.gz", kind="labels")[0].volume_zyx() > 0).sum()) for f in folders]
    middle = float(np.median(sizes))
    return [
        Exam(f.parent.name, f"{f.parent.name} {f.name}", f / "CT.nii.gz", "large" if n > middle else "small")
        for f, n in zip(folders, sizes, strict=True)
    ]


def phase() -> list[Exam]:
    """Both phases of every patient of ACDC."""
    folders = sorted(p for p in (DATA / "cardiac-acdc").glob("patient*") if p.is_dir())
    return [Exam(f.name, f"{f.name} {p}", f / f"{p}.nii.gz", p) for f in folders for p in ("ED", "ES")]


def heart() -> list[Exam]:
    """As `phase`, without what lies far from the heart: the same time then pays for finer pixels."""
    out = []
    for e in phase():
        path = RUNS / "heart" / f"{e.case.replace(' ', '-')}.nii.gz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            image = ms.read(e.path, kind="image")[0]
            volume = image.volume_zyx()
            sides = [min(n, round(HEART_MM / image.spacing[a])) for n, a in zip(volume.shape[1:], "yx", strict=True)]
            y, x = ((n - side) // 2 for n, side in zip(volume.shape[1:], sides, strict=True))
            middle = volume[:, y : y + sides[0], x : x + sides[1]]
            ms.write(image.replace(data=np.ascontiguousarray(middle), axes=("z", "y", "x")), path)
        out.append(replace(e, path=path))
    return out


def scanner() -> list[Exam]:
    """One phase of every patient of both cardiac sets."""
    sets = (("cardiac-acdc", "patient*", "ACDC"), ("cardiac-sunnybrook", "SC-*", "Sunnybrook"))
    return [
        Exam(f.name, f.name, f / "ED.nii.gz", name)
        for folder, pattern, name in sets
        for f in sorted((DATA / folder).glob(pattern))
        if f.is_dir()
    ]


TASKS: dict[str, Callable[[], list[Exam]]] = {
    "tumour": tumour,
    "nodule": nodule,
    "phase": phase,
    "heart": heart,
    "scanner": scanner,
}


@dataclass(frozen=True)
class Split:
    """The exams of a task, and which of them judge."""

    task: str
    exams: list[Exam]
    classes: list[str]
    judges: NDArray[np.bool_]


def split(task: str) -> Split:
    """A third of the patients judges."""
    exams = TASKS[task]()
    folds = patient_folds([e.answer for e in exams], [e.patient for e in exams], folds=3)
    return Split(task, exams, sorted({e.answer for e in exams}), folds == 0)


@dataclass(frozen=True)
class Outcome:
    """Probabilities (exams that judge, classes) in the order of the split; the loss in tenths of the training; processor seconds."""

    probabilities: list[list[float]]
    loss: list[float]
    seconds: float


def ours(s: Split, minutes: float) -> Outcome:
    """`ms.train`, with nothing else said."""
    table = RUNS / f"{s.task}.csv"
    with table.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["patient", "case", "image", "class"])
        rows.writerows([e.patient, e.case, e.path, e.answer] for e in s.exams)
    judges = sorted({e.patient for e, j in zip(s.exams, s.judges, strict=True) if j})
    began = time.process_time()
    result = ms.train(
        {"data": str(table), "out": str(RUNS / f"{s.task}-{minutes:g}"), "minutes": minutes, "judges": judges, "threads": 1,
         "modality": "CT" if s.task == "nodule" else "MR", "clock": "process"}
    )  # fmt: skip
    seconds = time.process_time() - began
    assert result.table is not None
    of_case = result.table.set_index("case")[[f"probability {c}" for c in s.classes]]
    found = [of_case.loc[e.case].tolist() for e, j in zip(s.exams, s.judges, strict=True) if j]
    return Outcome(found, tenths(result.curve["loss"].tolist()), seconds)


def tenths(loss: Sequence[float]) -> list[float]:
    """Means of ten parts."""
    return [float(part.mean()) for part in np.array_split(np.array(loss), 10) if part.size]


class SmallCNN(nn.Module):
    """Four convolutions with batch norm, the mean over space and a layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for width in (16, 32, 64, 96):
            stride = 1 if before == 1 else (1, 2, 2)
            layers += [nn.Conv3d(before, width, 3, stride, 1), nn.BatchNorm3d(width), nn.ReLU()]
            before = width
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layers(x).mean((2, 3, 4)))
        return out


def volumes(s: Split, deep: int) -> Tensor:
    """Exams (n, 1, z, y, x) of as many slices and pixels, each with mean 0 and spread 1."""
    out = []
    for e in s.exams:
        x = torch.from_numpy(ms.read(e.path, kind="image")[0].volume_zyx().astype(np.float32))
        x = functional.interpolate(x[None], (SIDE, SIDE), mode="bilinear", antialias=True)
        x = functional.interpolate(x[None], (deep, SIDE, SIDE), mode="trilinear")[0]
        out.append((x - x.mean()) / x.std())
    return torch.stack(out)


def rival(s: Split, minutes: float, build: Callable[[int], nn.Module], deep: int) -> Outcome:
    """A network of the whole volume, trained for as long."""
    began = time.process_time()
    torch.manual_seed(0)
    x, y = volumes(s, deep), torch.tensor([s.classes.index(e.answer) for e in s.exams])
    augment = transforms.Compose(
        [
            transforms.RandFlip(0.5, 2),
            transforms.RandAffine(
                0.7, (0.2, 0, 0), None, (0, 4, 4), (0, 0.15, 0.15), padding_mode="border", mode="bilinear"
            ),
            transforms.RandScaleIntensity(0.2, prob=0.5),
            transforms.RandShiftIntensity(0.2, prob=0.5),
            transforms.RandGaussianNoise(0.3, std=0.1),
        ]
    ).set_random_state(0)
    learn = torch.from_numpy(~s.judges).nonzero().flatten()
    weight = (1 / torch.bincount(y[learn]).float())[y[learn]]
    network = build(len(s.classes))
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-4)
    loss = []
    while (done := (time.process_time() - began) / (60 * minutes)) < 1:
        optimiser.param_groups[0]["lr"] = RATE * min(1, (len(loss) + 1) / 20) * 0.5 * (1 + math.cos(math.pi * done))
        at = learn[torch.multinomial(weight, BATCH, replacement=True)]
        batch = torch.stack([torch.as_tensor(augment(x[k])) for k in at.tolist()])
        value = functional.cross_entropy(network(batch), y[at])
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        loss.append(float(value.detach()))
    network.eval()
    with torch.no_grad():
        found = [network(x[k][None])[0].softmax(0).tolist() for k in np.flatnonzero(s.judges).tolist()]
    return Outcome(found, tenths(loss), time.process_time() - began)


def forest(s: Split, _: float) -> Outcome:
    """A random forest of what each slice measures, over the slices."""
    began = time.process_time()
    rows = []
    for e in s.exams:
        of_slice = slice_features(ms.read(e.path, kind="image")[0], settings=PARTS)
        rows.append(of_slice.agg(["mean", "std", "min", "max"]).fillna(0.0).stack().to_numpy())
    x, y = np.stack(rows), np.array([e.answer for e in s.exams])
    model = classical_pipeline("random-forest").fit(x[~s.judges], y[~s.judges])
    assert model.classes_.tolist() == s.classes
    return Outcome(model.predict_proba(x[s.judges]).tolist(), [], time.process_time() - began)


METHODS: dict[str, Callable[[Split, float, int], Outcome]] = {
    "ours": lambda s, minutes, _: ours(s, minutes),
    "small 3D CNN": lambda s, minutes, deep: rival(s, minutes, SmallCNN, deep),
    "random forest": lambda s, minutes, _: forest(s, minutes),
}


def outcome(s: Split, method: str, minutes: float) -> Outcome:
    """That of a method; kept."""
    path = RUNS / f"{s.task}-{method.replace(' ', '-')}-{minutes:g}.json"
    if not path.exists():
        deep = math.ceil(np.median([ms.read(e.path, kind="image")[0].volume_zyx().shape[0] for e in s.exams[:30]]))
        files.write_json(path, asdict(METHODS[method](s, minutes, deep)))
    return Outcome(**json.loads(path.read_text()))


def scores(s: Split, found: Outcome) -> dict[str, Interval]:
    """Accuracy and AUC of the exams that judge; intervals count patients."""
    judging = [e for e, j in zip(s.exams, s.judges, strict=True) if j]
    truths = [s.classes.index(e.answer) for e in judging]
    return class_scores(found.probabilities, truths, [e.patient for e in judging], s.classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="processor minutes of each network")
    parser.add_argument("--tasks", nargs="*", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    args = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there; set MEDSEQ_DATA.")
    warnings.simplefilter("ignore", ms.MedseqWarning)
    torch.set_num_threads(1)
    RUNS.mkdir(parents=True, exist_ok=True)
    rows, kept = [], {}
    for task in args.tasks:
        s = split(task)
        learned = len({e.patient for e, j in zip(s.exams, s.judges, strict=True) if not j})
        for method in args.methods:
            found = outcome(s, method, args.minutes)
            said = scores(s, found)
            kept[f"{task}, {method}"] = {name: asdict(value) for name, value in said.items()} | {"loss": found.loss}
            falls = f"{found.loss[0]:.2f} to {found.loss[-1]:.2f}" if found.loss else ""
            numbers = [str(said["AUC"]), str(said["accuracy"]), falls, f"{found.seconds:.0f}"]
            rows.append([f"{task} ({learned})", method, *numbers])
            print(f"{task} {method}: {said['AUC']}", file=sys.stderr, flush=True)
    head = ["task (patients learned from)", "method", "AUC (95 %)", "accuracy (95 %)"]
    head += ["loss, first to last tenth", "processor s"]
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |")
    files.write_json(HERE.parent / "docs" / "benchmarks" / "exam_classes.json", kept)


if __name__ == "__main__":
    main()
