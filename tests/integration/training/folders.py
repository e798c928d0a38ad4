"""A folder of small training cases, its configuration, and the weights that came out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import napari_medseq as ms
from tests.unit.training.small import UNET, blob

LOOP: dict[str, Any] = {
    "iterations": 3,
    "batch": 1,
    "steps": 2,
    "size": [32, 32],
    "warm_up": 1,
    "checkpoint_seconds": 60,
}


def write(folder: Path, patients: int = 3, values: tuple[int, ...] = (1,)) -> Path:
    """Patients with one visit each; a bright core is labelled in steps 2 and 3, one half per value."""
    for k in range(patients):
        seq = blob(k, (5, 36, 36), name=f"sub-{k}_T1")
        labels = np.zeros(seq.data.shape, np.uint8)
        for i, value in enumerate(values):
            labels[2:4, 12 + 6 * i : 18 + 6 * i, 12:24] = value
        seq = seq.replace(data=seq.data + np.float32(400) * (labels > 0))
        visit = folder / f"sub-{k}" / "ses-20200101"
        visit.mkdir(parents=True)
        ms.write(seq, visit / f"sub-{k}_T1.nii.gz")
        names = {int(v): f"class {v}" for v in values}
        ms.write(seq.labels_like(labels, name=f"sub-{k}_seg", label_names=names), visit / f"sub-{k}_seg.nii.gz")
    return folder


def config(study: Path, out: Path, **changes: Any) -> dict[str, Any]:
    loop = {**LOOP, **changes.pop("loop", {})}
    base = {"name": "m", "data": [str(study)], "network": UNET, "loop": loop, "out": str(out), "device": "cpu"}
    return {**base, **changes}


def weights(result: ms.TrainingResult) -> dict[str, torch.Tensor]:
    return result.model.network.state_dict()
