"""`segment`: an image in, labels on its own grid out, streamed step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_medseq import geometry
from napari_medseq.engine import devices, remote, tuning
from napari_medseq.engine.finishing import finished
from napari_medseq.engine.frame import Framing, Region, frame
from napari_medseq.engine.images import Images, exams, to_image_axes
from napari_medseq.engine.passes import VIEWS, probabilities, steps_of, varied
from napari_medseq.engine.settings import InferenceSettings, inference_settings
from napari_medseq.engine.streaming import dropouts
from napari_medseq.engine.window import (
    warn_of_preprocessing,
    window_framing,
    window_probabilities,
    window_settings,
)
from napari_medseq.errors import MedseqError, ModelError
from napari_medseq.models import Model, load_model
from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.models.stepwise import Stepwise
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.sequence import ImageSequence, Visit

Output = Literal["labels", "probability", "uncertainty"]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What `segment` gives for one image.

    Attributes
    ----------
    labels : ImageSequence
        Class per voxel on the input's own grid.
    probability : ImageSequence or None
        Probability of any foreground class, float32, when asked for.
    uncertainty : ImageSequence or None
        Entropy of the class probabilities in nats, divided by ln(classes): 0 sure, 1 even; when asked for.
    model : str
        Name and version of the model.
    """

    labels: ImageSequence
    probability: ImageSequence | None
    uncertainty: ImageSequence | None
    model: str


class _Options(TypedDict, total=False):
    """The keywords of `segment`, once, for its two overloads."""

    device: str
    chunk: int | None
    steps: Sequence[int] | None
    outputs: Sequence[Output]
    keep: ImageSequence | None
    samples: int
    views: int
    region: Region | None
    force: bool
    progress: Progress | None
    cancelled: Cancelled | None


