"""From class probabilities, step by step, to post-processed labels on the image's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_medseq import geometry, memory
from napari_medseq.errors import MedseqError
from napari_medseq.inference.inputs.frame import Framing
from napari_medseq.inference.inputs.images import Number, to_image_axes
from napari_medseq.inference.inputs.slice_steps import are_averaged
from napari_medseq.inference.outputs.ensemble import model_names
from napari_medseq.inference.outputs.postprocessing import postprocess
from napari_medseq.inference.settings import InferenceSettings
from napari_medseq.models import Model
from napari_medseq.sequence import ImageSequence, check_same_grid


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The result of `segment` for one image.

    Attributes
    ----------
    labels : ImageSequence
        Class per voxel on the input's own grid.
    probability : ImageSequence or None
        Probability of any foreground class, float32, when asked for.
    uncertainty : ImageSequence or None
        Entropy of the class probabilities in nats, divided by ln(classes): 0 sure, 1 even; when asked for.
    model : str
        Name and version of the model, or of all that were averaged.
    """

    labels: ImageSequence
    probability: ImageSequence | None
    uncertainty: ImageSequence | None
    model: str

    def keeping(self, keep: ImageSequence | None) -> Self:
        """The same with the labels of `keep`, on the same grid, where these are not 0.

        Raises
        ------
        GeometryError
            If it lies on another grid.
        """
        if keep is None:
            return self
        check_same_grid(self.labels, keep, where="keep")
        return replace(self, labels=self.labels.replace(data=kept(np.asarray(self.labels.data), keep)))


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer of a network for a sequence, as arrays with axes (step, position, row, column), called `axes` in the image.
    `apart`: steps are not places, but frames or visits, each with a volume of its own. `wrong`: voxels that are expected to be wrong
    (`Doubt`).
    """

    axes: tuple[str, str, str, str]
    apart: bool
    labels: NDArray[np.uint8]
    sureness: NDArray[np.float16] | None
    probability: NDArray[np.float32] | None
    uncertainty: NDArray[np.float32] | None
    wrong: float = 0.0

    def only(self, step: int) -> Prediction:
        """A prediction of one step only, for an image without an axis of steps."""

        def part(array: NDArray[Number] | None) -> NDArray[Number] | None:
            return None if array is None else array[step : step + 1]

        return replace(
            self,
            axes=("", *self.axes[1:]),
            labels=self.labels[step : step + 1],
            sureness=part(self.sureness),
            probability=part(self.probability),
            uncertainty=part(self.uncertainty),
        )


class PatchAccumulator:
    """Collects steps into the arrays of `Prediction`."""

    def __init__(self, framing: Framing, settings: InferenceSettings, outputs: Sequence[str], *, apart: bool) -> None:
        steps, rows, columns = framing.whole
        shape = (steps, framing.thick, rows, columns)
        self.framing, self.threshold = framing, settings.threshold
        self._wrong = 0.0  # pixels of the network
        self._prediction = Prediction(
            (framing.axes[0], framing.across, *framing.axes[1:]),
            apart,
            memory.zeros(shape, np.uint8),
            memory.zeros(shape, np.float16) if settings.min_mean_probability > 0 else None,
            memory.zeros(shape, np.float32) if "probability" in outputs else None,
            memory.zeros(shape, np.float32) if "uncertainty" in outputs else None,
        )

    @property
    def prediction(self) -> Prediction:
        """What was added so far."""
        r0, r1, c0, c1 = self.framing.crop
        size = (r1 - r0) * (c1 - c0) / (self.framing.inner[0] * self.framing.inner[1])
        return replace(self._prediction, wrong=self._wrong * size)

    def add(self, index: int, position: int | None, p: Tensor, sampled: Tensor) -> None:
        """Add one step's class probabilities, and those whose entropy is the uncertainty.

        Both are (class, y, x) at a position, or (class, z, y, x) at all of them (None).
        """
        if position is None:
            for k, at in enumerate(self.framing.positions):
                self.add(index, at, p[:, k], sampled[:, k])
            return
        out, at_step = self._prediction, (index + self.framing.outside[0], position)
        chosen = (p[1] > self.threshold).to(torch.uint8) if p.shape[0] == 2 else p.argmax(0).to(torch.uint8)
        out.labels[at_step] = self.framing.uncrop(chosen, labels=True)
        self._wrong += float(torch.minimum(p[0], 1 - p[0])[: self.framing.inner[0], : self.framing.inner[1]].sum())
        if out.sureness is not None:
            out.sureness[at_step] = self.framing.uncrop(1 - p[0], labels=False)
        if out.probability is not None:
            out.probability[at_step] = self.framing.uncrop(1 - p[0], labels=False)
        if out.uncertainty is not None:
            entropy = -(sampled * sampled.clamp_min(1e-12).log()).sum(0) / float(np.log(p.shape[0]))
            out.uncertainty[at_step] = self.framing.uncrop(entropy, labels=False)


def to_images(
    prediction: Prediction,
    image: ImageSequence,
    models: Sequence[Model],
    settings: InferenceSettings,
    steps: Sequence[int] | None,
) -> Segmentation:
    """The accumulated prediction, post-processed as the bundle asks, as images on the grid of `image`."""

    def back(array: NDArray[Number]) -> NDArray[Number]:
        return to_image_axes(array, prediction.axes, image)

    labels = _cleaned(prediction, image, settings)
    found = int(np.count_nonzero(labels))
    if steps is not None:
        is_wanted = np.zeros(len(labels), bool)
        bad = [i for i in steps if not 0 <= i < len(labels)]
        if bad:
            raise MedseqError(f"{image.name} has steps 0 to {len(labels) - 1}, not {bad}.")
        is_wanted[list(steps)] = True
        labels[~is_wanted] = 0
    first = models[0].info
    named = image.labels_like(back(labels), name=f"{image.name}_{first.name}", label_names=first.classes)
    extra = {
        kind: None
        if array is None
        else image.like(back(array), name=f"{image.name}_{kind}", kind="image", modality=None)
        for kind, array in (("probability", prediction.probability), ("uncertainty", prediction.uncertainty))
    }
    answer = Segmentation(named, extra["probability"], extra["uncertainty"], model_names(models))
    if settings.doubt is None or prediction.apart:
        return answer
    averaged = are_averaged(image, prediction.axes[0], settings)
    return with_warnings(answer, settings.doubt.notes(prediction.wrong, found, image, answer.model, averaged=averaged))


def kept(labels: NDArray[np.uint8], keep: ImageSequence) -> NDArray[np.generic]:
    """The labels, overwritten by those of `keep` where it is not 0; changed in place where the type allows it."""
    dtype = np.promote_types(keep.data.dtype, labels.dtype)
    out = labels if dtype == labels.dtype else labels.astype(dtype)
    for number in range(len(out)):
        locked = np.asarray(keep.data[number])
        np.copyto(out[number], locked, where=locked != 0, casting="unsafe")
    return out


def _cleaned(prediction: Prediction, image: ImageSequence, settings: InferenceSettings) -> NDArray[np.uint8]:
    """The labels after the post-processing that the bundle asks for, over the volume that the steps make up, or over
    each step's own volume."""
    step, across, row, column = prediction.axes
    smallest = settings.min_volume_mm3 / geometry.voxel_volume_mm3(image.affine)

    def clean(labels: NDArray[np.uint8], sureness: NDArray[np.float16] | None, first: str) -> NDArray[np.uint8]:
        if smallest > 0 or sureness is not None:
            labels = remove_small_objects(labels, smallest, sureness, settings.min_mean_probability)
        return postprocess(labels, [image.spacing.get(a, float("inf")) for a in (first, row, column)], settings)

    sure = prediction.sureness
    if not prediction.apart:
        return clean(prediction.labels[:, 0], None if sure is None else sure[:, 0], step)[:, None]
    for number, volume in enumerate(prediction.labels):
        volume[:] = clean(volume, None if sure is None else sure[number], across)
    return prediction.labels


