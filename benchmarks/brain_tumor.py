"""Train and judge the two models that ship, leave-one-patient-out. One command does all, and goes on where it stopped.

    python benchmarks/brain_tumor.py all      # pretraining, every fold with and without recurrence, the shipped models
    python benchmarks/brain_tumor.py table    # the tables and curves from what has been trained
    python benchmarks/brain_tumor.py ship     # the two bundles, with cards that quote the table, into the package

Folds are by patient: both visits of the held-out patient are judged, nothing of them is seen. Both variants of a fold
start from the same weights (a segmentation network pretrained on synthetic heads only, without recurrence; the classifiers take
the encoder of their fold's segmentation network), see the same windows in the same
order for the same number of iterations, and differ in the recurrent cells alone. Results go to
``docs/benchmarks/brain_tumor.json``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from napari_medseq.inference.settings import InferenceSettings
from napari_medseq.training import TrainConfig, train
from napari_medseq.training.loops.augment import AugmentSettings
from napari_medseq.training.loops.settings import LoopSettings
from napari_medseq.training.trainer import synthetic_cases

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data")) / "brain-tumor-progression"
BF16 = (torch.backends.mkldnn.is_available() and "avx512_bf16" in str(torch.__config__.show()).lower()) or (
    Path("/proc/cpuinfo").exists() and "avx512_bf16" in Path("/proc/cpuinfo").read_text()
)
SYNTHETIC = 90
LICENCE = "CC-BY-3.0 (weights, as the training data); see docs/README.md"

SEGMENTATION: dict[str, Any] = {
    "task": "segmentation",
    "network": {
        "_target_": "RecurrentUNet",
        "widths": [16, 32, 64, 96, 128],
        "neighbours": 1,
        "rnn_levels": [3, 4],
        "hidden": 48,
        "ahead": 3,
    },
    "inference": InferenceSettings(
        pixel_mm=0.86, mirror=True, min_volume_mm3=40.0, min_mean_probability=0.75, trimmed="planes"
    ),
    "classes": {1: "enhancing tumour"},
}
SLICES: dict[str, Any] = {
    "task": "classification",
    "network": {"_target_": "SequenceClassifier", "widths": [16, 32, 64, 96], "neighbours": 1, "hidden": 48},
    "inference": InferenceSettings(pixel_mm=0.86, trimmed="planes"),
    "classes": {0: "tumour"},
}
# outlines of thin rims are learned from windows that are not bent and blurred too far
MILD = AugmentSettings(
    rotate_degrees=10,
    zoom=0.15,
    stretch=0.05,
    elastic=0.02,
    bias=0.2,
    gain=0.15,
    shift=0.15,
    gamma=0.15,
    noise=0.05,
    blur=0.05,
)
TASKS = {"segmentation": SEGMENTATION, "slices": SLICES}


def patients() -> list[str]:
    return sorted(p.name for p in DATA.glob("sub-*"))


def loop(task: str, kind: str) -> LoopSettings:
    """Budgets; `minutes` bounds each run on a slow machine, iterations bound it on a fast one."""
    iterations = {
        "segmentation": {
            "pretrain": 400,
            "broad": 1300,
            "refined": 500,
            "careful": 750,
            "final": 500,
            "fold": 200,
            "refold": 250,
            "lastfold": 400,
        },
        "slices": {"final": 500, "fold": 200},
    }
    minutes = {
        "pretrain": 20.0,
        "broad": 60.0,
        "refined": 30.0,
        "careful": 40.0,
        "final": 40.0,
        "fold": 15.0,
        "refold": 25.0,
        "lastfold": 30.0,
    }
    common: dict[str, Any] = {"iterations": iterations[task][kind], "minutes": minutes[kind], "bfloat16": bool(BF16)}
    if task == "slices":
        rate = 1.5e-3 if kind == "fold" else 2e-3
        return LoopSettings(
            **common,
            rate=rate,
            encoder_rate=0.2,
            batch=2,
            steps=10,
            lesion_share=0.4,
            transplant=0.2,
            weight_decay=1e-3,
        )
    if kind in ("pretrain", "broad"):
        return LoopSettings(**common)
    rate = {"fold": 1.5e-3, "refold": 8e-4, "lastfold": 6e-4, "refined": 8e-4, "careful": 6e-4, "final": 6e-4}[kind]
    # the last stages see more of what is not a tumour
    lesions = {"refold": 0.6, "lastfold": 0.6, "careful": 0.6, "final": 0.5}.get(kind, 0.8)
    return LoopSettings(**common, rate=rate, augment=MILD, transplant=0.1, lesion_share=lesions)


def config(task: str, kind: str, rnn: str, hold_out: str, runs: Path) -> TrainConfig:
    t = TASKS[task]
    name = {
        "pretrain": "pretrained",
        "broad": "broad",
        "refined": "refined",
        "careful": "careful",
        "fold": f"{hold_out}-{rnn}" if task == "slices" else f"{hold_out}-{rnn}-early",
        "refold": f"{hold_out}-{rnn}-middle",
        "lastfold": f"{hold_out}-{rnn}",
        "final": {"segmentation": "brain-tumor", "slices": "brain-tumor-slices"}[task],
    }[kind]
    start = {
        "pretrain": None,
        "broad": "pretrained",
        "refined": "broad",
        "careful": "refined",
        "final": "careful",
        "fold": "pretrained",
        "refold": f"{hold_out}-{rnn}-early",
        "lastfold": f"{hold_out}-{rnn}-middle",
    }[kind]
    if task == "slices":  # both variants take the encoder of the segmentation network of the same fold
        start = "brain-tumor" if kind == "final" else f"{hold_out}-gru"
    return TrainConfig(
        name=name,
        task=t["task"],
        data=() if kind == "pretrain" else (str(DATA),),
        image="*_T1post",
        labels="*_tumor",
        hold_out=(hold_out,) if hold_out else (),
        synthetic=SYNTHETIC,
        synthetic_share=0.3
        if task == "slices"
        else {"broad": 0.15, "careful": 0.35, "lastfold": 0.35, "final": 0.5}.get(kind, 0.1),
        modality="MR",
        classes=t["classes"],
        name_patterns=("*T1post*", "*T1*post*", "*T1*Gd*", "*T1*CE*", "*T1*+C*", "*ce-gadolinium*T1w*", "*T1c*"),
        network={**t["network"], "rnn": rnn},
        start_from=None if start is None else str(runs / "segmentation" / start),
        loop=loop(task, kind),
        inference=t["inference"],
        device="cpu",
        licence=LICENCE,
        description={
            "segmentation": "Contrast-enhancing tumour on post-contrast T1 brain MR, with recurrence along the slices.",
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


def everything(runs: Path, jobs: int, tasks: list[str]) -> None:
    """Pretrain, then every fold and the final model, `jobs` at a time, each in a process with its share of the cores."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))

    def start(arguments: tuple[str, str, str, str]) -> None:
        task, kind, rnn, patient = arguments
        c = config(task, kind, rnn, patient, runs)
        if Path(c.out).exists():
            return
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        options = {"--runs": str(runs), "--task": task, "--kind": kind, "--rnn": rnn, "--patient": patient}
        command = [sys.executable, __file__, "one", *(word for pair in options.items() for word in pair)]
        with (runs / f"{task}-{c.name}.log").open("a") as log:
            subprocess.run(command, check=True, env=environment, stdout=log, stderr=log)
        print(f"done: {task} {c.name}", flush=True)

    for task in dict.fromkeys(["segmentation", *tasks]):
        (runs / task).mkdir(parents=True, exist_ok=True)
        c = config(task, "final", "gru", "", runs)
        synthetic_cases(c, Path(c.out).with_name(f"{c.name}.run"))
    start(("segmentation", "pretrain", "none", ""))
    if "segmentation" in tasks:
        for kind in ("broad", "refined", "careful", "final"):
            start(("segmentation", kind, "gru", ""))
    if "slices" in tasks:
        start(("slices", "final", "gru", ""))
    folds = [(rnn, p) for p in patients() for rnn in ("gru", "none")]
    stages = [
        (task, kind)
        for task in tasks
        for kind in {"segmentation": ("fold", "refold", "lastfold"), "slices": ("fold",)}[task]
    ]
    with ThreadPoolExecutor(jobs) as pool:
        for task, kind in stages:
            list(pool.map(start, [(task, kind, *f) for f in folds]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("all", "one", "table", "ship"))
    parser.add_argument("--runs", type=Path, default=Path("runs/brain-tumor"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--task", choices=list(TASKS), default=None)
    parser.add_argument(
        "--kind",
        choices=("pretrain", "broad", "refined", "careful", "final", "fold", "refold", "lastfold"),
        default="fold",
    )
    parser.add_argument("--rnn", choices=("gru", "none"), default="gru")
    parser.add_argument("--patient", default="")
    a = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there; set MEDSEQ_DATA to the folder that holds brain-tumor-progression.")
    if a.command == "one":
        run_one(a.task, a.kind, a.rnn, a.patient, a.runs)
        return
    if a.command == "all":
        everything(a.runs, a.jobs, [a.task] if a.task else list(TASKS))
    import brain_tumor_report

    (brain_tumor_report.ship if a.command == "ship" else brain_tumor_report.table)(a.runs)


if __name__ == "__main__":
    main()
