"""The base class of all networks along a sequence: the attributes by which training and inference know how to use
them.

The defaults are defined here only; a network overrides those that differ, as class attributes or in its ``__init__``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from napari_medseq.models.targets import Target

#: keywords that a network's ``forward`` may take in addition to the steps, each (batch, …)
ExtraInput = Literal["times", "present", "tabular"]
#: what a sequence's steps are
SequenceAxis = Literal["slices", "z", "t", "visit"]


class SequenceNetwork(nn.Module):
    """A network whose ``forward`` takes the steps of sequences, (batch, step, channel · (2 · neighbours + 1), [z,] y, x).

    Attributes
    ----------
    input_channels : int
        Channels of a step as ``forward`` takes it, those of its neighbours included.
    neighbours : int
        Steps on either side that enter each step as channels.
    stride : int
        Rows and columns of a step (and its slices, where it is a volume) must be multiples of it.
    ahead : int
        Steps after a step that its answer depends on; for the bundle's facts, and for what streaming must hold.
    volumes : bool
        Whether a step is a volume (channel, z, y, x), rather than an image.
    gap_unit : float or None
        Unit of the gaps between steps that the network uses; None: it uses none.
    table_values : int
        Values from a table that it takes in addition to the steps.
    target : {"multilabel", "exclusive", "ordinal"}
        What the classes of a classifier are to each other.
    extra_inputs : tuple of {"times", "present", "tabular"}
        Keywords that ``forward`` takes in addition to the steps.
    deep_supervision : bool
        Whether ``forward(…, every_head=True)`` gives logits coarse to fine, each half the size of the next.
    """

    input_channels: int = 1
    neighbours: int = 0
    stride: int = 1
    ahead: int = 0
    volumes: bool = False
    gap_unit: float | None = None
    table_values: int = 0
    target: Target = "multilabel"
    extra_inputs: tuple[ExtraInput, ...] = ()
    deep_supervision: bool = False

    @property
    def axes(self) -> tuple[SequenceAxis, ...]:
        """What its steps may be: frames or visits for a network of volumes; otherwise the slices of a volume too."""
        return ("t", "visit") if self.volumes else ("slices", "z", "t", "visit")

    def standardise(self, table: Tensor) -> None:
        """Learn centre and spread of the table's values from those (exam, value) of the training exams; without a table it does nothing."""

    def silence(self, classes: Sequence[int]) -> None:
        """Before training, set outputs that stand for no class to a very low logit; a network that cannot do so
        learns this from the loss."""
