"""Trains the `left-ventricle` and the `lung-nodule` that ship: all of it on one device, windows too, so that a GPU does not wait for them.

    python benchmarks/shipped_networks.py WEIGHTS [--only left-ventricle lung-nodule] [--seconds 200] [--fold 0] [--device cuda]
    python benchmarks/shipped_networks.py WEIGHTS --only left-ventricle --start WEIGHTS/left-ventricle-all.pt --rate 5e-4 --seconds 1500
    python benchmarks/ship.py WEIGHTS --only left-ventricle lung-nodule

Without ``--fold`` a network learns from all patients (``<name>-all.pt``), which is what ships; with it a fifth of them is left out and
judges (``<name>-fold0.pt``). Half-precision weights are written from a quarter of the time on, and at the end. Start several side by side
on a GPU (MPS): each alone does not fill it. On a CPU the same, more slowly; `--seconds` is then processor time. ``--start`` goes on from
weights, with a rate that falls from ``--rate`` to nothing.

The outlines of Sunnybrook's files do not lie on the border of the blood: `contour_offset.py` measures by how far. They are moved back, and
inwards, before anything is learned from them (`Recipe.moved`, `Recipe.inwards`).
"""

from __future__ import annotations

import argparse
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

import contour_offset
import napari_medseq as ms
import ship
from napari_medseq import files
from napari_medseq.inference.inputs.working import FARTHEST, Scheme, Working, WorkingGrid
from napari_medseq.models.slab_unet import SlabUNet
from napari_medseq.training import splits

Volume = TypeVar("Volume", bound=NDArray[np.generic])

FOLDS = 5
RATE, DECAY, CLIP, AVERAGE = 2e-3, 1e-2, 1.0, 0.998
WARM_UP = 50  # iterations
SPOTS = 64  # labelled steps remembered of each case
#: of the four radiologists of a nodule: what is learned where none, one, … marked a voxel
SHARES = (0.0, 0.25, 0.75, 0.92, 1.0)


@dataclass(frozen=True)
class Recipe:
    """How a network learns; lengths in pixels of the files."""

    size: tuple[int, int, int]  # of a window: steps, rows, columns
    kept: int  # rows and columns about the middle that are kept of an image
    finer: int  # working pixels in a pixel of the files
    batch: int
    rotate: float
    zoom: float
    bend: float
    place: float  # how far a window's middle lies from the image's
    mirror: tuple[float, float, float]
    of_step: float
    shading: float
    shares: tuple[float, ...] = ()
    labels: str = ""
    gamma: float = 0.4
    moved: tuple[float, float] = (0.0, 0.0)  # of the labels, rows (to the front) and columns (to the patient's right)
    inwards: float = 0.0  # of the border of the labels