def remove_small_objects(
    labels: NDArray[np.uint8],
    min_voxels: float,
    probability: NDArray[np.float16 | np.float32] | None = None,
    min_mean_probability: float = 0.0,
) -> NDArray[np.uint8]:
    """Remove connected components (all classes together, 26-connected) that are too small or too uncertain.

    Those of fewer voxels than `min_voxels` go, and those whose mean `probability` is under `min_mean_probability`.
    """
    from scipy import ndimage

    # in the box that holds them all: lesions are small, and so is the memory then
    box = next(iter(ndimage.find_objects((labels > 0).view(np.uint8), max_label=1)), None)
    if box is None:
        return labels
    inside = labels[box]
    parts, n = ndimage.label(inside > 0, structure=np.ones((3, 3, 3)))
    flat = parts.ravel()
    sizes = np.bincount(flat, minlength=n + 1)
    bad = sizes < min_voxels
    if probability is not None:
        means = np.bincount(flat, weights=probability[box].ravel(), minlength=n + 1) / np.maximum(sizes, 1)
        bad |= means < min_mean_probability
    bad[0] = False
    out = labels.copy()
    out[box] = np.where(bad[parts], 0, inside)
    return out


def with_warnings(result: Segmentation, notes: Sequence[str]) -> Segmentation:
    """The result with further notes among its warnings."""
    if not notes:
        return result
    return replace(result, labels=result.labels.replace(warnings=(*result.labels.warnings, *notes)))
