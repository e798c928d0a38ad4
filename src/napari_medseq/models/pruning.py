"""Channel pruning: a `RecurrentUNet` reduced to its strongest channels is again a `RecurrentUNet`, with smaller
widths.

Channels that are added to each other (skips, residual paths, mixers) are kept or dropped together, level by level; what is
inside one block is chosen for that block alone. The strength of a channel is the size of its filters (Li et al. 2017,
arXiv:1608.08710, who use the L1 norm; here the L2 norm). Of each group of a group norm equally many channels stay.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from napari_medseq.errors import ModelError
from napari_medseq.models.plain import Definition, Plain
from napari_medseq.models.recurrent_unet import RecurrentUNet

_GROUPS = 8  # groups of the group norms in `blocks`


def prune(network: RecurrentUNet, definition: Definition, keep: float) -> tuple[dict[str, Plain], dict[str, Tensor]]:
    """The definition and weights of the smaller network.

    Parameters
    ----------
    network : RecurrentUNet
    definition : mapping
        What it was built from.
    keep : float
        Share of channels and of recurrent state that stays, 0 to 1; widths are rounded to whole groups.

    Raises
    ------
    ModelError
        If the network cannot be pruned.
    """
    if definition.get("_target_") != "RecurrentUNet" or not isinstance(network, RecurrentUNet):
        raise ModelError("Only a RecurrentUNet can be pruned; leave keep at 1 and use error or storage.")
    if network.dimensions != 2:
        raise ModelError(
            "A network whose steps are volumes cannot be pruned; leave keep at 1 and use error or storage."
        )
    w = {k: v.detach() for k, v in network.state_dict().items()}
    depth = len(network.encoder)
    levels = _levels(w, depth, keep)
    cut = _Cut(w)
    cut.block("encoder.0", None, levels[0], keep, len(levels[0]))
    for v in range(1, depth):
        cut.block(f"encoder.{v}", levels[v - 1], levels[v], keep, len(levels[v]))
    heads = len(network.heads)
    for i, v in enumerate(range(depth - 2, -1, -1)):
        cut.take(f"up.{i}.weight", levels[v + 1], levels[v])
        cut.take(f"up.{i}.bias", levels[v])
        cut.block(f"decoder.{i}", levels[v], levels[v], keep, len(levels[v]))
        at = i - (len(network.decoder) - heads)
        if at >= 0:
            cut.take(f"heads.{at}.weight", None, levels[v])
            cut.take(f"heads.{at}.bias")
    hidden = 0
    for v, _ in network.recurrent:
        hidden = cut.mixer(f"mixers.{v}", levels[v], keep)
    smaller = {**definition, "widths": [len(s) for s in levels]}
    if hidden:
        smaller["hidden"] = hidden
    return smaller, cut.out


def _levels(w: Mapping[str, Tensor], depth: int, keep: float) -> list[Tensor]:
    """The channels of each level that stay."""
    strengths = [_outer(w, v, depth) for v in range(depth)]
    levels: list[Tensor] = []
    for v in range(depth):
        # levels of equal width have no convolution on their residual path: channel is added to channel, so both keep the same
        if v and f"encoder.{v}.skip.weight" not in w:
            levels.append(levels[-1])
            continue
        run = 1
        while v + run < depth and f"encoder.{v + run}.skip.weight" not in w:
            run += 1
        strength = torch.stack(strengths[v : v + run]).sum(0)
        chosen = _strongest(strength, keep)
        # ... and levels that had one must not become of equal width, which would take it away
        if v and len(chosen) == len(levels[-1]):
            step = 1 if len(strength) <= _GROUPS else _GROUPS
            larger = len(chosen) + step
            chosen = _strongest(strength, keep, larger if larger <= len(strength) else len(chosen) - step)
        levels.append(chosen)
    return levels


def _outer(w: Mapping[str, Tensor], v: int, depth: int) -> Tensor:
    """Strength of each channel of a level: the filters that make it, in the encoder, on the way up and in the decoder."""
    names = [f"encoder.{v}.conv2.weight", f"encoder.{v}.conv.weight", f"encoder.{v}.skip.weight"]
    i = depth - 2 - v
    names += [f"decoder.{i}.conv2.weight", f"decoder.{i}.conv.weight"]
    total = sum((w[n].flatten(1).pow(2).sum(1) for n in names if n in w), torch.zeros(()))
    if i >= 0:
        total = total + w[f"up.{i}.weight"].pow(2).sum((0, 2, 3))
    return total


def _strongest(strength: Tensor, keep: float, count: int | None = None) -> Tensor:
    """Indices, sorted, of the channels that stay: equally many of each group of the norm."""
    total = len(strength)
    groups = min(_GROUPS, total)
    each = total // groups
    if count is None:
        count = max(1, round(total * keep)) if each == 1 else groups * max(1, round(each * keep))
    count = min(count, total)
    if each == 1:
        return strength.topk(count).indices.sort().values
    inside = strength.reshape(groups, each).topk(count // groups, dim=1).indices
    return (inside + torch.arange(groups)[:, None] * each).flatten().sort().values


class _Cut:
    """Collects the tensors that stay, cut along their first two axes."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights, self.out = weights, dict[str, Tensor]()

    def take(self, name: str, first: Tensor | None = None, second: Tensor | None = None) -> None:
        if name in self.weights:
            value = self.weights[name]
            value = value if first is None else value[first]
            self.out[name] = (value if second is None else value[:, second]).clone()

    def block(self, name: str, inputs: Tensor | None, outputs: Tensor, keep: float, width: int) -> None:
        w = self.weights
        if f"{name}.conv.weight" in w:
            self.take(f"{name}.conv.weight", outputs, inputs)
            self.take(f"{name}.norm.weight", outputs)
            self.take(f"{name}.norm.bias", outputs)
            return
        strength = (
            w[f"{name}.conv1.weight"].flatten(1).norm(dim=1) * w[f"{name}.conv2.weight"].pow(2).sum((0, 2, 3)).sqrt()
        )
        inner = _strongest(strength, keep, width)
        self.take(f"{name}.conv1.weight", inner, inputs)
        self.take(f"{name}.conv2.weight", outputs, inner)
        self.take(f"{name}.skip.weight", outputs, inputs)
        for norm, chosen in (("norm1", inner), ("norm2", outputs)):
            self.take(f"{name}.{norm}.weight", chosen)
            self.take(f"{name}.{norm}.bias", chosen)

    def mixer(self, name: str, channels: Tensor, keep: float) -> int:
        """Cut a mixer's channels and its hidden states; returns how many hidden channels stay."""
        w, used = self.weights, []
        cells = [c for c in ("forward_cell", "ahead_cell") if f"{name}.{c}.gates.weight" in w]
        hidden = w[f"{name}.{cells[0]}.gates.weight"].shape[1]
        count = max(1, round(hidden * keep))
        for k, cell in enumerate(cells):
            seen = w[f"{name}.out.weight"][:, k * hidden : (k + 1) * hidden]
            chosen = seen.flatten(2).norm(dim=(0, 2)).topk(count).indices.sort().values
            used.append(chosen + k * hidden)
            gap = f"{cell.removesuffix('_cell')}_gap"
            parts_of = ((f"{cell}.from_input", channels), (f"{cell}.gates", chosen), (f"{cell}.candidate", chosen))
            for part, columns in (*parts_of, (gap, None)):
                key = f"{name}.{part}.weight"
                if key in w:
                    parts = w[key].shape[0] // hidden
                    rows = torch.cat([chosen + g * hidden for g in range(parts)])
                    self.take(key, rows, columns)
                    self.take(key.replace(".weight", ".bias"), rows)
        self.take(f"{name}.out.weight", channels, torch.cat(used))
        self.take(f"{name}.out.bias", channels)
        return count
