"""How a bundle's file stores weights: in full or half precision, as 8-bit integers, or as indices of shared values.

Networks always run in float32: storage decides the size of the file and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Storage = Literal["float32", "half", "int8", "shared"]
_SCALE, _LEVELS, _SHAPE = "::scale", "::levels", "::shape"
_FEW, _MANY = 16, 256  # values that the weights of a large or a small tensor share: two indices in a byte, or one
_LARGE = 1 << 15  # weights of a large tensor; small ones belong to the fine levels, which suffer more from rounding
_ROUNDS = 12  # iterations of k-means


def pack(weights: Mapping[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """Tensors as they are stored.

    "half" leaves a tensor whole whose values it does not hold (variances of batch norms may exceed 65504). "int8" rounds each slice
    ``w[k]`` of the first axis to ``round(w / s)`` with ``s = max|w| / 127`` (symmetric, per channel; Krishnamoorthi 2018,
    arXiv:1806.08342, sec. 2.2), so that no weight moves by more than ``s / 2``. "shared" lets all weights of a tensor, each slice divided
    by its root mean square, share 16 values (256 in small tensors) found by k-means (weight sharing: Han et al. 2016,
    arXiv:1510.00149, sec. 3), and stores their indices. With these two, vectors (biases and norms) stay whole.
    """
    out: dict[str, Tensor] = {}
    for name, value in weights.items():
        if not value.is_floating_point() or storage == "float32":
            out[name] = value.contiguous()
        elif storage == "half":
            half = value.half()
            out[name] = (half if half.isfinite().all() else value.float()).contiguous()
        elif value.ndim < 2:
            out[name] = value.float().contiguous()
        elif storage == "int8":
            flat = value.float().flatten(1)
            scale = flat.abs().amax(1).clamp_min(1e-30) / 127
            out[name] = (flat / scale[:, None]).round().to(torch.int8).reshape(value.shape).contiguous()
            out[name + _SCALE] = scale
        else:
            out |= _share(name, value.float())
    return out


def _share(name: str, value: Tensor) -> dict[str, Tensor]:
    flat = value.flatten(1)
    scale = flat.square().mean(1).sqrt().clamp_min(1e-30)
    unit = (flat / scale[:, None]).flatten()
    few = len(unit) >= _LARGE
    levels = unit[:: max(1, len(unit) // 100_000)].quantile(torch.linspace(0, 1, _FEW if few else _MANY))
    for _ in range(_ROUNDS):  # Lloyd's algorithm; on a line the nearest value is found by the middles between values
        index = torch.bucketize(unit, (levels[1:] + levels[:-1]) / 2)
        count = torch.bincount(index, minlength=len(levels))
        total = torch.bincount(index, weights=unit, minlength=len(levels)).float()
        levels = torch.where(count > 0, total / count.clamp_min(1), levels).sort().values
    index = torch.bucketize(unit, (levels[1:] + levels[:-1]) / 2).to(torch.uint8)
    if few:
        pairs = torch.nn.functional.pad(index, (0, len(index) % 2)).reshape(-1, 2)
        index = pairs[:, 0] | pairs[:, 1] << 4
    return {
        name: index,
        name + _LEVELS: levels,
        name + _SCALE: scale,
        name + _SHAPE: torch.tensor(value.shape),
    }


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as the network takes them, float32.

    Raises
    ------
    ValueError
        If a scale, or what else belongs to a tensor, does not fit it.
    """
    out: dict[str, Tensor] = {}
    for name, value in tensors.items():
        suffix = next((s for s in (_SCALE, _LEVELS, _SHAPE) if name.endswith(s)), None)
        if suffix is not None:
            if name.removesuffix(suffix) not in tensors:
                raise ValueError(f"{name} belongs to no tensor")
            continue
        if name + _LEVELS in tensors or name + _SHAPE in tensors:
            value = _unshared(name, value, tensors)
        scale = tensors.get(name + _SCALE)
        if scale is not None:
            if value.ndim < 2 or scale.shape != value.shape[:1]:
                raise ValueError(f"{name + _SCALE} has shape {tuple(scale.shape)} for {tuple(value.shape)}")
            out[name] = value.float() * scale.float().reshape(-1, *[1] * (value.ndim - 1))
        else:
            out[name] = value.float() if value.is_floating_point() else value
    return out


def _unshared(name: str, packed: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    levels, shape = tensors.get(name + _LEVELS), tensors.get(name + _SHAPE)
    if (
        levels is None
        or levels.shape not in ((_FEW,), (_MANY,))
        or shape is None
        or shape.ndim != 1
        or shape.is_floating_point()
    ):
        raise ValueError(f"{name} has no shared values or no shape")
    size = [int(n) for n in shape]
    total = 1
    for n in size:
        total *= n
    few = len(levels) == _FEW
    bytes_ = -(-total // 2) if few else total
    if packed.dtype != torch.uint8 or packed.ndim != 1 or min(size, default=0) < 1 or len(packed) != bytes_:
        raise ValueError(f"{name} holds {packed.numel()} bytes of indices, which do not fill {size}")
    index = torch.stack([packed & 15, packed >> 4], 1).flatten()[:total] if few else packed
    return levels.float()[index.long()].reshape(size)