@overload
def segment(
    images: ImageSequence | Mapping[str, ImageSequence], model: Model | str, **options: Unpack[_Options]
) -> Segmentation: ...
@overload
def segment(images: Sequence[Visit], model: Model | str, **options: Unpack[_Options]) -> list[Segmentation]: ...
def segment(
    images: Images,
    model: Model | str,
    *,
    device: str = "auto",
    chunk: int | None = None,
    steps: Sequence[int] | None = None,
    outputs: Sequence[Output] = ("labels",),
    keep: ImageSequence | None = None,
    samples: int = 0,
    views: int = 0,
    region: Region | None = None,
    force: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Segmentation | list[Segmentation]:
    """Segment an image with a recurrent model.

    Parameters
    ----------
    images : ImageSequence, mapping of channel to ImageSequence, or sequence of Visit
    model : Model or str
        A loaded model, or a name or folder for `load_model`.
    device : str
        "auto", "cpu", "cuda", "cuda:N", "mps", or "dask://host:port": a worker of that Dask cluster.
    chunk : int, optional
        Steps that go through the network together, on a GPU; halved when its memory does not suffice, then the CPU is used.
        The CPU always takes one at a time, which is fastest there, so its answer cannot depend on it.
    steps : sequence of int, optional
        Label only these steps; the sequence is still read whole, since it is what the recurrence carries.
    outputs : sequence of {"labels", "probability", "uncertainty"}
    keep : ImageSequence, optional
        Labels on the image's grid; where they are not 0 they stay as they are.
    samples : int
        Monte-Carlo dropout passes for the uncertainty (Gal & Ghahramani 2016, ICML): it is then the entropy of their mean,
        each pass with one dropout mask for all steps and its own seed, so that a second run gives the same. Labels and
        probability stay those of the plain pass. 0: the entropy of the plain pass.
    views : int
        Test-time augmentation for the uncertainty: so many of the seven views (mirrored, or of another contrast) are averaged with
        the plain one, and with the `samples`.
    region : mapping of axis name to (start, stop), optional
        Voxels of the image to look at, as ``ms.locate(...).region()`` gives them; the rest stays unlabelled. The recurrence
        begins and ends there too.
    force : bool
        Accept an image whose known modality is not the model's.
    progress, cancelled : callable, optional
        Looked at once per step.

    Returns
    -------
    Segmentation
        A list of them, one per visit, for a sequence of visits.

    Raises
    ------
    ModelError
        If the model does not fit the images or is no segmentation model.
    DeviceError
        If the device is not there.
    OperationCancelled
        Within one step of `cancelled` returning True.
    """
    if isinstance(model, str):
        model = load_model(model)
    stepwise = isinstance(model.network, Stepwise)
    plain = not stepwise and model.inference.get("kind") == "window"
    if model.info.task != "segmentation" or not (stepwise or plain):
        raise ModelError(f"{model.info.name} is a {model.info.task} model; segment needs a segmentation model.")
    unknown = set(outputs) - {"labels", "probability", "uncertainty"}
    if unknown:
        raise MedseqError(f"outputs {sorted(unknown)} are not known; choose from labels, probability and uncertainty.")
    if chunk is not None and chunk < 1:
        raise MedseqError(f"chunk is {chunk}; it must be at least 1, or None.")
    _check_passes(model, samples, views, outputs)
    if devices.is_remote(device):
        options: _Options = {"chunk": chunk, "steps": steps, "outputs": outputs, "keep": keep}
        options |= {"samples": samples, "views": views, "region": region, "force": force}
        return remote.call(device, "segment", images, model, options, progress, cancelled)  # type: ignore[no-any-return]
    window = window_settings(model.inference, model.info.name) if plain else None
    settings = InferenceSettings() if plain else inference_settings(model.inference, model.info.name)
    where, _ = devices.choose(device)
    network = model.network
    found = exams(images, model, force=force)
    if plain and region is not None:
        raise ModelError(
            f"{model.info.name} is a foreign bundle, which looks at whole images; crop the image instead of region=."
        )
    if plain:
        warn_of_preprocessing(model.info.name)
    framings = []
    for channels in found:
        check(cancelled)
        framings.append(
            frame(channels, along=settings.along, pixel_mm=settings.pixel_mm, stride=network.stride, region=region)
            if isinstance(network, Stepwise)
            else window_framing(channels)
        )
    total = sum(f.steps for f in framings)
    results, done = [], 0
    for channels, framing in zip(found, framings, strict=True):

        def painted(
            where: torch.device,
            together: int | None,
            channels: list[ImageSequence] = channels,
            framing: Framing = framing,
            done: int = done,
        ) -> _Painter:
            painter = _Painter(framing, settings, outputs)
            plan = tuning.prepare(network, where, together)
            if isinstance(network, Stepwise):
                planes = probabilities(network, steps_of(framing, channels, where), settings, plan)
                others = varied(network, steps_of(framing, channels, where), plan, samples=samples, views=views)
            else:
                assert window is not None
                planes, others = window_probabilities(network, channels, window, where, cancelled), None
            for index, p in enumerate(planes):
                check(cancelled)
                painter.paint(index, p, p if others is None else next(others))
                if progress is not None:
                    progress(done + index + 1, total, f"segmenting {channels[0].name}")
            check(cancelled)
            return painter

        painter, said = devices.within_memory(painted, where, chunk, channels[0].name)
        done += framing.steps
        result = _finish(painter, channels[0], model, settings, steps, keep)
        if said:
            result = replace(result, labels=result.labels.replace(warnings=(*result.labels.warnings, *said)))
        results.append(result)
    return results if isinstance(images, Sequence) else results[0]


def _check_passes(model: Model, samples: int, views: int, outputs: Sequence[Output]) -> None:
    for name, count, most in (("samples", samples, None), ("views", views, len(VIEWS))):
        if count == 0:
            continue
        if count < 0 or (most is not None and count > most) or "uncertainty" not in outputs:
            upto = "" if most is None else f" up to {most}"
            raise MedseqError(
                f"{name} is {count}; it is a number of passes{upto} for outputs=('uncertainty', ...), or 0."
            )
        sampled = isinstance(model.network, RecurrentUNet) and dropouts(model.network)
        if not isinstance(model.network, Stepwise) or (name == "samples" and not sampled):
            raise ModelError(
                f"{model.info.name} has no {'dropout' if name == 'samples' else 'steps'} to sample from; use {name}=0."
            )


class _Painter:
    """Collects steps into arrays with axes (step, row, column)."""

    def __init__(self, framing: Framing, settings: InferenceSettings, outputs: Sequence[Output]) -> None:
        shape = framing.whole
        self.framing, self.threshold = framing, settings.threshold
        self.labels = np.zeros(shape, np.uint8)
        self.sureness = np.zeros(shape, np.float16) if settings.least_mean > 0 else None
        self.probability = np.zeros(shape, np.float32) if "probability" in outputs else None
        self.uncertainty = np.zeros(shape, np.float32) if "uncertainty" in outputs else None

    def paint(self, index: int, p: Tensor, sampled: Tensor) -> None:
        """Add one step's class probabilities (class, y, x), and those whose entropy is the uncertainty."""
        index += self.framing.outside[0]
        chosen = (p[1] > self.threshold).to(torch.uint8) if p.shape[0] == 2 else p.argmax(0).to(torch.uint8)
        self.labels[index] = self.framing.uncrop(chosen, labels=True)
        if self.sureness is not None:
            self.sureness[index] = self.framing.uncrop(1 - p[0], labels=False)
        if self.probability is not None:
            self.probability[index] = self.framing.uncrop(1 - p[0], labels=False)
        if self.uncertainty is not None:
            entropy = -(sampled * sampled.clamp_min(1e-12).log()).sum(0) / float(np.log(p.shape[0]))
            self.uncertainty[index] = self.framing.uncrop(entropy, labels=False)


def _finish(
    painter: _Painter,
    image: ImageSequence,
    model: Model,
    settings: InferenceSettings,
    steps: Sequence[int] | None,
    keep: ImageSequence | None,
) -> Segmentation:
    def back(array: NDArray[Any]) -> NDArray[Any]:
        return to_image_axes(array, painter.framing.axes, image)

    labels = painter.labels
    if settings.smallest_mm3 > 0 or painter.sureness is not None:
        smallest = settings.smallest_mm3 / geometry.voxel_volume_mm3(image.affine)
        labels = without_specks(labels, smallest, painter.sureness, settings.least_mean)
    axes = painter.framing.axes
    labels = finished(labels, [image.spacing.get(a, float("inf")) for a in axes], settings)
    if steps is not None:
        wanted = np.zeros(len(labels), bool)
        bad = [i for i in steps if not 0 <= i < len(labels)]
        if bad:
            raise MedseqError(f"{image.name} has steps 0 to {len(labels) - 1}, not {bad}.")
        wanted[list(steps)] = True
        labels = np.where(wanted[:, None, None], labels, 0).astype(np.uint8)
    out = back(labels)
    if keep is not None:
        if not keep.same_grid(image) or keep.axes != image.axes:
            raise MedseqError(f"keep ({keep.name}) is not on the grid of {image.name}; locked labels must be.")
        locked = np.asarray(keep.data)
        out = np.where(locked != 0, locked, out.astype(np.promote_types(locked.dtype, out.dtype)))
    named = image.labels_like(out, name=f"{image.name}_{model.info.name}", label_names=model.info.classes)
    extra = {
        kind: None
        if array is None
        else image.like(back(array), name=f"{image.name}_{kind}", kind="image", modality=None)
        for kind, array in (("probability", painter.probability), ("uncertainty", painter.uncertainty))
    }
    return Segmentation(named, extra["probability"], extra["uncertainty"], f"{model.info.name} {model.info.version}")


def without_specks(
    labels: NDArray[np.uint8],
    smallest_voxels: float,
    probability: NDArray[np.floating[Any]] | None = None,
    least_mean: float = 0.0,
) -> NDArray[np.uint8]:
    """Labels without connected components (all classes together, 26-connected) that are too small or too unsure.

    Those of fewer voxels than `smallest_voxels` go, and those whose mean `probability` is under `least_mean`.
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
    bad = sizes < smallest_voxels
    if probability is not None:
        means = np.bincount(flat, weights=probability[box].ravel(), minlength=n + 1) / np.maximum(sizes, 1)
        bad |= means < least_mean
    bad[0] = False
    out = labels.copy()
    out[box] = np.where(bad[parts], 0, inside)
    return out
