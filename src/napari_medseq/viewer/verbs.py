"""The verbs as functions on a viewer or its layers, as a widget's buttons call them. They need no Qt: a `ViewerModel`
is enough.

The viewer, a script and the command give identical labels, because these functions, `ms.run` and the command call the same
verbs. napari is imported inside functions only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import napari_medseq as ms
from napari_medseq.errors import MedseqError
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.sequence import ImageSequence, Study, Visit
from napari_medseq.viewer.identity import describe
from napari_medseq.viewer.layers import conversion as _layers
from napari_medseq.viewer.layers import studies as _studies
from napari_medseq.viewer.results.showing import (
    add_layers,
    show_derived,
    show_locations,
    show_segmentation,
)
from napari_medseq.viewer.results.tracking import Rerun

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_medseq.inference import Classification
    from napari_medseq.models import ModelLike
    from napari_medseq.progression import Progression


# -- geometry ----------------------------------------------------------------------------------------------------------
def world_affine(layer: Layer) -> NDArray[np.float64]:
    """The layer's true 4×4 affine, voxel (x, y, z) → patient RAS+ mm: that of the `ImageSequence` that it shows.

    Two-dimensional display may use the slice view, but every measure uses this affine.
    """
    return np.array(_layers.from_layer(layer).affine)


def to_sequence(layer: Layer) -> ImageSequence:
    """The `ImageSequence` that an Image or Labels layer shows."""
    return _layers.from_layer(layer)


# -- opening -----------------------------------------------------------------------------------------------------------
def open_path(viewer: ViewerModel, path: str | PathLike[str] | Sequence[str | PathLike[str]]) -> list[Layer]:
    """Open a file, a list of files or a folder; a folder with several visits opens as a study on a slider `visit`.

    Raises
    ------
    ReadError
        If nothing could be opened.
    """
    from napari_medseq.viewer.opening import layer_data

    describe(viewer)
    return add_layers(viewer, layer_data(path, taken=_studies.studies_in(viewer.layers)))


def add_sequence(viewer: ViewerModel, seq: ImageSequence, **kwargs: Any) -> Layer:
    """Show a sequence as an Image or Labels layer; `kwargs` are layer arguments, ``visit=`` and ``facts=``."""
    return add_layers(viewer, [_layers.to_layer_data(seq, **kwargs)])[0]


def add_study(viewer: ViewerModel, study: Study) -> list[Layer]:
    """Show a study: one layer per image and mask, on a slider `visit`."""
    describe(viewer)
    return add_layers(viewer, _studies.study_layer_data(study))


def study_of(viewer: ViewerModel, name: str | None = None) -> Study:
    """The study that is open in the viewer, including painting; `name` is needed if there are several."""
    return _studies.study_from_layers(viewer.layers, name)


# -- the verbs ---------------------------------------------------------------------------------------------------------
def segment(
    viewer: ViewerModel,
    images: Image | Sequence[Image],
    model: ModelLike | Sequence[ModelLike],
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    **settings: Any,
) -> list[Layer]:
    """Segment layers with `ms.segment` and show the labels: one Labels layer per image, on its grid.

    A model along visits takes several layers as one patient's visits.

    Parameters
    ----------
    viewer : ViewerModel
    images : Image layer or sequence of them
    model : Model, name or bundle folder, or a sequence of them
        Several are averaged.
    **settings
        Arguments of `ms.segment`, such as ``device``; "probability" and "uncertainty" in ``outputs`` become Image
        layers.

    Raises
    ------
    ModelError
        If the model does not fit an image; the layers stay as they were.
    """
    from napari_medseq.inference.outputs.ensemble import models_of

    chosen = list(images) if isinstance(images, Iterable) else [images]
    models = models_of(model)
    seqs = [to_sequence(layer) for layer in chosen]
    if models[0].info.sequence_axis == "visit" and len(seqs) > 1:
        segmentations = ms.segment(as_visits(chosen, seqs), models, progress=progress, cancelled=cancelled, **settings)
    else:
        segmentations = [ms.segment(s, models, progress=progress, cancelled=cancelled, **settings) for s in seqs]
    return [
        added
        for layer, one in zip(chosen, segmentations, strict=True)
        for added in show_segmentation(viewer, layer, one)
    ]


def as_visits(layers: Sequence[Layer], images: Sequence[ImageSequence]) -> list[Visit]:
    """The images of layers as one patient's visits, with the dates known from the layers.

    Raises
    ------
    MedseqError
        If the layers belong to different studies.
    """
    names = _studies.studies_in(layers)
    if len(names) > 1:
        raise MedseqError(f"The images are of {len(names)} patients ({', '.join(names)}); choose one patient's visits.")
    facts = [_studies.facts_of(layer) for layer in layers]
    return [Visit(_layers.visit_date(f), (s,), (), s.name) for f, s in zip(facts, images, strict=True)]


def locate(viewer: ViewerModel, image: Image, model: ModelLike, **settings: Any) -> list[Layer]:
    """Locate objects in the image of a layer with `ms.locate`, and show them as boxes (Shapes) and landmarks (Points).

    Parameters
    ----------
    viewer : ViewerModel
    image : Image layer
    model : Model, name or bundle folder
    **settings
        Arguments of `ms.locate`, such as ``min_score`` or ``refine_with``.

    Returns
    -------
    list of Layer
        A Shapes and a Points layer; none if nothing was located.
    """
    loaded = ms.load_model(model) if isinstance(model, str | PathLike) else model
    return show_locations(viewer, image, ms.locate(to_sequence(image), loaded, **settings))


def resample_onto(viewer: ViewerModel, layer: Layer, reference: Layer) -> Layer:
    """Resample a layer onto another's grid by their true positions, for true overlay; the result is a new layer at its
    visit."""
    from napari_medseq.preprocessing import Resample

    fixed = to_sequence(reference)
    fixed = fixed.frame(0) if "t" in fixed.axes else fixed
    moved = Resample().apply(to_sequence(layer), reference=fixed)
    extra: dict[str, Any] = {"opacity": 0.6} if moved.kind == "image" else {}
    return show_derived(viewer, layer, moved, reference=reference, name=f"{layer.name} on {reference.name}", **extra)


def classify(image: Layer, model: ModelLike | Sequence[ModelLike], **settings: Any) -> Classification:
    """Classify the image of a layer with `ms.classify`, by a model or the mean of several."""
    classification: Classification = ms.classify(to_sequence(image), model, **settings)
    return classification


def run(
    viewer: ViewerModel,
    model: ModelLike,
    *,
    study: str | None = None,
    overwrite_painted: bool = False,
    **settings: Any,
) -> Progression:
    """Run `ms.run` on the layers of the study that is open, then `show_progression`.

    If the lesions of the study are shown already, voxels that a person painted in them do not change, and a person's
    corrections are made again.

    Parameters
    ----------
    viewer : ViewerModel
    model : Model, name or bundle folder
    study : str, optional
        Name of the study, if several are open.
    overwrite_painted : bool
        Discard what was painted.
    **settings
        Arguments of `ms.run`, such as ``series`` or ``register``.

    Raises
    ------
    MedseqError
        If no study is open, or what `ms.run` raises; the layers stay as they were.
    """
    source = study_of(viewer, study)
    job = Rerun(viewer, source, overwrite=overwrite_painted)
    progression = ms.run(source, model, revise=job.revise, **settings)
    job.show(viewer, progression)
    return progression
