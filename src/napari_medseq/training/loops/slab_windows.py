"""Augmented windows from working volumes, a batch at a time: one gather and one interpolation for all of them.

Labels travel as one plane per class, so that a border that is moved or shrunk stays where it was to a fraction of a voxel; what
lies outside an image counts for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from napari_medseq.settings import Settings
from napari_medseq.volumes.labelled import value_boxes

Triple = tuple[int, int, int]
Three = tuple[float, float, float]

_SPOTS = 500  # labelled voxels remembered per class and case
UNSEEN = 255  # index of an unlabelled voxel: of no class, and not background
_REACH = 0.25  # share by which a window that is turned reaches farther, in addition to the zoom
_THIN = 24  # windows of fewer steps are not blurred or coarsened along the steps


class SlabAugment(Settings):
    """Random changes of windows; shares are probabilities.

    Attributes
    ----------
    rotate, tilt : float
        Largest angle in the planes of the steps, and out of them, in radians.
    zoom, stretch : float
        Largest relative change of size, and of each axis by itself.
    elastic_mm, elastic_share : float
        Spread of the shifts of a coarse grid, and how often.
    move : float
        Shift of a window that holds the whole image, as a share of it.
    mirror : (float, float, float)
        How often step, row and column are turned round.
    affine_share : float
    noise, gain, shift, gamma : float
        Largest spread of noise, relative gain, offset, and log of the exponent, in network units.
    shading : float
        Largest log of a smooth field that an image is multiplied by, as coils make it.
    of_step : float
        Spread of the gain and offset of each step by itself.
    blur, coarse : float
        How often a window is blurred or taken at a lower resolution.
    foreground : float
        How often a window of a larger image lies on something labelled, each class alike.
    invert : float
        How often bright and dark change places; 0 unless it is asked for, since it costs a little on images as they are.
    drop_channel : float
        How often a channel is missing; never all.
    """

    rotate: float = Field(0.3, ge=0)
    tilt: float = Field(0.25, ge=0)
    zoom: float = Field(0.2, ge=0)
    stretch: float = Field(0.08, ge=0)
    elastic_mm: float = Field(1.5, ge=0)
    elastic_share: float = Field(0.3, ge=0, le=1)
    move: float = Field(0.08, ge=0)
    mirror: Three = (0.0, 0.0, 0.0)
    affine_share: float = Field(0.8, ge=0, le=1)
    noise: float = Field(0.15, ge=0)
    gain: float = Field(0.25, ge=0)
    shift: float = Field(0.25, ge=0)
    gamma: float = Field(0.35, ge=0)
    shading: float = Field(0.0, ge=0)
    of_step: float = Field(0.0, ge=0)
    blur: float = Field(0.2, ge=0, le=1)
    coarse: float = Field(0.15, ge=0, le=1)
    foreground: float = Field(0.7, ge=0, le=1)
    invert: float = Field(0.0, ge=0, le=1)
    drop_channel: float = Field(0.0, ge=0, lt=1)


@dataclass(frozen=True, eq=False)
class SlabCase:
    """A working volume in memory.

    Attributes
    ----------
    patient, name : str
    image : Tensor, shape (channel, step, row, column), float16
    labels : Tensor, shape (step, row, column), uint8
        Index of the class; `UNSEEN` where unlabelled.
    spots : list of Tensor, shape (voxel, 3)
        Some voxels of each class that is there.
    """

    patient: str
    name: str
    image: Tensor
    labels: Tensor
    spots: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        g = torch.Generator().manual_seed(0)
        for value, box in value_boxes(self.labels.numpy()).items():
            if value < UNSEEN:
                at = torch.nonzero(self.labels[box] == value)
                chosen = at[torch.randperm(len(at), generator=g)[:_SPOTS]]
                self.spots.append(chosen + torch.tensor([s.start for s in box]))


class SlabWindows:
    """Draws batches; its only state is the random generator.

    Parameters
    ----------
    cases : sequence of SlabCase
    classes : int
        Number of classes, the background included.
    size : (step, row, column)
    spacing : (float, float, float)
        In mm, so that turns are turns.
    augment : SlabAugment
    seed : int
    placed : bool
        Whether the last channel tells where the image's middle is: it moves with the image, and is not recoloured.
    """

    def __init__(
        self,
        cases: Sequence[SlabCase],
        *,
        classes: int,
        size: Triple,
        spacing: Three,
        augment: SlabAugment,
        seed: int,
        placed: bool = False,
    ) -> None:
        self.cases, self.classes, self.size, self.augment = list(cases), classes, size, augment
        self.placed = placed
        self.spacing = torch.tensor(spacing)
        self.generator = torch.Generator().manual_seed(seed)
        largest = [max(c.labels.shape[k] for c in cases) for k in range(3)]
        reach = 1 + augment.zoom + _REACH
        self.cut = [min(math.ceil(n * reach), max(big, n)) for n, big in zip(size, largest, strict=True)]
        if augment.tilt == 0:
            self.cut[0] = size[0]
        axes = [torch.arange(n) - (n - 1) / 2 for n in size]
        self.voxels = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """Images (batch, channel, step, row, column), and targets (batch, class, …) that sum to 1, or to less at the border."""
        drawn = [self.cases[int(k)] for k in torch.randint(len(self.cases), (batch,), generator=self.generator)]
        images, labels, inside = (
            torch.stack(of) for of in zip(*(self._cut(c, self._middle(c)) for c in drawn), strict=True)
        )
        there = [value for value in labels.unique().tolist() if value < self.classes]  # of a hundred classes a few
        planes = (labels[:, None] == torch.tensor(there, dtype=torch.uint8).view(-1, 1, 1, 1)) & inside[:, None]
        x = self._warped(torch.cat([images, planes.float()], 1))
        image = x[:, : images.shape[1]]
        targets = x.new_zeros(batch, self.classes, *self.size)
        targets[:, there] = x[:, images.shape[1] :]
        if not self.placed:
            return self._recoloured(image), targets
        return torch.cat([self._recoloured(image[:, :-1]), image[:, -1:]], 1), targets

    def _random(self, *size: int) -> Tensor:
        return torch.rand(*size, generator=self.generator)

    def _chance(self, share: float) -> bool:
        return float(self._random(1)) < share

    def _middle(self, case: SlabCase) -> list[float]:
        u = self._random(3).tolist()
        spot: list[int] | None = None
        if case.spots and self._chance(self.augment.foreground):
            of_class = case.spots[int(torch.randint(len(case.spots), (1,), generator=self.generator))]
            spot = of_class[int(torch.randint(len(of_class), (1,), generator=self.generator))].tolist()
        middle = []
        for k, w in enumerate(self.size):
            n = case.labels.shape[k]
            if n <= w:  # all of it, shaken a little
                middle.append((n - 1) / 2 + (u[k] * 2 - 1) * self.augment.move * w)
            elif spot is None:
                middle.append((w - 1) / 2 + u[k] * (n - w))
            else:
                centre = spot[k] + (u[k] - 0.5) * w * 0.6
                middle.append(min(max(centre, (w - 1) / 2), n - 1 - (w - 1) / 2))
        return middle

    def _cut(self, case: SlabCase, middle: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
        """Channels and labels of a box somewhat larger than the window, whose borders repeat, and where it lies in the image."""
        at, inside = [], []
        for k, w in enumerate(self.cut):
            n = case.labels.shape[k]
            i = torch.arange(w) + round(middle[k] - (w - 1) / 2)
            inside.append((i >= 0) & (i < n))
            at.append(i.clamp(0, n - 1))
        box = (at[0][:, None, None], at[1][:, None], at[2])
        is_inside = inside[0][:, None, None] & inside[1][:, None] & inside[2]
        return case.image[:, box[0], box[1], box[2]].float(), case.labels[box], is_inside

    def _matrix(self) -> Tensor:
        """How the voxels of a window lie in the box, from its middle."""
        a = self.augment
        turn = (self._random(3) * 2 - 1) * torch.tensor([a.rotate, a.tilt, a.tilt])
        zoom = math.exp(float(self._random(1) * 2 - 1) * math.log1p(a.zoom))
        stretch = torch.exp((self._random(3) * 2 - 1) * math.log1p(a.stretch)) * zoom
        if not self._chance(a.affine_share):
            turn, stretch = torch.zeros(3), torch.ones(3)
        if a.tilt == 0:
            stretch[0] = 1.0
        matrix = torch.eye(3)
        for angle, (p, q) in zip(turn.tolist(), ((1, 2), (0, 1), (0, 2)), strict=True):
            one = torch.eye(3)
            one[p, p] = one[q, q] = math.cos(angle)
            one[p, q], one[q, p] = -math.sin(angle), math.sin(angle)
            matrix = matrix @ one
        matrix = torch.diag(1 / self.spacing) @ (matrix @ torch.diag(stretch)) @ torch.diag(self.spacing)
        for k, share in enumerate(a.mirror):
            if self._chance(share):
                matrix[:, k] = -matrix[:, k]
        return matrix

    def _warped(self, x: Tensor) -> Tensor:
        a, n = self.augment, len(x)
        at = torch.einsum("bij,syxj->bsyxi", torch.stack([self._matrix() for _ in range(n)]), self.voxels)
        if a.elastic_mm and self._chance(a.elastic_share):
            coarse = torch.randn(n, 3, 2 if self.size[0] < 12 else 4, 5, 5, generator=self.generator)
            far = a.elastic_mm / self.spacing
            if a.tilt == 0:
                far[0] = 0
            bend = functional.interpolate(coarse, size=self.size, mode="trilinear", align_corners=True)
            at = at + bend.permute(0, 2, 3, 4, 1) * far
        half = torch.tensor([max((m - 1) / 2, 0.5) for m in x.shape[2:]])
        return functional.grid_sample(x, (at / half).flip(-1), padding_mode="border", align_corners=True)

    def _recoloured(self, x: Tensor) -> Tensor:
        a, n, channels = self.augment, *x.shape[:2]
        self._lower(x)

        def sometimes(share: float, value: Tensor, else_: float | Tensor) -> Tensor:
            chosen = (self._random(n) < share).view(n, 1, 1, 1, 1)
            return torch.where(chosen, value, else_ if isinstance(else_, Tensor) else torch.full((), else_))

        def between(low: float, high: float) -> Tensor:
            return (low + (high - low) * self._random(n, channels)).view(n, channels, 1, 1, 1)

        if a.invert:
            x = sometimes(a.invert, x.amin((2, 3, 4), keepdim=True) + x.amax((2, 3, 4), keepdim=True) - x, x)
        if a.gamma and self._chance(0.6):
            low, high = x.amin((2, 3, 4), keepdim=True), x.amax((2, 3, 4), keepdim=True)
            span = high - low + 1e-5
            exponent = sometimes(0.5, torch.exp(between(-a.gamma, a.gamma)), 1.0)
            x = ((x - low) / span).clamp(1e-6, 1).pow(exponent) * span + low
        if a.shading and self._chance(0.5):
            x = self._shaded(x)
        if a.of_step:
            each = (n, channels, x.shape[2], 1, 1)
            gain = 1 + a.of_step * torch.randn(each, generator=self.generator)
            x = x * gain + a.of_step * torch.randn(each, generator=self.generator)
        x = x * sometimes(0.5, between(1 - a.gain, 1 + a.gain), 1.0)
        x = x + sometimes(0.5, between(-a.shift, a.shift), 0.0)
        if a.noise:
            x = x + sometimes(0.4, between(0, a.noise), 0.0) * torch.randn(x.shape, generator=self.generator)
        if a.drop_channel and channels > 1:
            channels_kept = self._random(n, channels) >= a.drop_channel
            for row in channels_kept:
                if not row.any():
                    row[int(torch.randint(channels, (1,), generator=self.generator))] = True
            x = x * channels_kept.view(n, channels, 1, 1, 1)
        return x

    def _shaded(self, x: Tensor) -> Tensor:
        """Brightness that varies smoothly over the window, measured from its darkest voxel."""
        coarse = (torch.rand(*x.shape[:2], 2, 3, 3, generator=self.generator) * 2 - 1) * self.augment.shading
        field = functional.interpolate(coarse, size=x.shape[2:], mode="trilinear", align_corners=True)
        low = x.amin((2, 3, 4), keepdim=True)
        return (x - low) * field.exp() + low

    def _lower(self, x: Tensor) -> None:
        """Some windows at a lower resolution, some blurred; in place."""
        a, thin = self.augment, x.shape[2] < _THIN
        for k in torch.nonzero(self._random(len(x)) < a.coarse).flatten().tolist():
            share = 0.5 + 0.4 * float(self._random(1))
            size = [m if i == 0 and thin else max(2, round(m * share)) for i, m in enumerate(x.shape[2:])]
            small = functional.interpolate(x[k : k + 1], size=size, mode="nearest-exact")
            x[k : k + 1] = functional.interpolate(small, size=x.shape[2:], mode="trilinear")
        for k in torch.nonzero(self._random(len(x)) < a.blur).flatten().tolist():
            side = 0.33 * float(self._random(1))
            kernel = torch.tensor([side, 1 - 2 * side, side])
            y = x[k][:, None]
            for axis in range(1 if thin else 0, 3):
                shape, padding = [1] * 5, [0] * 3
                shape[2 + axis], padding[axis] = 3, 1
                y = functional.conv3d(y, kernel.view(shape), padding=padding)
            x[k] = y[:, 0]
