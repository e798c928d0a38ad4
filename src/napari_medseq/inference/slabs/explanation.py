"""`explain` for slab networks: gradient-weighted features of each window, or how far the answer falls when a square is covered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_medseq.inference.inputs.working import working_volume
from napari_medseq.inference.outputs.finite import check_finite
from napari_medseq.inference.resources.tuning import placed
from napari_medseq.inference.slabs.segmentation import slab_network, slab_settings, within_nothing
from napari_medseq.inference.slabs.windows import folded, places, probabilities_of_steps, window_weights
from napari_medseq.models import Model
from napari_medseq.models.slab_unet import SlabUNet
from napari_medseq.progress import Cancelled, Progress, check, part
from napari_medseq.sequence import ImageSequence

Map = NDArray[np.float32]

_PATCHES = 8  # occluding patches along the longer side of a step
_CERTAIN = 1e-6  # a probability this near 0 or 1 counts as that, so that its log-odds are finite


def explained_slab(
    channels: Mapping[str, ImageSequence],
    model: Model,
    target: int,
    method: Literal["grad-cam", "occlusion"],
    device: torch.device,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> tuple[Map, ImageSequence, list[str]]:
    """The map of the evidence for a class in one exam, the image whose grid and axes it has, and the doubts about it.

    Parameters
    ----------
    channels : mapping of str to ImageSequence
        Those of the model that are there.
    model : Model
    target : int
        Channel of the logits.
    method : {"grad-cam", "occlusion"}
        See `explain`.
    device, progress, cancelled

    Raises
    ------
    ModelError
        If the answer is not a number.
    OperationCancelled
    """
    settings, network = slab_settings(model), slab_network(model)
    volume, grid = working_volume(channels, model.info.channels, settings.working)
    inner = tuple(slice(0, n) for n in volume.shape)
    if len(channels) < len(model.info.channels):
        volume, inner = within_nothing(volume, settings.window)
    message = f"explaining {grid.image.name}"
    if method == "grad-cam":
        effect = _cam(network, volume, settings.window, target, device, progress, cancelled, message)
    else:

        def answers(x: NDArray[np.float32], of: Progress | None) -> Tensor:
            steps = probabilities_of_steps(network, x, settings, device, of, cancelled, message)
            return torch.stack([p[target].cpu() for p in steps])

        squares = _squares(volume.shape[2], volume.shape[3])
        whole = answers(volume, part(progress, 0, 1 / (len(squares) + 1)))
        before = _answer(whole, whole)
        effect = torch.zeros(volume.shape[1:])
        for k, (rows, columns) in enumerate(squares, 1):
            covered = volume.copy()
            covered[: len(model.info.channels), :, rows, columns] = 0  # not the channel of positions
            after = answers(covered, part(progress, k / (len(squares) + 1), (k + 1) / (len(squares) + 1)))
            effect[:, rows, columns] = (before - _answer(whole, after)).clamp_min(0)[:, None, None]
    check_finite(effect, model, grid.image.name)
    back = grid.back(effect[inner[1:]].numpy(), labels=False)
    doubt = settings.doubt
    notes = [] if doubt is None else doubt.of_image(grid.seen, model.info.name, averaged=grid.averaged)
    return np.asarray(back, np.float32), grid.image, notes


def _answer(weights: Tensor, p: Tensor) -> Tensor:
    """The answer of each step: the sum of the log-odds of probabilities (step, row, column), weighted by those of the plain image."""
    p = p.clamp(_CERTAIN, 1 - _CERTAIN)
    return (weights * (p.log() - (1 - p).log())).sum((1, 2))


def _squares(rows: int, columns: int) -> list[tuple[slice, slice]]:
    side = max(1, -(-max(rows, columns) // _PATCHES))
    return [
        (slice(r, min(r + side, rows)), slice(c, min(c + side, columns)))
        for r in range(0, rows, side)
        for c in range(0, columns, side)
    ]


def _cam(
    network: SlabUNet,
    volume: NDArray[np.float32],
    window: tuple[int, int, int],
    target: int,
    device: torch.device,
    progress: Progress | None,
    cancelled: Cancelled | None,
    message: str,
) -> Tensor:
    """Grad-CAM of each window (Selvaraju et al. 2017, eq. 1 and 2), averaged where windows overlap; (step, row, column)."""
    net = placed(folded(network.eval()), device)
    x = torch.from_numpy(volume).to(device)
    size = (x.shape[1], x.shape[2], x.shape[3])
    weight = window_weights(size, window).to(device)
    total, weights = torch.zeros(size, device=device), torch.zeros(size, device=device)
    where = places(size, window)
    for done, at in enumerate(where, 1):
        check(cancelled)
        total[at] += _cam_of_window(net, x[(slice(None), *at)][None], target) * weight
        weights[at] += weight
        if progress is not None:
            progress(done, len(where), message)
    return (total / weights).cpu()


def _cam_of_window(net: SlabUNet, x: Tensor, target: int) -> Tensor:
    """(step, row, column) of a window (1, channel, step, row, column)."""
    fitted, inner = net.fitted(x)
    with torch.no_grad():
        *finer, deepest = net.features(fitted)
    with torch.enable_grad():
        deepest = deepest.detach().requires_grad_()
        logits = net.decode([*finer, deepest], 1)[0]
        others = [k for k in range(logits.shape[1]) if k != target]
        odds = logits[:, target] - logits[:, others].logsumexp(1)
        (gradient,) = torch.autograd.grad((logits.detach().softmax(1)[:, target] * odds).sum(), deepest)
    coarse = torch.relu((gradient.mean((2, 3, 4), keepdim=True) * deepest.detach()).sum(1, keepdim=True))
    return functional.interpolate(coarse, size=list(fitted.shape[2:]), mode="trilinear")[0, 0][inner]
