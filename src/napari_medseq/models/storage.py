"""How weights lie in a bundle's file: whole, in half precision, or as 8-bit integers with one scale per output channel.

Networks always run in float32: storage decides the size of the file and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Storage = Literal["float32", "half", "int8"]
_SCALE = "::scale"


def pack(weights: Mapping[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """Tensors as they are stored.

    "int8" rounds each slice ``w[k]`` of the first axis to ``round(w / s)`` with ``s = max|w| / 127`` (symmetric, per channel;
    Krishnamoorthi 2018, arXiv:1806.08342, sec. 2.2), so that no weight moves by more than ``s / 2``; vectors (biases and norms)
    stay whole.
    """
    out: dict[str, Tensor] = {}
    for name, value in weights.items():
        if not value.is_floating_point() or storage == "float32":
            out[name] = value.contiguous()
        elif storage == "half":
            out[name] = value.half().contiguous()
        elif value.ndim < 2:
            out[name] = value.float().contiguous()
        else:
            flat = value.float().flatten(1)
            scale = flat.abs().amax(1).clamp_min(1e-30) / 127
            out[name] = (flat / scale[:, None]).round().to(torch.int8).reshape(value.shape).contiguous()
            out[name + _SCALE] = scale
    return out


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as the network takes them, float32.

    Raises
    ------
    ValueError
        If a scale does not fit its tensor.
    """
    out: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name.endswith(_SCALE):
            if name.removesuffix(_SCALE) not in tensors:
                raise ValueError(f"{name} belongs to no tensor")
            continue
        scale = tensors.get(name + _SCALE)
        if scale is not None:
            if value.ndim < 2 or scale.shape != value.shape[:1]:
                raise ValueError(f"{name + _SCALE} has shape {tuple(scale.shape)} for {tuple(value.shape)}")
            out[name] = value.float() * scale.float().reshape(-1, *[1] * (value.ndim - 1))
        else:
            out[name] = value.float() if value.is_floating_point() else value
    return out
