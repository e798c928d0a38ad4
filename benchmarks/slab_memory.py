"""Memory of a slab network with many classes on a large CT: the most that the process held, read from the system.

    python benchmarks/slab_memory.py [--classes 20] [--size 512 512 600] [--window 16 256 256]

The network is untrained and small; what is measured is what holding the image, the working volume and the probabilities costs.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

import napari_medseq as ms
from napari_medseq import files
from napari_medseq.models import Model, ModelInfo
from napari_medseq.models.slab_unet import SlabUNet
from napari_medseq.sequence import ImageSequence

HERE = Path(__file__).resolve().parent


def most_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def model(classes: int, window: tuple[int, ...]) -> Model:
    torch.manual_seed(0)
    network = SlabUNet(channels=1, classes=classes, widths=(2, 4), strides=((1, 4, 4),)).eval()
    names = {k: f"organ {k}" for k in range(1, classes)}
    info = ModelInfo(name="many", version="0", task="segmentation", modality="CT", classes=names)
    scheme: dict[str, Any] = {"kind": "fixed", "centre": 40.0, "scale": 80.0}
    return Model(
        info,
        network,
        {"kind": "slab", "window": list(window), "precision": "bfloat16", "working": {"schemes": [scheme]}},
        {},
    )


def image(size: tuple[int, int, int]) -> ImageSequence:
    """A CT (columns, rows, slices) of noise, two bytes a voxel as in a file."""
    columns, rows, slices = size
    data = np.empty((slices, rows, columns), np.int16)
    random = np.random.default_rng(0)
    for k in range(slices):
        data[k] = random.integers(-1000, 1000, (rows, columns), dtype=np.int16)
    return ImageSequence(data, ("z", "y", "x"), np.diag([0.8, 0.8, 1.5, 1.0]), modality="CT", name="large")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 600))
    parser.add_argument("--window", type=int, nargs=3, default=(16, 256, 256))
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "benchmarks" / "slab_memory.json")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ms.MedseqWarning)
    seq = image(tuple(args.size))
    network = model(args.classes, tuple(args.window))
    before = most_bytes()
    began = time.monotonic()
    found = ms.segment(seq, network, device="cpu")
    result = {
        "classes": args.classes, "size": list(args.size), "window": list(args.window), "seconds": round(time.monotonic() - began, 1),
        "gib_before": round(before / 2**30, 2), "gib_most": round(most_bytes() / 2**30, 2),
        "gib_of_all_probabilities": round(4 * args.classes * np.prod(args.size) / 2**30, 2),
    }  # fmt: skip
    assert found.labels.data.shape == seq.data.shape
    files.write_json(args.out, result)
    print(
        "| "
        + " | ".join(result)
        + " |\n|"
        + " --- |" * len(result)
        + "\n| "
        + " | ".join(map(str, result.values()))
        + " |"
    )


if __name__ == "__main__":
    main()
