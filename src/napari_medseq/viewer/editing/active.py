"""Choosing the label layer that a stroke goes into: the mask of the visit that the slider shows.

A visit's layers have an axis ``visit`` of length 1. napari takes the slider's other positions on it for index -1, which is the same
visit again, or fails. Therefore a stroke is allowed only where the shown slice belongs to the layer; elsewhere it is
refused with a message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from napari_medseq.errors import MedseqError
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.layers.studies import facts_of, series_name, visits_of
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from weakref import ReferenceType

    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

#: napari's modes that change labels
DRAWING = frozenset({"paint", "erase", "fill", "polygon"})
#: the settings of a brush, which are handed on to the layer that is painted in next
BRUSH = ("selected_label", "brush_size", "n_edit_dimensions", "preserve_labels", "contiguous", "contour")

#: the generator of a stroke, which napari runs from press to release
Stroke = Iterator[None]


SameKind = TypeVar("SameKind", "Image", "Labels")


class MouseEvent(Protocol):
    """The part of napari's mouse event that this module reads."""

    type: str
    position: tuple[float, ...]
    dims_displayed: Sequence[int]


def still_open(viewer: ReferenceType[ViewerModel]) -> ViewerModel:
    """The viewer that a weak reference points to.

    Raises
    ------
    MedseqError
        If it was closed.
    """
    current = viewer()
    if current is None:
        raise MedseqError("The viewer was closed.")
    return current


def shown_visit(viewer: ViewerModel) -> int | None:
    """Ordinal, from 0, of the visit that the slider shows; None if there is no slider of visits."""
    names = list(viewer.dims.axis_labels)
    return round(float(viewer.dims.point[names.index("visit")])) if "visit" in names else None


def visit_of(layer: Layer) -> int | None:
    """Ordinal, from 0, of the visit that a layer belongs to on the slider of visits; None if the layer has no such
    axis."""
    if [str(a) for a in layer.axis_labels][:1] != ["visit"]:
        return None
    if layer_kind(layer) not in ("image", "labels"):  # boxes and landmarks have no voxels
        visit: int | None = facts_of(layer).get("visit")
        return visit
    if layer.data.shape[0] != 1:
        return None
    return round(float(layer.translate[0]))


def follow_visit(viewer: ViewerModel) -> None:
    """If the active label layer belongs to another visit than the slider shows, activate its counterpart there with
    the same brush."""
    active, visit = viewer.layers.selection.active, shown_visit(viewer)
    if active is None or visit is None or layer_kind(active) != "labels" or visit_of(active) in (None, visit):
        return
    twin = counterpart(viewer, active, visit)
    if twin is None:
        return
    hand_brush(viewer, active, twin)


def hand_brush(viewer: ViewerModel, layer: Labels, other: Labels) -> None:
    """Make another mask the active layer, and give it the brush, its size, label and mode."""
    mode = str(layer.mode)
    if mode in DRAWING and layer is not other:
        layer.mode = "pan_zoom"
    viewer.layers.selection.active = other
    if layer.visible and not other.visible:  # napari redraws the whole canvas even if nothing changed
        other.visible = True  # this comes first, because a hidden layer accepts no mode
    for name in BRUSH:
        value = getattr(layer, name)
        if getattr(other, name) != value and not (name == "selected_label" and value > np.iinfo(other.data.dtype).max):
            setattr(other, name, value)
    other.mode = mode


def counterpart(viewer: ViewerModel, layer: SameKind, visit: int) -> SameKind | None:
    """The image or mask that corresponds to `layer` at another visit: of the same study, role and series; else the only one of
    that role."""
    facts = facts_of(layer)
    candidates = [
        other
        for other in viewer.layers
        if layer_kind(other) == layer_kind(layer)
        and visit_of(other) == visit
        and (facts_of(other).get("study"), facts_of(other).get("role")) == (facts.get("study"), facts.get("role"))
    ]
    alike = [other for other in candidates if series_name(facts_of(other)) == series_name(facts)]
    return alike[0] if alike else candidates[0] if len(candidates) == 1 else None


def refusal(viewer: ViewerModel, layer: Labels, event: MouseEvent) -> str | None:
    """Why a stroke that begins with this event would not land where it is shown; None if it would."""
    index = np.round(np.asarray(layer.world_to_data(event.position), dtype=float))
    lead = viewer.dims.ndim - layer.ndim
    outside = [
        axis
        for axis in range(layer.ndim)
        if axis + lead not in event.dims_displayed and not 0 <= index[axis] < layer.data.shape[axis]
    ]
    if not outside:
        return None
    name = str(layer.axis_labels[outside[0]])
    own_visit, shown = visit_of(layer), shown_visit(viewer)
    if name == "visit" and own_visit is not None and shown is not None:
        study = facts_of(layer).get("study")
        count = visits_of(other for other in viewer.layers if facts_of(other).get("study") == study)
        return (
            f"Nothing was painted: {layer.name} is a mask of visit {own_visit + 1} of {count}, and the slider shows visit {shown + 1}. "
            "Move the slider to that visit, or make new labels on the image that is shown (New labels on this image's grid)."
        )
    n = layer.data.shape[outside[0]]
    where = int(index[outside[0]]) + 1
    return (
        f"Nothing was painted: {layer.name} has {how_many(n, 'slice')} along {name}, and what is shown would be slice {where}. "
        "Move the slider into the mask, or make new labels on the image that is shown."
    )


def guarded_stroke(viewer: ViewerModel, layer: Labels, event: MouseEvent) -> Stroke:
    """Check a press in a label layer: refuse a stroke that would not land where it is shown, with a message, and keep
    the mode."""
    why = refusal(viewer, layer, event) if str(layer.mode) in DRAWING else None
    if why is None:
        return
    from napari.utils.notifications import show_warning

    mode = layer.mode
    layer.mode = "pan_zoom"
    show_warning(why)
    yield
    while event.type == "mouse_move":
        yield
    layer.mode = mode


def take_vertex_back(layer: Layer) -> bool:
    """Remove the last vertex of the polygon that is being drawn in a label layer; whether there is such a polygon."""
    overlay: Any = getattr(layer, "_overlays", {}).get("polygon")
    points = list(getattr(overlay, "points", ()))  # the last one follows the mouse
    if not points:
        return False
    overlay.points = points[:-2] + points[-1:] if len(points) > 2 else []
    return True
