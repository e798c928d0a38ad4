"""`locate`: boxes and landmarks from a coarse pass, optionally refined by a segmentation network at full resolution.

The coarse pass is a classifier's map of evidence, each step weighed by what the sequence says of it, or a segmentation network on
pixels of twice the size. What stands out is a candidate; a segmentation network may then look at the candidates alone, at its
full resolution, which confirms, sharpens or drops them. A segmentation network on its own needs no coarse pass: its lesions are
what it labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_medseq import geometry
from napari_medseq.errors import ModelError, SettingsError
from napari_medseq.inference.inputs.frame import Framing, Region, frame, step_axes
from napari_medseq.inference.inputs.images import Images, exams
from napari_medseq.inference.inputs.slice_steps import SliceSteps, notes_of_image, rows_of_steps
from napari_medseq.inference.network_passes import probabilities, steps_of
from napari_medseq.inference.options import Ready, RunKeywords, RunOptions, prepared, recurrent_network_of
from napari_medseq.inference.outputs.finite import check_finite
from napari_medseq.inference.resources import tuning
from napari_medseq.inference.segmentation import Segmentation, segment
from napari_medseq.inference.slabs.segmentation import refuse_slab
from napari_medseq.inference.streaming import neighbourhoods
from napari_medseq.inference.upright import Upright
from napari_medseq.models import Model, ModelLike, loaded
from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.models.sequence_classifier import SequenceClassifier
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.sequence import SPACE, ImageSequence, Visit

_COARSER = 2.0  # factor on the pixel size of a segmentation network


@dataclass(frozen=True, eq=False)
class Location:
    """One object that was located.

    Attributes
    ----------
    score : float
        Highest probability in it, 0 to 1.
    centre_mm : ndarray, shape (3,)
        Landmark: its centre of mass in RAS millimetres.
    box : dict of axis name to (start, stop)
        Smallest box of voxels of the image that holds it.
    """

    score: float
    centre_mm: NDArray[np.float64]
    box: dict[str, tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Locations:
    """The objects that `locate` found in one image, the most certain first.

    Attributes
    ----------
    found : tuple of Location
    image : ImageSequence
        The image, for its grid.
    name : str
        Name of the located class.
    model : str
    """

    found: tuple[Location, ...]
    image: ImageSequence
    name: str
    model: str

    def __len__(self) -> int:
        return len(self.found)

    @classmethod
    def of(cls, result: Segmentation, image: ImageSequence | None = None, *, min_score: float = 0.0) -> Locations:
        """Box and landmark of each piece that a segmentation labelled, exactly its voxels.

        Parameters
        ----------
        result : Segmentation
            With its probability, for scores and centres of mass; without, every voxel counts 1.
        image : ImageSequence, optional
            The image that was segmented, for its name.
        min_score : float
            Pieces that are less sure are left out.
        """
        from scipy import ndimage

        labels = result.labels
        image = labels if image is None else image
        mask = np.asarray(labels.data)
        sure = np.ones(mask.shape, np.float32) if result.probability is None else np.asarray(result.probability.data)
        parts, _ = ndimage.label(mask > 0, structure=np.ones((3,) * mask.ndim))
        locations = []
        for number, where in enumerate(ndimage.find_objects(parts), start=1):
            inside = np.where(parts[where] == number, sure[where], 0.0)
            middle = [float(m + s.start) for m, s in zip(ndimage.center_of_mass(inside), where, strict=True)]
            box = {a: (s.start, s.stop) for a, s in zip(labels.axes, where, strict=True)}
            at = _world(labels, dict(zip(labels.axes, middle, strict=True)))
            if inside.max() >= min_score:
                locations.append(Location(float(inside.max()), at, box))
        name = labels.label_names.get(min(labels.label_names, default=0), "lesion")
        return cls(tuple(sorted(locations, key=lambda f: -f.score)), image, name, result.model)

    def region(self, margin_mm: float = 15.0) -> Region:
        """The box around all that was found and `margin_mm` more, for ``segment(..., region=)``; the whole image without any."""
        if not self.found:
            return {a: (0, self.image.size(a)) for a in SPACE if a in self.image.axes}
        out = {}
        for axis in self.found[0].box:
            margin = int(np.ceil(margin_mm / self.image.spacing[axis]))
            start = min(f.box[axis][0] for f in self.found) - margin
            stop = max(f.box[axis][1] for f in self.found) + margin
            out[axis] = (max(0, start), min(self.image.size(axis), stop))
        return out

    def points(self) -> NDArray[np.float64]:
        """Landmarks in voxels, one row each, along the image's own space axes in order."""
        axes = [a for a in SPACE if a in self.image.axes]
        if not self.found:
            return np.zeros((0, len(axes)))
        xyz = geometry.apply_points(
            geometry.as_affine(np.linalg.inv(self.image.affine)), np.stack([f.centre_mm for f in self.found])
        )
        order = ("x", "y", "z")
        return np.stack([xyz[:, order.index(a)] for a in axes], 1)


