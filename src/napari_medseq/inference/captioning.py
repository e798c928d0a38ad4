"""Sentences that a captioning model writes about pictures of one plane at several visits; they are always marked as
generated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch.nn import functional

from napari_medseq.errors import MedseqError, ModelError
from napari_medseq.models import Model, ModelLike, loaded
from napari_medseq.models.captioner import Caption, Captioner, Vocabulary
from napari_medseq.models.info import printable
from napari_medseq.settings import Settings, checked

#: percentiles of a picture between which its brightness is taken, so that a few bright voxels do not count
_LOW, _HIGH = 1.0, 99.0


class CaptionSettings(Settings):
    """The settings of a captioner's bundle: its pictures and its words."""

    vocabulary: str = Field(
        min_length=1, description="All words by their number, the four special ones first, with spaces between them."
    )
    size: int = Field(64, ge=8, le=512, description="Rows and columns that each picture is brought to.")
    steps: int = Field(
        2, ge=1, le=16, description="How many visits a sentence is about: the last one, and those before it."
    )
    longest: int = Field(40, ge=1, le=200, description="The most words of a sentence.")

    @field_validator("vocabulary")
    @classmethod
    def _printable(cls, value: str) -> str:
        return str(printable(value))


def captioner_settings(model: ModelLike) -> tuple[Model, CaptionSettings]:
    """The loaded model of a captioner's bundle, and the bundle's settings.

    Raises
    ------
    ModelError
        If the model is not a captioner, or its settings cannot be used.
    """
    captioner = loaded(model)
    if not isinstance(captioner.network, Captioner):
        raise ModelError(
            f"{captioner.info.name} is a model for {captioner.info.task}, no captioner; name the bundle of one."
        )
    where = f"The inference settings of {captioner.info.name}"
    settings = checked(CaptionSettings, captioner.inference, where=where, error=ModelError)
    words = len(settings.vocabulary.split(" "))
    if words != captioner.network.embed.num_embeddings:
        raise ModelError(
            f"{where} list {words} words, and the network knows {captioner.network.embed.num_embeddings}; get the bundle again."
        )
    return captioner, settings


def caption(pictures: Sequence[NDArray[np.generic]], model: ModelLike) -> Caption:
    """Let a captioner write about pictures of the same place, given oldest first.

    Parameters
    ----------
    pictures : sequence of array, shape (y, x)
        One per visit, as many as the bundle asks for; in any unit, since each is brought to zero mean and unit spread.
    model : Model, name or path
        A captioner, whose bundle says ``"task": "captioning"``.

    Returns
    -------
    Caption
        Its text begins with `MARK`.

    Raises
    ------
    ModelError
        If the model is not a captioner.
    MedseqError
        If there are too few or too many pictures, or one holds nothing.
    """
    captioner, settings = captioner_settings(model)
    if len(pictures) != settings.steps:
        raise MedseqError(
            f"{captioner.info.name} writes about {settings.steps} visits at a time, and {len(pictures)} are given."
        )
    steps = torch.stack([_prepared(picture, settings.size) for picture in pictures])[None]
    special = 4
    vocabulary = Vocabulary(settings.vocabulary.split(" ")[special:])
    network = captioner.network
    assert isinstance(network, Captioner)  # captioner_settings has looked
    return network.describe(steps, vocabulary, settings.longest)[0]


def _prepared(picture: NDArray[np.generic], size: int) -> torch.Tensor:
    """A picture as (1, size, size) of zero mean and unit spread."""
    data = np.asarray(picture, dtype=np.float32)
    if data.ndim != 2 or not np.isfinite(data).any():
        raise MedseqError(f"A picture of shape {data.shape} without finite pixels cannot be described.")
    finite = data[np.isfinite(data)]
    low, high = np.percentile(finite, (_LOW, _HIGH))
    data = np.clip(np.nan_to_num(data, nan=low, posinf=high, neginf=low), low, high)
    data = (data - data.mean()) / max(float(data.std()), 1e-6)
    resized = functional.interpolate(
        torch.from_numpy(data.astype(np.float32))[None, None],
        size=size,
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    return resized[0]
