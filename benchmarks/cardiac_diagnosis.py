"""Five diagnoses of ACDC (dilated, hypertrophic, infarcted, normal, right ventricle) from what the outlines say: the classical classifiers.

    python benchmarks/cardiac_diagnosis.py [--only svm …]      # what is done is kept in benchmarks/runs/cardiac-diagnosis
    python benchmarks/cardiac_diagnosis.py network [--minutes 30]   # from the images alone: `ms.train` on a table of paths and diagnoses

Features of each patient: volumes of both ventricles and of the wall at end-diastole and end-systole in voxels, ejection fractions and
ratios of these, and how thick the wall is about each slice of the cavity (mean, spread, most and least, over slices; after Khened et al.
2019, doi:10.1016/j.media.2018.10.004, who report 0.96 with the outlines of 100 patients), by `observers`: the masks of ACDC's
observers, not a network's, so this is what the outlines can tell at best. Ten folds by patient; parameters are chosen within each
fold. The spacing of these files is nominal (1.5 mm for all), which blurs the volumes; ratios are exact. A second table leaves out what
depends on the size of a pixel.

The network is the sequence classifier that `ms.train` plans by itself for a table with a column `class`; both phases are its channels, it
sees no outline, and three networks, each without a third of the patients, share the processor minutes (one thread).
"""

from __future__ import annotations

import argparse
import csv
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import confusion_matrix, f1_score

import cardiac
import napari_medseq as ms
from napari_medseq import files
from napari_medseq.evaluation import ClassicalSettings, bootstrap, judge_classical, mcnemar, paired, patient_folds
from napari_medseq.evaluation.classical import CLASSICAL

RIGHT, WALL, LEFT = 1, 2, 3
FOLDS, NETWORKS = 10, 3
RUNS = Path(__file__).parent / "runs" / "cardiac-diagnosis"
RATIOS = ("ejection", "ratio", "relative")  # features that begin so do not depend on the size of a pixel
Labels = NDArray[np.integer]


def thickness(plane: Labels) -> NDArray[np.float64]:
    """How far it is from each pixel at the rim of the left cavity to what lies outside the wall, in pixels."""
    cavity, inside = plane == LEFT, (plane == LEFT) | (plane == WALL)
    if not cavity.any() or not (plane == WALL).any():
        return np.zeros(0)
    rim = cavity & (np.asarray(distance_transform_edt(cavity)) <= 1)
    found: NDArray[np.float64] = np.asarray(distance_transform_edt(inside))[rim]
    return found


def features(phases: Sequence[Labels]) -> dict[str, float]:
    """Of one patient, from the labels at end-diastole and end-systole."""
    found: dict[str, float] = {}
    sizes = {name: [float((p == k).sum()) for p in phases] for name, k in (("left", LEFT), ("right", RIGHT), ("wall", WALL))}  # fmt: skip
    for name, (diastole, systole) in sizes.items():
        found |= {f"volume {name} ED": diastole, f"volume {name} ES": systole}
        found[f"ejection {name}"] = 1 - systole / max(diastole, 1.0)
    for k, phase in enumerate(cardiac.PHASES):
        left = max(sizes["left"][k], 1.0)
        found[f"ratio right to left {phase}"] = sizes["right"][k] / left
        found[f"ratio wall to left {phase}"] = sizes["wall"][k] / left
        slices = [t for t in map(thickness, phases[k]) if t.size]
        of_slices = {
            "mean": np.array([t.mean() for t in slices]),
            "spread": np.array([t.std() for t in slices]),
            "most": np.array([t.max() for t in slices]),
            "least": np.array([t.min() for t in slices]),
        }
        radius = np.sqrt(left / max(len(slices), 1) / np.pi)
        for name, values in of_slices.items():
            for how, value in (("mean", values.mean()), ("spread", values.std()), ("most", values.max())):
                found[f"thickness {name}, {how} {phase}"] = float(value)
                found[f"relative thickness {name}, {how} {phase}"] = float(value / radius)
    return found


def diagnoses() -> dict[str, str]:
    """Of each patient."""
    with (cardiac.DATA / "cardiac-acdc" / "diagnosis.csv").open(newline="") as stream:
        return {r["patient"]: r["diagnosis"] for r in csv.DictReader(stream)}


def cases() -> tuple[pd.DataFrame, list[str], list[str]]:
    """Features, diagnoses and names of the patients."""
    known = diagnoses()
    folders = [p for p in cardiac.patients("acdc") if p.name in known]
    rows = []
    for folder in folders:
        phases = [ms.read(folder / f"{p}_labels.nii.gz", kind="labels")[0].volume_zyx() for p in cardiac.PHASES]
        rows.append(features(phases))
    return pd.DataFrame(rows), [known[p.name] for p in folders], [p.name for p in folders]


