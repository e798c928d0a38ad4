"""The prompted network over long sequences: in chunks of steps, level by level, with the same answer whatever the chunk.

Encoded steps are kept until the decoder has used them: 43 numbers per pixel of the window and step with the usual widths, so
0.5 MB per step for a window of 80 × 80 in bfloat16. Where that would take more than `_ROOMY` bytes the finest level, more than half
of it, is computed twice instead of being kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from napari_medseq.inference import tuning
from napari_medseq.models.prompt_readout import Memory, spread_steps
from napari_medseq.models.prompted_recurrence import PromptRecurrence
from napari_medseq.models.prompted_unet import PromptedUNet
from napari_medseq.models.prompting import PromptedSequence
from napari_medseq.progress import Cancelled, check

_ROOMY = 256 << 20
_CHUNK = 16  # steps

_READY: WeakKeyDictionary[PromptedUNet, dict[tuple[torch.device, torch.dtype], PromptedUNet]] = WeakKeyDictionary()


def ready(network: PromptedUNet, device: torch.device, precision: str = "float32") -> PromptedUNet:
    """The network as it is run: on a device, its norms folded away, its convolutions in bfloat16 where that is asked for and pays.

    Parameters
    ----------
    network : PromptedUNet
        Not changed; what is made of it is kept for the next call.
    device : torch.device
    precision : {"float32", "bfloat16"}
        "bfloat16" is used on processors that have units for it alone.
    """
    lower = precision == "bfloat16" and device.type == "cpu" and tuning.has_bfloat16()
    key = (device, torch.bfloat16 if lower else torch.float32)
    known = _READY.setdefault(network, {})
    if key not in known:
        twin = network.folded().to(device)
        for module in twin.modules():
            if isinstance(module, nn.Conv2d):
                module.to(key[1])
        tuning.prepare(twin, device)
        known[key] = twin
    return known[key]


def bytes_per_step(network: PromptedUNet, size: tuple[int, int], item: int = 4) -> int:
    """Bytes that are kept per step of a window of `size` pixels, with numbers of `item` bytes."""
    widths = [cast(nn.Conv2d, block.second).out_channels for block in network.encoder]
    return int(sum(w / 4**level for level, w in enumerate(widths)) * size[0] * size[1] * item)


@torch.inference_mode()
def stream_logits(
    network: PromptedUNet,
    sequence: PromptedSequence,
    *,
    chunk: int | None = None,
    cancelled: Cancelled | None = None,
) -> Tensor:
    """Logits (batch, step, y, x) of whole sequences, float32.

    Parameters
    ----------
    network : PromptedUNet
        As `ready` makes it.
    sequence : PromptedSequence
        On the network's device.
    chunk : int, optional
        Steps that go through a convolution together; the answer does not depend on it.
    cancelled : callable, optional
        Looked at once per chunk and level.
    """
    return _Stream(network, sequence, chunk or _CHUNK, cancelled).logits()


class _Stream:
    """One run; steps come first in its tensors, (step · batch, channel, y, x)."""

    def __init__(
        self, network: PromptedUNet, sequence: PromptedSequence, chunk: int, cancelled: Cancelled | None
    ) -> None:
        self.network, self.sequence, self.cancelled = network, sequence, cancelled
        self.batch, self.steps, height, width = sequence.image.shape
        self.spans = [(a, min(a + chunk, self.steps)) for a in range(0, self.steps, chunk)]
        self.dtype = cast(nn.Conv2d, network.heads[0]).weight.dtype
        item = self.dtype.itemsize
        self.roomy = bytes_per_step(network, (height, width), item) * self.steps * self.batch <= _ROOMY

    def logits(self) -> Tensor:
        network = self.network
        memory = self._memory() if network.readout_level > 0 else None
        encoded = [self._encoded(span, memory) for span in self.spans]
        below: list[Tensor] = []
        for level in range(network.levels - 1, 0, -1):
            below = list(self._decoded(level, encoded, below))
        return self._headed(self._decoded(0, encoded, below))

    def _decoded(self, level: int, encoded: list[list[Tensor]], below: list[Tensor]) -> Iterator[Tensor]:
        """A level's chunks, from those of the level under it and the encoder's own, which are let go."""
        network, found = self.network, list[Tensor]()
        gone = torch.empty(0)
        for k, span in enumerate(self.spans):
            check(self.cancelled)
            skip = encoded[k].pop() if encoded[k] else network.down(0, self._input(*span))
            found.append(network.rise(level, below[k], skip) if below else skip)
            if below:
                below[k] = gone
        carry = network.recurrence(level)
        return iter(found) if carry is None else self._carried(carry, found)

    def _input(self, start: int, stop: int) -> Tensor:
        x, _ = self.sequence.channels(start, stop)
        flat = x.transpose(0, 1).flatten(0, 1).to(self.dtype)
        return flat.contiguous(memory_format=torch.channels_last)

    def _encoded(self, span: tuple[int, int], memory: Memory | None) -> list[Tensor]:
        """Features per level, without the finest where that is to be computed again."""
        check(self.cancelled)
        network, x = self.network, self._input(*span)
        features: list[Tensor] = []
        y = x
        for level in range(network.levels):
            y = network.down(level, y)
            if level == network.readout_level and memory is not None:
                numbers = torch.arange(*span, device=y.device).expand(self.batch, -1) - self.steps // 2
                read = network.readout(
                    self._by_sequence(network.looks(x[:, :3])), self._by_sequence(y), numbers, memory
                )
                y = read.transpose(0, 1).flatten(0, 1)
            features.append(y)
        return features if self.roomy else features[1:]

    def _by_sequence(self, y: Tensor) -> Tensor:
        """(step · batch, …) as (batch, step, …)."""
        sorted_: Tensor = y.unflatten(0, (-1, self.batch)).transpose(0, 1)
        return sorted_

    def _memory(self) -> Memory:
        """What the annotated steps show."""
        network = self.network
        index, use = spread_steps(self.sequence.annotated)
        looks, features = [], []
        for number in index.unique().tolist():
            x = self._input(number, number + 1)
            y = x
            for level in range(network.readout_level + 1):
                y = network.down(level, y)
            looks.append(network.looks(x[:, :3]))
            features.append(y)
        at = torch.searchsorted(index.unique(), index)
        row = torch.arange(self.batch, device=index.device)[:, None]
        shown = torch.stack(looks)[at, row], torch.stack(features)[at, row]
        out: Memory = network.readout.memory(*shown, index - self.steps // 2, use)
        return out

    def _carried(self, carry: PromptRecurrence, found: list[Tensor]) -> Iterator[Tensor]:
        """What the recurrence makes of a level's chunks; each is let go when it is done."""
        gone = torch.empty(0)
        kept = [self._seen(carry, y) for y in found] if self.roomy else []
        state: Tensor | None = None
        back: list[Tensor] = []
        for k in range(len(found) - 1, -1, -1):
            check(self.cancelled)
            states = carry.walk((kept[k] if kept else self._seen(carry, found[k])).flip(0), state)
            state = states[-1]
            back.append(states.flip(0))
        state = None
        for k, y in enumerate(found):
            check(self.cancelled)
            states = carry.walk(kept[k] if kept else self._seen(carry, y), state)
            state = states[-1]
            both = torch.cat([states, back.pop()], 2).flatten(0, 1)
            yield carry.joined(y, both.contiguous(memory_format=torch.channels_last))
            found[k] = gone
            if kept:
                kept[k] = gone

    def _seen(self, carry: PromptRecurrence, y: Tensor) -> Tensor:
        seen: Tensor = carry.seen(y).unflatten(0, (-1, self.batch))
        return seen

    def _headed(self, after: Iterator[Tensor]) -> Tensor:
        out = torch.empty(self.batch, self.steps, *self.sequence.image.shape[2:], device=self.sequence.image.device)
        for (start, stop), y in zip(self.spans, after, strict=True):
            prior = self.sequence.prior(start, stop).transpose(0, 1).flatten(0, 1)
            out[:, start:stop] = self._by_sequence(self.network.logit(0, y, prior))
        return out
