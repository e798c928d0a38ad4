"""The options of verbs that run a model: those that all of them take, and those of `segment`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypedDict, TypeVar

import torch
from torch import nn

from napari_medseq.errors import MedseqError, ModelError
from napari_medseq.inference.inputs.frame import Region
from napari_medseq.inference.network_passes import VIEWS
from napari_medseq.inference.resources import devices
from napari_medseq.inference.settings import InferenceSettings, inference_settings
from napari_medseq.inference.streaming import dropouts
from napari_medseq.models import Model
from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.models.sequence_classifier import SequenceClassifier
from napari_medseq.models.stepwise import Stepwise
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.registration.transform import Position
from napari_medseq.sequence import ImageSequence

Output = Literal["labels", "probability", "uncertainty"]
OUTPUTS: tuple[Output, ...] = ("labels", "probability", "uncertainty")
Network = TypeVar("Network", bound=nn.Module)


class RunKeywords(TypedDict, total=False):
    """The keywords that every verb with a model takes."""

    device: str
    force: bool
    progress: Progress | None
    cancelled: Cancelled | None


class SegmentKeywords(RunKeywords, total=False):
    """The keywords of `segment`, once, for its overloads."""

    chunk: int | None
    steps: Sequence[int] | None
    outputs: Sequence[Output]
    keep: ImageSequence | None
    samples: int
    views: int
    region: Region | None
    transforms: Sequence[Position] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class RunOptions:
    """Device, acceptance of a doubtful modality, progress and cancelling; the fields are keywords of every verb."""

    device: str = "auto"
    force: bool = False
    progress: Progress | None = None
    cancelled: Cancelled | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentOptions:
    """The part of an image to label, and the outputs; the fields are keywords of `segment`."""

    outputs: Sequence[Output] = ("labels",)
    steps: Sequence[int] | None = None
    keep: ImageSequence | None = None
    region: Region | None = None
    chunk: int | None = None
    samples: int = 0
    views: int = 0

    def keywords(self) -> SegmentKeywords:
        """The same as keywords of `segment`."""
        return {
            "outputs": self.outputs, "steps": self.steps, "keep": self.keep, "region": self.region, "chunk": self.chunk,
            "samples": self.samples, "views": self.views,
        }  # fmt: skip

    def check(self, model: Model) -> None:
        """Refuse options that are unknown, or that the model does not have.

        Raises
        ------
        MedseqError
            If an option is unknown, or the model cannot do what it asks for.
        """
        unknown = set(self.outputs) - set(OUTPUTS)
        if unknown:
            raise MedseqError(f"outputs {sorted(unknown)} are not known; choose from {', '.join(OUTPUTS)}.")
        if self.chunk is not None and self.chunk < 1:
            raise MedseqError(f"chunk is {self.chunk}; it must be at least 1, or None.")
        self._check_passes("samples", self.samples, None)
        self._check_passes("views", self.views, len(VIEWS))
        sampled = isinstance(model.network, RecurrentUNet) and dropouts(model.network)
        if self.samples and not sampled:
            raise ModelError(f"{model.info.name} has no dropout to sample from; use samples=0.")
        by_steps = isinstance(model.network, Stepwise) and model.inference.get("kind") != "slab"
        if self.views and not by_steps:
            raise ModelError(f"{model.info.name} has no steps to sample from; use views=0.")
        if self.region is not None and model.inference.get("kind") == "window":
            raise ModelError(
                f"{model.info.name} is a foreign bundle, which looks at whole images; crop the image instead of region=."
            )

    def _check_passes(self, name: str, count: int, most: int | None) -> None:
        if count == 0:
            return
        if count < 0 or (most is not None and count > most) or "uncertainty" not in self.outputs:
            upto = "" if most is None else f" up to {most}"
            raise MedseqError(
                f"{name} is {count}; it is a number of passes{upto} for outputs=('uncertainty', ...), or 0."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Ready(Generic[Network]):
    """A model about to be run: its network, of the kind that the verb needs, its settings, and where it runs.

    Attributes
    ----------
    model : Model
    network : torch.nn.Module
    settings : InferenceSettings
    device : torch.device
    options : RunOptions
    """

    model: Model
    network: Network
    settings: InferenceSettings
    device: torch.device
    options: RunOptions


def network_of(model: Model, kind: type[Network], *, refusal: str) -> Network:
    """The network of a model, if it is of the kind that a verb needs.

    Raises
    ------
    ModelError
        If it is not; the message is the model's name and `refusal`.
    """
    if not isinstance(model.network, kind):
        raise ModelError(f"{model.info.name} {refusal}")
    return model.network


def recurrent_network_of(model: Model, *, refusal: str) -> RecurrentUNet | SequenceClassifier:
    """As `network_of`, for either of the recurrent networks that can be explained."""
    network = model.network
    if not isinstance(network, RecurrentUNet | SequenceClassifier):
        raise ModelError(f"{model.info.name} {refusal}")
    return network


def prepared(model: Model, network: Network, options: RunOptions) -> Ready[Network]:
    """What a run of a model on this computer needs: its network, its checked settings, and its device.

    Raises
    ------
    ModelError
        If the bundle's settings cannot be used.
    DeviceError
        If the device is not there.
    """
    settings = inference_settings(model.inference, model.info.name)
    return Ready(
        model=model, network=network, settings=settings, device=devices.choose(options.device)[0], options=options
    )
