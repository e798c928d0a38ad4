"""Unsupervised training of the recurrent registration network: it learns smooth fields that make two images alike."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from napari_medseq.errors import RegistrationError, SettingsError
from napari_medseq.models import bundle
from napari_medseq.models.recurrent_registration import WINDOW, RecurrentRegistration, warp
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.registration.learned import GRID, on_grid
from napari_medseq.sequence import ImageSequence
from napari_medseq.settings import Settings, checked


class LearnedRegistrationSettings(Settings):
    """How the network is trained.

    Parameters
    ----------
    grid : (x, y, z)
        Voxels of the grid that both images are brought to.
    channels, hidden, steps
        Of the network.
    cell : {"gru", "lstm"}
    iterations : int
        Pairs shown.
    learning_rate : float
    synthetic : float
        Share of iterations that bend one image by a known random field and ask for that field (idea of SynthMorph, Hoffmann et al.
        2022, doi:10.1109/TMI.2021.3116879); the others ask that the two images of a pair become alike.
    bend_voxels : float
        Largest displacement of such a field.
    smoothness : float
        Weight of the squared gradient of the displacement against the similarity.
    seed : int
    """

    grid: tuple[int, int, int] = GRID
    channels: int = Field(default=16, ge=2)
    hidden: int = Field(default=24, ge=2)
    steps: int = Field(default=6, ge=1)
    cell: Literal["gru", "lstm"] = "gru"
    iterations: int = Field(default=400, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    synthetic: float = Field(default=0.8, ge=0, le=1)
    bend_voxels: float = Field(default=4.0, gt=0)
    smoothness: float = Field(default=0.3, ge=0)
    seed: int = 0


def train_registration(
    pairs: Sequence[tuple[ImageSequence, ImageSequence]],
    *,
    settings: LearnedRegistrationSettings | Mapping[str, object] | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> RecurrentRegistration:
    """Train on pairs of volumes (fixed, moving) that are aligned roughly; both orders are shown, mirrored at random.

    Most iterations show one image and itself bent by a known field, in crops of half the size, and the loss is the distance to that
    field where there is structure. In the others it is 1 − local normalised cross-correlation (as VoxelMorph, Balakrishnan et al.
    2019, doi:10.1109/TMI.2019.2897538) plus the smoothness penalty. Either is summed over the steps with weights that rise to the last.

    Raises
    ------
    SettingsError
        If there is no pair.
    """
    settings = checked(LearnedRegistrationSettings, settings)
    if not pairs:
        raise SettingsError("There is no pair of images to learn registration from; give at least one.")
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    network = RecurrentRegistration(settings.channels, settings.hidden, settings.steps, settings.cell).to(device)
    tensors = [_both(moving, fixed, settings.grid) for fixed, moving in pairs]
    optimiser = torch.optim.Adam(network.parameters(), settings.learning_rate)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.iterations)
    for n in range(settings.iterations):
        check(cancelled)
        one, other = tensors[int(rng.integers(len(tensors)))]
        if rng.random() < 0.5:
            one, other = other, one
        axes = [axis for axis in (2, 3, 4) if rng.random() < 0.5]
        weights = [0.8 ** (settings.steps - 1 - k) for k in range(settings.steps)]
        if rng.random() < settings.synthetic:
            crop = _crop(randomly_deformed(one.flip(axes), settings.bend_voxels, rng), rng)
            fixed, moving, truth = (t.to(device) for t in crop)
            # what crosses the edge is not seen
            inner = [
                slice(None),
                slice(None),
                *(slice(3, n - 3) for n in fixed.shape[2:]),
            ]
            body = torch.zeros_like(fixed)
            body[tuple(inner)] = (functional.avg_pool3d(fixed, 5, 1, 2) > 0.05).float()[tuple(inner)]
            losses = [
                ((field - truth).abs().mean(1, keepdim=True) * body).sum() / body.sum().clamp_min(1)
                for field in network(fixed, moving)
            ]
        else:
            fixed, moving = (t.flip(axes).to(device) for t in (one, other))
            losses = [
                dissimilarity(fixed, warp(moving, field)) + settings.smoothness * roughness(field)
                for field in network(fixed, moving)
            ]
        loss = torch.stack([w * one for w, one in zip(weights, losses, strict=True)]).sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        rates.step()
        if progress is not None:
            progress(n + 1, settings.iterations, f"loss {loss.item():.3f}")
    return network.eval().cpu()


def randomly_deformed(image: Tensor, largest: float, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """An image bent by a smooth random field, the image itself, both with noise and another contrast, and that field.

    Returns
    -------
    fixed, moving : Tensor, shape (1, 1, z, y, x)
    field : Tensor, shape (1, 3, z, y, x)
        The displacement (x, y, z in voxels) with which ``warp(moving, field)`` is the fixed image.
    """
    size = image.shape[2:]
    coarse = [max(3, round(n / float(rng.uniform(8, 16)))) for n in size]
    waves = rng.normal(size=(3, *coarse))
    zoom = [n / c for n, c in zip(size, coarse, strict=True)]
    smooth = np.stack([ndimage.zoom(w, zoom, order=3, grid_mode=True, mode="nearest") for w in waves])
    field = torch.from_numpy(smooth.astype(np.float32))[None]
    field = field * (largest * float(rng.uniform(0.2, 1)) / field.norm(dim=1).max())
    pair = []
    for part in (warp(image, field), image):
        noise = torch.from_numpy(rng.normal(0, float(rng.uniform(0, 0.03)), size).astype(np.float32))
        pair.append((part + noise).clamp_min(0) ** float(rng.uniform(0.8, 1.25)))
    return pair[0], pair[1], field


def _crop(parts: Sequence[Tensor], rng: np.random.Generator) -> list[Tensor]:
    """The same box of all images, at a random position: half of each axis, at least 24 voxels."""
    cut = [slice(None), slice(None)]
    for n in parts[0].shape[2:]:
        size = min(n, max(24, n // 2))
        low = int(rng.integers(0, n - size + 1))
        cut.append(slice(low, low + size))
    return [part[tuple(cut)] for part in parts]


def dissimilarity(a: Tensor, b: Tensor) -> Tensor:
    """1 − mean squared local correlation, over windows of 7 voxels; 0 for images alike up to local contrast."""

    def mean(x: Tensor) -> Tensor:
        return functional.avg_pool3d(x, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)

    ma, mb = mean(a), mean(b)
    cross, va, vb = mean(a * b) - ma * mb, mean(a * a) - ma * ma, mean(b * b) - mb * mb
    return 1 - (cross * cross / (va.clamp_min(0) * vb.clamp_min(0) + 1e-4)).mean()


def roughness(field: Tensor) -> Tensor:
    """Mean squared difference of neighbouring displacements."""
    return torch.stack([field.diff(dim=axis).square().mean() for axis in range(2, field.ndim)]).mean()


def write_registration(
    network: RecurrentRegistration,
    folder: str | os.PathLike[str],
    *,
    settings: LearnedRegistrationSettings | Mapping[str, object] | None = None,
    name: str = "registration",
    modality: str | None = None,
    description: str = "",
    licence: str = "",
) -> Path:
    """Write a trained network as a bundle, for ``ms.register(kind="deformable", backend="learned", model=folder)``.

    Parameters
    ----------
    network : RecurrentRegistration
    folder : path
        Must not exist, or be a bundle (it is replaced).
    settings : LearnedRegistrationSettings or mapping
        What it was trained with.
    name, modality, description, licence
        Facts about the model, for `ModelInfo`.

    Raises
    ------
    ModelError
        If `folder` exists and is not a bundle.
    """
    chosen = checked(LearnedRegistrationSettings, settings)
    definition = {
        "_target_": "RecurrentRegistration",
        **chosen.model_dump(include={"channels", "hidden", "steps", "cell"}),
    }
    return bundle.write_bundle(
        Path(folder),
        facts={"name": name, "task": "registration", "modality": modality},
        network=definition,
        inference={"grid": list(chosen.grid)},
        weights=network.state_dict(),
        card=f"# {name}\n\n{description}\n",
        licence_text=f"{licence}\n",
        description=description,
        licence=licence,
        version="1",
    )


def _both(moving: ImageSequence, fixed: ImageSequence, grid: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Fixed and moving on one grid over the fixed image, as (1, 1, z, y, x) from 0 to 1."""
    if "z" not in fixed.axes or "z" not in moving.axes:
        raise RegistrationError("Learned registration is for volumes (z, y, x).")
    scale = (np.array(fixed.grid) - 1) / (np.array(grid) - 1)
    affine = np.asarray(fixed.affine @ np.diag([*scale, 1.0]))
    one, other = (on_grid(s.volume_zyx().astype(np.float32), s.affine, affine, grid) for s in (fixed, moving))
    return one, other
