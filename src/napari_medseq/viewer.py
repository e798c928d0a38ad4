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
from napari_medseq._napari import layers as _layers
from napari_medseq._napari import studies as _studies
from napari_medseq._napari.placing import (
    along_of,
    camera_of,
    follow_order,
    keep_views_true,
    place_truly,
    step_through,
    step_through_slices,
)
from napari_medseq.errors import MedseqError
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.sequence import ImageSequence, Study

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

    from napari_medseq.engine import Classification, Segmentation
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
    from napari_medseq._napari.reader import layer_data

    return _add(viewer, layer_data(path))


def add_sequence(viewer: ViewerModel, seq: ImageSequence, **kwargs: Any) -> Layer:
    """Show a sequence as an Image or Labels layer; `kwargs` are layer arguments, ``visit=`` and ``facts=``."""
    return _add(viewer, [_layers.to_layer_data(seq, **kwargs)])[0]


def add_study(viewer: ViewerModel, study: Study) -> list[Layer]:
    """Show a study: one layer per image and mask, on a slider `visit`."""
    return _add(viewer, _studies.study_layer_data(study))


def study_of(viewer: ViewerModel, name: str | None = None) -> Study:
    """The study that is open in the viewer, with what was painted since; `name` where there are several."""
    return _studies.study_from_layers(viewer.layers, name)


def _add(viewer: ViewerModel, data: Sequence[_layers.LayerData]) -> list[Layer]:
    from napari.layers import Layer

    first = len(viewer.layers) == 0
    added = [viewer.add_layer(Layer.create(*item)) for item in data]
    keep_views_true(viewer)
    if first and added:
        step_through_slices(viewer, added[0])
    else:
        follow_order(viewer)
    return added


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
    found = [ms.segment(s, loaded, progress=progress, cancelled=cancelled, **settings) for s in seqs]
    return [added for layer, one in zip(chosen, found, strict=True) for added in show_segmentation(viewer, layer, one)]


def show_segmentation(viewer: ViewerModel, image: Layer, found: Segmentation) -> list[Layer]:
    """Show what `ms.segment` found in the image of a layer, at the same place and visit."""
    added = []
    for what in (found.labels, found.probability, found.uncertainty):
        if what is None:
            continue
        ending = "labels" if what is found.labels else "probability" if what is found.probability else "uncertainty"
        extra: dict[str, Any] = {"name": f"{image.name} {ending}", "opacity": 0.6}
        if what.kind != "labels":
            extra |= {"colormap": "magma", "blending": "additive", "contrast_limits": [0.0, 1.0], "visible": False}
        added.append(show_derived(viewer, image, what, **extra))
    return added


def show_derived(viewer: ViewerModel, layer: Layer, seq: ImageSequence, **kwargs: Any) -> Layer:
    """Show a sequence that was made from a layer, at the same visit; an image does not become one of the study's."""
    facts = _studies.facts_of(layer)
    about = {k: facts[k] for k in _studies.ABOUT if k in facts}
    if seq.kind == "image":
        about["role"] = _studies.DERIVED
    visit = None if "t" in seq.axes else facts.get("visit")
    return _add(viewer, [_layers.to_layer_data(seq, visit=visit, facts=about, **kwargs)])[0]


def resample_onto(viewer: ViewerModel, layer: Layer, reference: Layer) -> Layer:
    """Resample a layer onto another's grid, by their true positions, for true overlay; the result is a new layer."""
    from napari_medseq.preprocess import Resample

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
        if layer._type_string == "labels" and _studies.facts_of(layer).get("study") == study
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