RECIPES = {
    "left-ventricle": Recipe(
        (10, 128, 128), 176, 1, 4, 0.7, 0.5, 2.9, 16, (0, 0, 0), 0.15, 0.5, gamma=0.7, moved=(0.25, 0.75), inwards=0.75
    ),
    "lung-nodule": Recipe((8, 72, 72), 96, 2, 8, 3.1, 0.3, 2.1, 2, (0.5, 0.5, 0.5), 0.15, 0.2, SHARES, "CT_raters.nii.gz"),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """An image in network units and what is learned of it, (step, row, column)."""

    patient: str
    image: Tensor
    target: Tensor


def middle_of(volume: Volume, size: int) -> Volume:
    """So many rows and columns about the middle of a (step, row, column) array."""
    first = [(n - size) // 2 for n in volume.shape[1:]]
    return volume[:, first[0] : first[0] + size, first[1] : first[1] + size]


def redrawn(mask: NDArray[np.bool_], moved: tuple[float, float], inwards: float) -> NDArray[np.float32]:
    """A mask whose outlines are moved and drawn in, step by step, as the share of each pixel that it covers."""
    planes = []
    for plane in mask:
        if not plane.any():
            planes.append(np.zeros(plane.shape))
            continue
        distance = ndimage.shift(contour_offset.signed_distance(plane), moved, order=1, mode="nearest")
        planes.append(np.clip(distance - inwards + 0.5, 0, 1))
    return np.stack(planes).astype(np.float32)


def cases(name: str, recipe: Recipe) -> list[Case]:
    """All of a data set, its middle alone."""
    product = ship.PRODUCTS[name]
    folder, pattern = {"left-ventricle": ("cardiac-sunnybrook", "SC-*"), "lung-nodule": ("lung-nodules", "LIDC-*")}[
        name
    ]
    scheme = Scheme.model_validate(product.schemes[0])
    seen = product.focus[1] or 0
    found = []
    for patient in sorted(p.name for p in (ship.DATA / folder).glob(pattern)):
        for _, images, labels in ship.case_files(name, patient):
            image = ms.read(images["image"], kind="image")[0]
            counts = ms.read(labels.with_name(recipe.labels) if recipe.labels else labels, kind="labels")[0]
            grid = WorkingGrid.of(image, Working())
            whole = grid.read_labels(image).astype(np.float32)
            values = scheme.of(middle_of(whole, recipe.kept), middle_of(whole, seen // recipe.finer))
            target = torch.from_numpy(middle_of(grid.read_labels(counts), recipe.kept).copy())
            shares = torch.tensor(recipe.shares or (0.0, 1.0))
            learned = shares[target.clamp_max(len(shares) - 1)]
            if recipe.inwards or any(recipe.moved):
                learned = torch.from_numpy(redrawn(target.numpy() > 0, recipe.moved, recipe.inwards))
            found.append(Case(patient, torch.from_numpy(values).half(), learned.half()))
    return found


class Windows:
    """Batches of changed windows, made where the network learns."""

    def __init__(
        self, of: Sequence[Case], recipe: Recipe, position: tuple[float, float, float] | None, device: str, seed: int
    ) -> None:
        self.recipe, self.position, self.device = recipe, position, device
        longest = max(recipe.size[0], *(len(c.image) for c in of))
        whole = (len(of), longest, *of[0].image.shape[1:])
        self.images, self.targets = (torch.zeros(whole, dtype=torch.float16, device=device) for _ in range(2))
        self.steps = torch.tensor([len(c.image) for c in of], device=device)
        self.spots = torch.zeros(len(of), SPOTS, dtype=torch.long, device=device)
        self.random = torch.Generator(device).manual_seed(seed)
        for k, c in enumerate(of):
            self.images[k, : len(c.image)], self.targets[k, : len(c.image)] = c.image.to(device), c.target.to(device)
            there = torch.nonzero((c.target > 0.5).any(2).any(1))[:, 0].to(device)
            self.spots[k] = there[torch.randint(len(there), (SPOTS,), generator=self.random, device=device)]

    def uniform(self, *size: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(*size, generator=self.random, device=self.device)

    def normal(self, *size: int) -> Tensor:
        return torch.randn(*size, generator=self.random, device=self.device)

    def sometimes(self, n: int, share: float) -> Tensor:
        """One or zero for each window."""
        return (self.uniform(n) < share).float()[:, None, None, None]

    def draw(self) -> tuple[Tensor, Tensor]:
        """Images (n, channel, step, row, column), and the shares of background and foreground, 0 where nothing is known."""
        r, n = self.recipe, self.recipe.batch
        which = torch.randint(len(self.steps), (n,), generator=self.random, device=self.device)
        at, known = self._steps(which)
        near = torch.minimum(at.clamp_min(0), self.steps[which, None] - 1)
        x, y = self.images[which[:, None], near].float(), self.targets[which[:, None], near].float()
        matrix, move = self._matrix(), self.uniform(n, 2, low=-r.place, high=r.place)
        rows, columns = (
            (torch.arange(s * r.finer, device=self.device) - (s * r.finer - 1) / 2) / r.finer for s in r.size[1:]
        )
        plane = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)
        bend = self.normal(n, 2, 5, 5) * r.bend * self.sometimes(n, 0.35)
        bent = functional.interpolate(bend, size=plane.shape[:2], mode="bicubic", align_corners=True).permute(
            0, 2, 3, 1
        )
        place = torch.einsum("bij,rcj->brci", matrix, plane) + move[:, None, None] + bent
        half = torch.tensor([(s - 1) / 2 for s in x.shape[2:]], device=self.device)
        grid = (place / half).flip(-1)
        x = functional.grid_sample(x, grid, padding_mode="border", align_corners=True)
        y = functional.grid_sample(y, grid, padding_mode="zeros", align_corners=True)
        inside = (grid.abs() <= 1).all(-1)[:, None] & known[:, :, None, None]
        channels = [self._recoloured(x)]
        if self.position is not None:
            channels.append(self._far(plane, at, which, matrix, move))
        image = torch.stack(channels, 1).contiguous(memory_format=torch.channels_last_3d)
        return image, torch.stack([1 - y, y], 1) * inside[:, None]

    def _steps(self, which: Tensor) -> tuple[Tensor, Tensor]:
        """Steps of each window, near one that is labelled, and whether they are in the image."""
        long, n = self.recipe.size[0], self.steps[which]
        spot = self.spots[which, torch.randint(SPOTS, (len(which),), generator=self.random, device=self.device)]
        wanted = spot + (self.uniform(len(which), low=-0.4, high=0.4) * long).round().long()
        start = torch.minimum((wanted - long // 2).clamp_min(0), (n - long).clamp_min(0))
        room = (long - n).clamp_min(0)
        start = torch.where(n <= long, -((room + 1).float() * self.uniform(len(which))).floor().long(), start)
        at = start[:, None] + torch.arange(long, device=self.device)
        turned = self.uniform(len(which)) < self.recipe.mirror[0]
        at = torch.where(turned[:, None], at.flip(1), at)
        return at, (at >= 0) & (at < n[:, None])

    def _matrix(self) -> Tensor:
        """Turn, size and mirror of each window, from its middle; (n, 2, 2)."""
        r, n = self.recipe, self.recipe.batch
        on = (self.uniform(n) < 0.85).float()
        angle = self.uniform(n, low=-r.rotate, high=r.rotate) * on
        zoom = torch.exp(self.uniform(n, low=-1, high=1) * math.log1p(r.zoom) * on)
        stretch = torch.exp(self.uniform(n, 2, low=-1, high=1) * math.log1p(0.12) * on[:, None]) * zoom[:, None]
        mirrored = 1 - 2 * (self.uniform(n, 2) < torch.tensor(r.mirror[1:], device=self.device)).float()
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(n, 2, 2)
        return turn @ torch.diag_embed(stretch * mirrored)

    def _far(self, plane: Tensor, at: Tensor, which: Tensor, matrix: Tensor, move: Tensor) -> Tensor:
        """The channel of `Working.position`."""
        assert self.position is not None
        unit = [self.position[0], *(u / self.recipe.finer for u in self.position[1:])]
        middle = -(torch.linalg.inv(matrix) @ move[..., None])[..., 0]
        apart = plane[None] - middle[:, None, None]
        within = (apart[..., 0] / unit[1]) ** 2 + (apart[..., 1] / unit[2]) ** 2
        along = (at.float() - (self.steps[which, None].float() - 1) / 2) / unit[0]
        return (within[:, None] + along[:, :, None, None] ** 2).sqrt().clamp_max(FARTHEST)

    def _recoloured(self, x: Tensor) -> Tensor:
        r, (n, steps) = self.recipe, x.shape[:2]
        one = (n, 1, 1, 1)
        share = self.sometimes(n, 0.25) * self.uniform(*one, high=0.3)
        x = x * (1 - share) + share * functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
        coarse = functional.interpolate(functional.avg_pool2d(x, 2), size=x.shape[2:], mode="bilinear")
        x = torch.where(self.sometimes(n, 0.1) > 0, coarse, x)
        low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
        span = high - low + 1e-5
        x = (
            ((x - low) / span)
            .clamp(1e-6, 1)
            .pow(torch.exp(self.uniform(*one, low=-r.gamma, high=r.gamma) * self.sometimes(n, 0.5)))
        )
        field = self.normal(n, 1, 3, 3) * self.sometimes(n, 0.5) * r.shading / 2
        x = (
            x * torch.exp(functional.interpolate(field, size=x.shape[2:], mode="bicubic", align_corners=True)) * span
            + low
        )
        x = x * (1 + self.sometimes(n, 0.5) * self.uniform(*one, low=-0.25, high=0.25))
        x = x + self.sometimes(n, 0.5) * self.uniform(*one, low=-0.25, high=0.25)
        x = x * (1 + self.sometimes(n, 0.7) * r.of_step * self.normal(n, steps, 1, 1))
        x = x + self.sometimes(n, 0.7) * r.of_step * self.normal(n, steps, 1, 1)
        return x + self.sometimes(n, 0.4) * self.uniform(*one, high=0.15) * self.normal(*x.shape)


def loss_of(levels: Sequence[Tensor], target: Tensor, shares: bool) -> Tensor:
    """Cross entropy, and one minus the Dice of each window, at each level with half the weight of the finer one."""
    total = torch.zeros((), device=target.device)
    for k, logits in enumerate(levels):
        at = (
            target
            if logits.shape[2:] == target.shape[2:]
            else functional.adaptive_avg_pool3d(target, list(logits.shape[2:]))
        )
        logs, known = logits.float().log_softmax(1), at.sum(1, keepdim=True)
        entropy = -(at * logs).sum() / known.sum().clamp_min(1)
        p, truth = logs.exp()[:, 1:] * known, at[:, 1:]
        truth = ((truth - 0.25) / 0.5).clamp(0, 1) if shares else truth  # of shares: none at one of four, all at two
        both, either = (p * truth).sum((2, 3, 4)), (p + truth).sum((2, 3, 4))
        total = total + 0.5**k * (entropy + 1 - ((2 * both + 1) / (either + 1)).mean())
    return total / sum(0.5**k for k in range(len(levels)))


def moving(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
    """A moving average that forgets its start quickly at first."""
    kept = min(AVERAGE, (1 + int(count)) / (10 + int(count)))
    with torch.no_grad():
        for old, new in zip(averaged, current, strict=True):
            old.lerp_(new.to(old.dtype), 1 - kept)


def shares_of_time(clock: Callable[[], float], seconds: float) -> Iterator[float]:
    began = clock()
    while (share := (clock() - began) / seconds) < 1:
        yield share


def train(
    name: str, fold: int | None, seconds: float, device: str, out: Path, start: Path | None = None, peak: float = RATE
) -> None:
    """One network; its weights lie in `out`."""
    recipe, product = RECIPES[name], ship.PRODUCTS[name]
    every = cases(name, recipe)
    judges = [] if fold is None else splits.folds([c.patient for c in every], FOLDS)[fold]
    torch.manual_seed(0)
    windows = Windows([c for c in every if c.patient not in judges], recipe, product.position, device, 0)
    network = SlabUNet(1 + (product.position is not None), 2, widths=product.widths, strides=product.strides)
    before: list[dict[str, str | float]] = []
    if start is not None:
        first = torch.load(start, map_location="cpu", weights_only=True)
        before = [*first.get("before", []), {k: first[k] for k in ("device", "seen", "seconds")}]
        network.load_state_dict({k: v.float() for k, v in ship.tensors(start).items()})
    network.to(device).to(memory_format=torch.channels_last_3d).train()  # type: ignore[call-overload]
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, peak, fused=True)
    average = AveragedModel(network, multi_avg_fn=moving, use_buffers=True)
    path, written, iterations, began = (
        out / f"{name}-{'all' if fold is None else f'fold{fold}'}.pt",
        0.0,
        0,
        (time.monotonic if device == "cuda" else time.process_time)(),
    )

    def write() -> None:
        weights = {k: v.detach().half().cpu() for k, v in average.module.state_dict().items()}
        content = {
            "weights": weights,
            "device": device,
            "seen": iterations * recipe.batch,
            "before": before,
            "seconds": (time.monotonic if device == "cuda" else time.process_time)() - began,
        }
        with files.replacing(path) as temporary:
            torch.save({**content, "judges": judges}, temporary)

    for share in shares_of_time(time.monotonic if device == "cuda" else time.process_time, seconds):
        rate = peak * min(1, (iterations + 1) / WARM_UP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.no_grad():
            x, y = windows.draw()
        with torch.autocast(device, torch.bfloat16):
            levels = network.at_levels(x)
        value = loss_of(levels, y, bool(recipe.shares))
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimiser.step()
        if iterations % 2:
            average.update_parameters(network)
        iterations += 1
        if iterations % 50 == 0:
            print(f"{path.stem} {share:.0%}, {iterations} iterations, loss {float(value.detach()):.3f}", flush=True)
        if share - written > 0.25:
            written = share
            write()
    write()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--only", nargs="*", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--seconds", type=float, default=200.0)
    parser.add_argument("--fold", type=int, choices=range(FOLDS))
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if not ship.DATA.is_dir():
        raise SystemExit(f"{ship.DATA} is not there; set MEDSEQ_DATA.")
    os.makedirs(args.weights, exist_ok=True)
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    warnings.simplefilter("ignore", ms.MedseqWarning)
    for name in args.only:
        train(name, args.fold, args.seconds, args.device, args.weights, args.start, args.rate)


if __name__ == "__main__":
    main()
