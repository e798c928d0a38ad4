"""The inference settings of a bundle: how its network is to be run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from napari_medseq.errors import ModelError
from napari_medseq.inference.doubts import Doubt
from napari_medseq.settings import Settings, checked

#: names in bundles that were written before settings were called as in the rest of the API
_FORMER_NAMES = {"smallest_mm3": "min_volume_mm3", "least_mean": "min_mean_probability"}


class BundleSettings(Settings):
    """Base of the inference settings of bundles: former names are read, present ones are written."""

    @model_validator(mode="before")
    @classmethod
    def _present_names(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        twice = [f"{old} and {new}" for old, new in _FORMER_NAMES.items() if old in values and new in values]
        if twice:
            raise ValueError(f"{', '.join(twice)} are one setting; leave the former name out")
        return {_FORMER_NAMES.get(name, name): value for name, value in values.items()}


class InferenceSettings(BundleSettings):
    """Inference settings of a bundle, frozen and checked.

    Attributes
    ----------
    along : {"slices", "z", "t", "visit"}
        What is walked: the slices of a volume (along its own slice axis, or "z"), frames, or a patient's visits.
    pixel_mm : float or None
        The network's pixel size; None keeps the image's own.
    step_mm : float or None
        Distance of the slices that the network learned from, in mm; None: any. Slices less than two thirds of it apart are averaged to that
        distance, and probabilities are interpolated back to the image's own slices (`inputs.slice_steps`); others are taken as they
        are. Only along slices whose distance is known.
    size : (int, int) or None
        Rows and columns that a classifier sees at least: edges of smaller images go on to that size, as they did in training, since its
        answer depends on how much of an image is background.
    mirror : bool
        Average the probabilities with those of the left-right mirrored steps.
    threshold : float
        Probability above which a single foreground class is labelled; several classes are arg-maxed.
    min_volume_mm3 : float
        Connected components smaller than this are removed from the labels.
    min_mean_probability : float
        Connected components whose mean foreground probability is lower are removed: a network that is sure of a lesion is
        sure of most of it, and of little of a vessel or sinus that it took for one.
    closing_mm : float
        Gaps that a ball of this radius cannot enter are closed, class by class; only background is filled.
    fill_holes : bool
        Background that a class encloses becomes that class.
    precision : {"float32", "bfloat16"}
        "bfloat16": convolutions on a CPU with bf16 units are computed in it; on another CPU they are not. On a GPU a measurement
        decides whether it, or float16 where the GPU has no bf16, is used.
    keep_largest : bool
        Keep only the largest component of each class: for organs, not for lesions.
    trimmed : bool or "planes"
        Borders of one value alone are left out first, so that padding changes nothing. "planes": rows and columns alone, not slices.
    middle_mm : float or None
        Rows and columns that lie farther than half of this from the image's middle (without its padding) are left out: for images
        whose middle shows what is meant. What is left out is not answered for.
    doubt : Doubt or None
        The limits beyond which an answer is doubted; None: never.
    """

    along: Literal["slices", "z", "t", "visit"] = "slices"
    pixel_mm: float | None = Field(None, gt=0)
    step_mm: float | None = Field(None, gt=0)
    size: tuple[int, int] | None = None
    mirror: bool = False
    threshold: float = Field(0.5, gt=0, lt=1)
    min_volume_mm3: float = Field(0.0, ge=0)
    min_mean_probability: float = Field(0.0, ge=0, lt=1)
    closing_mm: float = Field(0.0, ge=0)
    fill_holes: bool = False
    keep_largest: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    trimmed: bool | Literal["planes"] = False
    middle_mm: float | None = Field(None, gt=0)
    doubt: Doubt | None = None


def inference_settings(values: Mapping[str, object], name: str) -> InferenceSettings:
    """Check a bundle's ``inference`` part.

    Raises
    ------
    ModelError
        If a setting is unknown or out of range.
    """
    return checked(InferenceSettings, values, where=f"The inference settings of {name}", error=ModelError)