# -- results -----------------------------------------------------------------------------------------------------------
def show_progression(viewer: ViewerModel, progression: Progression, study: Study | None = None) -> list[Labels]:
    """Show tracked lesions: one Labels layer per visit, value = identity, coloured as in every plot.

    Layers of an earlier result of the same study are updated, not doubled.

    Returns
    -------
    list of Labels
        One per visit of the progression.
    """
    from napari.utils.colormaps import DirectLabelColormap

    from napari_medseq.progression import lesion_colour
    from napari_medseq.sequence import Visit

    if study is None:
        visits = [
            Visit(day, () if image is None else (image,), (), f"visit {k + 1}" if day is None else f"ses-{day:%Y%m%d}")
            for k, (day, image) in enumerate(zip(progression.dates, progression.images, strict=True))
        ]
        study = Study("progression", tuple(visits))
    ids = sorted({int(v) for v in progression.lesions["lesion"]})
    colours: dict[int | None, Any] = {None: (0.6, 0.6, 0.6, 1.0), 0: (0.0, 0.0, 0.0, 0.0)}
    colours |= {i: lesion_colour(i) for i in ids}
    single = len(study.visits) == 1
    shown: list[Labels] = []
    for ordinal, seq in zip(_studies.ordinals(study, progression), progression.labels, strict=True):
        old = _tracked_layer(viewer, study.name, ordinal)
        along = _studies.facts_of(old).get("along", "z") if old is not None else along_of(viewer)
        name = f"{study.visits[ordinal].name or f'visit {ordinal + 1}'} lesions"
        data, kwargs, kind = _studies.visit_layer_data(
            study, ordinal, seq, visit=None if single else ordinal, name=name, along=along,
            colormap=DirectLabelColormap(color_dict=colours), opacity=0.7,
        )  # fmt: skip
        kwargs["metadata"][_layers.KEY] |= {"role": _studies.TRACKED, "along": along}
        if old is not None and old.data.shape == data.shape:
            old.data = np.array(data)
            old.features = kwargs["features"]
            old.colormap = kwargs["colormap"]
            old.metadata[_layers.KEY] = kwargs["metadata"][_layers.KEY]
            shown.append(old)
        else:
            shown += _add(viewer, [(np.array(data), kwargs, kind)])
    return shown


def _tracked_layer(viewer: ViewerModel, study: str, ordinal: int) -> Any:
    for layer in viewer.layers:
        facts = _studies.facts_of(layer)
        if _studies.is_tracked(layer) and (facts.get("study"), facts.get("ordinal")) == (study, ordinal):
            return layer
    return None


def go_to(viewer: ViewerModel, layers: Sequence[Labels], visit: int, lesion: int, *, center: bool = True) -> bool:
    """Move the sliders to a lesion at a visit and select its label; False where it is not there at that visit.

    `layers` are what `show_progression` returned; `center` also moves the camera.
    """
    layer = layers[visit]
    index = np.argwhere(np.asarray(layer.data) == lesion)
    n = viewer.dims.ndim
    if layer.ndim == n and "visit" in viewer.dims.axis_labels:
        viewer.dims.set_point(0, float(layer.translate[0]))
    viewer.layers.selection.active = layer
    if len(index) == 0:
        return False
    layer.selected_label = lesion
    along = along_of(viewer)
    axis = list(layer.axis_labels).index(along) if along in layer.axis_labels else layer.ndim - 3
    steps, counts = np.unique(index[:, axis], return_counts=True)
    here = index[index[:, axis] == steps[counts.argmax()]].mean(axis=0)
    here[axis] = steps[counts.argmax()]
    world = layer.data_to_world(here)
    viewer.dims.set_point(n - layer.ndim + axis, float(world[axis]))
    if center:
        camera_of(viewer).center = tuple(float(v) for v in np.asarray(world)[-3:])
    return True


__all__ = [
    "add_sequence",
    "add_study",
    "classify",
    "go_to",
    "keep_views_true",
    "label_layers",
    "open_path",
    "place_truly",
    "resample_onto",
    "run",
    "segment",
    "show_derived",
    "show_progression",
    "show_segmentation",
    "step_through",
    "step_through_slices",
    "study_of",
    "to_sequence",
    "track_layers",
    "world_affine",
]
