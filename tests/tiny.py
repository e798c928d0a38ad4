"""A tiny untrained network with fixed weights, as a segmentation bundle."""

from __future__ import annotations

import sys
from pathlib import Path


def write_tiny_bundle(folder: Path) -> Path:
    """Write the bundle for T1post MR images; returns its folder."""
    import torch

    from napari_medseq.models import bundle, networks

    torch.manual_seed(1)
    definition = {"_target_": "RecurrentUNet", "widths": [4, 6, 8], "rnn_levels": [2], "hidden": 4, "ahead": 1}
    network = networks.build(definition)
    return bundle.write_bundle(
        folder,
        facts={
            "name": "tiny",
            "task": "segmentation",
            "modality": "MR",
            "name_patterns": ["*T1post*"],
            "channels": ["T1post"],
            "classes": {1: "lesion"},
        },
        network=definition,
        inference={"along": "slices"},
        weights=network.state_dict(),
        card="# tiny\n\nUntrained, for tests.\n",
        licence_text="CC0",
        description="untrained, for tests",
        licence="CC0-1.0",
        version="0.0.1",
    )


if __name__ == "__main__":
    print(write_tiny_bundle(Path(sys.argv[1])))
