"""Hippocampus, anterior and posterior, on patients that no network saw: our trainer's own plan beside MONAI's DynUNet.

Both learn from the same patients for the same processor time, on one thread. The rival is nnU-Net's architecture as MONAI has it
(four levels, 1.4 million parameters), on whole volumes of 40×56×40 voxels in bfloat16, with MONAI's own spatial and intensity
augmentation and a cosine schedule from 2e-3. Patients are parted once, by name: every fifth of a shuffled list judges.

    python benchmarks/hippocampus.py [--minutes 18.5] [--only ours|rival] [--out benchmarks/runs/hippocampus]

A network that is done is not trained again. Prints the table and writes ``results.json``. About 40 processor minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import napari_medseq as ms
from napari_medseq import files
from napari_medseq.evaluation import intervals
from napari_medseq.training import splits

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data")) / "hippocampus"
CLASSES = {1: "anterior", 2: "posterior"}
SIZE = (40, 56, 40)  # of the rival's volumes, along x, y, z
Volume = NDArray[np.float32]


def patients() -> tuple[list[str], list[str]]:
    """Names to learn from, and names that judge."""
    names = sorted(p.name.removesuffix(".nii.gz") for p in (DATA / "images").glob("*.nii.gz"))
    judges = splits.folds(names, 5)[0]
    return [n for n in names if n not in judges], judges


def dice(found: NDArray[np.integer], truth: NDArray[np.integer]) -> list[float]:
    """Of each class."""
    return [
        2 * float(((found == k) & (truth == k)).sum()) / float((found == k).sum() + (truth == k).sum()) for k in CLASSES
    ]


def read(name: str) -> tuple[ms.ImageSequence, ms.ImageSequence]:
    """A patient's image and labels."""
    image = ms.read(DATA / "images" / f"{name}.nii.gz", kind="image")[0]
    return image, ms.read(DATA / "labels" / f"{name}.nii.gz", kind="labels")[0]


# -- the rival -------------------------------------------------------------------------------------------------------
def standardised(image: ms.ImageSequence) -> Volume:
    values = image.volume_zyx().astype(np.float32)
    out: Volume = (values - values.mean()) / values.std()
    return out


