"""Small images and untrained bundles for the engine's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_medseq.models import Model, ModelInfo, bundle, load_model, networks
from napari_medseq.models.plain import Plain
from napari_medseq.models.slab_unet import SlabUNet
from napari_medseq.sequence import ImageSequence, affine_from

UNET: dict[str, Any] = {"_target_": "RecurrentUNet", "widths": [4, 8, 8], "rnn_levels": [1, 2], "hidden": 4, "ahead": 2}
CLASSIFIER: dict[str, Any] = {"_target_": "SequenceClassifier", "widths": [4, 8], "hidden": 4}


def blob(seed: int = 0, shape: tuple[int, int, int] = (7, 40, 36), **changes: Any) -> ImageSequence:
    """A bright ellipsoid with texture in a dark, noisy box."""
    rng = np.random.default_rng(seed)
    at = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    inside = (at**2).sum(0) < 0.8
    data = np.where(inside, 500 + 100 * rng.standard_normal(shape), 20 * rng.random(shape)).astype(np.float32)
    values: dict[str, Any] = {
        "axes": ("z", "y", "x"),
        "affine": affine_from((0.9, 0.9, 5)),
        "name": f"blob{seed}_T1",
        "modality": "MR",
    }
    return ImageSequence(data, **{**values, **changes})


def model(folder: Path, network: dict[str, Any] = UNET, **inference: Any) -> Model:
    """An untrained model whose recurrence is not the identity."""
    torch.manual_seed(1)
    net = networks.build(network)
    for name, value in net.named_parameters():
        if name.endswith(("out.weight", "gap.weight")):
            torch.nn.init.normal_(value, std=0.5)
    segmentation = network["_target_"] == "RecurrentUNet"
    facts = {
        "name": folder.name,
        "task": "segmentation" if segmentation else "classification",
        "modality": "MR",
        "name_patterns": ["*T1*"],
        "classes": {"1": "lesion"} if segmentation else {"0": "lesion"},
        "sequence_axis": inference.get("along", "slices"),
    }
    return written(folder, facts, network, inference, net)


def slab() -> Model:
    """An untrained slab network."""
    torch.manual_seed(0)
    network = SlabUNet(channels=1, classes=2, widths=(4, 8), strides=((1, 2, 2),)).eval()
    info = ModelInfo(name="slab", version="0", task="segmentation", modality="MR", classes={1: "lesion"})
    inference: dict[str, Plain] = {
        "kind": "slab",
        "window": [4, 32, 32],
        "working": {"axis": "z", "spacing_mm": [5.0, 0.9, 0.9]},
    }
    return Model(info, network, inference, {})


def written(
    folder: Path, facts: dict[str, Any], network: dict[str, Any], inference: dict[str, Any], net: torch.nn.Module
) -> Model:
    """A network kept as a bundle of its own and loaded from there."""
    bundle.write_bundle(
        folder,
        facts=facts,
        network=network,
        inference=inference,
        weights=net.state_dict(),
        card="# untrained\n",
        licence_text="BSD\n",
        description="untrained",
        licence="BSD-3-Clause",
        version="0",
        storage="float32",
    )
    return load_model(folder)
