"""Train and judge the two models that ship, leave-one-patient-out. One command does all of it, and again from where it stopped.

    python benchmarks/brain_tumor.py all        # pretraining, every fold with and without recurrence, the shipped models
    python benchmarks/brain_tumor.py table      # the tables and curves from what has been trained

Folds are by patient: both visits of the held-out patient are judged, nothing of them is seen. Both variants of a fold start from
the same weights (pretrained on synthetic heads only, without recurrence), see the same windows in the same order for the same number of
iterations, and differ in the recurrent cells alone. Results go to ``docs/benchmarks/brain_tumor.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import napari_medseq as ms
from napari_medseq.engine import TrainConfig, train
from napari_medseq.engine.augment import AugmentSettings
from napari_medseq.engine.cases import Case
from napari_medseq.engine.settings import InferenceSettings
from napari_medseq.engine.train import read_cases, synthetic_cases
from napari_medseq.engine.training import LoopSettings
from napari_medseq.models.recurrent_unet import with_neighbours

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data")) / "brain-tumor-progression"
RESULTS = HERE.parent / "docs" / "benchmarks" / "brain_tumor.json"
BF16 = (torch.backends.mkldnn.is_available() and "avx512_bf16" in str(torch.__config__.show()).lower()) or (
    Path("/proc/cpuinfo").exists() and "avx512_bf16" in Path("/proc/cpuinfo").read_text()
)
SYNTHETIC = 90
LICENCE = "CC-BY-3.0 (weights, as the training data); see docs/README.md"

SEGMENTATION = {
    "task": "segmentation",
    "network": {
        "_target_": "RecurrentUNet",
        "widths": [16, 32, 64, 96, 128],
        "neighbours": 1,
        "rnn_levels": [3, 4],
        "hidden": 48,
        "ahead": 3,
    },
    "inference": InferenceSettings(pixel_mm=0.86, mirror=True, smallest_mm3=40.0),
    "classes": {1: "enhancing tumour"},
}
SLICES = {
    "task": "classification",
    "network": {"_target_": "SequenceClassifier", "widths": [16, 32, 64, 96, 128], "neighbours": 1, "hidden": 64},
    "inference": InferenceSettings(pixel_mm=1.72),
    "classes": {0: "tumour"},
}
TASKS = {"segmentation": SEGMENTATION, "slices": SLICES}


def patients() -> list[str]:
    return sorted(p.name for p in DATA.glob("sub-*"))


def loop(task: str, kind: str) -> LoopSettings:
    """Budgets; `minutes` bounds each run on a slow machine, iterations bound it on a fast one."""
    iterations = {
        "segmentation": {"pretrain": 400, "fold": 240, "final": 1300},
        "slices": {"pretrain": 300, "fold": 200, "final": 600},
    }
    minutes = {"pretrain": 20.0, "fold": 15.0, "final": 60.0}
    common: dict[str, Any] = {"iterations": iterations[task][kind], "minutes": minutes[kind], "bfloat16": bool(BF16)}
    if kind == "fold":
        common["rate"] = 1.5e-3
    if task == "slices":
        return LoopSettings(
            **common, batch=4, steps=12, size=(104, 88), lesion_share=0.4, transplant=0.2, weight_decay=1e-3
        )
    return LoopSettings(**common, augment=AugmentSettings())


def config(task: str, kind: str, rnn: str, hold_out: str, runs: Path) -> TrainConfig:
    t = TASKS[task]
    name = {
        "pretrain": "pretrained",
        "fold": f"{hold_out}-{rnn}",
        "final": {"segmentation": "brain-tumor", "slices": "brain-tumor-slices"}[task],
    }[kind]
    return TrainConfig(
        name=name,
        task=t["task"],
        data=() if kind == "pretrain" else (str(DATA),),
        image="*_T1post",
        labels="*_tumor",
        hold_out=(hold_out,) if hold_out else (),
        synthetic=SYNTHETIC,
        synthetic_share=0.15 if task == "segmentation" else 0.3,
        modality="MR",
        classes=t["classes"],
        name_patterns=("*T1post*", "*T1*post*", "*T1*Gd*", "*T1*CE*", "*T1*+C*", "*ce-gadolinium*T1w*", "*T1c*"),
        network={**t["network"], "rnn": rnn},
        start_from=None if kind == "pretrain" else str(runs / task / "pretrained"),
        loop=loop(task, kind),
        inference=t["inference"],
        device="cpu",
        licence=LICENCE,
        description={
            "segmentation": "Contrast-enhancing tumour on post-contrast T1 brain MR, slice by slice with recurrence along the slices.",
            "slices": "Is there contrast-enhancing tumour in a slice, and in the exam, on post-contrast T1 brain MR.",
        }[task],
        out=str(runs / task / name),
    )


def run_one(task: str, kind: str, rnn: str, hold_out: str, runs: Path) -> None:
    c = config(task, kind, rnn, hold_out, runs)
    began = time.monotonic()

    def say(done: int, total: int, message: str) -> None:
        if done % 20 == 0:
            print(f"{c.name} {done}/{total} {message} {time.monotonic() - began:.0f} s", flush=True)

    train(c, progress=say)


# -- judging ---------------------------------------------------------------------------------------------------------
@torch.inference_mode()
def probabilities(model: ms.Model, case: Case, mode: str) -> Tensor:
    """Foreground probability (step, y, x) of a segmentation model; `mode` is plain, reset or shuffled."""
    network = model.network
    h, w = case.image.shape[-2:]
    stride = network.stride
    total = torch.zeros(case.image.shape[0], h, w)
    for mirror in (False, True):
        x = case.image.float().flip(-1) if mirror else case.image.float()
        x = functional.pad(x, (0, -w % stride, 0, -h % stride), value=float(x.min()))
        x = with_neighbours(x, network.neighbours)
        if mode == "reset":
            y = torch.cat([network(step[None, None])[0] for step in x])
        else:
            order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)) if mode == "shuffled" else None
            y = network(x[None], order=order)[0]
        p = y.float().softmax(1)[:, 1, :h, :w]
        total += p.flip(-1) if mirror else p
    return total / 2


def dice(a: Tensor, b: Tensor) -> float:
    both = int(a.sum() + b.sum())
    return float(2 * (a & b).sum() / both) if both else 1.0


def judge_segmentation(runs: Path) -> list[dict[str, Any]]:
    rows = []
    threshold = SEGMENTATION["inference"].threshold
    for patient in patients():
        folders = {rnn: runs / "segmentation" / f"{patient}-{rnn}" for rnn in ("gru", "none")}
        if not all(f.exists() for f in folders.values()):
            continue
        models = {rnn: ms.load_model(f) for rnn, f in folders.items()}
        held = config("segmentation", "fold", "gru", "", runs).model_copy(
            update={"hold_out": tuple(p for p in patients() if p != patient)}
        )
        for k, case in enumerate(read_cases(held)):
            truth = case.labels > 0
            row: dict[str, Any] = {"patient": patient, "visit": k, "truth_voxels": int(truth.sum())}
            for name, rnn, mode in (
                ("recurrent", "gru", "plain"),
                ("plain CNN", "none", "plain"),
                ("state reset", "gru", "reset"),
                ("shuffled", "gru", "shuffled"),
            ):
                row[name] = dice(probabilities(models[rnn], case, mode) > threshold, truth)
            rows.append(row)
    return rows


@torch.inference_mode()
def judge_slices(runs: Path) -> list[dict[str, Any]]:
    """Per slice: truth and score of both variants; per exam: the whole scan, and its longest run of slices without tumour."""
    rows = []
    for patient in patients():
        folders = {rnn: runs / "slices" / f"{patient}-{rnn}" for rnn in ("gru", "none")}
        if not all(f.exists() for f in folders.values()):
            continue
        held = config("slices", "fold", "gru", "", runs).model_copy(
            update={"hold_out": tuple(p for p in patients() if p != patient)}
        )
        cases = read_cases(held)
        models = {rnn: ms.load_model(f) for rnn, f in folders.items()}
        for k, case in enumerate(cases):
            pixels = (case.labels > 0).flatten(1).sum(1)
            head = (case.image[:, 0] > -1).flatten(1).float().mean(1) > 0.02  # padding slices hold nothing to judge
            free = longest_run((pixels == 0) & head)
            entry: dict[str, Any] = {
                "patient": patient,
                "visit": k,
                "truth": (pixels >= 4).int().tolist(),
                "known": (((pixels == 0) | (pixels >= 4)) & head).tolist(),
            }
            for rnn, model in models.items():
                entry[rnn] = answer(model, case.image)
                entry[f"{rnn} without tumour"] = (
                    answer(model, case.image[free[0] : free[1]])["exam"] if free[1] - free[0] >= 3 else None
                )
            rows.append(entry)
    return rows


def answer(model: ms.Model, image: Tensor) -> dict[str, Any]:
    h, w = image.shape[-2:]
    stride = model.network.stride
    x = functional.pad(image.float(), (0, -w % stride, 0, -h % stride), value=float(image.min()))
    logits = model.network(with_neighbours(x, model.network.neighbours)[None])
    return {
        "steps": [round(float(v), 5) for v in logits.steps[0, :, 0].sigmoid()],
        "exam": float(logits.exam[0, 0].sigmoid()),
    }


def longest_run(flags: Tensor) -> tuple[int, int]:
    best, start = (0, 0), None
    for i, f in enumerate([*flags.tolist(), False]):
        if f and start is None:
            start = i
        if not f and start is not None:
            best, start = max(best, (start, i), key=lambda r: r[1] - r[0]), None
    return best


def auc(truth: np.ndarray, score: np.ndarray) -> float:
    """Share of (positive, negative) pairs in the right order; ties count half (Mann-Whitney)."""
    positive, negative = score[truth], score[~truth]
    difference = positive[:, None] - negative[None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean()) if difference.size else float("nan")


def interval(groups: list[Any], statistic: Any, n: int = 2000) -> tuple[float, float]:
    """95 % interval from resampling patients with replacement (visits of a patient stay together)."""
    rng = np.random.default_rng(0)
    values = [statistic([groups[i] for i in rng.integers(0, len(groups), len(groups))]) for _ in range(n)]
    return float(np.nanpercentile(values, 2.5)), float(np.nanpercentile(values, 97.5))


def by_patient(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [[r for r in rows if r["patient"] == p] for p in dict.fromkeys(r["patient"] for r in rows)]


def segmentation_table(rows: list[dict[str, Any]]) -> str:
    names = ("recurrent", "plain CNN", "state reset", "shuffled")
    lines = ["| patient | visit | truth voxels | " + " | ".join(names) + " |", "|---|---|---|" + "---|" * len(names)]
    lines += [
        f"| {r['patient']} | {r['visit']} | {r['truth_voxels']} | " + " | ".join(f"{r[n]:.3f}" for n in names) + " |"
        for r in rows
    ]
    groups = by_patient(rows)

    def mean(name: str) -> Any:
        return lambda gs: float(np.mean([r[name] for g in gs for r in g]))

    cells = [
        f"{mean(n)(groups):.3f} ({interval(groups, mean(n))[0]:.3f}–{interval(groups, mean(n))[1]:.3f})" for n in names
    ]
    lines.append("| **mean** (95 % interval over patients) | | | " + " | ".join(cells) + " |")
    for other in names[1:]:

        def gain(gs: Any, other: str = other) -> float:
            return float(np.mean([r["recurrent"] - r[other] for g in gs for r in g]))

        low, high = interval(groups, gain)
        lines.append(
            f"\nrecurrent − {other}: {gain(groups):+.3f} (95 % interval {low:+.3f} to {high:+.3f}), paired over {len(groups)} patients"
        )
    return "\n".join(lines)


def slices_table(rows: list[dict[str, Any]]) -> str:
    groups = by_patient(rows)

    def per_slice(rnn: str) -> Any:
        def value(gs: Any) -> float:
            truth = np.concatenate([np.array(r["truth"], bool)[np.array(r["known"], bool)] for g in gs for r in g])
            score = np.concatenate([np.array(r[rnn]["steps"])[np.array(r["known"], bool)] for g in gs for r in g])
            return auc(truth, score)

        return value

    def per_exam(rnn: str) -> Any:
        def value(gs: Any) -> float:
            positive = [r[rnn]["exam"] for g in gs for r in g]
            negative = [r[f"{rnn} without tumour"] for g in gs for r in g if r[f"{rnn} without tumour"] is not None]
            return auc(np.r_[np.ones(len(positive), bool), np.zeros(len(negative), bool)], np.r_[positive, negative])

        return value

    def extent(rnn: str) -> Any:
        def value(gs: Any) -> float:
            return float(
                np.mean([abs(sum(p >= 0.5 for p in r[rnn]["steps"]) - sum(r["truth"])) for g in gs for r in g])
            )

        return value

    lines = ["| measure | encoder + GRU + attention | same encoder, no RNN |", "|---|---|---|"]
    for name, make in (
        ("AUC per slice", per_slice),
        ("AUC per exam (whole scan against its tumour-free run of slices)", per_exam),
        ("error of the extent, slices", extent),
    ):
        cells = []
        for rnn in ("gru", "none"):
            low, high = interval(groups, make(rnn))
            cells.append(f"{make(rnn)(groups):.3f} ({low:.3f}–{high:.3f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("\n| patient | AUC per slice, GRU | no RNN |\n|---|---|---|")
    lines += [f"| {g[0]['patient']} | {per_slice('gru')([g]):.3f} | {per_slice('none')([g]):.3f} |" for g in groups]
    return "\n".join(lines)


def curves(runs: Path, path: Path) -> None:
    """Training curves of both variants: each fold thin, the mean of folds thick, smoothed over 20 iterations."""
    import pandas as pd
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, task in zip(figure.subplots(1, 2), TASKS, strict=True):
        for rnn, colour in (("gru", "tab:blue"), ("none", "tab:orange")):
            folds = [
                pd.read_csv(p / "curve.csv")["loss"].rolling(20).mean()
                for p in sorted((runs / task).glob(f"sub-*-{rnn}.run"))
                if (p / "curve.csv").exists()
            ]
            for f in folds:
                axes.plot(f, color=colour, lw=0.4, alpha=0.5)
            if folds:
                axes.plot(
                    pd.concat(folds, axis=1).mean(axis=1),
                    color=colour,
                    lw=2,
                    label={"gru": "recurrent", "none": "plain CNN"}[rnn],
                )
        axes.set(title=task, xlabel="iteration", ylabel="training loss")
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def table(runs: Path) -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    seg, sl = judge_segmentation(runs), judge_slices(runs)
    if seg:
        results["segmentation"] = seg
        print(segmentation_table(seg), "\n")
    if sl:
        results["slices"] = sl
        print(slices_table(sl))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    curves(runs, RESULTS.with_name("brain_tumor_curves.png"))


def everything(runs: Path, jobs: int, tasks: list[str]) -> None:
    """Pretrain, then every fold and the final model, `jobs` at a time, each in a process with its share of the cores."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))

    def start(arguments: tuple[str, str, str, str]) -> None:
        task, kind, rnn, patient = arguments
        c = config(task, kind, rnn, patient, runs)
        if Path(c.out).exists():
            return
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        command = [
            sys.executable,
            __file__,
            "one",
            "--runs",
            str(runs),
            "--task",
            task,
            "--kind",
            kind,
            "--rnn",
            rnn,
            "--patient",
            patient,
        ]
        with (runs / f"{task}-{c.name}.log").open("a") as log:
            subprocess.run(command, check=True, env=environment, stdout=log, stderr=log)
        print(f"done: {task} {c.name}", flush=True)

    for task in tasks:
        c = config(task, "pretrain", "none", "", runs)
        (runs / task).mkdir(parents=True, exist_ok=True)
        synthetic_cases(c, Path(c.out).with_name("pretrained.run"))
        start((task, "pretrain", "none", ""))
    work = [(task, "final", "gru", "") for task in tasks]
    work += [(task, "fold", rnn, p) for task in tasks for p in patients() for rnn in ("gru", "none")]
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(start, work))
    table(runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("all", "one", "table"))
    parser.add_argument("--runs", type=Path, default=Path("runs/brain-tumor"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--task", choices=list(TASKS), default=None)
    parser.add_argument("--kind", choices=("pretrain", "fold", "final"), default="fold")
    parser.add_argument("--rnn", choices=("gru", "none"), default="gru")
    parser.add_argument("--patient", default="")
    a = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there; set MEDSEQ_DATA to the folder that holds brain-tumor-progression.")
    if a.command == "one":
        run_one(a.task, a.kind, a.rnn, a.patient, a.runs)
    elif a.command == "table":
        table(a.runs)
    else:
        everything(a.runs, a.jobs, [a.task] if a.task else list(TASKS))


if __name__ == "__main__":
    main()
