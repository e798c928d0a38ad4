"""What a widget's button does, as functions on a viewer or its layers: no Qt, a `ViewerModel` will do.

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
from napari_medseq.viewer import layers as _layers
from napari_medseq.viewer import study as _studies
from napari_medseq.viewer.placement import keep_views_true, place_truly, step_through, step_through_slices
from napari_medseq.viewer.results import (
    add_layers,
    go_to,
    new_labels,
    show_derived,
    show_explanation,
    show_locations,
    show_progression,
    show_segmentation,
    study_for,
    wear_lesion_colours,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

    from napari_medseq.inference import Classification
    from napari_medseq.progression import Progression, TrackSettings


# -- geometry ----------------------------------------------------------------------------------------------------------
def world_affine(layer: Layer) -> NDArray[np.float64]:
    """The layer's true 4×4 affine, voxel (x, y, z) → patient RAS+ mm: that of the `ImageSequence` it shows.

    What is drawn in two dimensions may be the slice view; every measure uses this one.
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

    return add_layers(viewer, layer_data(path))


def add_sequence(viewer: ViewerModel, seq: ImageSequence, **kwargs: Any) -> Layer:
    """Show a sequence as an Image or Labels layer; `kwargs` are layer arguments, ``visit=`` and ``facts=``."""
    return add_layers(viewer, [_layers.to_layer_data(seq, **kwargs)])[0]


def add_study(viewer: ViewerModel, study: Study) -> list[Layer]:
    """Show a study: one layer per image and mask, on a slider `visit`."""
    return add_layers(viewer, _studies.study_layer_data(study))


def study_of(viewer: ViewerModel, name: str | None = None) -> Study:
    """The study that is open in the viewer, with what was painted since; `name` where there are several."""
    return _studies.study_from_layers(viewer.layers, name)


