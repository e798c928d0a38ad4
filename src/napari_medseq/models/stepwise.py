"""What every segmentation network has in common, whoever made it: it can be sent through the steps of a sequence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn


class Stepwise(nn.Module):
    """A network that labels the steps of a sequence: ``forward`` takes (batch, step, channel, y, x).

    Attributes
    ----------
    classes : int
        Output classes with background.
    neighbours : int
        Steps on either side that enter each step as channels.
    ahead : int
        Steps after a step that its answer depends on.
    stride : int
        y and x of a step must be multiples of it.
    volumes : bool
        Whether a step is a volume (channel, z, y, x) and its answer one, rather than an image.
    gap_unit : float or None
        Unit of the gaps between steps that the network wants to know of; None: it knows of none.
    """

    classes: int
    neighbours: int
    ahead: int
    stride: int
    volumes: bool = False
    gap_unit: float | None = None

    @torch.inference_mode()
    def side_by_side(self, steps: Iterable[Tensor]) -> Iterator[Tensor]:
        """Logits (n, class, y, x) of each step (n, channel, y, x, with its neighbours) of n sequences, in order.

        Here all steps are taken at once; a network that can do with fewer says so in its own way.
        """
        logits: Tensor = self(torch.stack(list(steps), 1))
        yield from logits.unbind(1)
