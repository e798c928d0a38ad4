"""Is there tumour in this slice? Classical classifiers, a CNN, a CNN that sees the neighbouring slices, and CNN-RNNs, on the same folds.

    python benchmarks/tumour_slices.py features                         # the tables that the classical classifiers learn from
    python benchmarks/tumour_slices.py classical
    python benchmarks/tumour_slices.py networks [--seconds 60] [--only cnn cnn-neighbours cnn-gru]
    python benchmarks/tumour_slices.py table                            # from what has been done

FLAIR of 44 patients with glioma (`glioma-flair`); a slice counts where the expert marked anything in it. Five folds of patients, the
same for all. Each network has the same processor time, from nothing, on windows of slices of 96×96 pixels; they differ in their input
(one slice, or with one on either side) and in what reads the slices in order (nothing, a bidirectional GRU or LSTM, a transformer).
Where the tumour lies is taught to each alike, by the outlines. The classical ones learn from `slice_features` (intensity, Gabor bank,
co-occurrence, local binary patterns) of the full resolution, and choose their parameters within each fold. What is done is kept in
``benchmarks/runs/tumour-slices``. Extent: number of slices of an exam that are called tumour. For judging alone: no weights leave this.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

import napari_medseq as ms
from napari_medseq import files
from napari_medseq.evaluation import (
    ClassicalSettings,
    auc,
    auc_by_patient,
    bootstrap,
    brier_score,
    calibration_error,
    judge_classical,
    roc,
    slice_features,
)
from napari_medseq.evaluation.classical import CLASSICAL
from napari_medseq.evaluation.intervals import quantiles
from napari_medseq.models.sequence_classifier import SequenceClassifier
from napari_medseq.training import splits

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data")) / "glioma-flair"
RUNS = HERE / "runs" / "tumour-slices"
OUT = HERE.parent / "docs" / "benchmarks"
FOLDS, SIZE, STEPS, BATCH, RATE = 5, 96, 16, 2, 2e-3
#: slices on either side that are seen, and what reads the slices in order
NETWORKS = {
    "cnn": (0, "none"),
    "cnn-neighbours": (1, "none"),
    "cnn-gru": (1, "gru"),
    "cnn-lstm": (1, "lstm"),
    "cnn-transformer": (1, "transformer"),
}  # fmt: skip
Floats = NDArray[np.float64]


def read(folder: Path) -> tuple[ms.ImageSequence, NDArray[np.bool_]]:
    """An exam, and where its tumour is."""
    image = ms.read(folder / "FLAIR.nii.gz", kind="image")[0]
    return image, ms.read(folder / "tumor.nii.gz", kind="labels")[0].volume_zyx() > 0


def folders() -> list[Path]:
    return sorted(p for p in DATA.glob("TCGA_*") if p.is_dir())


def fold_of() -> dict[str, int]:
    """Patient to fold."""
    parts = splits.folds([p.name for p in folders()], FOLDS)
    return {name: k for k, names in enumerate(parts) for name in names}


def exams() -> dict[str, tuple[Tensor, Tensor]]:
    """Patient to slices (step, y, x) in robust units and the share of tumour of each pixel, both at `SIZE`."""
    path = RUNS / "exams.pt"
    if not path.exists():
        found = {}
        for folder in folders():
            image, mask = read(folder)
            x = torch.from_numpy(image.volume_zyx().astype(np.float32))
            head = x[x > x.mean()]
            low, middle, high = (float(torch.quantile(head[:: max(1, len(head) // 100_000)], q)) for q in (0.25, 0.5, 0.75))  # fmt: skip
            x = ((x - middle) / max((high - low) / 1.349, 1e-3)).clamp(-6, 12)
            both = torch.stack([x, torch.from_numpy(mask.astype(np.float32))], 1)
            small = functional.interpolate(both, size=(SIZE, SIZE), mode="area")
            found[folder.name] = (small[:, 0].half(), small[:, 1].half())
        with files.replacing(path) as temporary:
            torch.save(found, temporary)
    kept: dict[str, tuple[Tensor, Tensor]] = torch.load(path, weights_only=True)
    return kept


def truth() -> tuple[NDArray[np.bool_], list[str]]:
    """Of every slice, patient by patient: whether there is tumour, and whose it is."""
    path = RUNS / "truth.json"
    if not path.exists():
        found = {f.name: read(f)[1].any((1, 2)).tolist() for f in folders()}
        files.write_json(path, found)
    kept: dict[str, list[bool]] = json.loads(path.read_text())
    return np.concatenate([np.array(v) for v in kept.values()]), [p for p, v in kept.items() for _ in v]


def features() -> pd.DataFrame:
    """Of every slice, in the order of `truth`; each patient's table is kept."""
    tables = []
    for folder in folders():
        path = RUNS / "features" / f"{folder.name}.csv"
        if not path.exists():
            files.write_text(path, slice_features(read(folder)[0]).to_csv(index=False))
        tables.append(pd.read_csv(path))
    return pd.concat(tables, ignore_index=True)


