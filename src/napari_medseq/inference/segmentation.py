"""`segment`: label an image on its own grid, streamed step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Unpack, overload

import numpy as np

from napari_medseq.errors import MedseqError, ModelError
from napari_medseq.inference import dynamic
from napari_medseq.inference.inputs import visits
from napari_medseq.inference.inputs.frame import Region
from napari_medseq.inference.inputs.images import Images, exams
from napari_medseq.inference.inputs.working import stacked_channels
from napari_medseq.inference.options import Output, RunKeywords, RunOptions, SegmentKeywords, SegmentOptions
from napari_medseq.inference.outputs.ensemble import check_together, models_of
from napari_medseq.inference.outputs.prediction import Segmentation
from napari_medseq.inference.resources import devices, remote
from napari_medseq.inference.segmentation_run import SegmentationRun
from napari_medseq.inference.settings import InferenceSettings, inference_settings
from napari_medseq.inference.slabs.segmentation import is_slab, segment_slabs
from napari_medseq.inference.sliding import warn_of_preprocessing, window_settings
from napari_medseq.models import Model, ModelLike
from napari_medseq.models.stepwise import Stepwise
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.registration.transform import Position
from napari_medseq.sequence import ImageSequence, Visit

__all__ = ["Output", "Segmentation", "segment"]


@overload
def segment(
    images: ImageSequence | Mapping[str, ImageSequence],
    model: ModelLike | Sequence[ModelLike],
    **options: Unpack[SegmentKeywords],
) -> Segmentation: ...
@overload
def segment(
    images: Sequence[Visit], model: ModelLike | Sequence[ModelLike], **options: Unpack[SegmentKeywords]
) -> list[Segmentation]: ...
def segment(
    images: Images,
    model: ModelLike | Sequence[ModelLike],
    *,
    device: str = "auto",
    chunk: int | None = None,
    steps: Sequence[int] | None = None,
    outputs: Sequence[Output] = ("labels",),
    keep: ImageSequence | None = None,
    samples: int = 0,
    views: int = 0,
    region: Region | None = None,
    transforms: Sequence[Position] | None = None,
    force: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Segmentation | list[Segmentation]:
    """Segment an image with a recurrent model.

    A model along slices looks at each visit by itself, and at each frame of volumes over time. One along "t" takes frames;
    where these are volumes each slice is a sequence of its own, unless the network's steps are volumes. One along "visit"
    reads a patient's visits together, in the order of their dates and with the days between them, each on its own grid; a
    single image is a patient's only visit.

    Parameters
    ----------
    images : ImageSequence, mapping of channel to ImageSequence, or sequence of Visit
    model : Model, str or path, or a sequence of them
        A loaded model, its name, or the folder of a bundle. The probabilities of several models (such as the folds of a
        cross-validation) are averaged at each step; all must be recurrent models of the same channels, classes, sequence and
        pixel size, or slab models of the same channels, classes and spacing. The threshold and post-processing are the first
        one's.
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
    transforms : sequence of 4×4, Transform or None, optional
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
        If the model does not fit the images or is not a segmentation model, models cannot be averaged, or an answer is not a number.
    RegistrationError
        If a visit has to be registered to the first and the result cannot be trusted.
    DeviceError
        If the device is not there.
    OperationCancelled
        Within one step of `cancelled` returning True.
    """
    models = models_of(model)
    options = SegmentOptions(
        outputs=outputs, steps=steps, keep=keep, region=region, chunk=chunk, samples=samples, views=views
    )
    _check_models(models, options)
    run_keywords: RunKeywords = {"device": device, "force": force, "progress": progress, "cancelled": cancelled}
    if isinstance(images, ImageSequence) and models[0].info.sequence_axis not in ("t", "visit"):
        images = stacked_channels(images, models[0].info.channels) or images
    if isinstance(images, ImageSequence) and models[0].info.sequence_axis == "t" and not {"t", "z"} & set(images.axes):
        if transforms is not None:
            raise _not_along_visits(models[0])
        return _segment_picture(images, models, options, run_keywords)
    keywords: SegmentKeywords = {**options.keywords(), "force": force, "transforms": transforms}
    series = dynamic.series_of(images, models[0].info)
    if series is not None and not devices.is_remote(device):
        assert not isinstance(images, Sequence)
        return _segment_frames(images, models, series, options, {**keywords, **run_keywords})
    with_slabs = any(is_slab(m) for m in models)
    if not with_slabs:
        _check_recurrent(models)
    elif transforms is not None:
        raise _not_along_visits(models[0])
    if devices.is_remote(device):
        sent = models[0] if len(models) == 1 else models
        return remote.call(device, segment, images, sent, keywords, progress, cancelled)
    run = RunOptions(**run_keywords)
    answers = (
        _segment_slabs(images, models, options, run)
        if with_slabs
        else _segment_steps(images, models, options, run, transforms)
    )
    return answers if isinstance(images, Sequence) else answers[0]


def _segment_picture(
    picture: ImageSequence, models: Sequence[Model], options: SegmentOptions, run: RunKeywords
) -> Segmentation:
    """Segment a picture by a model of frames, as the only one of a sequence."""
    keep = None if options.keep is None else _as_frame(options.keep)
    keywords: SegmentKeywords = {**replace(options, keep=keep).keywords(), **run}
    answer = segment(_as_frame(picture), models, **keywords)
    maps = {n: m.frame(0) for n in ("labels", "probability", "uncertainty") if (m := getattr(answer, n)) is not None}
    return replace(answer, **maps)


def _as_frame(picture: ImageSequence) -> ImageSequence:
    return picture.replace(data=np.asarray(picture.data)[None], axes=("t", *picture.axes), times=np.zeros(1))


def _segment_frames(
    images: ImageSequence | Mapping[str, ImageSequence],
    models: Sequence[Model],
    series: ImageSequence,
    options: SegmentOptions,
    keywords: SegmentKeywords,
) -> Segmentation:
    """Segment volumes over time frame by frame."""

    def segment_frame(
        frame: ImageSequence | Mapping[str, ImageSequence], of_frame: SegmentOptions, shown: Progress | None
    ) -> Segmentation:
        frame_keywords: SegmentKeywords = {**keywords, **of_frame.keywords(), "progress": shown}
        return segment(frame, models, **frame_keywords)

    return dynamic.segment_frames(images, series, segment_frame, options, keywords.get("progress"))


def _segment_slabs(
    images: Images, models: Sequence[Model], options: SegmentOptions, run: RunOptions
) -> list[Segmentation]:
    """Segment with slab networks, whose probabilities are averaged."""
    return segment_slabs(
        images,
        models,
        options=options,
        device=devices.choose(run.device)[0],
        force=run.force,
        progress=run.progress,
        cancelled=run.cancelled,
    )


def _segment_steps(
    images: Images,
    models: tuple[Model, ...],
    options: SegmentOptions,
    run: RunOptions,
    transforms: Sequence[Position] | None,
) -> list[Segmentation]:
    """Segment with networks that go step by step, or with one that MONAI's sliding window runs."""
    first = models[0]
    plain = not isinstance(first.network, Stepwise)
    settings = InferenceSettings() if plain else inference_settings(first.inference, first.info.name)
    if transforms is not None and settings.along != "visit":
        raise _not_along_visits(first)
    if plain:
        warn_of_preprocessing(first.info.name)
    passes = SegmentationRun(
        models=models,
        settings=settings,
        window=window_settings(first.inference, first.info.name) if plain else None,
        options=options,
        device=devices.choose(run.device)[0],
        progress=run.progress,
        cancelled=run.cancelled,
    )
    if settings.along == "visit":
        return passes.of_visits(visits.patient_of(images, first, transforms, force=run.force, cancelled=run.cancelled))
    return passes.of_each(exams(images, first, force=run.force))


def _not_along_visits(model: Model) -> MedseqError:
    return MedseqError(f"transforms are for a model along visits; {model.info.name} looks at each image by itself.")


def _check_models(models: Sequence[Model], options: SegmentOptions) -> None:
    """Refuse models that are not for segmentation, and options that they do not have."""
    for each in models:
        usable = isinstance(each.network, Stepwise) or each.inference.get("kind") == "window"
        if each.info.task != "segmentation" or not usable:
            raise ModelError(f"{each.info.name} is a {each.info.task} model; segment needs a segmentation model.")
        options.check(each)


def _check_recurrent(models: Sequence[Model]) -> None:
    """Refuse models that go step by step but cannot be run along their sequence, or together."""
    for each in models:
        network = each.network
        along = inference_settings(each.inference, each.info.name).along if isinstance(network, Stepwise) else "z"
        if isinstance(network, Stepwise) and along not in network.axes:
            raise ModelError(f"{each.info.name} takes volumes as its steps, so it works along t or visit, not slices.")
    check_together(models)
