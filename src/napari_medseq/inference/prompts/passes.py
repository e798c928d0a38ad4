"""Prompted networks over long sequences: in chunks of steps, level by level, with a result that does not depend on the
chunks.

`StreamedUNet` is a `PromptedUNet` as it is run: batch norms folded into the convolutions before them, and convolutions over steps as
convolutions of three steps' channels. Encoded steps are kept until the decoder has used them: 44 numbers per pixel of the window
and step with the usual widths, 0.5 MB per step for a window of 80 × 80 in bfloat16. Where that would take more than `_ROOMY` bytes
the finest level, more than half of it, is computed twice instead of being kept; where the others would take more than twice that, the
second one, too, which leaves 8 numbers per pixel and step, 0.1 MB. Levels without recurrence are decoded chunk by chunk and never whole.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Protocol, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from napari_medseq.inference.prompts.blocks import StreamedBlock, halved, plainly
from napari_medseq.inference.resources import tuning
from napari_medseq.models.prompted_recurrence import PromptRecurrence, gates
from napari_medseq.models.prompted_unet import PromptedBlock, PromptedNetwork, PromptedUNet, risen
from napari_medseq.models.prompting import PromptedSequence
from napari_medseq.progress import Cancelled, check

_ROOMY = 256 << 20
_CHUNK = 8  # steps; their features fit into a processor's caches
_GONE = torch.empty(0)  # replaces features that have been used, so that their memory is freed


class Carry(Protocol):
    """A network that is ready to carry."""

    def bytes_per_step(self, size: tuple[int, int]) -> int:
        """Bytes that are kept per step of a window of `size` pixels."""

    def logits(self, sequence: PromptedSequence, chunk: int | None, cancelled: Cancelled | None) -> Tensor:
        """Logits (batch, step, y, x) of whole sequences, float32; `chunk` steps go through a convolution together."""


#: by device and precision, with the version of the weights that they are made of
_READY: WeakKeyDictionary[PromptedNetwork, dict[tuple[torch.device, torch.dtype], tuple[tuning.Version, Carry]]] = (
    WeakKeyDictionary()
)


def ready(network: PromptedNetwork, device: torch.device, precision: str = "float32") -> Carry:
    """A network as it is run on a device.

    Parameters
    ----------
    network : PromptedNetwork
        Not changed; what is made of it is kept for the next call, until its weights change.
    device : torch.device
    precision : {"float32", "bfloat16"}
        "bfloat16": convolutions are computed in it on processors that have units for it.
    """
    lower = precision == "bfloat16" and device.type == "cpu" and tuning.has_bfloat16()
    key = (device, torch.bfloat16 if lower else torch.float32)
    known, version = _READY.setdefault(network, {}), tuning.weights_version(network)
    if key not in known or known[key][0] != version:
        made = StreamedUNet(network) if isinstance(network, PromptedUNet) else WholeNetwork(network)
        made.to(device).requires_grad_(False)
        if isinstance(made, StreamedUNet):
            made.in_precision(key[1])
        tuning.prepare(made, device)
        known[key] = version, made
    return known[key][1]


class WholeNetwork(nn.Module):
    """A network that takes whole sequences only, without chunks."""

    def __init__(self, network: PromptedNetwork) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval()

    def bytes_per_step(self, size: tuple[int, int]) -> int:
        """See `Carry`; measured by the widths of a `PromptedVolumeUNet`."""
        return 4 * 3 * 32 * size[0] * size[1]

    @torch.inference_mode()
    def logits(self, sequence: PromptedSequence, chunk: int | None, cancelled: Cancelled | None) -> Tensor:  # noqa: ARG002
        """See `Carry`."""
        check(cancelled)
        x, prior = sequence.channels()
        found: Tensor = self.network(x, prior)[0]
        return found


class StreamedUNet(nn.Module):
    """A `PromptedUNet` that is run in chunks of steps; the weights are copies."""

    def __init__(self, network: PromptedUNet) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(StreamedBlock(cast(PromptedBlock, b)) for b in network.encoder)
        self.decoder = nn.ModuleList(StreamedBlock(cast(PromptedBlock, b)) for b in network.decoder)
        self.network = copy.deepcopy(network).eval()  # of which the rest is used as it is
        self.network.encoder, self.network.decoder = nn.ModuleList(), nn.ModuleList()
        self.widths = [cast(StreamedBlock, b).second.out_channels for b in self.encoder]
        self.dtype = torch.float32

    def in_precision(self, dtype: torch.dtype) -> None:
        """Let convolutions compute in `dtype`."""
        self.dtype = dtype
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.to(dtype)

    def bytes_per_step(self, size: tuple[int, int]) -> int:
        """See `Carry`."""
        return int(sum(w / 4**v for v, w in enumerate(self.widths)) * size[0] * size[1] * self.dtype.itemsize)

    @torch.inference_mode()
    def logits(self, sequence: PromptedSequence, chunk: int | None, cancelled: Cancelled | None) -> Tensor:
        """See `Carry`."""
        return _Stream(self, sequence, chunk or _CHUNK, cancelled).logits()


class _Stream:
    """One run of a `StreamedUNet`."""

    def __init__(
        self, streamed: StreamedUNet, sequence: PromptedSequence, chunk: int, cancelled: Cancelled | None
    ) -> None:
        self.streamed, self.network, self.sequence, self.cancelled = streamed, streamed.network, sequence, cancelled
        self.batch, self.steps, height, width = sequence.image.shape
        self.spans = [(a, min(a + chunk, self.steps)) for a in range(0, self.steps, chunk)]
        whole = streamed.bytes_per_step((height, width)) * self.steps * self.batch
        finest = streamed.widths[0] / sum(w / 4**v for v, w in enumerate(streamed.widths))
        self.roomy = whole <= _ROOMY
        #: levels whose features are not kept but computed again
        self.again = 0 if self.roomy else 1 if whole * (1 - finest) <= 2 * _ROOMY else 2

    def logits(self) -> Tensor:
        levels = len(self.streamed.encoder)
        below: list[Tensor] = []
        skips: list[list[Tensor]] = []
        for level in range(levels):
            kept, under = list[Tensor](), list[Tensor]()
            for y in self._level(level, below):
                kept.append(_GONE if level < min(self.again, levels - 1) else y)
                if level < levels - 1:
                    under.append(halved(y))
            skips.append(kept)
            below = under
        found: Iterator[Tensor] = iter(skips.pop())
        for level in range(levels - 1, 0, -1):
            found = self._decoded(level - 1, self._carried(level, found), skips.pop())
        return self._headed(self._carried(0, found))

    def _level(self, level: int, below: list[Tensor]) -> Iterator[Tensor]:
        """The chunks of a level of the encoder, from what the level above it was pooled to."""
        if level == 0:
            return (self._encoded(k) for k in range(len(self.spans)))

        def used(k: int) -> Tensor:
            y, below[k] = below[k], _GONE
            return y

        return self._blocks(self.streamed.encoder[level], used)

    def _input(self, start: int, stop: int) -> Tensor:
        x, _ = self.sequence.channels(start, stop, self.streamed.dtype)
        flat = x.transpose(0, 1).flatten(0, 1)
        return flat.contiguous(memory_format=torch.channels_last)

    def _encoded(self, k: int, level: int = 0) -> Tensor:
        """The features of a chunk on a level, from the image."""
        check(self.cancelled)
        return self._features(level, *self.spans[k])

    def _features(self, level: int, start: int, stop: int) -> Tensor:
        """The features of some steps on a level: of the level above it one step more on either side is wanted."""
        first, last = max(0, start - 1), min(self.steps, stop + 1)
        x = self._input(first, last) if level == 0 else halved(self._features(level - 1, first, last))
        before = x[: self.batch] if first < start else None
        after = x[-self.batch :] if last > stop else None
        inner = x[(start - first) * self.batch : (stop - first) * self.batch]
        found: Tensor = self.streamed.encoder[level](inner, before, after, self.batch)
        return found

    def _blocks(self, block: nn.Module, chunk: Callable[[int], Tensor]) -> Iterator[Tensor]:
        """Apply a block to all chunks, each with its neighbouring steps; `chunk` is called once for each, in order."""
        before: Tensor | None = None
        x = chunk(0)
        for k in range(len(self.spans)):
            check(self.cancelled)
            later = chunk(k + 1) if k + 1 < len(self.spans) else None
            yield block(x, before, None if later is None else later[: self.batch], self.batch)
            before = x[-self.batch :].clone()
            if later is not None:
                x = later

    def _decoded(self, level: int, below: Iterator[Tensor], skips: list[Tensor]) -> Iterator[Tensor]:
        """A level's chunks from those of the level below and the encoder's own, which are released afterwards."""

        def joined(k: int) -> Tensor:
            skip = skips[k] if skips[k].numel() else self._encoded(k, level)
            skips[k] = _GONE
            y: Tensor = risen(plainly(cast(nn.Conv2d, self.network.up[level]), next(below))).add_(skip)
            return y

        return self._blocks(self.streamed.decoder[level], joined)

    def _carried(self, level: int, chunks: Iterator[Tensor]) -> Iterator[Tensor]:
        """Apply the recurrence to a level's chunks; each is released when it is done."""
        carry = self.network.recurrence(level)
        if carry is None:
            yield from chunks
            return
        features = list(chunks)
        gates = [self._gates(carry, y) for y in features] if self.roomy else []
        state: Tensor | None = None
        back: list[Tensor] = []
        for k in range(len(features) - 1, -1, -1):
            check(self.cancelled)
            states = _walked(*(gates[k] if gates else self._gates(carry, features[k])), state, backwards=True)
            state = states[0]
            back.append(states)
        state = None
        for k, y in enumerate(features):
            check(self.cancelled)
            states = _walked(*(gates[k] if gates else self._gates(carry, y)), state)
            state = states[-1]
            both = torch.cat([states, back.pop()], 2).flatten(0, 1)
            yield plainly(carry.merge, both.contiguous(memory_format=torch.channels_last)).add_(y)
            features[k] = _GONE
            if gates:
                gates[k] = _GONE, _GONE

    def _gates(self, carry: PromptRecurrence, y: Tensor) -> tuple[Tensor, Tensor]:
        return gates(plainly(carry.seen, y).unflatten(0, (-1, self.batch)))

    def _headed(self, after: Iterator[Tensor]) -> Tensor:
        out = torch.empty(self.batch, self.steps, *self.sequence.image.shape[2:], device=self.sequence.image.device)
        head = cast(nn.Conv2d, self.network.heads[0])
        for (start, stop), y in zip(self.spans, after, strict=True):
            prior = self.sequence.prior(start, stop).transpose(0, 1).flatten(0, 1)
            logit = self.network.with_prior(plainly(head, y)[:, 0], prior, 0)
            out[:, start:stop] = logit.unflatten(0, (-1, self.batch)).transpose(0, 1)
        return out


def _walked(keep: Tensor, new: Tensor, state: Tensor | None, backwards: bool = False) -> Tensor:
    """The states of a chunk, in the order of its steps; see `prompted_recurrence.walk`."""
    states = torch.empty_like(new)
    steps = range(len(new) - 1, -1, -1) if backwards else range(len(new))
    for k in steps:
        state = states[k].copy_(new[k]) if state is None else torch.addcmul(new[k], keep[k], state, out=states[k])
    return states
