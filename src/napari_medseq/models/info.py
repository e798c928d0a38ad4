"""The facts about a model, and whether it suits an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from napari_medseq.sequence import ImageSequence, matches_name
from napari_medseq.settings import Settings

#: what the channels of a colour image are called, in their order
COLOURS = ("red", "green", "blue")

Task = Literal["segmentation", "classification", "denoising", "autoencoder", "propagation"]


class ModelInfo(Settings):
    """Facts about a model, read from its bundle's metadata without loading weights.

    Attributes
    ----------
    name, version : str
    task : {"segmentation", "classification", "denoising", "autoencoder", "propagation", "registration", "captioning"}
    modality : str or None
        DICOM modality code the model was trained on.
    name_patterns : tuple of str
        Case-insensitive `fnmatch` patterns on image names that pick the model's image in a study.
    channels : tuple of str
        What each input channel is.
    missing_channels : bool
        Whether the model does without channels of which there is no image.
    classes : dict of int to str
        Label value (segmentation) or class index (classification) → name.
    sequence_axis : {"slices", "z", "t", "visit"}
        What the recurrence runs along; "slices" is the image's own slice axis.
    look_ahead : int
        Steps of bounded look-ahead, k.
    table : tuple of str
        Names of the values from a table that a classifier takes in addition to the images, in its order.
    description, licence : str
    parameters : int
        Number of weights.
    folder : str
        Where the bundle lies.
    card : str
        The model card, Markdown.
    """

    name: str
    version: str
    task: Task | Literal["registration", "captioning"]
    modality: str | None = None
    name_patterns: tuple[str, ...] = ()
    channels: tuple[str, ...] = ("image",)
    missing_channels: bool = False
    classes: dict[int, str] = Field(default_factory=dict)
    sequence_axis: Literal["slices", "z", "t", "visit"] = "slices"
    look_ahead: int = 0
    table: tuple[str, ...] = ()
    description: str = ""
    licence: str = ""
    parameters: int = 0
    folder: str = ""
    card: str = ""

    @field_validator(
        "name",
        "version",
        "name_patterns",
        "channels",
        "classes",
        "table",
        "description",
        "licence",
        "card",
        mode="before",
    )
    @classmethod
    def _printable(cls, value: object) -> object:
        """Text of a file made safe for terminals and file names: characters that are not printable become spaces."""
        return printable(value)

    def matches_name(self, name: str) -> bool:
        """Whether an image called `name` looks like one of the model's own kind."""
        return matches_name(name, self.name_patterns)


def printable(value: object) -> object:
    """Text, or a list or mapping of texts, with a space for each character that does something instead of being shown.

    Escape sequences can rewrite a terminal, and marks of direction can make a name look like another; lines and tabs stay.
    """
    if isinstance(value, str):
        return "".join(c if c.isprintable() or c in "\n\t" else " " for c in value)
    if isinstance(value, Mapping):
        return {printable(k): printable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [printable(v) for v in value]
    return value


def takes_colours(info: ModelInfo) -> bool:
    """Whether a model's channels are the colours of one image."""
    return tuple(info.channels) == COLOURS


def why_unsuitable(info: ModelInfo, seq: ImageSequence) -> str | None:
    """The reason why a model does not suit an image, in one phrase; None if it does."""
    if seq.kind == "labels":
        return f"{seq.name} is a label image; {info.name} works on images"
    if "c" in seq.axes and not takes_colours(info):
        return f"{seq.name} is a colour image; {info.name} works on one grey channel"
    if info.modality and seq.modality and seq.modality != info.modality:
        return f"{seq.name} is {seq.modality}, but {info.name} was trained on {info.modality}"
    picture = info.task == "segmentation" and "z" not in seq.axes
    if info.sequence_axis == "t" and "t" not in seq.axes and not picture:
        return f"{seq.name} has no time axis, along which {info.name} works"
    by_frames = info.task == "segmentation" and info.sequence_axis != "visit" and seq.is_dynamic
    if info.sequence_axis != "t" and "t" in seq.axes and not by_frames:
        return f"{seq.name} has a time axis; {info.name} works on one volume: choose a frame"
    return None