# -- the verbs ---------------------------------------------------------------------------------------------------------
def segment(
    viewer: ViewerModel,
    images: Image | Sequence[Image],
    model: Any,
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
    model : Model, name or bundle folder
    **settings
        For `ms.segment`, such as ``device``; "probability" and "uncertainty" in ``outputs`` become Image layers.

    Raises
    ------
    ModelError
        If the model does not fit an image; the layers stay as they were.
    """
    chosen = list(images) if isinstance(images, Iterable) else [images]
    loaded = ms.load_model(model) if isinstance(model, str | PathLike) else model
    seqs = [to_sequence(layer) for layer in chosen]
    if loaded.info.sequence_axis == "visit" and len(seqs) > 1:
        found = ms.segment(as_visits(chosen, seqs), loaded, progress=progress, cancelled=cancelled, **settings)
    else:
        found = [ms.segment(s, loaded, progress=progress, cancelled=cancelled, **settings) for s in seqs]
    return [added for layer, one in zip(chosen, found, strict=True) for added in show_segmentation(viewer, layer, one)]


def as_visits(layers: Sequence[Layer], images: Sequence[ImageSequence]) -> list[Visit]:
    """The images of layers as one patient's visits, with the dates that the layers know.

    Raises
    ------
    MedseqError
        If the layers are of different studies.
    """
    names = _studies.studies_in(layers)
    if len(names) > 1:
        raise MedseqError(f"The images are of {len(names)} patients ({', '.join(names)}); choose one patient's visits.")
    facts = [_studies.facts_of(layer) for layer in layers]
    return [Visit(_layers.visit_date(f), (s,), (), s.name) for f, s in zip(facts, images, strict=True)]


def locate(viewer: ViewerModel, image: Image, model: Any, **settings: Any) -> list[Layer]:
    """Find where something is in the image of a layer with `ms.locate`, and show it: boxes (Shapes) and landmarks (Points).

    Parameters
    ----------
    viewer : ViewerModel
    image : Image layer
    model : Model, name or bundle folder
    **settings
        For `ms.locate`, such as ``least`` or ``closer``.

    Returns
    -------
    list of Layer
        A Shapes and a Points layer; none where nothing stands out.
    """
    loaded = ms.load_model(model) if isinstance(model, str | PathLike) else model
    return show_locations(viewer, image, ms.locate(to_sequence(image), loaded, **settings))


def resample_onto(viewer: ViewerModel, layer: Layer, reference: Layer) -> Layer:
    """Resample a layer onto another's grid, by their true positions, for true overlay; the result is a new layer."""
    from napari_medseq.preprocessing import Resample

    fixed = to_sequence(reference)
    fixed = fixed.frame(0) if "t" in fixed.axes else fixed
    moved = Resample().apply(to_sequence(layer), reference=fixed)
    extra: dict[str, Any] = {"opacity": 0.6} if moved.kind == "image" else {}
    return show_derived(viewer, layer, moved, name=f"{layer.name} on {reference.name}", **extra)


def classify(image: Layer, model: Any, **settings: Any) -> Classification:
    """Classify the image of a layer with `ms.classify`."""
    found: Classification = ms.classify(to_sequence(image), model, **settings)
    return found


def run(viewer: ViewerModel, model: Any, *, study: str | None = None, **settings: Any) -> Progression:
    """The main job on the study that is open: `ms.run` on its layers, then `show_progression`.

    Raises
    ------
    MedseqError
        If no study is open, or what `ms.run` raises; the layers stay as they were.
    """
    source = study_of(viewer, study)
    progression: Progression = ms.run(source, model, **settings)
    show_progression(viewer, progression, source)
    return progression


def track_layers(
    viewer: ViewerModel,
    labels: Sequence[Labels] | None = None,
    *,
    study: str | None = None,
    register: str = "auto",
    settings: TrackSettings | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Progression:
    """Follow lesions through label layers, one per visit, as they are now (painted ones too), and show the result.

    Parameters
    ----------
    viewer : ViewerModel
    labels : sequence of Labels, optional
        One per visit, in any order; by default the study's tracked labels, else its masks.
    study : str, optional
        The study, where several are open.
    register : str
        As for `ms.run`; used where every visit has an image.

    Raises
    ------
    MedseqError
        If there are no label layers, or two for one visit.
    """
    chosen = label_layers(viewer, study) if labels is None else sorted(labels, key=_ordinal)
    source, arguments = tracking_job(viewer, chosen)
    progression = track_job(source, arguments, register, settings, progress, cancelled)
    show_progression(viewer, progression, source)
    return progression


def label_layers(viewer: ViewerModel, study: str | None = None) -> list[Labels]:
    """The label layers to follow in a study: those that tracking made, else its masks, by visit.

    Raises
    ------
    MedseqError
        If there are none.
    """
    names = _studies.studies_in(viewer.layers)
    study = study or (names[0] if len(names) == 1 else None)
    mine = [
        layer
        for layer in viewer.layers
        if _layers.layer_kind(layer) == "labels" and _studies.facts_of(layer).get("study") == study
    ]
    chosen = [layer for layer in mine if _studies.is_tracked(layer)] or mine
    if not chosen:
        raise MedseqError("There are no label layers to follow. Segment the visits first, or choose label layers.")
    return sorted(chosen, key=_ordinal)


def _ordinal(layer: Layer) -> int:
    return int(_studies.facts_of(layer).get("ordinal", 0))


def tracking_job(viewer: ViewerModel, labels: Sequence[Labels]) -> tuple[Study, dict[str, Any]]:
    """What is to be tracked, taken from layers in the GUI thread: the study, and labels, dates and images for `ms.track`.

    Raises
    ------
    MedseqError
        If fewer than one label layer is given, or two for one visit.
    """
    if not labels:
        raise MedseqError("There are no label layers to follow. Segment the visits first, or choose label layers.")
    facts = [_studies.facts_of(layer) for layer in labels]
    places = [f.get("ordinal") for f in facts]
    twice = {p for p in places if p is not None and places.count(p) > 1}
    if twice:
        names = ", ".join(layer.name for layer, p in zip(labels, places, strict=True) if p in twice)
        raise MedseqError(f"Two label layers are of the same visit: {names}. Choose one per visit.")
    seqs = [to_sequence(layer) for layer in labels]
    seqs = [s.replace(data=np.array(s.data)) for s in seqs]  # painting may go on meanwhile
    studies = {f.get("study") for f in facts}
    of_one = None not in studies and len(studies) == 1
    source = study_of_or_labels(viewer, seqs, facts) if of_one else _studies.study_of_labels(seqs, facts)
    images = [_image_for(source, seq, place) for seq, place in zip(seqs, places, strict=True)]
    days = [_layers.visit_date(f) or (s.acquired and s.acquired.date()) for s, f in zip(seqs, facts, strict=True)]
    return source, {"labels": seqs, "dates": days, "images": images}


def study_of_or_labels(viewer: ViewerModel, seqs: Sequence[ImageSequence], facts: Sequence[dict[str, Any]]) -> Study:
    """The open study that the labels belong to; made of the labels alone where its images were removed."""
    try:
        return study_of(viewer, facts[0]["study"])
    except MedseqError:
        return _studies.study_of_labels(seqs, facts)


def _image_for(source: Study, seq: ImageSequence, ordinal: int | None) -> ImageSequence | None:
    """The visit's image that labels were drawn on: the one of the same grid, else the first."""
    if ordinal is None or ordinal >= len(source.visits):
        return None
    images = source.visits[ordinal].images
    return next((i for i in images if i.same_grid(seq)), images[0] if images else None)


def track_job(
    source: Study,
    arguments: dict[str, Any],
    register: str = "auto",
    settings: TrackSettings | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Progression:
    """`ms.track` on what `tracking_job` took, with the visits aligned as `ms.run` aligns them; touches no layer."""
    from napari_medseq import pipeline

    images = arguments["images"]
    more: dict[str, Any] = {}
    if all(i is not None for i in images) and len(images) > 1:
        chosen = [pipeline.Chosen(v, {"image": i}) for v, i in zip(source.visits, images, strict=False)]
        aligned = pipeline.align_visits(
            chosen, mode=register, progress=pipeline.stage(progress, 0.0, 0.5), cancelled=cancelled
        )
        more["transforms"] = [a.to_baseline for a in aligned]
        if (
            any(a.transform is not None for a in aligned)
            and (settings or ms.TrackSettings()).registration_error_mm is None
        ):
            more["registration_error_mm"] = max(a.error_mm for a in aligned)
    result: Progression = ms.track(
        **arguments, **more, settings=pipeline.track_settings(settings),
        progress=pipeline.stage(progress, 0.5, 1.0), cancelled=cancelled,
    )  # fmt: skip
    return result


__all__ = [
    "add_sequence",
    "add_study",
    "as_visits",
    "classify",
    "go_to",
    "keep_views_true",
    "label_layers",
    "locate",
    "new_labels",
    "open_path",
    "place_truly",
    "resample_onto",
    "run",
    "segment",
    "show_derived",
    "show_explanation",
    "show_locations",
    "show_progression",
    "show_segmentation",
    "step_through",
    "step_through_slices",
    "study_for",
    "study_of",
    "to_sequence",
    "track_layers",
    "wear_lesion_colours",
    "world_affine",
]