def stacked(x: Tensor, neighbours: int) -> Tensor:
    """Slices (batch, step, y, x) with those on either side as channels; the ends repeat."""
    if not neighbours:
        return x[:, :, None]
    padded = torch.cat([x[:, :1], x, x[:, -1:]], 1)
    return torch.stack([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], 2)


def windows(of: Sequence[tuple[Tensor, Tensor]], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Changed windows of some exams (batch, step, y, x), the share of tumour alike, and 1 where a slice is known."""
    images, masks, known = [], [], []
    for k in torch.randint(len(of), (BATCH,), generator=generator).tolist():
        image, mask = of[k]
        start = int(torch.randint(max(1, len(image) - STEPS + 1), (1,), generator=generator))
        at = torch.arange(STEPS) + start
        known.append((at < len(image)).float())
        at = at.clamp_max(len(image) - 1)
        u = torch.rand(9, generator=generator).tolist()
        angle, size = (u[0] - 0.5) * 0.5, math.exp((u[1] - 0.5) * 0.3)
        side = -1.0 if u[2] < 0.5 else 1.0
        c, s = math.cos(angle) * size, math.sin(angle) * size
        turn = torch.tensor([[c * side, -s, (u[3] - 0.5) * 0.15], [s * side, c, (u[4] - 0.5) * 0.15]])
        grid = functional.affine_grid(turn[None], [1, 1, SIZE, SIZE], align_corners=False)
        both = torch.cat([image[at].float(), mask[at].float()])[None]
        warped = functional.grid_sample(both, grid, padding_mode="border", align_corners=False)[0]
        x = warped[:STEPS] * (1 + 0.4 * (u[5] - 0.5)) + 0.4 * (u[6] - 0.5)
        x = x + 0.1 * u[7] * torch.randn(x.shape, generator=generator)
        flip = u[8] < 0.5  # the order of the slices too
        images.append(x.flip(0) if flip else x)
        masks.append(warped[STEPS:].flip(0) if flip else warped[STEPS:])
        known[-1] = known[-1].flip(0) if flip else known[-1]
    return torch.stack(images), torch.stack(masks), torch.stack(known)


def fit(name: str, of: Sequence[tuple[Tensor, Tensor]], seconds: float) -> tuple[SequenceClassifier, int]:
    """A network after so much processor time, and the slices that it has seen."""
    neighbours, rnn = NETWORKS[name]
    torch.manual_seed(0)
    network = SequenceClassifier(neighbours=neighbours, rnn=rnn, widths=(16, 32, 64, 96))  # type: ignore[arg-type]
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(0)
    began, seen = time.process_time(), 0
    while (share := (time.process_time() - began) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (seen / BATCH + 1) / 30) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))  # fmt: skip
        x, y, known = windows(of, generator)
        with torch.autocast("cpu", torch.bfloat16):
            out = network(stacked(x, neighbours))
        there = (y.amax((2, 3)) > 0.5).float()
        steps = functional.binary_cross_entropy_with_logits(out.steps[..., 0].float(), there, known)
        evidence = out.evidence[:, :, 0].float()
        coarse = functional.adaptive_max_pool2d(y, list(evidence.shape[2:])).clamp(0, 1)
        where = functional.binary_cross_entropy_with_logits(evidence, coarse, known[..., None, None].expand_as(coarse))
        optimiser.zero_grad(set_to_none=True)
        (steps + where).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        seen += BATCH
    return network.eval(), seen * STEPS


@torch.inference_mode()
def scores(network: SequenceClassifier, exam: Tensor) -> list[float]:
    """The probability of tumour of each slice of an exam, seen whole, both ways round in the plane."""
    x = exam.float()[None]
    logits = [network(stacked(v, network.neighbours)).steps[0, :, 0] for v in (x, x.flip(3))]
    found: list[float] = torch.stack(logits).sigmoid().mean(0).tolist()
    return found


def networks(names: Sequence[str], seconds: float) -> None:
    every, of = exams(), fold_of()
    for fold in range(FOLDS):
        for name in names:
            path = RUNS / f"{name}-{seconds:g}-fold{fold}.json"
            if path.exists():
                continue
            network, seen = fit(name, [v for p, v in every.items() if of[p] != fold], seconds)
            judged = {p: scores(network, v[0]) for p, v in every.items() if of[p] == fold}
            files.write_json(path, {"scores": judged, "slices_seen": seen, "seconds": seconds})
            print(f"{name} fold {fold}: {seen} slices seen", flush=True)


def classical(names: Sequence[str]) -> None:
    table, (y, patients), of = features(), truth(), fold_of()
    for name in CLASSICAL:
        path = RUNS / f"{name}.json"
        if path.exists() or (names and name not in names):
            continue
        folds = [of[p] for p in patients]
        found = judge_classical(table, y, patients, name, folds=folds, settings=ClassicalSettings(folds=FOLDS, inner_folds=2))  # fmt: skip
        p, member = found.probabilities[:, list(found.classes).index(True)], np.array(patients)
        by_patient = {q: p[member == q].tolist() for q in dict.fromkeys(patients)}
        files.write_json(path, {"scores": by_patient, "chosen": [str(c) for c in found.chosen]})
        print(f"{name}: AUC {auc(p, y):.3f}", flush=True)


def done(patients: Sequence[str]) -> dict[str, Floats]:
    """What has been done on all folds: method to the score of every slice."""
    found: dict[str, Floats] = {}
    order = list(dict.fromkeys(patients))
    for name in CLASSICAL:
        if (path := RUNS / f"{name}.json").exists():
            said: Mapping[str, list[float]] = json.loads(path.read_text())["scores"]
            found[name] = np.concatenate([np.array(said[p]) for p in order])
    for name in NETWORKS:
        times = {p.stem.rsplit("-fold", 1)[0].removeprefix(f"{name}-") for p in RUNS.glob(f"{name}-*-fold*.json")}
        for seconds in sorted(t for t in times if t.replace(".", "").isdigit()):
            parts = [RUNS / f"{name}-{seconds}-fold{k}.json" for k in range(FOLDS)]
            if all(p.exists() for p in parts):
                said = {k: v for p in parts for k, v in json.loads(p.read_text())["scores"].items()}
                found[f"{name}, {seconds} s"] = np.concatenate([np.array(said[p]) for p in order])
    return found


def difference(first: Floats, second: Floats, y: NDArray[np.bool_], patients: Sequence[str]) -> str:
    """AUC of the first minus the second, with a bootstrap over patients that draws the same for both."""
    names, member = np.unique(np.array(patients), return_inverse=True)
    of = [np.flatnonzero(member == k) for k in range(names.size)]
    random = np.random.default_rng(0)
    draws = (np.concatenate([of[k] for k in random.integers(0, names.size, names.size)]) for _ in range(1000))
    found = np.array([auc(first[d], y[d]) - auc(second[d], y[d]) for d in draws])
    low, high = quantiles(found, 0.95)
    return f"{auc(first, y) - auc(second, y):+.3f} ({low:+.3f} to {high:+.3f})"


def compared(found: Mapping[str, Floats], y: NDArray[np.bool_]) -> list[tuple[str, str]]:
    """Each network with those that have less: fewer slices, or nothing that reads them in order; and with the best classical one."""
    best = max((n for n in found if n in CLASSICAL), key=lambda n: auc(found[n], y), default=None)
    pairs = []
    for first in found:
        one, _, time_of_one = first.partition(",")
        if one not in NETWORKS:
            continue
        for second in found:
            two, _, time_of_two = second.partition(",")
            less = two in NETWORKS and time_of_one == time_of_two and NETWORKS[two][1] == "none"
            if second == best or (less and list(NETWORKS).index(two) < list(NETWORKS).index(one)):
                pairs.append((first, second))
    return pairs


def table() -> None:
    y, patients = truth()
    found = done(patients)
    member = np.array(patients)
    lines = [
        f"{y.size} slices, {int(y.sum())} with tumour, of {np.unique(member).size} patients; {FOLDS} folds; intervals over patients",
        "",
        "| method | AUC of a slice (95 %) | sensitivity | specificity | balanced accuracy | F1 | Brier score | ECE "
        "| extent: slices off (95 %) |",
        "| --- " * 9 + "|",
    ]
    for name, p in found.items():
        called = p > 0.5
        hit, rejected = float(called[y].mean()), float((~called)[~y].mean())
        f1 = 2 * float((called & y).sum()) / float(called.sum() + y.sum())
        off = [abs(int(called[member == q].sum()) - int(y[member == q].sum())) for q in dict.fromkeys(patients)]
        extent, area = bootstrap(off), auc_by_patient(p, y, patients, resamples=1000)
        shares = (hit, rejected, (hit + rejected) / 2, f1, brier_score(p, y), calibration_error(p, y))
        cells = [
            f"{area.value:.3f} ({area.low:.3f} to {area.high:.3f})",
            *(f"{v:.3f}" for v in shares),
            f"{extent.value:.1f} ({extent.low:.1f} to {extent.high:.1f})",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    pairs = compared(found, y)
    lines += ["", "| AUC of | minus that of | difference (95 %) |", "| --- | --- | --- |"] if pairs else []
    for first, second in pairs:
        lines.append(f"| {first} | {second} | {difference(found[first], found[second], y, patients)} |")
    print("\n".join(lines))
    rounded = {k: np.round(v, 4).tolist() for k, v in found.items()}
    files.write_json(OUT / "tumour_slices.json", {"patients": patients, "truth": y.tolist(), "scores": rounded})
    draw(found, y)


def draw(found: Mapping[str, Floats], y: NDArray[np.bool_]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 6))
    for name, p in found.items():
        curve = roc(p, y)
        axes.plot(
            curve.false_positive_rate,
            curve.true_positive_rate,
            label=f"{name} ({auc(p, y):.3f})",
            linestyle="--" if name in CLASSICAL else "-",
        )
    axes.set(xlabel="1 − specificity", ylabel="sensitivity", title="Tumour in a slice")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(OUT / "tumour_slices.png", dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("features", "classical", "networks", "table"))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", nargs="*", default=[])
    args = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there; set MEDSEQ_DATA to the folder that holds glioma-flair.")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ms.MedseqWarning)
    if args.part == "features":
        features()
    elif args.part == "classical":
        classical(args.only)
    elif args.part == "networks":
        networks(args.only or list(NETWORKS)[:3], args.seconds)
    else:
        table()


if __name__ == "__main__":
    main()
