"""Several modalities, each with an encoder of its own, weighed by attention; any of them may be missing (NaN throughout)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

#: features, evidence layer, embedding layer → embedding (n, width), evidence (n, class, …)
Describe = Callable[[Tensor, nn.Module, nn.Module], tuple[Tensor, Tensor]]


def without_nan(x: Tensor) -> Tensor:
    """Replace missing values by zero, the median of the normalised intensities."""
    return torch.where(x.isnan(), torch.zeros_like(x), x)


def hide(x: Tensor, modalities: int, copies: int, share: float) -> Tensor:
    """Exams (batch, step, channel, …) with modalities made missing at random, never all that an exam has."""
    batch = x.shape[0]
    hidden = torch.rand(batch, modalities, device=x.device) < share
    spared = torch.randint(modalities, (batch, 1), device=x.device)
    hidden = hidden.scatter(1, spared, False)
    parts = x.unflatten(2, (copies, modalities, -1))
    missing = parts.isnan().movedim(3, 1).flatten(2).all(2)
    hidden = hidden & (~missing & ~hidden).any(1, keepdim=True)  # the one that is spared may be missing
    mask = hidden.reshape(batch, 1, 1, modalities, *[1] * (parts.ndim - 4))
    visible: Tensor = parts.masked_fill(mask, torch.nan).flatten(2, 4)
    return visible


class Modalities(nn.Module):
    """The encoders of the second and further modalities, and the attention between all.

    Features of a missing modality are zero throughout, which is how `describe` knows it again.

    Parameters
    ----------
    others : sequence of (encoder, evidence, embedding)
    width, hidden : int
        Sizes of a step's vector, and of the attention.
    """

    def __init__(self, others: Sequence[tuple[nn.Module, nn.Module, nn.Module]], width: int, hidden: int) -> None:
        super().__init__()
        self.others = nn.ModuleList(nn.ModuleList(parts) for parts in others)
        self.weigh = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def features(self, first: nn.Module, x: Tensor, copies: int) -> Tensor:
        """Features (n, modality · feature, …) of steps (n, channel, …); `first` encodes the first modality."""
        encoders = [first, *(parts[0] for parts in self._others())]
        per_channel = []
        for k, encoder in enumerate(encoders):
            part = x.unflatten(1, (copies, len(encoders), -1))[:, :, k].flatten(1, 2)
            f = encoder(without_nan(part))
            missing = part.isnan().flatten(1).all(1).reshape(-1, *[1] * (f.ndim - 1))
            per_channel.append(torch.where(missing, torch.zeros_like(f), f))
        return torch.cat(per_channel, 1)

    def describe(self, f: Tensor, describe: Describe, evidence: nn.Module, embed: nn.Module) -> tuple[Tensor, Tensor]:
        """Embedding and evidence, averaged over the modalities that are there with the weights of attention."""
        layers = [(evidence, embed), *((parts[1], parts[2]) for parts in self._others())]
        parts = f.chunk(len(layers), 1)
        described = [describe(part, *own) for part, own in zip(parts, layers, strict=True)]
        vectors = torch.stack([d[0] for d in described], 1)
        maps = torch.stack([d[1] for d in described], 1)
        is_present = torch.stack([part.flatten(1).any(1) for part in parts], 1)
        score = self.weigh(vectors).squeeze(-1)
        weights = score.masked_fill(~is_present, torch.finfo(score.dtype).min).softmax(1)
        spread = weights.reshape(*weights.shape, *[1] * (maps.ndim - 2))
        return (weights[..., None] * vectors).sum(1), (spread * maps).sum(1)

    def _others(self) -> list[list[nn.Module]]:
        return [list(parts) for parts in self.others if isinstance(parts, nn.ModuleList)]
