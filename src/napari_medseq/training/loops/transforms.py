"""MONAI's random transforms on training windows: one draw for all steps of a window, so that sequences stay sequences.

A window (step, channel, y, x) is handed to MONAI as one image with step · channel channels, which is what makes every spatial
change the same for all steps; labels follow by nearest neighbour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from napari_medseq.errors import SettingsError

#: spatial transforms, which move labels too, and those of intensities alone
SPATIAL = (
    "Rand2DElastic",
    "RandAffine",
    "RandAxisFlip",
    "RandFlip",
    "RandGridDistortion",
    "RandRotate",
    "RandRotate90",
    "RandZoom",
)
INTENSITY = (
    "RandAdjustContrast",
    "RandBiasField",
    "RandCoarseDropout",
    "RandGaussianNoise",
    "RandGaussianSharpen",
    "RandGaussianSmooth",
    "RandGibbsNoise",
    "RandHistogramShift",
    "RandRicianNoise",
    "RandScaleIntensity",
    "RandShiftIntensity",
)


def build(definition: Mapping[str, Any]) -> Any:
    """One of MONAI's random dictionary transforms on the keys "image" and "labels".

    Parameters
    ----------
    definition : mapping
        ``{"_target_": name, **arguments}``, the name one of `SPATIAL` or `INTENSITY`.

    Raises
    ------
    SettingsError
        If the name is not in the lists or the arguments do not fit.
    """
    from monai import transforms

    arguments = dict(definition)
    name = arguments.pop("_target_", None)
    if name not in SPATIAL + INTENSITY:
        raise SettingsError(f"{name!r} is not a transform for training; choose from {', '.join(SPATIAL + INTENSITY)}.")
    if name in SPATIAL:
        arguments["keys"] = ["image", "labels"]
        if "Flip" not in name and name != "RandRotate90":
            arguments["mode"] = ["bilinear", "nearest"]
            arguments.setdefault("padding_mode", "border" if name != "RandZoom" else "edge")
    else:
        arguments["keys"] = ["image"]
        if name == "RandCoarseDropout":
            # MONAI's own choice differs from channel to channel, so from step to step
            arguments.setdefault("fill_value", 0.0)
    try:
        return getattr(transforms, f"{name}d")(**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise SettingsError(f"The transform {name} cannot be made: {error}.") from None


class Extra:
    """A chain of MONAI's random transforms; all its randomness comes from the generator that is handed in."""

    def __init__(self, definitions: Sequence[Mapping[str, Any]]) -> None:
        self.chain = [build(d) for d in definitions]

    def __call__(self, image: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Change a window (step, channel, y, x) and its labels (step, y, x) alike for all steps."""
        steps, channels = image.shape[:2]
        window: dict[str, Any] = {"image": image.flatten(0, 1), "labels": labels.float()}
        for transform in self.chain:
            transform.set_random_state(seed=int(torch.randint(2**31 - 1, (), generator=generator)))
            window = transform(window)
        x, y = (torch.as_tensor(window[k]).as_subclass(Tensor) for k in ("image", "labels"))
        return x.float().reshape(steps, channels, *x.shape[-2:]), y.round().long()
