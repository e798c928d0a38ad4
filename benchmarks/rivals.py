"""Our network and MONAI's U-Nets trained alike: the same patients, the same minutes on one thread, from nothing.

    python benchmarks/rivals.py [--minutes 7] [--jobs 1]      # trains what is not there yet, then prints the table

Three patients are held out of all of them (both visits are judged); the other five and nothing else are learned from, with the
same loss, augmentation and schedule. Each network has windows of its own habit of about as many voxels. The trained networks lie
in ``runs/rivals`` and are used by ``benchmarks/inference.py`` for its column of Dice. Half an hour with one job, eight minutes with
three cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import brain_tumor

HELD_OUT = ("sub-05", "sub-08", "sub-11")
RUNS = Path("runs/rivals")
DATA = brain_tumor.DATA
MINUTES = 7.0
_WIDTHS = brain_tumor.SEGMENTATION["network"]["widths"]
_UNET = {"_target_": "BasicUNet", "features": [*_WIDTHS, _WIDTHS[0]]}
#: network, and how it learns: steps, rows, columns and number of its windows; in bf16 at the common rate the 3D network diverges
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "recurrent 2.5D": (
        {**brain_tumor.SEGMENTATION["network"], "rnn": "gru"},
        {"steps": 8, "size": (208, 176), "batch": 2},
    ),
    "2D U-Net": ({**_UNET, "dimensions": 2}, {"steps": 8, "size": (208, 176), "batch": 2}),
    "3D U-Net": (
        {**_UNET, "dimensions": 3, "window": [32, 96, 96]},
        {"steps": 16, "size": (96, 96), "batch": 4, "rate": 1e-3, "bfloat16": False},
    ),
}


def folder(name: str) -> Path:
    """Where a network's bundle lies, or will."""
    return RUNS / name.replace(" ", "-").replace(".", "")


def train_one(name: str, minutes: float) -> None:
    """Train one network on one thread of the CPU; goes on where it stopped."""
    import torch

    from napari_medseq.inference.settings import InferenceSettings
    from napari_medseq.training import TrainConfig, train
    from napari_medseq.training.loops.settings import LoopSettings

    torch.set_num_threads(1)
    network, windows = NETWORKS[name]
    common: dict[str, Any] = {"iterations": 1_000_000, "minutes": minutes, "bfloat16": bool(brain_tumor.BF16)}
    loop = LoopSettings(**(common | {"augment": brain_tumor.MILD} | windows))
    result = train(
        TrainConfig(
            name=folder(name).name,
            data=(str(brain_tumor.DATA),),
            image="*_T1post",
            labels="*_tumor",
            hold_out=HELD_OUT,
            modality="MR",
            classes={1: "enhancing tumour"},
            network=network,
            loop=loop,
            inference=InferenceSettings(pixel_mm=0.86, min_volume_mm3=40.0),
            device="cpu",
            out=str(folder(name)),
        )
    )
    # on a machine that others use too, minutes of the clock are not minutes of the processor
    spent = {
        "minutes": minutes,
        "processor_minutes": time.process_time() / 60,
        "iterations": int(result.curve["iteration"].iloc[-1]),
    }
    (folder(name) / "facts.json").write_text(json.dumps(spent), encoding="utf-8")


def held_out() -> list[tuple[str, Any, Any]]:
    """Patient, image and mask of each visit that no network has seen."""
    import napari_medseq as ms

    visits = [(p, v) for p in HELD_OUT for v in ms.read_study(brain_tumor.DATA / p).visits]
    return [
        (
            p,
            next(i for i in v.images if "T1post" in i.name),
            next(x for x in [*v.labels, *v.images] if "tumor" in x.name),
        )
        for p, v in visits
    ]


def dice(found: Any, truth: Any) -> float:
    """Of everything that is not background."""
    import numpy as np

    a, b = np.asarray(found) > 0, np.asarray(truth) > 0
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))


def scores(name: str, pairs: list[tuple[str, Any, Any]]) -> dict[str, float]:
    """Mean Dice over the visits of each held-out patient."""
    import napari_medseq as ms

    model = ms.load_model(folder(name))
    found: dict[str, list[float]] = {}
    for patient, image, truth in pairs:
        found.setdefault(patient, []).append(dice(ms.segment(image, model, device="cpu").labels.data, truth.data))
    return {p: sum(v) / len(v) for p, v in found.items()}


def facts(name: str) -> dict[str, Any]:
    """How long a network was trained."""
    found: dict[str, Any] = json.loads((folder(name) / "facts.json").read_text(encoding="utf-8"))
    return found


def there() -> list[str]:
    """The networks that have been trained."""
    return [name for name in NETWORKS if (folder(name) / "facts.json").is_file()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--one", choices=list(NETWORKS), help=argparse.SUPPRESS)
    a = parser.parse_args()
    warnings.simplefilter("ignore")
    if not brain_tumor.DATA.is_dir():
        raise SystemExit(
            f"{brain_tumor.DATA} is not there; set MEDSEQ_DATA to the folder that holds brain-tumor-progression."
        )
    if a.one:
        return train_one(a.one, a.minutes)

    def start(name: str) -> None:
        command = [sys.executable, __file__, "--one", name, "--minutes", str(a.minutes)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    with ThreadPoolExecutor(a.jobs) as pool:
        list(pool.map(start, [n for n in NETWORKS if n not in there()]))
    pairs = held_out()
    print(
        "| network | minutes, one thread | of the processor | iterations | " + " | ".join(HELD_OUT) + " | mean Dice |"
    )
    print("|---|---:|---:|---:|" + "---:|" * (len(HELD_OUT) + 1))
    for name in there():
        spent, each = facts(name), scores(name, pairs)
        cells = " | ".join(f"{each[p]:.3f}" for p in HELD_OUT)
        mean = sum(each.values()) / len(each)
        print(
            f"| {name} | {spent['minutes']:g} | {spent['processor_minutes']:.1f} | {spent['iterations']} | {cells} | {mean:.3f} |"
        )


if __name__ == "__main__":
    main()
