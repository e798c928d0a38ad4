"""Small training cases as tensors, and a loop over them, for the tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_medseq.models.sequence_network import SequenceNetwork
from napari_medseq.training.cases import Case
from napari_medseq.training.loops.augment import AugmentSettings
from napari_medseq.training.loops.losses import image_loss
from napari_medseq.training.loops.sequences import fit
from napari_medseq.training.loops.settings import LoopSettings
from napari_medseq.training.loops.windows import Windows

STILL = AugmentSettings(
    flip=0, rotate_degrees=0, zoom=0, stretch=0, elastic=0, bias=0, gain=0, shift=0, gamma=0, noise=0, blur=0
)


def case(seed: int = 0, patient: str = "a", shape: tuple[int, int, int] = (6, 24, 20), **changes: Any) -> Case:
    """Noise with a bright, labelled square in step 2."""
    g = torch.Generator().manual_seed(seed)
    image = torch.randn(shape[0], 1, *shape[1:], generator=g)
    labels = torch.zeros(shape, dtype=torch.int8)
    labels[2, 8:12, 8:12] = 1
    image[:, 0] += 3 * labels
    return Case(patient, f"case{seed}", image.half(), changes.get("labels", labels), changes.get("target"))


def windows(cases: list[Case] | None = None, **changes: Any) -> Windows:
    settings: dict[str, Any] = {
        "steps": 2,
        "size": (16, 16),
        "augment": STILL,
        "seed": 3,
        "transplant": 0.0,
    }
    settings |= {k: changes.pop(k) for k in list(changes) if k in LoopSettings.model_fields}
    return Windows(cases or [case(), case(1)], LoopSettings(**settings), **{"neighbours": 0, **changes})


class Tiny(SequenceNetwork):
    """A network with an encoder: step in, step out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.encoder = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.SiLU())
        self.head = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.encoder(x.flatten(0, 1)))
        steps: Tensor = y.unflatten(0, x.shape[:2])
        return steps


def run(
    folder: Path, network: nn.Module | None = None, drawn: Windows | None = None, **changes: Any
) -> dict[str, Tensor]:
    """`fit` of a tiny network to make the image from itself; settings of the loop and keywords of `fit` as keywords."""
    loop = {"iterations": 6, "batch": 1, "steps": 2, "size": (16, 16), "warm_up": 1, "rate": 1e-2}
    loop |= {k: changes.pop(k) for k in list(changes) if k in LoopSettings.model_fields}
    drawn = drawn or windows(target="image")
    return fit(network or Tiny(), drawn, image_loss, LoopSettings(**loop), folder, **changes)
