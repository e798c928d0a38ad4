"""Results as layers of a viewer: labels, probabilities, tracked lesions in their colours, and moving to a lesion.

These functions need no Qt: a `ViewerModel` is enough. The public ones are offered by `napari_medseq.viewer`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.sequence import SPACE, ImageSequence, Study, Visit
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.layers import appearance as looks
from napari_medseq.viewer.layers import conversion as _layers
from napari_medseq.viewer.layers import studies as _studies
from napari_medseq.viewer.layers.placement import (
    along_of,
    camera_of,
    follow_order,
    step_through_slices,
    sync_slice_views,
)
from napari_medseq.viewer.visibility import show_uncovered

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer
    from napari.utils.colormaps import DirectLabelColormap
    from napari.utils.colormaps.colormap import LabelColormapBase

    from napari_medseq.inference import Locations, Segmentation
    from napari_medseq.progression import Progression


def add_layers(viewer: ViewerModel, data: Sequence[_layers.LayerData]) -> list[Layer]:
    """Add layer data; the first layers in an empty viewer are shown along their slices."""
    from napari.layers import Layer

    editing_of(viewer)  # strokes are watched from now on
    first = len(viewer.layers) == 0
    added = [viewer.add_layer(Layer.create(*item)) for item in data]
    sync_slice_views(viewer)
    if first and added:
        step_through_slices(viewer, added[0])
    else:
        follow_order(viewer)
    return added


def show_segmentation(viewer: ViewerModel, image: Layer, segmentation: Segmentation) -> list[Layer]:
    """Show the result of `ms.segment` for the image of a layer, at the same place and visit."""
    added = []
    for ending in ("labels", "probability", "uncertainty"):
        output: ImageSequence | None = getattr(segmentation, ending)
        if output is None:
            continue
        extra: dict[str, Any] = {"name": f"{image.name} {ending}", "opacity": 0.6}
        if output.kind == "labels":
            used_colours = looks.colours_in_use(
                layer for layer in viewer.layers if _layers.layer_kind(layer) == "labels"
            )
            extra["colormap"] = looks.mask_colormap(looks.distinct_colours(output.label_names, {}, used_colours))
        else:
            extra |= {"colormap": "magma", "blending": "additive", "contrast_limits": [0.0, 1.0], "visible": False}
        added.append(show_derived(viewer, image, output, **extra))
    return added


def show_explanation(viewer: ViewerModel, image: Layer, explanation: ImageSequence) -> Layer:
    """Show the result of `ms.explain` over the image of a layer."""
    top = float(np.max(explanation.data)) or 1.0
    return show_derived(
        viewer, image, explanation, name=f"{image.name} explanation", colormap="magma", blending="additive", opacity=0.6,
        contrast_limits=[0.0, top],
    )  # fmt: skip


def show_locations(viewer: ViewerModel, image: Layer, locations: Locations) -> list[Layer]:
    """Show the result of `ms.locate` for the image of a layer: boxes as Shapes and landmarks as Points.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image layer
        The layer of the image in which objects were located.
    locations : Locations

    Returns
    -------
    list of Layer
        A Shapes and a Points layer; none if nothing was located.
    """
    from napari.layers import Layer

    if not len(locations):
        return []
    names = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    place = {name: getattr(image, name) for name in names}
    facts = {**_studies.facts_of(image), "role": _studies.DERIVED}
    added = []
    for data, kwargs, kind in location_layer_data(locations, **place):
        kwargs["name"] = f"{image.name} {'boxes' if kind == 'shapes' else 'centres'}"
        if len(facts) > 1:
            kwargs["metadata"] = {_layers.KEY: facts.copy()}
        at = _layers.in_layer(image, data) if kind == "points" else [_layers.in_layer(image, c) for c in data]
        added.append(viewer.add_layer(Layer.create(at, kwargs, kind)))
    return added


#: data, arguments and type of a Shapes or Points layer
LocationData = tuple[list[NDArray[np.float64]] | NDArray[np.float64], dict[str, Any], str]


def rectangles(locations: Locations) -> list[NDArray[np.float64]]:
    """Corners (4, axes) of each box in each slice that it crosses, in voxels of the image, as napari's Shapes take
    them."""
    axes = [a for a in SPACE if a in locations.image.axes]
    across = locations.image.slice_axis if len(axes) == 3 else ""
    row, column = [a for a in axes if a != across]
    out = []
    for location in locations.found:
        (r0, r1), (c0, c1) = location.box[row], location.box[column]
        for k in range(*location.box[across]) if across else (0,):
            corners = []
            for r, c in ((r0, c0), (r0, c1), (r1, c1), (r1, c0)):
                # voxel centres are whole numbers, so that edges lie half a voxel away
                at = {row: r - 0.5, column: c - 0.5, across: float(k)}
                corners.append([at[a] for a in axes])
            out.append(np.array(corners))
    return out


def location_layer_data(locations: Locations, **placement: Any) -> list[LocationData]:
    """Layer data of the boxes (Shapes) and landmarks (Points) that `ms.locate` returned, in voxels of the image.

    Parameters
    ----------
    locations : Locations
    **placement
        Layer arguments, such as the ``scale`` of a layer that shows the image's own array. `show_locations` puts them where any layer
        of the image lies, tilted ones and visits too.
    """
    across = locations.image.slice_axis
    scores = np.array([f.score for f in locations.found])
    spans = [len(range(*f.box[across])) if across in f.box else 1 for f in locations.found]
    numbers = np.arange(1, len(locations) + 1)
    title = f"{locations.image.name}_{locations.name}"
    shapes = {
        "name": f"{title}_boxes",
        "shape_type": "rectangle",
        "face_color": "transparent",
        "edge_color": "orange",
        "edge_width": 1,
        "text": {"string": "{score:.2f}", "color": "orange", "anchor": "upper_left", "size": 10},
        "features": {"lesion": np.repeat(numbers, spans), "score": np.repeat(scores, spans)},
    }
    points = {
        "name": f"{title}_centres",
        "size": 3,
        "face_color": "orange",
        "features": {"lesion": numbers, "score": scores},
    }
    return [
        (rectangles(locations), {**shapes, **placement}, "shapes"),
        (locations.points(), {**points, **placement}, "points"),
    ]


def show_derived(
    viewer: ViewerModel, layer: Layer, seq: ImageSequence, *, reference: Layer | None = None, **kwargs: Any
) -> Layer:
    """Show a sequence that was made from a layer, at the visit where it belongs; an image does not become one of the
    study's.

    That is the layer's visit; or the visit of `reference`, onto whose grid it was resampled; or, without a reference,
    the only other visit of its study that has that grid.
    """
    facts = _studies.facts_of(_whose_grid(viewer, layer, seq, reference))
    about = {k: facts[k] for k in _studies.ABOUT if k in facts}
    if seq.kind == "image":
        about["role"] = _studies.DERIVED
    visit = None if "t" in seq.axes else facts.get("visit")
    place = _place_of(layer, seq)
    return add_layers(viewer, [_layers.to_layer_data(seq, visit=visit, facts=about, **(place | kwargs))])[0]


def _place_of(layer: Layer, seq: ImageSequence) -> dict[str, Any]:
    """The units, and on the same grid the place, of a layer that is not placed in millimetres, for what is made from it.

    napari draws no layer in its units if they do not fit together; and only the layer itself knows how its axes run, such as one of
    negative scale.
    """
    count = len([a for a in seq.axes if a != "c"])
    if _layers.KEY in layer.metadata or layer.ndim < count or _layers.in_millimetres(layer):
        return {}
    first = layer.ndim - count
    place: dict[str, Any] = {"units": layer.units[first:]}
    if seq.same_grid(_layers.from_layer(layer)):
        rows = np.arange(first, layer.ndim + 1)
        place |= {name: getattr(layer, name)[first:] for name in ("scale", "translate")}
        place["rotate"] = layer.rotate[first:, first:]
        if not first:  # napari keeps a shear as one row for all axes
            place["shear"] = layer.shear
        place["affine"] = layer.affine.affine_matrix[np.ix_(rows, rows)]
    return place


def _whose_grid(viewer: ViewerModel, layer: Layer, seq: ImageSequence, reference: Layer | None) -> Layer:
    """The layer at whose visit a sequence that was made from `layer` belongs."""
    if reference is not None:
        return reference if seq.same_grid(_layers.from_layer(reference)) else layer
    facts = _studies.facts_of(layer)
    if facts.get("study") is None or seq.same_grid(_layers.from_layer(layer)):
        return layer
    by_ordinal: dict[int, Layer] = {}
    for other in viewer.layers:
        other_facts = _studies.facts_of(other)
        same_study = other_facts.get("study") == facts["study"] and "role" not in other_facts
        if same_study and _layers.layer_kind(other) == "image" and seq.same_grid(_layers.from_layer(other)):
            by_ordinal.setdefault(int(other_facts["ordinal"]), other)
    return next(iter(by_ordinal.values())) if len(by_ordinal) == 1 else layer


def new_labels(viewer: ViewerModel, image: Layer, name: str | None = None) -> Labels:
    """Add an empty Labels layer to paint in, on an image's own grid, at its place and visit, and make it active.

    For a volume with frames the layer has one mask for all of them, as time curves need it; for a video it has one for
    each frame, because objects move. It counts as one of the study's masks. The image is shown, and other images of the same visit that
    cover it are hidden.

    Raises
    ------
    MedseqError
        If the layer is neither Image nor Labels.
    """
    seq = _layers.from_layer(image)
    still = seq.frame(0) if "t" in seq.axes and "z" in seq.axes else seq
    shape = [still.size(axis) for axis in still.axes if axis != "c"]
    mask = still.labels_like(np.zeros(shape, np.uint16), name=f"{seq.name}_labels", label_names={})
    facts = {k: v for k, v in _studies.facts_of(image).items() if k in _studies.ABOUT}
    visit = None if "t" in seq.axes else _studies.facts_of(image).get("visit")
    data = _layers.to_layer_data(
        mask, visit=visit, facts=facts, along=along_of(viewer), name=name or f"{image.name} painted",
        colormap=_colours_to_paint_in(viewer, facts, mask.name), **_place_of(image, mask),
    )  # fmt: skip
    layer = add_layers(viewer, [data])[0]
    _studies.facts_of(layer)["along"] = along_of(viewer)
    if visit is not None:
        viewer.dims.set_point(list(viewer.dims.axis_labels).index("visit"), float(visit))
    if _layers.layer_kind(image) == "image":
        show_uncovered(viewer, image)
    viewer.layers.selection.active = layer
    layer.mode = "paint"
    return layer


def _colours_to_paint_in(viewer: ViewerModel, facts: Mapping[str, object], name: str) -> LabelColormapBase:
    """The colours of the same mask at another visit; else ones that no mask here has, so that painting stands out."""
    masks = [layer for layer in viewer.layers if _layers.layer_kind(layer) == "labels"]
    series = _studies.series_name({**facts, "name": name})
    for layer in masks:
        other_facts = _studies.facts_of(layer)
        same_study = other_facts.get("study") == facts.get("study") and "role" not in other_facts
        if same_study and facts.get("study") is not None and _studies.series_name(other_facts) == series:
            colours: LabelColormapBase = layer.colormap
            return colours
    return looks.mask_colormap(looks.distinct_colours({}, {}, looks.colours_in_use(masks)))


def study_for(progression: Progression) -> Study:
    """A study with the progression's dates and images, for a progression whose study is not open."""
    visits = [
        Visit(day, () if image is None else (image,), (), f"visit {k + 1}" if day is None else f"ses-{day:%Y%m%d}")
        for k, (day, image) in enumerate(zip(progression.dates, progression.images, strict=True))
    ]
    return Study(str(progression.provenance.get("patient", "progression")), tuple(visits))


