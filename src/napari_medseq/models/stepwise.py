"""The base class of segmentation networks: each can be run over the steps of a sequence.

A network that carries no state looks at slabs: so many steps at once, each slab sharing some with the next, where their answers
are averaged. Slabs begin at fixed steps, so that the answer does not depend on how the steps are handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from napari_medseq.errors import ModelError
from napari_medseq.models.sequence_network import SequenceNetwork


class Stepwise(SequenceNetwork):
    """A network that labels the steps of a sequence: logits (batch, step, class, [z,] y, x) from ``forward``.

    Attributes
    ----------
    classes : int
        Output classes with background.
    slab : int or None
        Steps that go through ``forward`` at once where a sequence is longer; None: all of them, in memory too.
    slab_overlap : int
        Steps that a slab shares with the next, less than `slab`.
    step_stride : int
        Steps of a slab must be a multiple of it; the last one is repeated where they are not.
    """

    classes: int
    slab: int | None = None
    slab_overlap: int = 0
    step_stride: int = 1

    @torch.inference_mode()
    def side_by_side(self, steps: Iterable[Tensor], times: Sequence[float] | None = None) -> Iterator[Tensor]:
        """Logits (n, class, y, x) of each step (n, channel, y, x, with its neighbours) of n sequences, in order.

        Here by slabs (see the module); a network with a way of its own overrides it.

        Parameters
        ----------
        steps : iterable of Tensor
            Read as they are needed.
        times : sequence of float, optional
            Times of all steps, in the unit of `gap_unit`.

        Raises
        ------
        ModelError
            If there are times but the network uses none, or slab and overlap do not fit.
        """
        if times is not None and self.gap_unit is None:
            raise ModelError("This network does not use times; build it with gap_unit=, or leave the times out.")
        if self.slab is None:
            buffered = list(steps)
            if buffered:
                yield from self._of_slab(buffered, times).unbind(1)
            return
        if not 0 <= self.slab_overlap < self.slab or self.slab % self.step_stride:
            raise ModelError(
                f"A slab of {self.slab} steps with {self.slab_overlap} shared cannot be used; the first must be a multiple of "
                f"{self.step_stride} and more than the second."
            )
        yield from self._by_slabs(iter(steps), self.slab, self.slab - self.slab_overlap, times)

    def _by_slabs(
        self, steps: Iterator[Tensor], slab: int, hop: int, times: Sequence[float] | None
    ) -> Iterator[Tensor]:
        """The mean of the slabs that hold a step, weighed by how far it is from the slab's ends; the last slab ends with the steps."""
        buffered: list[Tensor] = []  # the steps of the current slab, and those after it
        sums: list[Tensor] = []  # of the steps from `first` on: weighted logits, and below their weights
        weights: list[float] = []
        first = 0
        ended = False
        while not ended:
            while len(buffered) < slab + (hop if sums else 0):
                x = next(steps, None)
                if x is None:
                    ended = True
                    break
                buffered.append(x)
            if not buffered:
                return
            # regularly `hop` after the slab before; the last slab ends with the sequence
            skip = min(hop if sums else 0, max(0, len(buffered) - slab))
            if skip == 0 and sums:
                break
            for total, weight in zip(sums[:skip], weights[:skip], strict=True):
                yield total / weight
            del buffered[:skip], sums[:skip], weights[:skip]
            first += skip
            size = min(slab, len(buffered))
            logits = self._of_slab(buffered[:size], None if times is None else times[first : first + size])
            for k, y in enumerate(logits.unbind(1)):
                w = float(min(k + 1, size - k))
                if k < len(sums):
                    sums[k] = sums[k] + w * y
                    weights[k] += w
                else:
                    sums.append(w * y)
                    weights.append(w)
        for total, weight in zip(sums, weights, strict=True):
            yield total / weight

    def _of_slab(self, steps: Sequence[Tensor], times: Sequence[float] | None) -> Tensor:
        """Logits (n, step, class, y, x) of steps that go through the network together."""
        missing = -len(steps) % self.step_stride
        x = torch.stack([*steps, *[steps[-1]] * missing], 1)
        extra: dict[str, Tensor] = {}
        if times is not None and "times" in self.extra_inputs:
            extra["times"] = torch.tensor([*times, *[times[-1]] * missing], device=x.device).expand(len(x), -1)
        logits: Tensor = self(x, **extra)
        return logits[:, : len(steps)]
