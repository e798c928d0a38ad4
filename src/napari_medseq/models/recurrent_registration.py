"""A recurrent registration network: it deforms one of two volumes a little, compares them again, and carries a state
between these steps.

Unlike a network that says the whole deformation at once, it refines step by step, as an optimiser does, with the memory of a
convolutional GRU or LSTM (idea of R2N2, Sandkühler et al. 2019, arXiv:1905.11104, and RAFT, Teed and Deng 2020, arXiv:2003.12039).
It is trained without labels: `training.learned_registration`.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medseq.errors import ModelError
from napari_medseq.models.blocks import convolution
from napari_medseq.models.cells import CELLS, Cell
from napari_medseq.models.registry import register

#: a displacement is found on a grid so many times coarser than the images
COARSE = 4
#: edge in voxels of the cube whose mean and spread are those around a voxel
WINDOW = 7


@register("RecurrentRegistration")
class RecurrentRegistration(nn.Module):
    """Displacement fields from a moving to a fixed image, each step refining the one before.

    Parameters
    ----------
    channels : int
        Features of the encoder that sees both images.
    hidden : int
        Channels of the recurrent state.
    steps : int
        Refinements.
    cell : {"gru", "lstm"}
    dimensions : {2, 3}
        Whether the images are 2D or volumes.
    """

    def __init__(
        self, channels: int = 16, hidden: int = 24, steps: int = 6, cell: Cell = "gru", dimensions: int = 3
    ) -> None:
        super().__init__()
        if steps < 1:
            raise ModelError(f"steps is {steps}; a registration network needs at least one.")
        conv = convolution(dimensions)
        self.dimensions, self.steps = dimensions, steps
        self.look = nn.Sequential(
            conv(2, channels, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            conv(channels, 2 * channels, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            conv(2 * channels, 2 * channels, 3, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.cell = CELLS[cell](2 * channels + 2 * dimensions, hidden, dimensions=dimensions)
        self.step = conv(hidden, dimensions, 3, padding=1)
        nn.init.zeros_(self.step.weight)  # untrained it takes the local steps alone
        nn.init.zeros_(cast(Tensor, self.step.bias))
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, fixed: Tensor, moving: Tensor) -> list[Tensor]:
        """Displacements (batch, dimensions, …) in voxels along (x, y[, z]) after each step.

        Parameters
        ----------
        fixed, moving : Tensor, shape (batch, 1, y, x) or (batch, 1, z, y, x)
            Images of equal size, with intensities of about 0 to 1.
        """
        size = fixed.shape[2:]
        grid = tuple(-(-n // COARSE) for n in size)
        coarse = fixed.new_zeros(len(fixed), self.dimensions, *grid)
        state: Tensor | None = None
        displacements: list[Tensor] = []
        fixed, moving = locally_normal(fixed), locally_normal(moving)
        warped = moving
        for _ in range(self.steps):
            pull = local_step(fixed, warped)
            seen = torch.cat([self.look(torch.cat([fixed, warped], 1)), coarse / COARSE, pull], 1)
            state = self.cell(self.cell.from_input(seen), state)
            coarse = coarse + self.step(self.cell.seen(state)) + self.gain * pull
            displacements.append(widened(coarse, size))
            warped = warp(moving, displacements[-1])
        return displacements


def locally_normal(image: Tensor) -> Tensor:
    """The image less its local mean, divided by its local spread, both within 7 voxels, so that contrast and brightness of scanners
    do not count."""
    pool = functional.avg_pool2d if image.ndim == 4 else functional.avg_pool3d
    mean = pool(image, WINDOW, 1, WINDOW // 2, count_include_pad=False)
    square = pool(image * image, WINDOW, 1, WINDOW // 2, count_include_pad=False)
    return (image - mean) / ((square - mean * mean).clamp_min(0) + 1e-3).sqrt()


def local_step(fixed: Tensor, warped: Tensor, damping: float = 1e-2) -> Tensor:
    """Displacement of each coarse cell, (batch, dimensions, …) in voxels along (x, y[, z]): the local Gauss–Newton
    step.

    The least-squares solution of ``∇w · d = f − w`` over the cell and its neighbours (Lucas and Kanade 1981). The network sees it and
    corrects it, as a learned optimiser sees a gradient.
    """
    n = fixed.ndim - 2
    both = (fixed + warped) / 2
    slope = [torch.gradient(both, dim=both.ndim - 1 - k)[0] for k in range(n)]
    pairs = [(i, j) for i in range(n) for j in range(i, n)]
    products = [slope[i] * slope[j] for i, j in pairs] + [(fixed - warped) * one for one in slope]
    sums = _cells(torch.cat(products, 1))
    matrix = sums.new_zeros(len(sums), *sums.shape[2:], n, n)
    for k, (i, j) in enumerate(pairs):
        matrix[..., i, j] = matrix[..., j, i] = sums[:, k]
    right = sums[:, len(pairs) :].movedim(1, -1)
    eye = damping * torch.eye(n, dtype=sums.dtype, device=sums.device)
    solution: Tensor = torch.linalg.solve(matrix + eye, right[..., None])[..., 0].movedim(-1, 1)
    return solution


def _cells(field: Tensor) -> Tensor:
    """The mean over each coarse cell and, half as much, its neighbours."""
    n = field.ndim - 2
    pool = functional.avg_pool2d if n == 2 else functional.avg_pool3d
    means: Tensor = pool(field, COARSE, COARSE, ceil_mode=True, count_include_pad=False)
    for axis in range(2, n + 2):
        first, last = means.narrow(axis, 0, 1), means.narrow(axis, means.shape[axis] - 1, 1)
        wide = torch.cat([first, means, last], axis)
        size = means.shape[axis]
        means = (wide.narrow(axis, 0, size) + 2 * means + wide.narrow(axis, 2, size)) / 4
    return means


def widened(field: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """A field of coarse cells on the fine grid: linear between the cells' middles; values stay in voxels of the fine grid."""
    mode = "bilinear" if len(size) == 2 else "trilinear"
    fine = functional.interpolate(field, scale_factor=COARSE, mode=mode, align_corners=False)
    cut = [slice(None), slice(None), *(slice(0, n) for n in size)]
    return fine[tuple(cut)]


def warp(image: Tensor, displacement: Tensor) -> Tensor:
    """The image seen through a displacement: at x it shows what lies at x + displacement(x); zero flux at the border."""
    size = image.shape[2:]
    axes = [torch.arange(n, dtype=image.dtype, device=image.device) for n in size]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1])  # x first
    at = place + displacement
    scale = torch.tensor([2 / max(n - 1, 1) for n in size[::-1]], dtype=image.dtype, device=image.device)
    at = at.movedim(1, -1) * scale - 1
    return functional.grid_sample(image, at, mode="bilinear", padding_mode="border", align_corners=True)


def jacobian(displacement: Tensor) -> Tensor:
    """Determinant of the deformation's derivative, forward differences; shape (batch, …) one smaller along each axis.

    Under 0 space folds.
    """
    n = displacement.shape[1]
    inner = [slice(None, -1)] * n
    rows = []
    for axis in range(n):  # derivative along x, y, (z); the last array axis is x
        at = displacement.ndim - 1 - axis
        step = displacement.diff(dim=at)
        cut = [slice(None), slice(None), *inner]
        cut[at] = slice(None)
        rows.append(step[tuple(cut)])
    matrix = torch.stack(rows, 2).movedim((1, 2), (-2, -1)) + torch.eye(n, device=displacement.device)
    determinant: Tensor = torch.linalg.det(matrix)
    return determinant
