"""A tiny untrained network with fixed weights, as a segmentation bundle; and how a tiny network becomes one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from napari_medseq.models.plain import Plain
    from napari_medseq.models.storage import Storage


def write_segmentation_bundle(
    folder: Path, definition: Mapping[str, Plain], network: nn.Module, said: str, storage: Storage = "half"
) -> Path:
    """Write the bundle, called tiny, of a network that finds lesions in T1post MR images; returns its folder."""
    from napari_medseq.models import bundle

    return bundle.write_bundle(
        folder,
        facts={
            "name": "tiny",
            "task": "segmentation",
            "modality": "MR",
            "name_patterns": ["*T1post*"],
            "channels": ["T1post"],
            "classes": {"1": "lesion"},
        },
        network=dict(definition),
        inference={"along": "slices"},
        weights=network.state_dict(),
        card=f"# tiny\n\n{said}, for tests.\n",
        licence_text="CC0",
        description=f"{said}, for tests",
        licence="CC0-1.0",
        version="0.0.1",
        storage=storage,
    )


def write_tiny_bundle(folder: Path) -> Path:
    """Write the bundle for T1post MR images; returns its folder."""
    import torch

    from napari_medseq.models import networks

    torch.manual_seed(1)
    definition: dict[str, Plain] = {
        "_target_": "RecurrentUNet", "widths": [4, 6, 8], "rnn_levels": [2], "hidden": 4, "ahead": 1,
    }  # fmt: skip
    return write_segmentation_bundle(folder, definition, networks.build(definition), "Untrained")


if __name__ == "__main__":
    print(write_tiny_bundle(Path(sys.argv[1])))