def batches(cases: list[tuple[Volume, NDArray[np.integer]]], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Two whole volumes and their labels, changed by MONAI."""
    from monai.transforms import (
        Compose,
        RandAdjustContrastd,
        RandAffined,
        RandGaussianNoised,
        RandScaleIntensityd,
        ResizeWithPadOrCropd,
    )

    both = ["image", "label"]
    change = Compose(
        [
            ResizeWithPadOrCropd(both, SIZE[::-1]),
            RandAffined(
                both, prob=0.7, rotate_range=[0.3] * 3, scale_range=[0.2] * 3, translate_range=[3] * 3,
                mode=["bilinear", "nearest"], padding_mode="border",
            ),
            RandScaleIntensityd(["image"], 0.25, prob=0.3),
            RandAdjustContrastd(["image"], prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
            RandGaussianNoised(["image"], prob=0.15, std=0.1),
        ]
    )  # fmt: skip
    change.set_random_state(seed)
    random = np.random.default_rng(seed)
    while True:
        drawn = [cases[k] for k in random.integers(len(cases), size=2)]
        made = [change({"image": torch.from_numpy(i)[None], "label": torch.from_numpy(t)[None]}) for i, t in drawn]
        yield (
            torch.stack([m["image"].as_tensor() for m in made]),  # type: ignore[index, call-overload]
            torch.stack([m["label"].as_tensor() for m in made]),  # type: ignore[index, call-overload]
        )


def rival(learn: list[str], judge: list[str], minutes: float) -> tuple[dict[str, list[float]], int]:
    """Dice of the judges, and volumes seen."""
    from monai.losses import DiceCELoss
    from monai.networks.nets import DynUNet

    torch.manual_seed(0)
    network = DynUNet(
        3, 1, 3, [3] * 4, [1, 2, 2, 2], [2, 2, 2],
        filters=[16, 32, 64, 128], norm_name=("INSTANCE", {"affine": True}), deep_supervision=False,
    )  # fmt: skip
    network.to(memory_format=torch.channels_last_3d).train()  # type: ignore[call-overload]
    cases = [(standardised(i), t.volume_zyx().astype(np.uint8)) for i, t in map(read, learn)]
    stream = batches(cases, 0)
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-2)
    began, seen, said = time.process_time(), 0, 0.0
    while (done := (time.process_time() - began) / 60 / minutes) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (seen / 2 + 1) / 50) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        x, y = next(stream)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(x.contiguous(memory_format=torch.channels_last_3d))
        value = loss(logits.float(), y)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        seen += len(x)
        if done - said > 0.1:
            said = done
            print(f"rival {done:.0%}, {seen} volumes, loss {float(value):.3f}", flush=True)
    network.eval()
    scores = {}
    for name in judge:
        image, truth = read(name)
        values = torch.from_numpy(standardised(image))[None, None]
        extra = [-n % 8 for n in values.shape[2:]]
        padded = torch.nn.functional.pad(values, [0, extra[2], 0, extra[1], 0, extra[0]], mode="replicate")
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            found = network(padded).float().argmax(1)[0].numpy()
        at = truth.volume_zyx()
        scores[name] = dice(found[: at.shape[0], : at.shape[1], : at.shape[2]], at)
    return scores, seen


# -- ours ------------------------------------------------------------------------------------------------------------
def ours(judge: list[str], minutes: float, out: Path) -> tuple[dict[str, list[float]], int]:
    """As `rival`: what `ms.train` makes of the folder, on its own plan; the judges' patients are held out."""
    result = ms.train(
        {"data": str(DATA), "out": str(out / "bundle"), "minutes": minutes, "hold_out": judge, "classes": CLASSES,
         "clock": "process", "threads": 1, "validation": 0, "patient": "{name}"}
    )  # fmt: skip
    assert not set(judge) & set(result.patients)
    scores = {}
    for name in judge:
        image, truth = read(name)
        scores[name] = dice(ms.segment(image, result.model).labels.volume_zyx(), truth.volume_zyx())
    return scores, result.seen


# -- the table -------------------------------------------------------------------------------------------------------
def table(found: dict[str, dict[str, list[float]]], seen: dict[str, int], minutes: float) -> str:
    lines = [
        "| network | "
        + " | ".join([*CLASSES.values(), "mean (95 %, by patient)", "worst patient", "volumes seen"])
        + " |"
    ]
    lines.append("|" + " --- |" * 6)
    for name, scores in found.items():
        values = np.array(list(scores.values()))
        mean = intervals.bootstrap(values.mean(1))
        each = " | ".join(f"{v:.3f}" for v in values.mean(0))
        lines.append(f"| {name} | {each} | {mean} | {values.mean(1).min():.3f} | {seen[name]} |")
    if len(found) == 2:
        first, second = ([float(np.mean(found[n][p])) for p in sorted(found[n])] for n in found)
        lines += ["", f"{' minus '.join(found)}, paired by patient: {intervals.paired(first, second)}"]
    return "\n".join(
        [
            f"{minutes:g} processor minutes each, one thread, {len(next(iter(found.values())))} unseen patients",
            "",
            *lines,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=18.5)
    parser.add_argument("--only", choices=("ours", "rival"))
    parser.add_argument("--out", type=Path, default=HERE / "runs" / "hippocampus")
    args = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there; set MEDSEQ_DATA to the folder that holds hippocampus.")
    torch.set_num_threads(1)
    learn, judge = patients()
    found: dict[str, dict[str, list[float]]] = {}
    seen: dict[str, int] = {}
    for name in ("ours", "rival"):
        path = args.out / f"{name}-{args.minutes:g}.json"
        if not path.exists() and args.only in (None, name):
            args.out.mkdir(parents=True, exist_ok=True)
            scores, n = ours(judge, args.minutes, args.out) if name == "ours" else rival(learn, judge, args.minutes)
            files.write_json(path, {"scores": scores, "seen": n, "minutes": args.minutes})
        if path.exists():
            kept = json.loads(path.read_text())
            label = "our trainer" if name == "ours" else "MONAI DynUNet"
            found[label], seen[label] = kept["scores"], kept["seen"]
    print(table(found, seen, args.minutes))
    if len(found) == 2:
        facts = {"minutes": args.minutes, "dice": found, "volumes_seen": seen, "classes": list(CLASSES.values())}
        files.write_json(HERE.parent / "docs" / "benchmarks" / "hippocampus.json", facts)


if __name__ == "__main__":
    main()
