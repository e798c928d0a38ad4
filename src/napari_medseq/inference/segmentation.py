"""`segment`: an image in, labels on its own grid out, streamed step by step."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypedDict, Unpack, overload

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from napari_medseq.errors import MedseqError, MedseqWarning, ModelError
from napari_medseq.inference import devices, remote, tuning, visits
from napari_medseq.inference.answers import check_finite
from napari_medseq.inference.frame import Framing, Region, frame
from napari_medseq.inference.images import Images, exams
from napari_medseq.inference.network_passes import VIEWS, known_times, probabilities, steps_of, varied
from napari_medseq.inference.prediction import PatchAccumulator, Segmentation, remove_small_objects, to_images
from napari_medseq.inference.settings import InferenceSettings, inference_settings
from napari_medseq.inference.sliding import (
    WindowSettings,
    warn_of_preprocessing,
    window_framing,
    window_probabilities,
    window_settings,
)
from napari_medseq.inference.streaming import dropouts
from napari_medseq.models import Model, ModelLike, loaded
from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.models.stepwise import Stepwise
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.sequence import ImageSequence, Visit

__all__ = ["Segmentation", "remove_small_objects", "segment"]

Output = Literal["labels", "probability", "uncertainty"]


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
    transforms: Sequence[ArrayLike | None] | None
    force: bool
    progress: Progress | None
    cancelled: Cancelled | None


@overload
def segment(
    images: ImageSequence | Mapping[str, ImageSequence], model: ModelLike, **options: Unpack[_Options]
) -> Segmentation: ...
@overload
def segment(images: Sequence[Visit], model: ModelLike, **options: Unpack[_Options]) -> list[Segmentation]: ...
def segment(
    images: Images,
    model: ModelLike,
    *,
    device: str = "auto",
    chunk: int | None = None,
    steps: Sequence[int] | None = None,
    outputs: Sequence[Output] = ("labels",),
    keep: ImageSequence | None = None,
    samples: int = 0,
    views: int = 0,
    region: Region | None = None,
    transforms: Sequence[ArrayLike | None] | None = None,
    force: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Segmentation | list[Segmentation]:
    """Segment an image with a recurrent model.

    A model along slices looks at each visit by itself. One along "t" takes frames; where these are volumes each slice is a
    sequence of its own, unless the network's steps are volumes. One along "visit" reads a patient's visits together, in the
    order of their dates and with the days between them, each on its own grid; a single image is a patient's only visit.

    Parameters
    ----------
    images : ImageSequence, mapping of channel to ImageSequence, or sequence of Visit
    model : Model, str or path
        A loaded model, its name, or the folder of a bundle.
    device : str
        "auto", "cpu", "cuda", "cuda:N", "mps", or "dask://host:port": a worker of that Dask cluster.
    chunk : int, optional
        Steps that go through the network together, on a GPU; halved when its memory does not suffice, then the CPU is used.
        On the CPU the size of the steps alone says how many, so its answer cannot depend on it.
    steps : sequence of int, optional
        Label only these steps; the sequence is still read whole, since it is what the recurrence carries. Of visits: their
        indices in `images`.
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
    transforms : sequence of 4×4 or None, optional
        For a model along visits: what brings each visit's patient coordinates to a common space (RAS mm; None: it lies right),
        as `track` takes them. Without it visits that align are left as they lie, and others are registered to the first.
    force : bool
        Accept an image whose known modality is not the model's.
    progress, cancelled : callable, optional
        Looked at once per step.

    Returns
    -------
    Segmentation
        A list of them, one per visit, for a sequence of visits. A model along visits leaves out, with a warning, a visit
        that has no image.

    Raises
    ------
    ModelError
        If the model does not fit the images or is no segmentation model.
    RegistrationError
        If a visit has to be registered to the first and the result cannot be trusted.
    DeviceError
        If the device is not there.
    OperationCancelled
        Within one step of `cancelled` returning True.
    """
    model = loaded(model)
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
        options["transforms"] = transforms
        return remote.call(device, "segment", images, model, options, progress, cancelled)  # type: ignore[no-any-return]
    window = window_settings(model.inference, model.info.name) if plain else None
    settings = InferenceSettings() if plain else inference_settings(model.inference, model.info.name)
    where, _ = devices.choose(device)
    network = model.network
    if isinstance(network, Stepwise) and network.volumes and settings.along not in ("t", "visit"):
        raise ModelError(f"{model.info.name} takes volumes as its steps, so it works along t or visit, not slices.")
    if transforms is not None and settings.along != "visit":
        raise MedseqError(f"transforms are for a model along visits; {model.info.name} looks at each image by itself.")
    if plain and region is not None:
        raise ModelError(
            f"{model.info.name} is a foreign bundle, which looks at whole images; crop the image instead of region=."
        )
    if plain:
        warn_of_preprocessing(model.info.name)
    job = _Job(model, settings, outputs, steps, keep, region, chunk, samples, views, where, progress, cancelled, window)
    if settings.along == "visit":
        results = job.of_visits(visits.patient_of(images, model, transforms, force=force, cancelled=cancelled))
    else:
        results = job.of_each(exams(images, model, force=force))
    return results if isinstance(images, Sequence) else results[0]


@dataclass(frozen=True, eq=False)
class _SequencePass:
    """Something to go through step by step, and the images whose labels come of it, by step; None: all steps, one image."""

    channels: list[ImageSequence]
    framing: Framing
    wanted: dict[int, int] | None = None


@dataclass(frozen=True, eq=False)
class _Job:
    """What was asked for, for all images of a call."""

    model: Model
    settings: InferenceSettings
    outputs: Sequence[Output]
    steps: Sequence[int] | None
    keep: ImageSequence | None
    region: Region | None
    chunk: int | None
    samples: int
    views: int
    device: torch.device
    progress: Progress | None
    cancelled: Cancelled | None
    window: WindowSettings | None

    def of_each(self, found: Sequence[list[ImageSequence]]) -> list[Segmentation]:
        """Each exam by itself."""
        network, s = self.model.network, self.settings
        walks = []
        for channels in found:
            check(self.cancelled)
            if not isinstance(network, Stepwise):
                walks.append(_SequencePass(channels, window_framing(channels)))
                continue
            if s.along == "t" and "z" in channels[0].axes:  # read slice by slice through all frames
                channels = [c.compute() for c in channels]
            framing = frame(channels, along=s.along, pixel_mm=s.pixel_mm, stride=network.stride, region=self.region)
            walks.append(_SequencePass(channels, framing))
        results = []
        for walk, (accumulator, said) in zip(walks, self._run_passes(walks), strict=True):
            result = to_images(accumulator.prediction, walk.channels[0], self.model, s, self.steps, self.keep)
            results.append(_told(result, said))
        return results

    def of_visits(self, patient: visits.Patient) -> list[Segmentation]:
        """The visits of one patient together, in the order in which they were given."""
        found, index, days = patient.exams, patient.index, patient.days
        network, s = self.model.network, self.settings
        assert isinstance(network, Stepwise)
        if network.gap_unit is not None and None in days:
            text = f"Not every visit has a date: {self.model.info.name} reads them in the order given, without the days between."
            warnings.warn(text, MedseqWarning, stacklevel=3)
        wrong = sorted(set(self.steps or ()) - set(index))
        if wrong:
            raise MedseqError(f"The visits with an image are {list(index)}, not {wrong}.")
        walks = []
        for group in visits.stack_visits(found, days, patient.to_common, self.cancelled):
            framing = group.framing(pixel_mm=s.pixel_mm, stride=network.stride, region=self.region)
            walks.append(_SequencePass(group.channels, framing, {at: group.visits[at] for at in group.own}))
        results: dict[int, Segmentation] = {}
        for walk, (accumulator, said) in zip(walks, self._run_passes(walks), strict=True):
            for at, visit in (walk.wanted or {}).items():
                only = None if self.steps is None else [0] if index[visit] in self.steps else []
                result = to_images(accumulator.prediction.only(at), found[visit][0], self.model, s, only, self.keep)
                results[visit] = _told(result, said)
        return [results[k] for k in range(len(found))]

    def _run_passes(self, walks: Sequence[_SequencePass]) -> Iterator[tuple[PatchAccumulator, list[str]]]:
        """What was painted on each walk, and what had to be said of the device."""
        counts = [self._last(w) * len(self._sequences(w.framing)) for w in walks]
        for k, walk in enumerate(walks):

            def painted(
                where: torch.device, together: int | None, walk: _SequencePass = walk, done: int = sum(counts[:k])
            ) -> PatchAccumulator:
                return self._painted(walk, where, together, done, sum(counts))

            yield devices.within_memory(painted, self.device, self.chunk, walk.channels[0].name)

    def _sequences(self, framing: Framing) -> list[int | None]:
        """The positions that are sequences of their own; None is all of them as one."""
        network = self.model.network
        return [None] if isinstance(network, Stepwise) and network.volumes else list(framing.positions)

    def _last(self, walk: _SequencePass) -> int:
        """Steps until all that are wanted are done."""
        return walk.framing.steps if walk.wanted is None else max(walk.wanted) + 1

    def _painted(
        self, walk: _SequencePass, where: torch.device, together: int | None, done: int, total: int
    ) -> PatchAccumulator:
        framing, channels = walk.framing, walk.channels
        accumulator = PatchAccumulator(
            framing, self.settings, self.outputs, apart=self.settings.along in ("t", "visit")
        )
        plan = tuning.prepare(self.model.network, where, together, self.settings.precision)
        last = self._last(walk)
        for position in self._sequences(framing):
            planes, others = self._passes(walk, where, plan, position)
            for index, p in enumerate(planes):
                check(self.cancelled)
                sampled = p if others is None else next(others)
                for answer in (p,) if others is None else (p, sampled):
                    check_finite(answer, self.model, f"step {index + 1} of {channels[0].name}")
                accumulator.add(index, position, p, sampled)
                done += 1
                if self.progress is not None:
                    self.progress(done, total, f"segmenting {channels[0].name}")
                if index + 1 == last:  # the visits after it are only read as far as the look-ahead needs them
                    break
        check(self.cancelled)
        return accumulator

    def _passes(
        self, walk: _SequencePass, where: torch.device, plan: tuning.Plan, position: int | None
    ) -> tuple[Iterator[Tensor], Iterator[Tensor] | None]:
        """The probabilities that the answer comes from, and those that show how sure it is."""
        network, framing, channels = self.model.network, walk.framing, walk.channels
        if not isinstance(network, Stepwise):
            assert self.window is not None
            return window_probabilities(network, channels, self.window, where, self.cancelled), None
        times = known_times(network, framing)
        planes = probabilities(network, steps_of(framing, channels, where, position), self.settings, plan, times)
        steps = steps_of(framing, channels, where, position)
        return planes, varied(network, steps, plan, samples=self.samples, views=self.views, times=times)


def _told(result: Segmentation, said: list[str]) -> Segmentation:
    """The result with what was said on the way among its warnings."""
    if not said:
        return result
    return replace(result, labels=result.labels.replace(warnings=(*result.labels.warnings, *said)))


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
