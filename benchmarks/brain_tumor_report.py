"""Judge what ``brain_tumor.py`` trained: tables, curves, and the model cards that quote them."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import napari_medseq as ms
from brain_tumor import DATA, HERE, SEGMENTATION, TASKS, config, patients
from napari_medseq.inference.outputs.prediction import remove_small_objects
from napari_medseq.models import bundle
from napari_medseq.models.recurrent_unet import with_neighbours
from napari_medseq.training.cases import Case
from napari_medseq.training.trainer import read_cases

RESULTS = HERE.parent / "docs" / "benchmarks" / "brain_tumor.json"
CARDS = HERE / "cards"
BUNDLES = HERE.parent / "src" / "napari_medseq" / "bundles"
SMALL = 1500  # voxels: the masks of the two patients that all variants fail on are smaller at some visit
MODES = {
    "recurrent": ("gru", "plain"),
    "plain CNN": ("none", "plain"),
    "state reset": ("gru", "reset"),
    "shuffled": ("gru", "shuffled"),
}


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
    """Dice of each held-out visit, after the same removal of specks as in use, for each of `MODES`."""
    rows = []
    settings = SEGMENTATION["inference"]
    for patient in patients():
        folders = {rnn: runs / "segmentation" / f"{patient}-{rnn}" for rnn in ("gru", "none")}
        if not all(f.exists() for f in folders.values()):
            continue
        models = {rnn: ms.load_model(f) for rnn, f in folders.items()}
        held = config("segmentation", "final", "gru", "", runs).model_copy(
            update={"hold_out": tuple(p for p in patients() if p != patient)}
        )
        visits = [v for v in ms.read_study(DATA / patient).visits if v.images]
        for k, (case, visit) in enumerate(zip(read_cases(held), visits, strict=True)):
            truth = case.labels > 0
            voxel = settings.pixel_mm**2 * visit.images[0].spacing["z"]
            row: dict[str, Any] = {"patient": patient, "visit": k, "truth_voxels": int(truth.sum())}
            for name, (rnn, mode) in MODES.items():
                p = probabilities(models[rnn], case, mode)
                found = (p > settings.threshold).to(torch.uint8).numpy()
                kept = remove_small_objects(
                    found, settings.min_volume_mm3 / voxel, p.numpy(), settings.min_mean_probability
                )
                row[name] = dice(torch.from_numpy(kept) > 0, truth)
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
        held = config("slices", "final", "gru", "", runs).model_copy(
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
    names = tuple(MODES)
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
            f", better in {sum(gain([g]) > 0 for g in groups)}"
        )
    larger = [g for g in groups if min(r["truth_voxels"] for r in g) >= SMALL]
    if larger and len(larger) < len(groups):
        means = ", ".join(f"{n} {mean(n)(larger):.3f}" for n in names)
        lines.append(
            f"\nmean of the {len(larger)} patients whose masks hold {SMALL} voxels or more (chosen after the fact): {means}"
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
    """Training curves of both variants, stage after stage: each fold thin, the mean of folds thick, smoothed over 20 iterations."""
    import pandas as pd
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, task in zip(figure.subplots(1, 2), TASKS, strict=True):
        for rnn, colour in (("gru", "tab:blue"), ("none", "tab:orange")):
            folds = []
            for patient in patients():
                stages = [
                    runs / task / f"{patient}-{rnn}{stage}.run" / "curve.csv" for stage in ("-early", "-middle", "")
                ]
                losses = [pd.read_csv(s)["loss"] for s in stages if s.exists()]
                if losses:
                    folds.append(pd.concat(losses, ignore_index=True).rolling(20).mean())
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


def ship(runs: Path) -> None:
    """Copy the two trained bundles into the package, with cards whose numbers come from the results file."""
    results = json.loads(RESULTS.read_text())
    tables = {"segmentation": segmentation_table(results["segmentation"]), "slices": slices_table(results["slices"])}
    for task in TASKS:
        c = config(task, "final", "gru", "", runs)
        text = (CARDS / f"{c.name}.md").read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(shutil.copytree(c.out, Path(name) / c.name))
            # how the network is run is settled after it was trained
            described = bundle.read_json(folder / bundle.INFERENCE)
            described["inference"] = TASKS[task]["inference"].model_dump(mode="json")
            (folder / bundle.INFERENCE).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
            card = text.replace("<!-- table -->", tables[task])
            (folder / bundle.CARD).write_text(card, encoding="utf-8")
            (folder / "LICENSE").write_text((CARDS / "LICENSE.md").read_text(encoding="utf-8"), encoding="utf-8")
            shutil.rmtree(BUNDLES / c.name, ignore_errors=True)
            shutil.copytree(folder, BUNDLES / c.name)
        print("shipped", ms.load_model(BUNDLES / c.name))
