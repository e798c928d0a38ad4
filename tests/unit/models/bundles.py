"""A small bundle on disk, and a change to one of its JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from napari_medseq.models import bundle, networks
from napari_medseq.models.plain import Plain

NETWORK: dict[str, Plain] = {"_target_": "RecurrentUNet", "widths": [4, 8], "rnn_levels": [1], "hidden": 4, "ahead": 1}


def write(folder: Path, **changes: Any) -> Path:
    arguments: dict[str, Any] = {
        "facts": {
            "name": "tiny",
            "task": "segmentation",
            "modality": "MR",
            "name_patterns": ["*T1*"],
            "classes": {"1": "lesion"},
        },
        "network": NETWORK,
        "inference": {"along": "slices"},
        "weights": networks.build(NETWORK).state_dict(),
        "card": "# tiny\n",
        "licence_text": "BSD\n",
        "description": "a test",
        "licence": "BSD-3-Clause",
        "version": "1.2",
    }
    return bundle.write_bundle(folder, **{**arguments, **changes})


def edit(folder: Path, part: Path, change: dict[str, Any]) -> None:
    content = json.loads((folder / part).read_text())
    for key, value in change.items():
        at = content
        *path, last = key.split(".")
        for p in path:
            at = at[p]
        at[last] = value
    (folder / part).write_text(json.dumps(content))
