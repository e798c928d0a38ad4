"""The change between two visits: one image minus another, at the same place and on the same scale of brightness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.preprocessing.step import EVERYTHING, Floats, Job, Step
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.foreground import foreground
from napari_medseq.volumes.grid import resample
from napari_medseq.volumes.padding import with_new_values


class Difference(Step):
    """The image minus the reference (an earlier visit), on the image's own grid.

    A reference on another grid is resampled by true positions only, so register it first (step "register"). Voxels
    that it does not cover are 0.
    """

    title: ClassVar[str] = "difference from another visit"
    takes_reference: ClassVar[bool] = True
    by_modality: ClassVar[Mapping[str, Mapping[str, object]]] = {"CT": {"match": "none"}, "PT": {"match": "none"}}
    kind: Literal["difference"] = "difference"
    match: Literal["linear", "histogram", "none"] = Field(
        "linear",
        description=(
            "How the reference's brightness is first matched to the image's, within the body in both: by the "
            "best linear fit (least squares), by rank (each percentile to the same percentile), or not at "
            "all (HU, SUV)."
        ),
    )

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """Everything if brightness is matched within the body; otherwise the voxel alone."""
        del seq
        return EVERYTHING if self.match != "none" else {}

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """Return float32 in the image's unit; positive where the image is brighter than the reference.

        Raises
        ------
        SettingsError
            Without a reference, or if it has frames or colours that the image lacks.
        MedseqError
            If the two images do not overlap.
        """
        reference = job.reference
        if reference is None:
            raise SettingsError("The difference needs another image; give reference= (in the viewer: choose a layer).")
        if reference.kind == "labels":
            raise SettingsError(f"{reference.name} holds labels; the difference is one of images.")
        if set(reference.axes) & {"t", "c"} and {a: reference.size(a) for a in "tc"} != {a: seq.size(a) for a in "tc"}:
            raise SettingsError(
                f"{reference.name} has other frames or colours than {seq.name}; choose one frame to compare with."
            )
        other, covered = _on_grid(reference, seq)
        body = covered
        pools: tuple[list[Floats], list[Floats]] = ([], [])
        if self.match != "none":
            for volume, against in zip(job.volumes(seq), _again(other, seq), strict=True):
                data = job.finite(volume, seq.name)
                inside = body & foreground(data, seq.affine) & foreground(against, seq.affine)
                pools[0].append(data[inside].astype(np.float64))
                pools[1].append(against[inside].astype(np.float64))
        adjust = self._adjustment(pools, job)
        others = iter(_again(other, seq))
        result = job.map(
            seq, lambda v: np.where(covered, job.finite(v, seq.name) - adjust(next(others)), 0).astype(np.float32)
        )
        return with_new_values(result.replace(meta={**result.meta, "difference_from": reference.name}))

    def _adjustment(self, pools: tuple[list[Floats], list[Floats]], job: Job) -> _Line | _Histogram:
        if self.match == "none":
            return _Line(1.0, 0.0)
        own, other = (np.concatenate(p) for p in pools)
        if own.size < 2 or float(np.ptp(other)) == 0:
            job.doubts.append("the images have no body in common to match their brightness by, so it was not matched")
            return _Line(1.0, 0.0)
        if self.match == "linear":
            slope, offset = np.polyfit(other, own, 1)
            return _Line(float(slope), float(offset))
        return _Histogram(own, other)


class _Line:
    def __init__(self, slope: float, offset: float) -> None:
        self.slope, self.offset = slope, offset

    def __call__(self, values: Floats) -> Floats:
        return np.asarray(self.slope * values + self.offset)


class _Histogram:
    """Maps each value to the value of the same rank in the other image; values outside of the body's range (the air around it) by the
    slope of the range, because they have no rank."""

    def __init__(self, own: Floats, other: Floats) -> None:
        ranks = np.linspace(0, 100, 1001)
        to, source = np.percentile(own, ranks), np.percentile(other, ranks)
        self.source, first, count = np.unique(source, return_index=True, return_counts=True)
        self.to = (to[first] + to[first + count - 1]) / 2  # a value of many ranks has the middle one
        # of the middle 98 %, because bright vessels would bend it
        low, high = (10, 990) if source[990] > source[10] else (0, 1000)
        self.slope = float((to[high] - to[low]) / (source[high] - source[low]))

    def __call__(self, values: Floats) -> Floats:
        inside = np.clip(values, self.source[0], self.source[-1])
        return np.asarray(np.interp(inside, self.source, self.to) + self.slope * (values - inside))


def _on_grid(reference: ImageSequence, seq: ImageSequence) -> tuple[ImageSequence, NDArray[np.bool_]]:
    """The reference on the image's grid, and which voxels of a volume it covers."""
    if reference.same_grid(seq):
        return reference, np.ones(seq.grid[::-1], bool)
    moved = resample(reference, seq.affine, seq.grid, interpolation="linear")
    everywhere = ImageSequence(
        np.ones(reference.grid[::-1], np.uint8), ("z", "y", "x"), reference.affine, kind="labels"
    )
    covered = np.asarray(resample(everywhere, seq.affine, seq.grid).data, bool).reshape(seq.grid[::-1])
    if not covered.any():
        raise MedseqError(f"{reference.name} and {seq.name} do not overlap; register one to the other first.")
    return moved, covered


def _again(other: ImageSequence, seq: ImageSequence) -> list[Floats]:
    """The reference's volumes, as many as the image has, because one still image is compared with every frame."""
    job = Job()
    volumes = [job.finite(v, other.name) for v in job.volumes(other)]
    return volumes * (seq.size("t") * seq.size("c") // len(volumes))
