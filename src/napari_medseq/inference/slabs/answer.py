"""The answer of a slab network, collected from the probabilities of one step after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_medseq.inference.slabs.windows import SlabSettings, chosen_labels, probabilities_of_steps
from napari_medseq.masks.islands import number_islands
from napari_medseq.models.slab_unet import SlabUNet
from napari_medseq.volumes.labelled import value_boxes

Plane = NDArray[np.float32]


@dataclass
class Planes:
    """Labels and maps, which are computed from the probabilities step by step.

    `certainty`, where it is there, is how far the probability of a voxel's class lies above one half, 255 for all of it; `wrong` is how
    many voxels are expected to be wrong (`Doubt`).
    """

    labels: NDArray[np.uint8]
    maps: dict[str, Plane]
    certainty: NDArray[np.uint8] | None
    wrong: float = 0.0

    @classmethod
    def of(cls, outputs: Sequence[str], shape: Sequence[int], *, certain: bool) -> Planes:
        maps = {k: np.zeros(shape, np.float32) for k in ("probability", "uncertainty") if k in outputs}
        return cls(np.zeros(shape, np.uint8), maps, np.zeros(shape, np.uint8) if certain else None)

    def add(self, step: int, p: Tensor, threshold: float) -> None:
        self.labels[step] = chosen_labels(p, threshold)
        self.wrong += float(torch.minimum(p[0], 1 - p[0]).sum())
        if self.certainty is not None:
            self.certainty[step] = ((p[1:].amax(0) - 0.5) * 510).clamp(0, 255).byte().cpu().numpy()
        if "probability" in self.maps:
            self.maps["probability"][step] = (1 - p[0]).cpu().numpy()
        if "uncertainty" in self.maps:  # entropy, as a share of the largest
            entropy = -(p * p.clamp(1e-12, 1).log()).sum(0) / math.log(len(p))
            self.maps["uncertainty"][step] = entropy.cpu().numpy()

    def keep_surest(self) -> None:
        """Keep of each class the component whose certainty sums highest, of equals the largest.

        After a short training the largest component may be a false one that the network is little sure of (``benchmarks/glioma.py``).
        """
        assert self.certainty is not None
        for value, box in value_boxes(self.labels).items():
            inside = self.labels[box]
            mask = inside == value
            pieces = number_islands(mask)[0][mask]  # 1 is the largest
            surest = np.bincount(pieces, self.certainty[box][mask])[1:].argmax() + 1
            inside[mask] = np.where(pieces == surest, value, 0)


def planes_of(network: SlabUNet, volume: Plane, settings: SlabSettings, device: torch.device) -> Planes:
    """The labels of a working volume (channel, step, row, column), of each class its surest component where `settings` say so."""
    of_one_piece = settings.keep_largest and settings.working.axis != "t" and volume.shape[1] > 1
    made = Planes.of((), volume.shape[1:], certain=of_one_piece)
    for step, p in enumerate(probabilities_of_steps(network, volume, settings, device)):
        made.add(step, p, settings.threshold)
    if of_one_piece:
        made.keep_surest()
    return made