class _Options(RunKeywords, total=False):
    """The keywords of `locate`, once, for its two overloads."""

    refine_with: ModelLike | None
    min_score: float


@overload
def locate(
    images: ImageSequence | Mapping[str, ImageSequence], model: ModelLike, **options: Unpack[_Options]
) -> Locations: ...
@overload
def locate(images: Sequence[Visit], model: ModelLike, **options: Unpack[_Options]) -> list[Locations]: ...
def locate(
    images: Images,
    model: ModelLike,
    *,
    refine_with: ModelLike | None = None,
    min_score: float = 0.3,
    device: str = "auto",
    force: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Locations | list[Locations]:
    """Find objects in images, as boxes and landmarks.

    Parameters
    ----------
    images : ImageSequence, mapping of channel to ImageSequence, or sequence of Visit
    model : Model, str or path
        A recurrent segmentation model: the boxes are those of what it labels. Or a sequence classifier, whose map of evidence is
        coarse and quick.
    refine_with : Model, str or path, optional
        A segmentation model that looks at the candidates at its full resolution: those in which it labels nothing are dropped,
        the others get its boxes, landmarks and scores. It must take the same channels. `model` then only makes the coarse pass,
        a segmentation model on pixels of twice the size.
    min_score : float
        Probability, 0 to 1, from which on a place is a candidate.
    device : str
        "auto", "cpu", "cuda", "cuda:N" or "mps".
    force : bool
        Accept an image whose known modality is not the model's.
    progress, cancelled : callable, optional
        Looked at once per step.

    Returns
    -------
    Locations
        A list of them, one per visit, for a sequence of visits.

    Raises
    ------
    SettingsError
        If `min_score` is not a probability.
    ModelError
        If a model does not fit, or is not of this package.
    """
    chosen = loaded(model)
    refuse_slab(chosen, "locate", "The labels of segment say where things are.")
    network = recurrent_network_of(
        chosen, refusal="cannot locate: a sequence classifier or a recurrent segmentation model can."
    )
    if not 0 < min_score < 1:
        raise SettingsError(f"min_score is {min_score}; it is a probability between 0 and 1.")
    options = RunOptions(device=device, force=force, progress=progress, cancelled=cancelled)
    ready = prepared(chosen, network, options)
    if ready.settings.along == "t":
        raise ModelError(
            f"{chosen.info.name} walks along time; to locate something in space, use a model along slices."
        )
    second = None if refine_with is None else loaded(refine_with)
    results = [_located(ready, channels, second, min_score) for channels in exams(images, chosen, force=force)]
    return results if isinstance(images, Sequence) else results[0]


def _located(
    ready: Ready[RecurrentUNet | SequenceClassifier],
    channels: list[ImageSequence],
    refine_with: Model | None,
    min_score: float,
) -> Locations:
    """The objects located in one exam, refined by the second model if there is one."""
    if refine_with is None and isinstance(ready.network, RecurrentUNet):
        return _segmented(channels, ready.model, min_score, ready.options)
    locations = _coarse(ready, channels, min_score)
    if refine_with is None or not len(locations):
        return locations
    near = _segmented(channels, refine_with, 0.0, ready.options, region=locations.region())
    met = tuple(f for f in near.found if any(_meet(f.box, c.box) for c in locations.found))
    return replace(locations, found=met, model=near.model)


def _coarse(
    ready: Ready[RecurrentUNet | SequenceClassifier], channels: list[ImageSequence], min_score: float
) -> Locations:
    turn, channels = Upright.of_channels(channels, trimmed=ready.settings.trimmed, middle_mm=ready.settings.middle_mm)
    image, model, network, where = channels[0], ready.model, ready.network, ready.device
    pixel = ready.settings.pixel_mm
    if isinstance(network, RecurrentUNet):
        _, row, column = step_axes(image, ready.settings.along)
        pixel = _COARSER * (pixel or float(np.sqrt(image.spacing[row] * image.spacing[column])))
    framing = frame(
        channels, along=ready.settings.along, pixel_mm=pixel, stride=network.stride, least=ready.settings.size
    )

    notes_of_image(image, framing, ready.settings, model.info.name)
    rows = rows_of_steps(image, framing, ready.settings) or (None,)
    total, done = sum(framing.steps if r is None else r.steps for r in rows), 0

    def watched(row: SliceSteps | None) -> Iterator[Tensor]:
        nonlocal done
        slices = steps_of(framing, channels, where)
        for x in slices if row is None else row.averaged(slices):
            check(ready.options.cancelled)
            yield x
            done += 1
            if ready.options.progress is not None:
                ready.options.progress(done, total, f"locating in {image.name}")

    network, plan = tuning.prepare(network, where)

    def mapped(row: SliceSteps | None) -> Tensor:
        """The map (step, y, x) of each slice."""
        if isinstance(network, SequenceClassifier):
            with plan.precision():
                found = _evidence(network, watched(row), plan)
        else:
            found = torch.stack([1 - p[0] for p in probabilities(network, watched(row), ready.settings, plan)])
        return found if row is None else torch.stack(list(row.interpolated(found)))

    with torch.inference_mode():
        maps = torch.stack([mapped(row) for row in rows]).mean(0)
    for i, plane in enumerate(maps):
        check_finite(plane.float(), model, f"step {i + 1} of {image.name}")
    candidates = _candidates(maps.float().cpu().numpy(), min_score, framing, image)
    name = model.info.classes.get(min(model.info.classes, default=0), "lesion")
    own = tuple(replace(c, box=turn.region_back(c.box)) for c in candidates)
    return Locations(own, turn.image, name, f"{model.info.name} {model.info.version}")


def _evidence(network: SequenceClassifier, steps: Iterator[Tensor], plan: tuning.Plan) -> Tensor:
    """Probability (step, y, x) per cell of the encoder that the first class is there, and that the step holds it."""
    embeddings, evidence = [], []
    for x in neighbourhoods(steps, network.neighbours):
        embedding, where = network.encode(plan.to_memory_format(x[None]))
        embeddings.append(embedding)
        evidence.append(where[0, 0].float().sigmoid().cpu())
    per_step = network.probabilities(network.read(torch.cat(embeddings).float()[None])[0][0])[:, 0].cpu()
    return torch.stack(evidence) * per_step[:, None, None]


def _candidates(
    maps: NDArray[np.float32], min_score: float, framing: Framing, image: ImageSequence
) -> tuple[Location, ...]:
    """Candidates from the maps (step, y, x), which cover the padded crop."""
    from scipy import ndimage

    parts, _ = ndimage.label(maps >= min_score, structure=np.ones((3, 3, 3)))
    r0, r1, c0, c1 = framing.crop
    # image pixels per pixel of the map
    per_row = framing.padded[0] / maps.shape[1] * (r1 - r0) / framing.inner[0]
    per_column = framing.padded[1] / maps.shape[2] * (c1 - c0) / framing.inner[1]
    starts, steps = (framing.outside[0], r0, c0), (1.0, per_row, per_column)
    locations = []
    for number, where in enumerate(ndimage.find_objects(parts), start=1):
        inside = np.where(parts[where] == number, maps[where], 0.0)
        middle = [m + s.start for m, s in zip(ndimage.center_of_mass(inside), where, strict=True)]
        at, box = {}, {}
        for axis, m, s, start, step in zip(framing.axes, middle, where, starts, steps, strict=True):
            if not axis:
                continue
            at[axis] = start + (m + 0.5) * step - 0.5
            low, high = int(np.floor(start + s.start * step)), int(np.ceil(start + s.stop * step))
            box[axis] = (max(0, low), max(low + 1, min(image.size(axis), high)))
        locations.append(Location(float(inside.max()), _world(image, at), _in_order(box, image)))
    return tuple(sorted(locations, key=lambda f: -f.score))


def _world(image: ImageSequence, at: Mapping[str, float]) -> NDArray[np.float64]:
    point: NDArray[np.float64] = geometry.apply_points(image.affine, [[at.get(a, 0.0) for a in ("x", "y", "z")]])[0]
    return point


def _in_order(box: Mapping[str, tuple[int, int]], image: ImageSequence) -> dict[str, tuple[int, int]]:
    return {a: box[a] for a in image.axes if a in box}


def _segmented(
    channels: list[ImageSequence], model: Model, min_score: float, options: RunOptions, *, region: Region | None = None
) -> Locations:
    """The labels of a segmentation model at its full resolution."""
    images = channels[0] if len(channels) == 1 else dict(zip(model.info.channels, channels, strict=False))
    result = segment(
        images,
        model,
        region=region,
        outputs=("labels", "probability"),
        device=options.device,
        force=options.force,
        progress=options.progress,
        cancelled=options.cancelled,
    )
    return Locations.of(result, channels[0], min_score=min_score)


def _meet(a: Mapping[str, tuple[int, int]], b: Mapping[str, tuple[int, int]]) -> bool:
    return all(max(a[k][0], b[k][0]) < min(a[k][1], b[k][1]) for k in a)
