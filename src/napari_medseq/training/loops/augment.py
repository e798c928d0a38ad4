"""Random changes to training windows: one warp and one contrast for all steps of a window, so that sequences stay sequences."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from napari_medseq.settings import Settings


class AugmentSettings(Settings):
    """How far training windows are changed. Probabilities and ranges; zeros switch a change off."""

    flip: float = Field(0.5, ge=0, le=1, description="probability of mirroring left and right")
    rotate_degrees: float = Field(20.0, ge=0)
    move: float = Field(0.08, ge=0, le=0.5, description="largest shift of a window's middle, as a share of the image")
    zoom: float = Field(0.25, ge=0, lt=1, description="largest relative change of size")
    stretch: float = Field(0.1, ge=0, lt=1, description="largest relative difference between rows and columns")
    elastic: float = Field(0.04, ge=0, description="largest displacement as a share of the window")
    bias: float = Field(0.3, ge=0, description="largest log amplitude of a smooth multiplicative field")
    gain: float = Field(0.25, ge=0, description="largest relative change of contrast")
    shift: float = Field(0.3, ge=0, description="largest offset, in robust units")
    gamma: float = Field(0.3, ge=0, description="largest log exponent")
    noise: float = Field(0.15, ge=0, description="largest standard deviation of noise, in robust units")
    blur: float = Field(0.25, ge=0, le=1, description="probability of a lower resolution")
    skip: float = Field(
        0.0, ge=0, lt=1, description="share of frames or visits left out, so that gaps of any length are learned"
    )
    extra: tuple[dict[str, Any], ...] = Field(
        (), description="MONAI random transforms that follow, {_target_: name, ...}; see training.loops.transforms"
    )


def _u(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def warp(
    image: Tensor,
    labels: Tensor,
    size: tuple[int, int],
    centre: tuple[float, float],
    s: AugmentSettings,
    g: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Cut a window around `centre`, rotated, zoomed, stretched, mirrored and bent, the same for all steps.

    Parameters
    ----------
    image : Tensor, shape (step, channel, y, x)
    labels : Tensor, shape (step, y, x), integer
    size : (int, int)
        Rows and columns of the result.
    centre : (float, float)
        The position (row, column) in pixels that lands in the middle.
    s : AugmentSettings
    g : torch.Generator

    Returns
    -------
    tuple of Tensor, shapes (step, channel, *size) and (step, *size)
    """
    h, w = image.shape[-2:]
    angle = math.radians(_u(g, -s.rotate_degrees, s.rotate_degrees))
    zoom = math.exp(_u(g, -1, 1) * math.log1p(s.zoom))
    stretch = math.exp(_u(g, -1, 1) * math.log1p(s.stretch) / 2)
    mirror = -1.0 if float(torch.rand((), generator=g)) < s.flip else 1.0
    rows = (torch.arange(size[0]) - (size[0] - 1) / 2) * zoom * stretch
    columns = (torch.arange(size[1]) - (size[1] - 1) / 2) * zoom / stretch * mirror
    r, c = torch.meshgrid(rows, columns, indexing="ij")
    at_r = math.cos(angle) * r - math.sin(angle) * c + centre[0]
    at_c = math.sin(angle) * r + math.cos(angle) * c + centre[1]
    if s.elastic:
        coarse = (torch.rand(1, 2, 5, 5, generator=g) * 2 - 1) * s.elastic * min(size)
        bend = functional.interpolate(coarse, size=size, mode="bicubic", align_corners=True)[0] * _u(g, 0, 1)
        at_r, at_c = at_r + bend[0], at_c + bend[1]
    grid = torch.stack([at_c / max(w - 1, 1) * 2 - 1, at_r / max(h - 1, 1) * 2 - 1], -1)[None]
    n, channels = image.shape[:2]
    out = functional.grid_sample(
        image.reshape(1, n * channels, h, w), grid, mode="bilinear", padding_mode="border", align_corners=True
    )
    return out.reshape(n, channels, *size), _warp_labels(labels, grid, size)


def _warp_labels(labels: Tensor, grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Smooth for one class (its outline keeps its shape), nearest for several and for unlabelled (-1) voxels."""
    if int(labels.max()) <= 1:
        soft = functional.grid_sample(labels[None].float().clamp_min(0), grid, mode="bilinear", align_corners=True)[0]
        out = (soft > 0.5).long()
        if int(labels.min()) < 0:
            out[_nearest(labels, grid, size) < 0] = -1
        return out
    return _nearest(labels, grid, size)


def _nearest(labels: Tensor, grid: Tensor, size: tuple[int, int]) -> Tensor:
    # beyond the border an unlabelled step is unlabelled too
    hard = functional.grid_sample(
        labels[None].float(), grid, mode="nearest", padding_mode="border", align_corners=True
    )[0]
    return hard.round().long().reshape(labels.shape[0], *size)


def recolour(image: Tensor, s: AugmentSettings, g: torch.Generator) -> Tensor:
    """Change contrast, bias field, gamma, sharpness and noise of a window (step, channel, y, x) in robust units."""
    size = image.shape[-2:]
    if s.blur and float(torch.rand((), generator=g)) < s.blur:
        f = _u(g, 0.4, 0.9)
        small = functional.interpolate(image, scale_factor=f, mode="bilinear", antialias=True)
        image = functional.interpolate(small, size=size, mode="bilinear")
    low = float(image.min())
    x = image - low
    if s.gamma:
        top = float(x.max()) + 1e-6
        x = (x / top).clamp_min(0) ** math.exp(_u(g, -s.gamma, s.gamma)) * top
    if s.bias:
        field = (torch.rand(1, 1, 4, 4, generator=g) * 2 - 1) * s.bias
        x = x * functional.interpolate(field, size=size, mode="bicubic", align_corners=True).exp()
    x = x * _u(g, 1 - s.gain, 1 + s.gain) + low + _u(g, -s.shift, s.shift)
    if s.noise:
        x = x + torch.randn(x.shape, generator=g) * _u(g, 0, s.noise)
    return x


def transplant(
    image: Tensor, labels: Tensor, other: Tensor, other_labels: Tensor, g: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Paste another case's lesion, with a margin, into a window of the same shape (CarveMix; Zhang et al. 2021, MICCAI).

    The cut is the other lesion grown by a random margin; its edge is blended over two pixels. Without a lesion in `other` nothing changes.
    """
    lesion = (other_labels > 0).float()
    if not bool(lesion.any()):
        return image, labels
    margin = int(_u(g, 1, 8))
    grown = functional.max_pool2d(lesion[:, None], 2 * margin + 1, stride=1, padding=margin)
    soft = functional.avg_pool2d(functional.max_pool2d(grown, 3, 1, 1), 5, stride=1, padding=2)
    return image * (1 - soft) + other * soft, torch.where(grown[:, 0] > 0, other_labels, labels)
