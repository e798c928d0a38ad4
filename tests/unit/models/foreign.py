"""Bundles as others make them: written by MONAI's own tools, with programs in them that must never run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from monai.bundle import init_bundle
from monai.networks import nets

UNET: dict[str, Any] = {
    "_target_": "UNet",
    "spatial_dims": "@dimensions",
    "in_channels": 1,
    "out_channels": "@facts::outputs",
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 1,
    "norm": "batch",
}
SEGRESNET: dict[str, Any] = {
    "_target_": "monai.networks.nets.SegResNet",
    "spatial_dims": 2,
    "init_filters": 8,
    "in_channels": 1,
    "out_channels": 1,
    "blocks_down": [1, 1],
    "blocks_up": [1],
}
DYNUNET: dict[str, Any] = {
    "_target_": "monai.networks.nets.dynunet.DynUNet",
    "spatial_dims": 3,
    "in_channels": 2,
    "out_channels": 3,
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
    "filters": [4, 8, 8],
}
DEFINITIONS = {"UNet": UNET, "SegResNet": SEGRESNET, "DynUNet": DYNUNET}


def network(definition: dict[str, Any]) -> torch.nn.Module:
    """What the definition means, built without our code."""
    arguments = {**definition, "spatial_dims": definition["spatial_dims"] if definition is not UNET else 3}
    arguments.pop("_target_")
    if definition is UNET:
        arguments["out_channels"] = 3
    name = definition["_target_"].rpartition(".")[2]
    torch.manual_seed(3)
    net: torch.nn.Module = getattr(nets, name)(**arguments).eval()
    return net


def write_foreign(folder: Path, definition: dict[str, Any], shape: list[int] | None = None) -> Path:
    """A bundle by ``monai.bundle.init_bundle``, with expressions wherever ours must not look."""
    canary = f"$open({str(folder) + '.ran'!r}, 'w')"
    inference = {
        "imports": [canary],
        "dimensions": 3,
        "facts": {"outputs": 3},
        "device": "$torch.device('cuda')",
        "network_def": definition,
        "network": "$@network_def.to(@device)",
        "evaluator": {"_target_": "os.system", "command": "touch /tmp/never"},
        "run": [canary],
    }
    channels = definition["in_channels"]
    metadata = {
        "schema": "x",
        "version": "0.4.2",
        "monai_version": "1.5.2",
        "task": "segmentation",
        "description": "made for a test",
        "license": "Apache-2.0",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "modality": "MR",
                    "num_channels": channels,
                    "spatial_shape": shape or [16, 16, 16],
                    "channel_def": {str(i): f"c{i}" for i in range(channels)} if channels > 1 else {"0": "image"},
                }
            },
            "outputs": {"pred": {"channel_def": {"0": "background", "1": "liver", "2": "tumour"}}},
        },
    }
    init_bundle(folder, network=network(definition), metadata_str=metadata, inference_str=inference)
    return folder


def change(folder: Path, **entries: Any) -> None:
    """Overwrite entries of the inference configuration; dots go inside."""
    path = folder / "configs" / "inference.json"
    config = json.loads(path.read_text())
    for key, value in entries.items():
        at = config
        *inside, last = key.split("__")
        for part in inside:
            at = at[part]
        at[last] = value
    path.write_text(json.dumps(config))
