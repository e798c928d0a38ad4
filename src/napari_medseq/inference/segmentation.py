"""`segment`: label an image on its own grid, streamed step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack, overload

from numpy.typing import ArrayLike

from napari_medseq.errors import MedseqError, ModelError
from napari_medseq.inference import devices, dynamic, remote, visits
from napari_medseq.inference.frame import Region
from napari_medseq.inference.images import Images, exams
from napari_medseq.inference.options import Output, SegmentKeywords, SegmentOptions
from napari_medseq.inference.prediction import Segmentation
from napari_medseq.inference.segmentation_run import SegmentationRun
from napari_medseq.inference.settings import InferenceSettings, inference_settings
from napari_medseq.inference.slabs import is_slab, refuse, segment_slabs
from napari_medseq.inference.sliding import warn_of_preprocessing, window_settings
from napari_medseq.models import Model, ModelLike, loaded
from napari_medseq.models.stepwise import Stepwise
from napari_medseq.progress import Cancelled, Progress
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
    transforms: Sequence[ArrayLike | None] | None = None,
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
        A loaded model, its name, or the folder of a bundle. Of several (the folds of a cross-validation) the probabilities are
        averaged at each step; they must be recurrent models of the same channels, classes, sequence and pixel size, and the
        first one's threshold and post-processing hold.
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
        If the model does not fit the images or is no segmentation model, models cannot be averaged, or an answer is no number.
    RegistrationError
        If a visit has to be registered to the first and the result cannot be trusted.
    DeviceError
        If the device is not there.
    OperationCancelled
        Within one step of `cancelled` returning True.
    """
    several = isinstance(model, Sequence) and not isinstance(model, str)
    model_list = tuple(loaded(m) for m in model) if several else (loaded(model),)  # type: ignore[arg-type, union-attr]
    options = SegmentOptions(
        outputs=outputs, steps=steps, keep=keep, region=region, chunk=chunk, samples=samples, views=views
    )
    for each in model_list:
        _check_task(each)
        options.check(each)
    keywords: SegmentKeywords = {**options.keywords(), "force": force, "transforms": transforms}
    series = dynamic.series_of(images, model_list[0].info) if model_list else None
    if series is not None and not devices.is_remote(device):
        assert not isinstance(images, Sequence)

        def segment_frame(
            frame: ImageSequence | Mapping[str, ImageSequence], of_frame: SegmentOptions, shown: Progress | None
        ) -> Segmentation:
            where: SegmentKeywords = {"device": device, "progress": shown, "cancelled": cancelled}
            frame_keywords: SegmentKeywords = {**keywords, **of_frame.keywords(), **where}
            return segment(frame, model_list, **frame_keywords)

        return dynamic.segment_frames(images, series, segment_frame, options, progress)
    if any(is_slab(m) for m in model_list):
        refuse(model_list[0], outputs, samples=samples, views=views, transforms=transforms is not None)
        if devices.is_remote(device):
            return remote.call(device, segment, images, model_list[0], keywords, progress, cancelled)
        answers = segment_slabs(
            images, model_list, options=options, device=devices.choose(device)[0], force=force, progress=progress,
            cancelled=cancelled,
        )  # fmt: skip
        return answers if isinstance(images, Sequence) else answers[0]
    models = _models(model_list)
    first = models[0]
    if devices.is_remote(device):
        if len(models) > 1:
            raise MedseqError(f"A cluster takes one model at a time, not {len(models)}; average them on this computer.")
        return remote.call(device, segment, images, first, keywords, progress, cancelled)
    plain = not isinstance(first.network, Stepwise)
    settings = InferenceSettings() if plain else inference_settings(first.inference, first.info.name)
    if transforms is not None and settings.along != "visit":
        raise MedseqError(f"transforms are for a model along visits; {first.info.name} looks at each image by itself.")
    if plain:
        warn_of_preprocessing(first.info.name)
    run = SegmentationRun(
        models=models,
        settings=settings,
        window=window_settings(first.inference, first.info.name) if plain else None,
        options=options,
        device=devices.choose(device)[0],
        progress=progress,
        cancelled=cancelled,
    )
    if settings.along == "visit":
        results = run.of_visits(visits.patient_of(images, first, transforms, force=force, cancelled=cancelled))
    else:
        results = run.of_each(exams(images, first, force=force))
    return results if isinstance(images, Sequence) else results[0]


def _check_task(model: Model) -> None:
    usable = isinstance(model.network, Stepwise) or model.inference.get("kind") == "window"
    if model.info.task != "segmentation" or not usable:
        raise ModelError(f"{model.info.name} is a {model.info.task} model; segment needs a segmentation model.")


def _models(models: tuple[Model, ...]) -> tuple[Model, ...]:
    """The models that are run together, checked to be for segmentation, and to go together."""
    if not models:
        raise ModelError("The list of models is empty; give one or more.")
    for each in models:
        network = each.network
        along = inference_settings(each.inference, each.info.name).along if isinstance(network, Stepwise) else "z"
        if isinstance(network, Stepwise) and along not in network.axes:
            raise ModelError(f"{each.info.name} takes volumes as its steps, so it works along t or visit, not slices.")
    for other in models[1:]:
        _check_together(models[0], other)
    return models


def _check_together(first: Model, other: Model) -> None:
    """Refuse models whose probabilities are not of the same things at the same places."""
    if not (isinstance(first.network, Stepwise) and isinstance(other.network, Stepwise)):
        raise ModelError(f"{first.info.name} and {other.info.name}: only models of this package can be averaged.")
    for field in ("channels", "classes", "sequence_axis", "modality"):
        one, two = getattr(first.info, field), getattr(other.info, field)
        if one != two:
            raise ModelError(
                f"{other.info.name} cannot be averaged with {first.info.name}: {field} are {two}, not {one}."
            )
    one, two = (inference_settings(m.inference, m.info.name) for m in (first, other))
    if (one.along, one.pixel_mm) != (two.along, two.pixel_mm) or first.network.volumes != other.network.volumes:
        raise ModelError(
            f"{other.info.name} cannot be averaged with {first.info.name}: it works along {two.along} at {two.pixel_mm} mm, "
            f"the first along {one.along} at {one.pixel_mm} mm."
        )
