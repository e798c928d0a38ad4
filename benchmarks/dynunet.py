"""The rival of our trainer: nnU-Net's architecture as MONAI has it (DynUNet), with MONAI's own augmentation, on the CPU.

Not a script: `hippocampus.py` and `cardiac.py` train it beside ours, on the same patients for the same processor time on one thread.
Windows, kernels and strides follow nnU-Net's rules (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z: flat kernels and no pooling
along an axis of thick slices; a third of the windows holds foreground for certain; sliding windows overlap by half). Filters are half of
nnU-Net's, learning is by AdamW (or by Muon as ours, `Rival.optimiser`) in bfloat16 with a cosine from 2e-3: on a CPU, within minutes, that
does better than its own SGD.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_medseq.sequence import ImageSequence
from napari_medseq.training.loops.muon import Kind, optimisers, set_rate

RATE, DECAY, WARM_UP, BATCH = 2e-3, 1e-2, 50, 2
FOREGROUND = 1 / 3  # share of windows that are centred on a labelled voxel
Volume = NDArray[np.float32]
Labels = NDArray[np.integer]


@dataclass(frozen=True)
class Rival:
    """How a network is built and cut to.

    Attributes
    ----------
    classes : int
        Background counted.
    size : (slices, rows, columns)
        Of a window.
    kernels, strides, filters : one per level
    whole : bool
        Images hardly exceed a window: they are cut or filled to it about their middle, and looked at in one piece.
    turns : (float, float, float)
        Largest turn about each axis in radians; none out of the plane of thick slices.
    optimiser : {"adamw", "muon"}
    """

    classes: int
    size: tuple[int, int, int]
    kernels: tuple[int | tuple[int, int, int], ...]
    strides: tuple[int | tuple[int, int, int], ...]
    filters: tuple[int, ...]
    whole: bool = False
    turns: tuple[float, float, float] = (0.3, 0.3, 0.3)
    optimiser: Kind = "adamw"


def standardised(image: ImageSequence) -> Volume:
    """Mean 0 and standard deviation 1."""
    values = image.volume_zyx().astype(np.float32)
    out: Volume = (values - values.mean()) / values.std()
    return out


def network_of(rival: Rival) -> torch.nn.Module:
    from monai.networks.nets import DynUNet

    network: torch.nn.Module = DynUNet(
        3, 1, rival.classes, list(rival.kernels), list(rival.strides), list(rival.strides[1:]),
        filters=list(rival.filters), norm_name=("INSTANCE", {"affine": True}), deep_supervision=False,
    )  # fmt: skip
    return network


def batches(rival: Rival, cases: Sequence[tuple[Volume, Labels]], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Windows and their labels, changed by MONAI."""
    from monai.transforms import (
        Compose,
        RandAdjustContrastd,
        RandAffined,
        RandCropByPosNegLabeld,
        RandGaussianNoised,
        RandScaleIntensityd,
        ResizeWithPadOrCropd,
        SpatialPadd,
    )

    both = ["image", "label"]
    cut = [ResizeWithPadOrCropd(both, rival.size)] if rival.whole else [
        SpatialPadd(both, rival.size, mode="constant"),
        RandCropByPosNegLabeld(both, "label", rival.size, pos=FOREGROUND, neg=1 - FOREGROUND, num_samples=1),
    ]  # fmt: skip
    change = Compose(
        [
            *cut,
            RandAffined(
                both, prob=0.7, rotate_range=rival.turns, scale_range=[0.2] * 3, translate_range=[3] * 3,
                mode=["bilinear", "nearest"], padding_mode="border",
            ),
            RandScaleIntensityd(["image"], 0.25, prob=0.3),
            RandAdjustContrastd(["image"], prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
            RandGaussianNoised(["image"], prob=0.15, std=0.1),
        ]
    )  # fmt: skip
    change.set_random_state(seed)
    random = np.random.default_rng(seed)
    while True:
        drawn = [cases[k] for k in random.integers(len(cases), size=BATCH)]
        made = [change({"image": torch.from_numpy(i)[None], "label": torch.from_numpy(t)[None]}) for i, t in drawn]
        each: list[Mapping[str, Tensor]] = [m[0] if isinstance(m, list) else m for m in made]
        yield torch.stack([m["image"] for m in each]), torch.stack([m["label"] for m in each])


def train(rival: Rival, cases: Sequence[tuple[Volume, Labels]], minutes: float) -> tuple[torch.nn.Module, int]:
    """A network after so many processor minutes, and the windows that it has seen."""
    from monai.losses import DiceCELoss

    torch.manual_seed(0)
    network = network_of(rival)
    network.to(memory_format=torch.channels_last_3d).train()  # type: ignore[call-overload]
    stream = batches(rival, cases, 0)
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    ends = ("input_block.conv1", "output_block", "deep_supervision_heads")
    each = optimisers(
        network, kind=rival.optimiser, rate=RATE, weight_decay=DECAY, bfloat16=True,
        not_kernels=[p for n, p in network.named_parameters() if n.startswith(ends)],
    )  # fmt: skip
    began, seen, said = time.process_time(), 0, 0.0
    while (done := (time.process_time() - began) / 60 / minutes) < 1:
        rising = min(1.0, (seen / BATCH + 1) / WARM_UP)
        set_rate(each, RATE * rising * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))))
        x, y = next(stream)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(torch.as_tensor(x).contiguous(memory_format=torch.channels_last_3d))
        value = loss(logits.float(), torch.as_tensor(y))
        network.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimiser in each:
            optimiser.step()
        seen += len(x)
        if done - said > 0.1:
            said = done
            print(f"DynUNet {done:.0%}, {seen} windows, loss {float(value):.3f}", flush=True)
    return network.eval(), seen


@torch.inference_mode()
def labels(rival: Rival, network: torch.nn.Module, image: ImageSequence) -> NDArray[np.int64]:
    """What a network labels, (z, y, x)."""
    from monai.inferers import sliding_window_inference

    values = torch.from_numpy(standardised(image))[None, None]
    shape = values.shape[2:]
    halved = [math.prod(s if isinstance(s, int) else s[k] for s in rival.strides) for k in range(3)]
    window = [n + -n % h for n, h in zip(shape, halved, strict=True)] if rival.whole else list(rival.size)
    extra = [max(w - n, 0) for w, n in zip(window, shape, strict=True)]
    mode = "replicate" if rival.whole else "constant"
    padded = torch.nn.functional.pad(values, [0, extra[2], 0, extra[1], 0, extra[0]], mode=mode)
    with torch.autocast("cpu", torch.bfloat16):
        logits = sliding_window_inference(padded, window, 1, network, overlap=0.5, mode="gaussian")
    found: NDArray[np.int64] = torch.as_tensor(logits).float().argmax(1)[0].numpy()
    return found[: shape[0], : shape[1], : shape[2]]