def by_network(minutes: float, truth: dict[str, str]) -> dict[str, str]:
    """Patient to the diagnosis that a network says which did not learn from that patient."""
    path = RUNS / f"network-{minutes:g}.json"
    if not path.exists():
        table = RUNS / "exams.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        with table.open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(["patient", *cardiac.PHASES, "class"])
            for folder in (p for p in cardiac.patients("acdc") if p.name in truth):
                rows.writerow([folder.name, *(folder / f"{p}.nii.gz" for p in cardiac.PHASES), truth[folder.name]])
        result = ms.train(
            {"data": str(table), "out": str(RUNS / f"network-{minutes:g}"), "minutes": minutes, "modality": "MR", "folds": NETWORKS,
             "clock": "process", "threads": 1}
        )  # fmt: skip
        assert result.table is not None  # each patient judged one network
        answers = dict(zip(result.table["patient"], result.table["answer"], strict=True))
        files.write_json(path, {"answers": answers, "minutes": minutes})
    kept: dict[str, str] = json.loads(path.read_text())["answers"]
    return kept


def fall_of_the_loss(minutes: float) -> str:
    """Of the training of each network, means of the first and the last tenth."""
    said = []
    for k in range(1, NETWORKS + 1):
        loss = pd.read_csv(RUNS / f"network-{minutes:g}" / f"fold-{k}.run" / "curve.csv")["loss"].to_numpy()
        tenths = np.array_split(loss, 10)
        said.append(f"{tenths[0].mean():.2f} to {tenths[-1].mean():.2f}")
    return "Loss of the trainings, first to last tenth: " + "; ".join(said)


def report(found: dict[str, NDArray[np.str_]], truth: Sequence[str], title: str) -> list[str]:
    """Accuracy of each classifier with its interval, and against the best."""
    y = np.array(truth)
    right = {name: (said == y).astype(float) for name, said in found.items()}
    best = max(right, key=lambda n: right[n].mean())
    lines = [
        title,
        "",
        "| classifier | accuracy (95 %) | F1, mean of classes | less than the best | McNemar's test against the best, p |",
        "| --- " * 5 + "|",
    ]
    for name in found:
        less = test = ""
        if name != best:
            less, test = str(paired(right[name], right[best]).difference), f"{mcnemar(right[name], right[best]).p:.3g}"
        lines.append(
            f"| {name} | {bootstrap(right[name])} | {f1_score(y, found[name], average='macro'):.3f} | {less} | {test} |"
        )
    classes = sorted(set(truth))
    table = confusion_matrix(y, found[best], labels=classes)
    lines += ["", f"{best}:", "", "| truth | " + " | ".join(f"said {c}" for c in classes) + " |"]
    lines.append("| --- " * (len(classes) + 1) + "|")
    lines += [f"| {c} | " + " | ".join(map(str, row)) + " |" for c, row in zip(classes, table.tolist(), strict=True)]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("outlines", "network"), default="outlines")
    parser.add_argument("--only", nargs="*", choices=CLASSICAL, default=list(CLASSICAL))
    parser.add_argument("--minutes", type=float, default=30.0, help="of all networks together")
    args = parser.parse_args()
    if not cardiac.DATA.is_dir():
        raise SystemExit(f"{cardiac.DATA} is not there; set MEDSEQ_DATA.")
    warnings.simplefilter("ignore", ms.MedseqWarning)
    if args.part == "network":
        torch.set_num_threads(1)
        truth_of = diagnoses()
        answers = by_network(args.minutes, truth_of)
        names = sorted(truth_of)
        said = {f"network, {args.minutes / NETWORKS:g} minutes each": np.array([answers[n] for n in names])}
        print("\n".join(report(said, [truth_of[n] for n in names], f"images alone, {len(names)} patients")))
        print("\n" + fall_of_the_loss(args.minutes))
        return
    every, truth, patients = cases()
    folds = patient_folds(truth, patients, folds=FOLDS)
    kept: dict[str, object] = {"patients": patients, "truth": truth, "folds": folds.tolist()}
    for title, table in (
        ("all features", every),
        ("without the size of a pixel", every[[c for c in every if c.startswith(RATIOS)]]),
    ):
        found = {}
        for name in CLASSICAL:
            path = RUNS / f"{title.replace(' ', '-')}-{name}.json"
            if not path.exists():
                if name not in args.only:
                    continue
                settings = ClassicalSettings(folds=FOLDS)
                o = judge_classical(table, truth, patients, name, folds=folds, settings=settings)
                files.write_json(path, {"classes": list(o.classes), "probabilities": o.probabilities.tolist()})
            done = json.loads(path.read_text())
            found[name] = np.array(done["classes"])[np.array(done["probabilities"]).argmax(1)]
        kept[title] = {name: said.tolist() for name, said in found.items()}
        print(
            "\n".join(report(found, truth, f"{title} ({table.shape[1]} features), {len(truth)} patients")) + "\n",
            flush=True,
        )
    files.write_json(Path(__file__).parents[1] / "docs" / "benchmarks" / "cardiac_diagnosis.json", kept)


if __name__ == "__main__":
    main()
