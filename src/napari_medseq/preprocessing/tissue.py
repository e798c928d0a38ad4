"""Tissue by Hounsfield units: named ranges of CT numbers as labels."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from napari_medseq.errors import MedseqError
from napari_medseq.geometry import Volume
from napari_medseq.preprocessing.step import ONE_VOXEL, Job, Step
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.padding import is_padding

#: name → from (inclusive) and to (exclusive), in Hounsfield units
TISSUES: dict[str, tuple[float, float]] = {
    # outside the body and in emphysema: below -950 HU (Gevenois et al. 1996, doi:10.1164/ajrccm.154.1.8680679)
    "air": (-1100.0, -950.0),
    # lung from there to the limit of normally aerated tissue, -500 HU (Gattinoni et al. 2001, doi:10.1164/ajrccm.164.9.2103121)
    "lung": (-950.0, -500.0),
    # adipose tissue and skeletal muscle: -190 to -30 and -29 to 150 HU (Mitsiopoulos et al. 1998, doi:10.1152/jappl.1998.85.1.115)
    "fat": (-190.0, -29.0),
    "muscle and soft tissue": (-29.0, 151.0),
    # bone: from 226 HU, the usual threshold of surface models (van Eijnatten et al. 2018, doi:10.1016/j.medengphy.2017.10.008)
    "bone": (226.0, 3072.0),
}


class Tissue(Step):
    """Labels of the voxels whose Hounsfield units lie in named ranges."""

    title: ClassVar[str] = "tissue by HU"
    kind: Literal["tissue"] = "tissue"
    tissues: tuple[str, ...] = Field(
        ("lung", "fat", "muscle and soft tissue", "bone"),
        description="Names in `TISSUES`, in the order of the label values 1, 2, …; none if only `ranges` count.",
    )
    ranges: dict[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="Further names, each with from (inclusive) and to (exclusive), in HU; a name of `TISSUES` is replaced.",
    )

    @field_validator("tissues")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [t for t in value if t not in TISSUES]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is unknown; there are {', '.join(TISSUES)}; others go into ranges")
        return value

    @model_validator(mode="after")
    def _apart(self) -> Tissue:
        ordered = sorted(self.limits.items(), key=lambda item: item[1])
        if not ordered:
            raise ValueError("name at least one tissue, or give a range")
        for name, (low, high) in ordered:
            if low >= high:
                raise ValueError(f"the range of {name!r}, {low:g} to {high:g} HU, must be ascending")
        for (one, (_, high)), (other, (low, _)) in pairwise(ordered):
            if low < high:
                raise ValueError(f"the ranges of {one!r} and {other!r} overlap")
        return self

    @property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Name → from and to, in HU, in the order of the label values."""
        return {**{t: TISSUES[t] for t in self.tissues}, **self.ranges}

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """The voxel alone."""
        del seq
        return ONE_VOXEL

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return labels; 0 where no range holds the value, and in padding.

        Raises
        ------
        MedseqError
            If the image is known not to be CT, or is in colour.
        """
        if seq.modality not in (None, "CT"):
            raise MedseqError(f"{seq.name} is {seq.modality}; tissue by HU needs the Hounsfield units of CT.")
        if "c" in seq.axes:
            raise MedseqError(f"{seq.name} is in colour; tissue by HU needs the Hounsfield units of CT.")
        limits = list(self.limits.values())

        def found(volume: Volume) -> Volume:
            values = np.asarray(volume)
            labels = np.zeros(values.shape, np.uint8 if len(limits) < 256 else np.uint16)
            for number, (low, high) in enumerate(limits, start=1):
                labels[np.greater_equal(values, low) & np.less(values, high)] = number
            padding = is_padding(volume, seq)
            if padding is not None:
                labels[padding] = 0
            return labels

        mapped = job.map(seq, found)
        names = dict(enumerate(self.limits, start=1))
        return seq.labels_like(mapped.data, name=f"{seq.name} tissue", label_names=names)