def apply_lesion_colours(layer: Labels, lesions: Iterable[int]) -> None:
    """Colour a Labels layer as every plot colours these lesions; other values are grey."""
    layer.colormap = lesion_colormap(lesions)


def lesion_colormap(lesions: Iterable[int]) -> DirectLabelColormap:
    """The colours that these lesions have in every plot; other values are grey."""
    from napari.utils.colormaps import DirectLabelColormap

    from napari_medseq.colours import lesion_colour

    colours: dict[int | None, tuple[float, ...]] = {None: (0.6, 0.6, 0.6, 1.0), 0: (0.0, 0.0, 0.0, 0.0)}
    return DirectLabelColormap(color_dict=colours | {i: lesion_colour(i) for i in sorted(lesions)})


def go_to(
    viewer: ViewerModel, layers: Sequence[Labels], visit: int, lesion: int, *, center: bool | None = None
) -> bool:
    """Move the sliders to a lesion at a visit and select its label; return False if it is not there at that visit.

    `layers` are those that `show_progression` returned. `center` also moves the camera; by default this happens only
    if the lesion is out of view.
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
    point = index[index[:, axis] == steps[counts.argmax()]].mean(axis=0)
    point[axis] = steps[counts.argmax()]
    world = layer.data_to_world(point)
    viewer.dims.set_point(n - layer.ndim + axis, float(world[axis]))
    if center or (center is None and not _in_view(viewer, layer, point)):
        camera_of(viewer).center = tuple(float(v) for v in np.asarray(world)[-3:])
    return True


def _in_view(viewer: ViewerModel, layer: Layer, index: NDArray[np.float64]) -> bool:
    """Whether the canvas shows an index of a layer now."""
    axes = [a - viewer.dims.ndim + layer.ndim for a in viewer.dims.displayed]
    low, high = np.asarray(layer.corner_pixels, dtype=float)[:, axes]
    return bool(((index[axes] > low) & (index[axes] < high)).all())
