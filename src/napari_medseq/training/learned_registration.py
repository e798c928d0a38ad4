"""Training and use of the recurrent registration network, without any label: it learns to make two images alike, smoothly."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from napari_medseq import geometry
from napari_medseq.errors import RegistrationError, SettingsError
from napari_medseq.models.recurrent_registration import RecurrentRegistration, jacobian, warp
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.registration.transform import Quality, Spline, Transform
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.grid import resample_volume

#: voxels of the network's grid between the control points of the spline that keeps its answer
_SPLINE_STEP = 2
#: share of voxels in which space may fold before the answer is doubted, as for the classical deformation
_FOLDED = 0.005


class LearnedRegistrationSettings(BaseModel):
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

    model_config = ConfigDict(frozen=True, extra="forbid")

    grid: tuple[int, int, int] = (64, 64, 32)
    channels: int = Field(default=16, ge=2)
    hidden: int = Field(default=24, ge=2)
    steps: int = Field(default=6, ge=1)
    cell: str = Field(default="gru", pattern="^(gru|lstm)$")
    iterations: int = Field(default=400, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    synthetic: float = Field(default=0.8, ge=0, le=1)
    bend_voxels: float = Field(default=4.0, gt=0)
    smoothness: float = Field(default=0.3, ge=0)
    seed: int = 0


def train_registration(
    pairs: Sequence[tuple[ImageSequence, ImageSequence]],
    settings: LearnedRegistrationSettings | None = None,
    *,
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
    settings = settings or LearnedRegistrationSettings()
    if not pairs:
        raise SettingsError("There is no pair of images to learn registration from; give at least one.")
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    network = RecurrentRegistration(settings.channels, settings.hidden, settings.steps, settings.cell).to(device)  # type: ignore[arg-type]
    tensors = [_both(moving, fixed, settings.grid, None)[:2] for fixed, moving in pairs]
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
            shown = _crop(bent(one.flip(axes), settings.bend_voxels, rng), rng)
            fixed, moving, truth = (t.to(device) for t in shown)
            inner = [
                slice(None),
                slice(None),
                *(slice(3, n - 3) for n in fixed.shape[2:]),
            ]  # what crosses the edge is not seen
            body = torch.zeros_like(fixed)
            body[tuple(inner)] = (functional.avg_pool3d(fixed, 5, 1, 2) > 0.05).float()[tuple(inner)]
            loss = sum(
                w * ((field - truth).abs().mean(1, keepdim=True) * body).sum() / body.sum().clamp_min(1)
                for w, field in zip(weights, network(fixed, moving), strict=True)
            )
        else:
            fixed, moving = (t.flip(axes).to(device) for t in (one, other))
            loss = sum(
                w * (dissimilarity(fixed, warp(moving, field)) + settings.smoothness * roughness(field))
                for w, field in zip(weights, network(fixed, moving), strict=True)
            )
        assert isinstance(loss, Tensor)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        rates.step()
        if progress is not None:
            progress(n + 1, settings.iterations, f"loss {loss.item():.3f}")
    return network.eval().cpu()


def bent(image: Tensor, largest: float, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
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
    found = []
    for part in (warp(image, field), image):
        noise = torch.from_numpy(rng.normal(0, float(rng.uniform(0, 0.03)), size).astype(np.float32))
        found.append((part + noise).clamp_min(0) ** float(rng.uniform(0.8, 1.25)))
    return found[0], found[1], field


def _crop(parts: Sequence[Tensor], rng: np.random.Generator) -> list[Tensor]:
    """The same box of all: half along each axis, at least 24 voxels, anywhere."""
    cut = [slice(None), slice(None)]
    for n in parts[0].shape[2:]:
        size = min(n, max(24, n // 2))
        low = int(rng.integers(0, n - size + 1))
        cut.append(slice(low, low + size))
    return [part[tuple(cut)] for part in parts]


def dissimilarity(a: Tensor, b: Tensor, width: int = 7) -> Tensor:
    """1 − mean squared local correlation, over windows of `width` voxels; 0 for images alike up to local contrast."""

    def mean(x: Tensor) -> Tensor:
        return functional.avg_pool3d(x, width, stride=1, padding=width // 2, count_include_pad=False)

    ma, mb = mean(a), mean(b)
    cross, va, vb = mean(a * b) - ma * mb, mean(a * a) - ma * ma, mean(b * b) - mb * mb
    return 1 - (cross * cross / (va.clamp_min(0) * vb.clamp_min(0) + 1e-4)).mean()


def roughness(field: Tensor) -> Tensor:
    """Mean squared difference of neighbouring displacements."""
    return torch.stack([field.diff(dim=axis).square().mean() for axis in range(2, field.ndim)]).mean()


@torch.inference_mode()
def register_learned(
    network: RecurrentRegistration,
    moving: ImageSequence,
    fixed: ImageSequence,
    *,
    start: Transform | None = None,
    grid: tuple[int, int, int] = (64, 64, 32),
) -> Transform:
    """Deform `moving` onto `fixed` with a trained network.

    Parameters
    ----------
    start : Transform, optional
        A linear transform that aligns them roughly, such as ``ms.register(moving, fixed, kind="affine")``.
    grid : (x, y, z)
        The grid the network was trained on.

    Returns
    -------
    Transform
        Of kind "deformable", as the classical one: a spline before the linear part, with ``quality``.

    Raises
    ------
    RegistrationError
        If `start` is deformable, space folds, or the images are less alike than before.
    """
    began = time.perf_counter()
    if start is not None and start.spline is not None:
        raise RegistrationError("The start of a learned registration is a linear transform; this one is deformable.")
    a, b, affine = _both(moving, fixed, grid, start)
    field = network(a, b)[-1]
    folds = jacobian(field)
    quality = Quality(
        nmi_before=1.0 + _alike(a, b),
        nmi_after=1.0 + _alike(a, warp(b, field)),
        correlation_after=_alike(a, warp(b, field)),
        jacobian_min=float(folds.min()),
        jacobian_max=float(folds.max()),
        folded=float((folds <= 0).float().mean()),
        seconds=round(time.perf_counter() - began, 3),
    )
    doubts = []
    if (quality.folded or 0.0) > _FOLDED:
        doubts.append(f"space folds in {quality.folded:.1%} of the grid")
    if quality.correlation_after < _alike(a, b) - 0.01:
        doubts.append(f"the correlation fell from {_alike(a, b):.3f} to {quality.correlation_after:.3f}")
    if doubts:
        raise RegistrationError(f"{moving.name} could not be deformed onto {fixed.name}: {'; '.join(doubts)}.")
    linear = np.eye(4) if start is None else start.linear
    spline = _spline(field[0].numpy().astype(np.float64), affine)
    return Transform(
        "deformable", linear, fixed.affine, fixed.grid, spline, quality, fixed_name=fixed.name, moving_name=moving.name
    )


def _both(
    moving: ImageSequence, fixed: ImageSequence, grid: tuple[int, int, int], start: Transform | None
) -> tuple[Tensor, Tensor, NDArray[np.float64]]:
    """Both on one grid over the fixed image, as (1, 1, z, y, x) from 0 to 1, and that grid's affine."""
    if "z" not in fixed.axes or "z" not in moving.axes:
        raise RegistrationError("Learned registration is for volumes (z, y, x).")
    scale = (np.array(fixed.grid) - 1) / (np.array(grid) - 1)
    affine = np.asarray(fixed.affine @ np.diag([*scale, 1.0]))
    found = []
    for seq, transform in ((fixed, None), (moving, start.itk() if start is not None else None)):
        volume = seq.volume_zyx().astype(np.float32)
        low, high = np.percentile(volume, (1, 99.5))
        volume = np.clip((volume - low) / max(high - low, 1e-6), 0, 1)
        on_grid = resample_volume(volume, seq.affine, affine, grid, transform=transform, antialias=True)
        found.append(torch.from_numpy(np.ascontiguousarray(on_grid, dtype=np.float32))[None, None])
    return found[0], found[1], affine


def _alike(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation."""
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].nan_to_num())


def _spline(field: NDArray[np.float64], affine: NDArray[np.float64]) -> Spline:
    """A displacement (x|y|z, z, y, x) in voxels as a cubic B-spline in voxel coordinates, exact at its control points."""
    size = np.array(field.shape[1:])
    step = _SPLINE_STEP
    count = (size - 1) // step + 5  # two more control points on each side
    at = np.stack(np.meshgrid(*[step * (np.arange(n) - 2) for n in count], indexing="ij"))
    values = [ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in field]
    weights = [ndimage.spline_filter(v, order=3, mode="mirror") for v in values]
    fixed_parameters = (*(int(n) for n in count[::-1]), *[-2.0 * step] * 3, *[float(step)] * 3, *np.eye(3).ravel())
    return Spline(
        geometry.as_affine(np.linalg.inv(affine)),
        tuple(float(v) for v in fixed_parameters),
        np.concatenate([w.ravel() for w in weights]),
    )
