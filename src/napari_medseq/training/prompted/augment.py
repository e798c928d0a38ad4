"""Windows bent, invented and spoiled for the training of a prompted network: deformations, drawn shapes, contrast, noise, blur.

Everything runs on the device that holds the windows, (batch, step, y, x), intensities about 0 to 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_RIMS = (5, 9, 13)  # pixels over which a structure is smeared to find its rim: walls of about 3, 5 and 8 pixels


class BatchDraws:
    """Random numbers for each sequence of a batch, on its device."""

    def __init__(self, batch: int, device: torch.device) -> None:
        self.batch, self.device = batch, device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Between `low` and `high`, (batch, *shape); default (batch, 1, 1, 1)."""
        return torch.rand(self.batch, *(shape or (1, 1, 1)), device=self.device) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, (batch, *shape); default (batch, 1, 1, 1)."""
        return torch.randn(self.batch, *(shape or (1, 1, 1)), device=self.device)

    def often(self, share: float) -> Tensor:
        """True for a share of the sequences, (batch, 1, 1, 1)."""
        return torch.rand(self.batch, 1, 1, 1, device=self.device) < share


def smooth_field(
    batch: int, channels: int, nodes: tuple[int, int, int], size: tuple[int, int, int], device: torch.device
) -> Tensor:
    """Random fields (batch, channel, step, y, x), smooth on the scale of their nodes."""
    coarse = torch.randn(batch, channels, *nodes, device=device)
    return functional.interpolate(coarse, size=size, mode="trilinear", align_corners=True)


def bending(batch: int, steps: int, side: int, device: torch.device) -> Tensor:
    """Displacements (batch, step, 2, y, x) in pixels: elastic, alike on neighbouring steps, with drift and jitter of steps."""
    draw = BatchDraws(batch, device)
    elastic = smooth_field(batch, 2, (max(2, steps // 4), 4, 4), (steps, side, side), device).transpose(1, 2)
    strength = draw.uniform(0, 2.6, 1, 1, 1, 1) * draw.often(0.6)[..., None]
    drift = torch.randn(batch, 2, max(2, steps // 6), device=device)
    drift = functional.interpolate(drift, size=steps, mode="linear", align_corners=True).transpose(1, 2)
    drift = drift * draw.uniform(0, 3.0, 1, 1) * draw.often(0.4)[..., 0]
    jitter = torch.randn(batch, steps, 2, device=device) * draw.uniform(0, 0.8, 1, 1) * draw.often(0.2)[..., 0]
    return elastic * strength + (drift + jitter)[..., None, None]


def drawn_shapes(batch: int, steps: int, side: int, device: torch.device) -> Tensor:
    """Random closed shapes that begin, move, change and end, as functions (batch, step, y, x) that are positive inside."""
    draw = BatchDraws(batch, device)
    middle = draw.uniform(0.15, 0.85) * steps
    total = _one_shape(draw, steps, side, middle, 0)
    other = torch.where(draw.often(0.45), _one_shape(draw, steps, side, middle, 1), -9.0)
    total = torch.maximum(total, other)
    rough = smooth_field(batch, 1, (max(3, steps // 3), 5, 5), (steps, side, side), device)[:, 0]
    fine = smooth_field(batch, 1, (max(4, steps // 2), 10, 10), (steps, side, side), device)[:, 0]
    total = total + rough * draw.uniform(0.02, 0.25) + fine * draw.uniform(0, 0.1)
    hollow = draw.often(0.15)  # walls rather than solids
    return torch.where(hollow, 0.16 - (total - 0.2).abs(), total)


def _one_shape(draw: BatchDraws, steps: int, side: int, middle: Tensor, part: int) -> Tensor:
    """An ellipsoid, or a tube that ends abruptly, oblique to the steps; the second `part` lies beside the first."""
    line = torch.arange(side, device=draw.device) - (side - 1) / 2
    y, x = line[:, None], line[None, :]
    t = torch.arange(steps, device=draw.device).view(1, -1, 1, 1)
    c_t = middle + draw.normal() * 0.15 * steps * part
    length = draw.uniform(0.12, 0.55) * steps
    size = draw.uniform(0.1, 0.34) * side
    stretch = torch.exp(draw.normal() * 0.35)
    angle = draw.uniform(0, 3.1416)
    slope_y, slope_x = (draw.normal() * 0.5 * size / length for _ in range(2))
    c_y, c_x = (draw.normal() * 0.08 * side + part * draw.normal() * size for _ in range(2))
    dy, dx = y - c_y - slope_y * (t - c_t), x - c_x - slope_x * (t - c_t)
    u = (torch.cos(angle) * dy + torch.sin(angle) * dx) / (size * stretch)
    v = (torch.cos(angle) * dx - torch.sin(angle) * dy) * stretch / size
    along = ((t - c_t) / length).abs()
    power = torch.where(draw.often(0.5), 2.0, 5.0)
    return 1 - (u.square() + v.square()).clamp_min(1e-6).sqrt() - 0.9 * along.clamp_min(1e-6) ** power


def invented(real: Tensor) -> tuple[Tensor, Tensor]:
    """Images with a drawn structure in them, over the real windows or over a patchwork of drawn tissues, and its mask."""
    batch, steps, side, _ = real.shape
    device = real.device
    draw = BatchDraws(batch, device)
    inside = drawn_shapes(batch, steps, side, device)
    mask = inside > 0
    background = torch.where(draw.often(0.5), _patchwork(draw, real.shape), real)
    near = (mask | (inside > -0.5)).float()
    level = (background * near).sum((1, 2, 3), keepdim=True) / near.sum((1, 2, 3), keepdim=True).clamp_min(1)
    own = level + torch.where(draw.often(0.5), 1.0, -1.0) * draw.uniform(0.06, 0.5)
    texture = smooth_field(batch, 1, (steps, 14, 14), (steps, side, side), device)[:, 0]
    own = own + texture * draw.uniform(0, 0.1)
    own = own + torch.where(draw.often(0.4), draw.uniform(0, 0.6) * (background - level), 0.0)
    other = torch.sigmoid(drawn_shapes(batch, steps, side, device) * 30)  # what looks alike, beside it or touching it
    alike = torch.lerp(background, own + draw.normal() * 0.06, other)
    background = torch.where(draw.often(0.45), alike, background)
    return torch.lerp(background, own, torch.sigmoid(inside * draw.uniform(10, 60))), mask


def likely_gap(mask: Tensor) -> Tensor:
    """Distances (batch,) from step to step, in pixels, with which drawn shapes are about as long as wide; 0 (unknown) for half."""
    area = mask.flatten(2).sum(2).float()
    across = 2 * (area.amax(1) / torch.pi).sqrt()
    gap = across * torch.exp(torch.randn_like(across) * 0.4) / (area > 0).sum(1).clamp_min(1)
    return torch.where(torch.rand_like(across) < 0.5, gap.clamp(0.3, 12), 0.0)


def parts(mask: Tensor, share: float = 0.1) -> Tensor:
    """Masks of which a share is cut by a random plane: a part of a structure, whose end the image does not show."""
    batch, steps, side, _ = mask.shape
    draw = BatchDraws(batch, mask.device)
    area = mask.flatten(1).sum(1).clamp_min(1).view(-1, 1, 1, 1)
    t, y = (torch.arange(n, device=mask.device, dtype=torch.float32) for n in (steps, side))
    height = torch.zeros(mask.shape, device=mask.device)
    for line in (t.view(1, -1, 1, 1), y.view(1, 1, -1, 1), y.view(1, 1, 1, -1)):
        middle = (mask * line).sum((1, 2, 3), keepdim=True) / area
        spread = ((mask * (line - middle).square()).sum((1, 2, 3), keepdim=True) / area).sqrt().clamp_min(0.5)
        height = height + draw.normal() * (line - middle) / spread
    cut = mask & (height > draw.normal() * 0.5)
    large = cut.flatten(1).sum(1).view(-1, 1, 1, 1) > 60
    return torch.where(draw.often(share) & large, cut, mask)


def walls(image: Tensor, mask: Tensor, share: float = 0.1) -> Tensor:
    """Masks of which a share becomes the wall around the structure, in the plane of the steps.

    Few labelled sets hold thin walls (the muscle of a heart, the wall of a bladder), but every structure has a border. Half of these
    walls are a rim of even width, the others that part of it which looks like the tissue next to the border.

    Parameters
    ----------
    image : Tensor, (batch, step, y, x)
    mask : Tensor of bool, (batch, step, y, x)
        Structures.
    share : float
        How often a structure is replaced by its wall; small structures and those without a rim inside the window never are.

    Returns
    -------
    Tensor of bool, (batch, step, y, x)
    """
    draw = BatchDraws(len(mask), mask.device)
    flat = mask.float().flatten(0, 1)[:, None]
    widths = [_grown(flat, size).view(mask.shape) for size in _RIMS]
    width = torch.randint(0, len(_RIMS), (len(mask), 1, 1, 1), device=mask.device)
    rim = torch.stack(widths).gather(0, width.expand(1, *mask.shape))[0] & ~mask
    next_to = functional.max_pool2d(flat, 5, 1, 2)[:, 0].view(mask.shape).bool() & ~mask
    soft = functional.avg_pool2d(image.flatten(0, 1)[:, None], 3, 1, 1, count_include_pad=False)[:, 0].view(image.shape)
    count = next_to.sum((1, 2, 3), keepdim=True).clamp_min(1)
    mean = (soft * next_to).sum((1, 2, 3), keepdim=True) / count
    spread = (((soft - mean).square() * next_to).sum((1, 2, 3), keepdim=True) / count).sqrt()
    alike = (rim & ((soft - mean).abs() < 1.3 * spread)).float().flatten(0, 1)[:, None]
    alike = functional.avg_pool2d(alike, 3, 1, 1)[:, 0].view(mask.shape) > 0.5
    wall = torch.where(draw.often(0.5), rim, alike & ~mask)
    large = (wall.sum((1, 2, 3), keepdim=True) > 80) & (mask.sum((1, 2, 3), keepdim=True) > 60)
    return torch.where(draw.often(share) & large, wall, mask)


def _grown(flat: Tensor, size: int) -> Tensor:
    """Masks (n, 1, y, x) grown by somewhat less than `size` pixels, with round corners."""
    for _ in range(2):
        flat = functional.avg_pool2d(flat, size, 1, size // 2)
    return flat[:, 0] > 0.06


def _patchwork(draw: BatchDraws, shape: torch.Size) -> Tensor:
    """Seven tissues with a level each and a texture."""
    batch, steps, side, _ = shape
    tissue = smooth_field(batch, 7, (max(3, steps // 4), 6, 6), (steps, side, side), draw.device).argmax(1)
    means = torch.rand(batch, 7, device=draw.device)
    texture = smooth_field(batch, 1, (steps, 12, 12), (steps, side, side), draw.device)[:, 0]
    return means.gather(1, tissue.flatten(1)).view(shape) + texture * draw.uniform(0, 0.1)


def spoiled(image: Tensor) -> Tensor:
    """Contrast bent and inverted, uneven and flickering brightness, blur, coarse pixels, noise."""
    batch, steps, side, _ = image.shape
    device = image.device
    draw = BatchDraws(batch, device)
    bent = image.clamp(0, 1) ** torch.exp(draw.normal() * 0.35)
    wave = draw.uniform(-0.12, 0.12) * torch.sin(6.2832 * bent * draw.uniform(0.5, 1.5))
    image = torch.where(draw.often(0.5), bent + wave, image)
    image = torch.where(draw.often(0.3), 1 - image, image)
    uneven = smooth_field(batch, 1, (2, 3, 3), (steps, side, side), device)[:, 0]
    image = torch.where(draw.often(0.3), image * (1 + 0.2 * uneven), image)
    flicker = torch.randn(batch, steps, 1, 1, device=device)
    image = torch.where(draw.often(0.25), image * (1 + 0.08 * flicker), image)
    flat = image.flatten(0, 1)[:, None]
    blurred = functional.avg_pool2d(flat, 3, 1, 1, count_include_pad=False)[:, 0].view(image.shape)
    image = torch.where(draw.often(0.2), blurred, image)
    coarse = functional.interpolate(functional.avg_pool2d(flat, 2), scale_factor=2.0, mode="bilinear")
    image = torch.where(draw.often(0.15), coarse[:, 0].view(image.shape), image)
    grain = torch.randn_like(image)
    rough = functional.avg_pool2d(grain.flatten(0, 1)[:, None], 3, 1, 1)[:, 0].view(image.shape) * 3
    grain = torch.where(draw.often(0.5), grain, rough)
    return image + grain * draw.uniform(0, 0.09) * draw.often(0.6)
