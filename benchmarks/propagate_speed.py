"""Seconds and memory of `ms.propagate`: 200 slices of 256 × 256 with 1, 5 and 20 objects, and 1000 slices with one.

    python benchmarks/propagate_speed.py

Each object is an oblique tube through nearly all slices, painted on one of them. Seconds are the least of three runs after a first
one, CPU seconds those of all threads, which a busy machine changes less. Memory is what the process's peak grows by, beyond the image.
Each row is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

import napari_medseq as ms
from napari_medseq.sequence import affine_from


def scan(slices: int, objects: int, side: int = 256) -> tuple[ms.ImageSequence, ms.ImageSequence]:
    """Tubes in noise, and each painted on one slice."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    volume = rng.normal(100, 15, (slices, side, side)).astype(np.float32)
    drawn = np.zeros(volume.shape, np.uint8)
    across = int(np.ceil(objects**0.5))
    cell = side / across
    for k in range(objects):
        middle = (k // across + 0.5) * cell, (k % across + 0.5) * cell
        for z in range(2, slices - 2):
            turn = 6.28 * z / slices
            at = middle[0] + 0.1 * cell * np.sin(turn), middle[1] + 0.1 * cell * np.cos(turn)
            tube = (y - at[0]) ** 2 + (x - at[1]) ** 2 < (0.2 * cell + 0.04 * cell * np.sin(3 * turn)) ** 2
            volume[z][tube] += 60
            if z == slices // 2:
                drawn[z][tube] = k + 1
    image = ms.ImageSequence(volume, ("z", "y", "x"), affine_from((1, 1, 1)), name="tubes")
    return image, image.labels_like(drawn, name="painted", label_names={})


def measured(slices: int, objects: int, model: str) -> dict[str, float]:
    """One row, in this process."""
    image, labels = scan(slices, objects)
    network = ms.load_model(model)
    small, few = scan(8, 1, 64)
    ms.propagate(small, few, network, device="cpu")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = [], []
    for _ in range(3 if slices <= 200 else 1):
        began, spent = time.perf_counter(), time.process_time()
        found = ms.propagate(image, labels, network, device="cpu")
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - spent)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    steps = int((np.asarray(found.labels.data) > 0).any((1, 2)).sum())
    return {"seconds": min(wall), "cpu": min(cpu), "mb": grown / 1024, "labelled": steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="propagate")
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        print(json.dumps(measured(*a.one, a.model)))
        return
    print(f"{torch.get_num_threads()} threads")
    print("| slices | objects | s | CPU s | slices labelled | MB beyond the image |")
    print("|---:|---:|---:|---:|---:|---:|")
    for slices, objects in ((200, 1), (200, 5), (200, 20), (1000, 1)):
        command = [sys.executable, str(Path(__file__)), "--model", a.model, "--one", str(slices), str(objects)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        cells = [f"{row['seconds']:.2f}", f"{row['cpu']:.2f}", str(row["labelled"]), f"{row['mb']:.0f}"]
        print(f"| {slices} | {objects} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
