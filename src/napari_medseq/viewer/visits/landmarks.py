"""Landmarks of two visits: a layer of points at each, marked pair by pair, from which an alignment is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.viewer.identity import patient_in_front
from napari_medseq.viewer.layers import conversion as _layers
from napari_medseq.viewer.layers import studies as _studies
from napari_medseq.viewer.layers.positions import place_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer, Points

#: `role` in the metadata of layers of landmarks
LANDMARKS = "landmarks"
_COLOURS = ("cyan", "magenta")


def new_landmarks(viewer: ViewerModel, earlier: int, later: int, *, study: str | None = None) -> list[Points]:
    """Add a layer of points at each of two visits, numbered in the order of clicks and ready for them; it replaces
    earlier ones.

    Raises
    ------
    MedseqError
        If no image of a visit is open.
    """
    name = study or patient_in_front(viewer)
    images = [_image_layer(viewer, name, visit) for visit in (earlier, later)]
    for layer in _all(viewer):
        viewer.layers.remove(layer)
    added = [_points(viewer, image, colour) for image, colour in zip(images, _COLOURS, strict=True)]
    viewer.layers.selection.active = added[0]
    names = [str(a) for a in viewer.dims.axis_labels]
    if "visit" in names and _studies.facts_of(added[0]).get("visit") is not None:
        viewer.dims.set_point(names.index("visit"), float(earlier))
    return added


def landmark_pairs(viewer: ViewerModel) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The landmarks of the earlier and the later visit, RAS+ mm, shape (n, 3) each; None if their numbers differ."""
    layers = _all(viewer)
    if len(layers) != 2 or not 0 < len(layers[0].data) == len(layers[1].data):
        return None
    first, last = (_places(viewer, layer) for layer in layers)
    return first, last


def _places(viewer: ViewerModel, layer: Points) -> NDArray[np.float64]:
    facts = _studies.facts_of(layer)
    image = _image_layer(viewer, facts["study"], facts["ordinal"])
    return np.array([place_of(image, layer.data_to_world(point)) for point in np.asarray(layer.data)]).reshape(-1, 3)


def _points(viewer: ViewerModel, image: Image, colour: str) -> Points:
    from napari.layers import Points as PointsLayer

    facts = {k: v for k, v in _studies.facts_of(image).items() if k in (*_studies.ABOUT, "visit", "name", "oriented")}
    placed = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    layer = PointsLayer(
        np.zeros((0, image.ndim)), ndim=image.ndim, name=f"landmarks visit {facts['ordinal'] + 1}", face_color=colour,
        border_color="black", size=4, symbol="cross", metadata={_layers.KEY: {**facts, "role": LANDMARKS}},
        **{name: getattr(image, name) for name in placed},
    )  # fmt: skip
    viewer.layers.append(layer)
    layer.mode = "add"
    return layer


def _all(viewer: ViewerModel) -> list[Points]:
    layers = [layer for layer in viewer.layers if _studies.facts_of(layer).get("role") == LANDMARKS]
    return sorted(layers, key=lambda layer: int(_studies.facts_of(layer)["ordinal"]))


def _image_layer(viewer: ViewerModel, study: str | None, visit: int) -> Layer:
    for layer in viewer.layers:
        facts = _studies.facts_of(layer)
        matches = (facts.get("study"), facts.get("ordinal")) == (study, visit) and "role" not in facts
        if matches and _layers.layer_kind(layer) == "image":
            return layer
    raise MedseqError(f"Visit {visit + 1} has no image that is open. Open it first.")
