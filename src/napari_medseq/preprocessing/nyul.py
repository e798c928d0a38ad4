"""Histogram standardisation: one scale of brightness for MR scans of many scanners, learned from a set of scans.

The method is that of Nyúl and Udupa 1999 (doi:10.1002/(SICI)1522-2594(199912)42:6<1072::AID-MRM11>3.0.CO;2-M) with the
deciles of Nyúl et al. 2000 (doi:10.1109/42.836373) and the outer percentiles of Shah et al. 2011
(doi:10.1016/j.media.2010.12.003).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from napari_medseq import files
from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.geometry import Volume
from napari_medseq.preprocessing.step import Job, Step
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.sequence import ImageSequence
from napari_medseq.settings import Settings, checked
from napari_medseq.volumes.foreground import Region, region
from napari_medseq.volumes.padding import with_new_values, without_padding

#: percentiles of the landmarks: both ends of the scale, and the deciles between (Shah et al. 2011)
PERCENTILES = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)
#: positions of the first and the last landmark on the standard scale
SCALE = (0.0, 100.0)

Percent = Annotated[float, Field(ge=0, le=100)]


class Landmarks(Settings):
    """A standard scale: the positions on it of the landmarks of a set of scans."""

    percentiles: tuple[float, ...] = Field(
        min_length=2, description="Percentiles of the voxels, ascending.", json_schema_extra={"unit": "%"}
    )
    values: tuple[float, ...] = Field(
        min_length=2, description="Their mean positions on the standard scale, ascending."
    )
    inside: Region = Field("foreground", description="The voxels that the percentiles are computed from.")
    scans: int = Field(1, ge=1, description="Number of scans that they were learned from.")

    @model_validator(mode="after")
    def _rising(self) -> Landmarks:
        if len(self.percentiles) != len(self.values):
            raise ValueError(f"{len(self.values)} values for {len(self.percentiles)} percentiles; give one for each")
        for name, row in (("percentiles", self.percentiles), ("values", self.values)):
            if any(a >= b for a, b in pairwise(row)):
                raise ValueError(f"{name} must be ascending")
        if self.percentiles[0] < 0 or self.percentiles[-1] > 100:
            raise ValueError("percentiles lie between 0 and 100")
        return self

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the scale as JSON.

        Raises
        ------
        WriteError
            If the file cannot be written.
        """
        return files.write_json(path, self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Landmarks:
        """Read what `save` wrote.

        Raises
        ------
        SettingsError
            If the file is missing, or holds something else.
        """
        source = files.path_of(path)
        try:
            record: Mapping[str, object] = json.loads(source.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as problem:
            raise SettingsError(
                f"{source}: not a file of landmarks ({str(problem).splitlines()[0]}); learn_landmarks(...).save(path) writes one."
            ) from problem
        return checked(Landmarks, record, where=str(source))


def learn_landmarks(
    images: Iterable[ImageSequence],
    *,
    percentiles: tuple[float, ...] = PERCENTILES,
    inside: Region = "foreground",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Landmarks:
    """The standard scale of a set of scans of one kind (one sequence, one part of the body).

    The landmarks of each scan are mapped linearly so that the first one is 0 and the last one 100; the scale holds
    their means.

    Parameters
    ----------
    images : iterable of ImageSequence
        The scans, one after the other; all frames of a scan are used together.
    percentiles : tuple of float
        Percentiles of the landmarks, ascending.
    inside : {"foreground", "nonzero", "all"}
        The voxels that count.

    Raises
    ------
    MedseqError
        If there is no image, or one has no range of brightness.
    """
    rows = []
    for number, image in enumerate(images):
        check(cancelled)
        own = landmarks_of(image, percentiles, inside)
        if own[0] >= own[-1]:
            raise MedseqError(f"{image.name} has no range of brightness to learn from; leave it out.")
        rows.append(np.interp(own, (own[0], own[-1]), SCALE))
        if progress is not None:
            progress(number + 1, number + 2, image.name)  # the number of scans is not known
    if not rows:
        raise MedseqError("There is no scan to learn landmarks from; give one or more.")
    means = np.mean(rows, axis=0)
    # deciles that coincide in every scan would make the scale constant there
    values = np.maximum.accumulate(means + np.arange(len(means)) * 1e-9)
    return Landmarks(percentiles=percentiles, values=tuple(float(v) for v in values), inside=inside, scans=len(rows))


def landmarks_of(
    image: ImageSequence, percentiles: tuple[float, ...] = PERCENTILES, inside: Region = "foreground"
) -> NDArray[np.float64]:
    """The percentiles of an image's voxels, of all frames together, without padding."""
    return _landmarks(image, percentiles, inside, Job())


def _landmarks(image: ImageSequence, percentiles: tuple[float, ...], inside: Region, job: Job) -> NDArray[np.float64]:
    pools = []
    for volume in job.volumes(image):
        data = job.finite(volume, image.name)
        pools.append(without_padding(data[region(data, inside, image.affine)], image))
    return np.asarray(np.percentile(np.concatenate(pools), percentiles), dtype=np.float64)


class Nyul(Step):
    """Map an MR scan to a standard scale of brightness, learned with `learn_landmarks`.

    Brightness is mapped linearly between landmarks of the scan, and beyond the outer ones with the slope of the
    outermost piece.
    """

    title: ClassVar[str] = "histogram standardisation (Nyúl)"
    kind: Literal["nyul"] = "nyul"
    landmarks: Landmarks | None = Field(None, description="The scale, or its JSON file; the recipe stores its numbers.")

    @field_validator("landmarks", mode="before")
    @classmethod
    def _from_file(cls, value: object) -> object:
        return Landmarks.load(value) if isinstance(value, str | os.PathLike) else value

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return float32 on the standard scale.

        Raises
        ------
        SettingsError
            Without landmarks.
        """
        scale = self.landmarks
        if scale is None:
            raise SettingsError(
                "Histogram standardisation needs landmarks=: a file of preprocessing.learn_landmarks(scans).save(path)."
            )
        if seq.modality == "CT":
            job.doubts.append("CT numbers are a standard scale already; standardising them loses the Hounsfield units")
        own = _landmarks(seq, scale.percentiles, scale.inside, job)
        # coincident landmarks give a piece no width, and the last of them counts
        increasing = np.append(np.diff(own) > 0, True)
        if np.count_nonzero(increasing) < 2:
            raise MedseqError(f"{seq.name} has no range of brightness to standardise.")
        if not increasing.all():
            job.doubts.append("some landmarks coincide, so that parts of the scale are not used")
        x, y = own[increasing], np.array(scale.values)[increasing]
        return with_new_values(job.map(seq, lambda v: _piecewise(job.finite(v, seq.name), x, y)))


def _piecewise(data: NDArray[np.floating], x: NDArray[np.float64], y: NDArray[np.float64]) -> Volume:
    """Linear interpolation through the points (x, y), with the outer pieces extrapolated."""
    piece = np.clip(np.searchsorted(x, data, side="right") - 1, 0, len(x) - 2)
    slope = np.diff(y) / np.diff(x)
    return np.asarray(y[piece] + slope[piece] * (data - x[piece]), dtype=np.float32)
